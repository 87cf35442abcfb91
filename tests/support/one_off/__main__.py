"""Let users come once, many of them, and see what they leave behind.

    cd tests && python -m support.one_off USERS [--served N] [--out DIR]

The scheduler's tree and an HTTP process, each in a process of its own, get USERS users; a whole
server as many as come in S seconds. Writes one_off_users.json and one_off_users.png, prints what
was asked with pass or fail, and fails where something grows.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).parents[3]
# Programs, not packages.
sys.path += [str(REPOSITORY / folder) for folder in ("scripts", "benchmarks")]

from support.one_off.parts import SAMPLES, play_http, play_tree  # noqa: E402
from support.one_off.picture import draw  # noqa: E402
from support.one_off.targets import targets  # noqa: E402


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("users", type=int, help="at least 10 for each of the samples")
    parser.add_argument("--served", type=int, default=24_000, help="users of the whole server")
    parser.add_argument("--out", type=Path, default=REPOSITORY / "benchmarks" / "results")
    options = parser.parse_args()
    if options.users < 10 * SAMPLES:
        parser.error(f"users: {options.users} are too few; give {10 * SAMPLES} or more")
    started = time.monotonic()
    results = _measure(options.users, options.served)
    results["targets"] = targets(results)
    for target in results["targets"]:
        print(f"{'pass' if target['reached'] else 'FAIL'}  {target['what']}: {target['found']}")
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "one_off_users.json").write_text(json.dumps(results, indent=1) + "\n")
    draw(results, options.out / "one_off_users.png")
    print(f"{time.monotonic() - started:.0f} s; written to {options.out}/one_off_users.json, .png")
    return 0 if all(target["reached"] for target in results["targets"]) else 1


def _measure(users: int, served: int) -> dict[str, Any]:
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(2, mp_context=context) as pool:
        tree, http = pool.submit(play_tree, users), pool.submit(play_http, users)
        results: dict[str, Any] = {"users": users, "tree": tree.result(), "http": http.result()}
    from support.one_off import server

    results["server"] = {"samples": server.play(served)}
    return results


if __name__ == "__main__":
    raise SystemExit(main())
