"""Read parts.toml: what is left out of a pack, and why."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from packaging.utils import canonicalize_name

from .closure import Rules
from .repack import Trim

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

_FILE = Path(__file__).with_name("parts.toml")
# Folders of sglang-kernel: it loads the one for compute capability 9.0, or the other on any GPU.
ARCHITECTURES = ("sm90", "sm100")


@dataclass(frozen=True)
class Parts:
    """``added``: what nobody asks for. ``trims``: what single wheels lose; ``why``: what some are
    for; both by name."""

    rules: Rules
    added: tuple[str, ...]
    trims: Mapping[str, Trim]
    why: Mapping[str, str]


def read_parts(arch: str, leave_out: Iterable[str] = ()) -> Parts:
    """Read the file, for GPUs of `arch`, one of `ARCHITECTURES`."""
    content = tomllib.loads(_FILE.read_text())
    more = {canonicalize_name(name): "--leave-out" for name in leave_out}
    rules = Rules(content["left-out"] | more, content["as-present"])
    other = next(folder for folder in ARCHITECTURES if folder != arch)
    trims = {
        name: Trim(
            [pattern.format(other=other) for pattern in trim.get("leave-out", [])],
            trim.get("strip", []),
            trim["why"].format(other=other),
        )
        for name, trim in content["trim"].items()
    }
    added = tuple(name for name in content["added"] if canonicalize_name(name) not in more)
    return Parts(rules, added, trims, content["why"] | content["added"])
