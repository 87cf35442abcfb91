"""A measured value, what it must be, and whether it is."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from report.table import aligned

Direction = Literal[">=", "<=", ">", "<"]


@dataclass(frozen=True)
class Target:
    """``value`` must lie in ``direction`` of ``bound``.

    ``value`` is None where this run did not measure it, ``bound`` where nothing is asked.
    ``about``: what is judged, by fields of the results file (mode, policy, workload). ``shown``:
    the value as text, where the bare number does not say enough. ``beside``: the same of others.
    ``unit`` follows the bound, which is printed in the format ``form``.
    """

    name: str
    value: float | None
    bound: float | None
    direction: Direction = "<="
    about: Mapping[str, Any] = field(default_factory=dict)
    shown: str = ""
    beside: str = ""
    unit: str = ""
    form: str = "g"

    @classmethod
    def holds(cls, name: str, condition: bool, shown: str = "") -> Target:
        """A condition that one bound does not express: yes or no."""
        return cls(name, float(condition), None, ">=", shown=shown, unit="yes")

    def of(self, **about: Any) -> Target:
        """The same, of something more closely said."""
        return replace(self, about={**about, **self.about})

    @property
    def met(self) -> bool | None:
        """None where it was not measured, or nothing is asked."""
        if self.unit == "yes":
            return bool(self.value)
        if self.value is None or self.bound is None:
            return None
        return {
            ">=": self.value >= self.bound,
            "<=": self.value <= self.bound,
            ">": self.value > self.bound,
            "<": self.value < self.bound,
        }[self.direction]

    @property
    def asked(self) -> str:
        if self.bound is None:
            return self.unit or "-"
        return f"{self.direction} {self.bound:{self.form}}{self.unit}"

    @property
    def measured(self) -> str:
        if self.shown or self.value is None:
            return self.shown or "-"
        return f"{self.value:,.0f}" if self.value >= 100 else f"{self.value:.3g}"

    @property
    def verdict(self) -> str:
        if self.met is None:
            return "not measured" if self.value is None else "not asked"
        return "pass" if self.met else "FAIL"

    def row(self, **fields: str) -> dict[str, Any]:
        """As the results file has it: ``about``, and for each field an attribute's value."""
        return {**self.about, **{name: getattr(self, value) for name, value in fields.items()}}


def verdicts(targets: Iterable[Target]) -> str:
    """One line a target, for the terminal."""
    head = ("verdict", "of", "target", "asked", "measured", "beside")
    return aligned(head, map(_line, targets))


def _line(target: Target) -> Sequence[str]:
    about = ", ".join(map(str, target.about.values()))
    return target.verdict, about, target.name, target.asked, target.measured, target.beside


def all_met(targets: Iterable[Target]) -> bool:
    """Whether no target was missed; those that were not measured do not count."""
    return all(target.met is not False for target in targets)
