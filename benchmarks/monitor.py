"""Which thresholds should the probe monitor have?

    python benchmarks/monitor.py [--out DIR]

Sends ordinary users' requests, and probers', through a real cache without a server, says for each
pair of --tenant-rdr-threshold and --tenant-rdr-min-hits whom it demotes and when, and writes
monitor.json and monitor.png into benchmarks/results. Only counts: the same on every machine.
"""

from __future__ import annotations

import argparse
import json
import logging
import time
from pathlib import Path
from typing import Any

from probe_monitor.cache import DEFAULT, EPOCH
from probe_monitor.picture import draw
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
from probe_monitor.table import as_table
from tqdm import tqdm


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    options = parser.parse_args()
    started = time.monotonic()
    logging.disable(logging.WARNING)  # each demotion would be a line
    results = _measure()
    print(as_table(results))
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "monitor.json").write_text(json.dumps(results, indent=1) + "\n")
    draw(results, options.out / "monitor.png")
    seconds = time.monotonic() - started
    print(f"{seconds:.0f} s; written to {options.out}/monitor.json and .png")
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
    raise SystemExit(main())
