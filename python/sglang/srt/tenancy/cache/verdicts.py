"""What is known to be harmless: who says so is exchangeable."""

from __future__ import annotations

from typing import Protocol

from sglang.srt.mem_cache.radix_cache import RadixKey


class Verdicts(Protocol):
    """A source of verdicts. No verdict is no permission: the failure is on the private side."""

    def harmless(self, key: RadixKey) -> int:
        """How many of the key's first tokens are known to hold nothing sensitive."""


class NoVerdicts:
    """Nothing is known: only what an operator registers becomes public."""

    def harmless(self, key: RadixKey) -> int:
        return 0


class TrustAll:
    """Everything counts as harmless. For tests, benchmarks, and data nobody minds sharing."""

    def harmless(self, key: RadixKey) -> int:
        return len(key)


SOURCES: dict[str, type[Verdicts]] = {"none": NoVerdicts, "off-trust-all": TrustAll}
