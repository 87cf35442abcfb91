"""Which thresholds should the probe monitor have?

    python benchmarks/monitor.py [--out DIR]

Sends ordinary users' requests, and probers', through a real cache without a server, says for each
pair of --tenant-rdr-threshold and --tenant-rdr-min-hits whom it demotes and when, and writes
monitor.json and monitor.png into benchmarks/results. Only counts: the same on every machine.
"""

from __future__ import annotations

import logging
from functools import partial
from typing import Any

from probe_monitor.sweep import (
    FORMER,
    MIN_HITS,
    REQUESTS,
    STEPS,
    THRESHOLDS,
    costs,
    epochs,
    ordinary_users,
    probers,
)
from probe_monitor.threshold_figure import draw
from probe_monitor.threshold_table import as_table
from probe_monitor.watched_cache import DEFAULT, EPOCH
from report.program import leave, options_of, run
from tqdm import tqdm


def main() -> int:
    options = options_of(__doc__).parse_args()
    logging.disable(logging.WARNING)  # each demotion would be a line
    results = _measure()
    print(as_table(results))
    leave("monitor", options.out, results, partial(draw, results))
    return 0


def _measure() -> dict[str, Any]:
    """``demoted`` and ``probes`` of a row: for each of ``min_hits`` all ``thresholds``."""
    with tqdm(total=STEPS, disable=None) as bar:
        return {
            "default": DEFAULT._asdict(),
            "former_default": FORMER._asdict(),
            "epoch_requests": EPOCH,
            "requests": REQUESTS,
            "thresholds": THRESHOLDS,
            "min_hits": MIN_HITS,
            "ordinary_users": ordinary_users(bar.update),
            "probers": probers(bar.update),
            "costs": costs((FORMER, DEFAULT), bar.update),
            "epochs": epochs(bar.update),
        }


if __name__ == "__main__":
    run(main)
