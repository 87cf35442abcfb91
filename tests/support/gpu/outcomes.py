"""What became of each test, in lines and as JSON: nothing is left out in silence."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import pytest

from support.gpu.device import Device

WORDS = {"passed": "works", "failed": "FAILS", "skipped": "cannot run"}
DETAIL = 4_000  # characters


@dataclass
class Outcome:
    """``why``: of what cannot run, or fails; ``detail``: the end of the error. ``measured``: what
    the test has noted."""

    test: str
    outcome: str
    seconds: float
    why: str = ""
    detail: str = ""
    measured: dict[str, Any] = field(default_factory=dict)


class Outcomes:
    """A plugin of pytest."""

    def __init__(self, device: Device, path: Path) -> None:
        self.device = device
        self.path = path
        self.found: dict[str, Outcome] = {}

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        one = self.found.setdefault(report.nodeid, Outcome(_name(report), "passed", 0.0))
        one.seconds = round(one.seconds + report.duration, 1)
        one.measured |= dict(report.user_properties)
        if not report.passed:
            one.outcome, one.why = report.outcome, _why(report)
        if report.failed:
            one.detail = report.longreprtext[-DETAIL:]

    def pytest_sessionfinish(self) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        tests = [asdict(one) for one in self.found.values()]
        report = {"device": self.device.facts(), "tests": tests}
        self.path.write_text(json.dumps(report, indent=1) + "\n")

    def _lines(self) -> Iterator[str]:
        """One of each test; what cannot run is the same for all tests of a server."""
        for outcome, word in WORDS.items():
            for one in self.found.values():
                if one.outcome == outcome:
                    _, _, server = one.test.partition("[")
                    name = server.rstrip("]") if outcome == "skipped" and server else one.test
                    yield f"{word:10} {name}{': ' if one.why else ''}{one.why}"

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        say = terminalreporter.write_line
        device = self.device
        terminalreporter.section(f"on {device.count} x {device.name}")
        say(f"{device.memory:.0f} GiB free; {json.dumps(device.packages)}")
        for line in dict.fromkeys(self._lines()):
            say(line)
        if not device.on_cuda:
            say("This was a CPU: no line says anything of a GPU.")
        say(f"written to {self.path}")


def _name(report: pytest.TestReport) -> str:
    return report.nodeid.split("::", 1)[-1]


def _why(report: pytest.TestReport) -> str:
    if isinstance(report.longrepr, tuple):
        return report.longrepr[2].removeprefix("Skipped: ")
    crash = getattr(report.longrepr, "reprcrash", None)
    return (crash.message if crash else str(report.longrepr)).splitlines()[0][:300]
