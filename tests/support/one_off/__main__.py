"""Let users come once, many of them, and see what they leave behind.

    cd tests && python -m support.one_off USERS [--served N] [--out DIR]

The scheduler's tree and an HTTP process, each in a process of its own, get USERS users; a whole
server as many as come in S seconds. Writes one_off_users.json and one_off_users.png, prints what
was asked with pass or fail, and fails where something grows.
"""

from __future__ import annotations

import multiprocessing
import sys
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).parents[3]
# Programs, not packages.
sys.path += [str(REPOSITORY / folder) for folder in ("scripts", "benchmarks")]

from report.program import leave, options_of  # noqa: E402
from report.target import all_met, verdicts  # noqa: E402

from support.one_off.growth_figure import draw  # noqa: E402
from support.one_off.growth_targets import rows, targets  # noqa: E402
from support.one_off.parts import SAMPLES, play_http, play_tree  # noqa: E402


def main() -> int:
    parser = options_of(__doc__)
    parser.add_argument("users", type=int, help="at least 10 for each of the samples")
    parser.add_argument("--served", type=int, default=24_000, help="users of the whole server")
    parser.set_defaults(out=REPOSITORY / "benchmarks" / "results")
    options = parser.parse_args()
    if options.users < 10 * SAMPLES:
        parser.error(f"users: {options.users} are too few; give {10 * SAMPLES} or more")
    results = _measure(options.users, options.served)
    judged = list(targets(results))
    results["targets"] = rows(judged)
    print(verdicts(judged))
    leave("one_off_users", options.out, results, partial(draw, results))
    return 0 if all_met(judged) else 1


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
