"""What do colluding accounts learn of one more user, and what does it cost to tell them little?

    python benchmarks/collusion.py [--quick] [--strict] [--out DIR]

Plays attacks with and without a victim, and crowds of ordinary users, on the real tree without a
server, and writes collusion.json and collusion.png into benchmarks/results.
"""

from __future__ import annotations

import logging
from functools import partial
from typing import Any

from colluding import cells, crowds
from colluding.collusion_figure import draw
from colluding.collusion_table import as_table, targets
from report.program import leave, options_of, run
from report.target import all_met, verdicts
from tqdm import tqdm

TRIALS = 10_000  # with the victim, and as many without
QUICK = "fewer attacks, with 1,000 trials of each kind; two crowds"


def main() -> int:
    options = options_of(__doc__, quick=QUICK, strict=True).parse_args()
    logging.disable(logging.WARNING)
    results = measure(TRIALS // 10 if options.quick else TRIALS, everything=not options.quick)
    print(as_table(results))
    found = targets(results)
    print(verdicts(found))
    leave("collusion", options.out, results, partial(draw, results))
    return int(options.strict and not all_met(found))


def measure(trials: int, *, everything: bool) -> dict[str, Any]:
    """``trials``: of one attack, with the victim and as many without."""
    wanted = cells.cells(all_of_them=everything)
    sizes = crowds.CROWDS if everything else crowds.CROWDS[2:4]
    steps = cells.number_of_jobs(wanted, trials) + len(sizes) * len(crowds.policies())
    with tqdm(total=steps, disable=None) as bar:
        return {
            "attacks": cells.measure(wanted, trials, bar.update),
            "crowds": crowds.measure(sizes, crowds.WINDOWS, bar.update),
            "settings": [setting.describe() for setting in cells.SETTINGS],
        }


if __name__ == "__main__":
    run(main)
