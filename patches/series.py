#!/usr/bin/env python3
"""Apply, take back, check and rewrite the fork's patches.

TARGET is a git checkout of upstream at the pinned version, or a directory that holds sglang/
(an unpacked wheel, a site-packages). Needs Python 3.10 or later and nothing else; verify, lock
and refresh also read upstream's wheel, which pip downloads once into build/.
"""

from __future__ import annotations

import argparse
import signal
import sys
from pathlib import Path
from types import FrameType

from patchqueue import commands, drift, wheel
from patchqueue.errors import Refusal
from patchqueue.refresh import refresh
from patchqueue.repository import Repository
from patchqueue.target import Target
from patchqueue.transaction import locked

_REFUSED = 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="series.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--repo",
        type=Path,
        default=Path(__file__).resolve().parent.parent,
        help="the fork's repository (default: the one this file is in)",
    )
    parser.add_argument(
        "--base",
        metavar="VERSION",
        help="upstream's release: one that upstream.json pins (default: the one it builds from)",
    )
    commands_of = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    on_target = {
        "apply": "put the patches and the fork's own files into TARGET",
        "revert": "take them out again; every file gets its former content",
        "status": "say what is applied and which files were edited since",
        "refresh": "turn edits made in TARGET back into the patches they belong to",
    }
    for name, text in on_target.items():
        command = commands_of.add_parser(name, help=text, description=text)
        command.add_argument("target", type=Path, metavar="TARGET")
        if name == "refresh":
            _add_refresh_options(command)
    on_wheel = {
        "verify": "check headers, order, collisions, budget, and that every patch applies",
        "lock": "write the series' upstream.lock: hashes of the upstream files that it touches",
    }
    for name, text in on_wheel.items():
        _add_wheel_option(commands_of.add_parser(name, help=text, description=text))
    _add_drift(commands_of)
    return parser


def _add_drift(commands_of: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    text = "say what another release of upstream's breaks: hunks, and names that our files use"
    command = commands_of.add_parser("drift", help=text, description=text)
    command.add_argument("release", metavar="VERSION", help="the release; it need not be pinned")
    command.add_argument(
        "--output", type=Path, metavar="FILE", help="where the report goes (default: stdout)"
    )
    command.add_argument(
        "--release-wheel", type=Path, metavar="FILE", help="its wheel; default: downloaded by pip"
    )
    _add_wheel_option(command)


def _add_refresh_options(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--patch",
        metavar="NAME",
        help="the patch that takes the edits; made if new. Needed for a file that no patch "
        "or several patches touch",
    )
    command.add_argument(
        "--only",
        metavar="PATH",
        action="append",
        default=[],
        help="take only the edit of this file (sglang/...); may be repeated",
    )
    _add_wheel_option(command)


def _add_wheel_option(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--wheel", type=Path, metavar="FILE", help="upstream's wheel; default: downloaded by pip"
    )


def _open_wheel(repository: Repository, path: Path | None) -> wheel.WheelFiles:
    if path is not None:
        return wheel.WheelFiles(wheel.check(repository, path))
    return wheel.WheelFiles(wheel.fetch(repository, wheel.any_name(repository)))


def _run_on_target(repository: Repository, options: argparse.Namespace) -> list[str]:
    target = Target(options.target, repository)
    with locked(target.root):
        lines = commands.recover(target)
        if options.command == "apply":
            return lines + commands.apply(repository, target)
        if options.command == "revert":
            return lines + commands.revert(target)
        if options.command == "status":
            return lines + commands.status(repository, target)
        upstream = _open_wheel(repository, options.wheel)
        return lines + refresh(repository, target, upstream, options.patch, options.only)


def _run_on_wheel(repository: Repository, options: argparse.Namespace) -> list[str]:
    upstream = _open_wheel(repository, options.wheel)
    if options.command == "lock":
        return commands.lock(repository, upstream)
    report, complaints = commands.verify(repository, upstream)
    if complaints:
        raise Refusal("\n".join([*report, *complaints]))
    return report


def _run_drift(repository: Repository, options: argparse.Namespace) -> list[str]:
    base = _open_wheel(repository, options.wheel)
    path = options.release_wheel or wheel.fetch_release(repository, options.release)
    lines = drift.report(repository, base, wheel.WheelFiles(path), options.release)
    if options.output is None:
        return lines[:-1]
    options.output.write_text("\n".join(lines))
    return [f"wrote {options.output}"]


def _terminated(signum: int, frame: FrameType | None) -> None:
    # An exception, so that an unfinished change is undone on the way out.
    sys.exit(128 + signum)


def main(arguments: list[str] | None = None) -> int:
    """Run one command; 0 when done or nothing was to do, 1 when refused, 2 for bad usage."""
    options = _parser().parse_args(arguments)
    signal.signal(signal.SIGTERM, _terminated)
    repository = Repository(options.repo, options.base)
    run = _run_on_target if "target" in options else _run_on_wheel
    if options.command == "drift":
        run = _run_drift
    try:
        print("\n".join(run(repository, options)))
    except (Refusal, OSError) as error:
        print(error, file=sys.stderr)
        return _REFUSED
    return 0


if __name__ == "__main__":
    sys.exit(main())
