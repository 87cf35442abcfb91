"""What the pictures draw of a run besides its figures: curves, short enough for a file."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from fair_service.record import Scenario, Served
from fair_service.service import Prices, by_user, last_arrival, service_at

POINTS = 41  # of a curve
DRAWN = 24  # users; of more, curves are not kept


def curves(
    scenario: Scenario, served: Sequence[Served], prices: Prices | None = None
) -> dict[str, Any]:
    """``times``: seconds, from the start to the last arrival. ``service``: user -> tokens by
    price and weight at these times. ``victim_waits``: seconds to the first token, by quantiles
    from 0 to 1; None: never.
    """
    prices, users = prices or Prices(), by_user(served)
    times = np.linspace(0.0, last_arrival(served), POINTS)
    drawn = users if len(users) <= DRAWN else {}
    service = {
        user: [round(float(s) / scenario.weights.get(user, 1.0)) for s in each]
        for user, requests in drawn.items()
        for each in [service_at(requests, prices, times)]
    }
    return {
        "times": [round(float(t), 3) for t in times],
        "service": service,
        "victim_waits": _waits(users[scenario.victim]) if scenario.victim in users else None,
    }


def _waits(requests: Sequence[Served]) -> list[float | None]:
    waits = [r.first_token - r.ask.at if r.first_token >= 0 else math.inf for r in requests]
    found = np.quantile(waits, np.linspace(0, 1, POINTS), method="higher")
    return [round(float(wait), 4) if math.isfinite(wait) else None for wait in found]
