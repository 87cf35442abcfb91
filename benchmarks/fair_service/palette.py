"""Which colour is whose, in all pictures of fair service."""

from __future__ import annotations

from collections.abc import Sequence

PLACES = {"live": "live, wall-clock", "replay": "replay, modelled device"}
COLOURS = {
    "fcfs": "#c0392b",
    "lpm": "#e67e22",
    "dfs-weight": "#c8a165",
    "vtc": "#1f6fb2",
    "dlpm": "#2e9e6b",
    "upstream fcfs": "#e5a199",
    "upstream lpm": "#f3c393",
    "upstream dfs-weight": "#e3d3b5",
}
ON_UPSTREAMS_CACHE = "upstream "  # goes before a policy, in the replay
OTHERS = ("#7d4fa0", "#5d6d7e", "#b03a7e", "#148f8f")  # servers measured by --url


def colours(policies: Sequence[str]) -> dict[str, str]:
    strange = [policy for policy in policies if policy not in COLOURS]
    return COLOURS | {p: OTHERS[n % len(OTHERS)] for n, p in enumerate(strange)}
