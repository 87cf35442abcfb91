"""Answer ``/metrics`` in Prometheus's text format, whichever a scraper would rather have.

In OpenMetrics, prometheus_client turns the colon of ``sglang:`` into an underscore, unless it is
asked for names of any characters; Prometheus does so from 3.0 on. Each series would have a name for
old scrapers and another one for new ones, and here, by user, always the second.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from starlette.types import Scope

PATHS = ("/metrics", "/metrics/")


def ask_for_text(scope: Scope) -> None:
    """Take from a request what it says of formats: without a word it is the text format."""
    scope["headers"] = [entry for entry in scope["headers"] if entry[0].lower() != b"accept"]
