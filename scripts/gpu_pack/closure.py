"""What has to travel: the requirements of the fork and theirs, less what is there already."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from .download import Cache, metadata
from .target import Target


class NoVersion(ValueError):
    """constraints/cuda.txt names no version for a package that has to travel."""


class WrongTorch(ValueError):
    """The machine has another PyTorch than upstream's kernels were built with."""


@dataclass
class Closure:
    """``wheels``: by name, what travels. ``wanted_by``: for each, who asked first.

    ``trusted``: what the target has, of a version that nobody can vouch for.
    """

    wheels: dict[str, Path] = field(default_factory=dict)
    wanted_by: dict[str, str] = field(default_factory=dict)
    trusted: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Rules:
    """``left_out``: names that the server imports nowhere on its way, with reasons.
    ``as_present``: names of which any version will do that the target has."""

    left_out: Mapping[str, str]
    as_present: Mapping[str, str]


def close(
    fork: Path, also: Iterable[str], target: Target, rules: Rules, cache: Cache, lock: Path
) -> Closure:
    """Find all that travels, fetching it on the way; one download for each generation."""
    versions = read_lock(lock, target)
    found = Closure()
    waiting = _requirements(fork, frozenset({"cuda"}), target, "sglang")
    waiting += [(Requirement(line), "this program") for line in also]
    while waiting:
        generation = _missing(waiting, target, rules, found)
        fetched = cache.fetch({name: _version(name, r, versions) for name, r in generation.items()})
        found.wheels |= fetched
        waiting = [
            pair
            for name, wheel in fetched.items()
            for pair in _requirements(wheel, frozenset(generation[name].extras), target, name)
        ]
    return found


def read_lock(lock: Path, target: Target) -> dict[str, str]:
    """Return the version of each package that the lock has for the target."""
    versions: dict[str, str] = {}
    for line in filter(None, map(str.strip, lock.read_text().splitlines())):
        requirement = Requirement(line)
        if target.wants(requirement):
            (pin,) = requirement.specifier
            versions[canonicalize_name(requirement.name)] = str(Version(pin.version))
    return versions


def _requirements(
    wheel: Path, extras: frozenset[str], target: Target, owner: str
) -> list[tuple[Requirement, str]]:
    lines = metadata(wheel).get_all("Requires-Dist", [])
    requirements = map(Requirement, lines)
    return [(each, owner) for each in requirements if target.wants(each, extras)]


def _missing(
    waiting: Iterable[tuple[Requirement, str]], target: Target, rules: Rules, found: Closure
) -> dict[str, Requirement]:
    missing: dict[str, Requirement] = {}
    for requirement, owner in waiting:
        name = canonicalize_name(requirement.name)
        if name in found.wheels or name in missing or name in rules.left_out:
            continue
        if target.has(requirement):
            continue
        if name in target.present and name in rules.as_present:
            found.trusted[name] = f"{owner} asks for {requirement}"
            continue
        if name == "torch":
            there = target.present.get(name)
            raise WrongTorch(
                f"the machine must have {requirement}, and --present has {there}: "
                "it and CUDA's libraries are too large to travel"
            )
        missing[name] = requirement
        found.wanted_by[name] = owner
    return missing


def _version(name: str, requirement: Requirement, versions: Mapping[str, str]) -> str:
    pins = [pin.version for pin in requirement.specifier if pin.operator == "=="]
    version = versions.get(name) or next(iter(pins), None)
    if version is None:
        raise NoVersion(
            f"{requirement}: constraints/cuda.txt has no version of {name}; "
            "run `make update-locks`, or say NAME==VERSION"
        )
    return version
