"""What a request to the engine was let in with, and what it has been charged."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from sglang.srt.tenancy.http.rate_limiter import Permit, RateLimiter
from sglang.srt.tenancy.http.request_ids import logical_id


class EngineCall:
    """One request to the engine, from its permit to its end.

    ``users``: whose each of its prompts is, by the prompts' ids. ``calls``: those under way, by the
    same ids; a call adds itself and, at its end, takes itself out.
    """

    def __init__(
        self,
        limiter: RateLimiter,
        permit: Permit,
        users: Mapping[str, str],
        calls: dict[str, EngineCall],
    ):
        self.users = users
        self._limiter = limiter
        self._permit = permit
        self._calls = calls
        self._answered: Counter[str] = Counter()
        calls.update(dict.fromkeys(users, self))

    def charge(self, rid: str, tokens: int) -> None:
        """Charge tokens of a prompt, or of its answers."""
        self._limiter.charge(self._permit, self.users[rid], tokens)

    def charge_answer(self, rid: str, tokens: int) -> None:
        """Charge what an answer has grown by; ``tokens``: all that it has by now."""
        grown = tokens - self._answered[rid]
        if grown > 0:
            self._answered[rid] = tokens
            self.charge(logical_id(rid), grown)

    def end(self) -> None:
        """Make room for the next. Twice is as good as once."""
        for rid in self.users:
            self._calls.pop(rid, None)
        self._limiter.leave(self._permit)
