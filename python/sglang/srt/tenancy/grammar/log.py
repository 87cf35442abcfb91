"""What upstream's log may say of a grammar that failed: that it did, not what it is."""

from __future__ import annotations

import logging
import re

_CONSTRAINED = "sglang.srt.constrained"
# Loggers that speak of nothing else.
_OF_GRAMMARS = tuple(
    f"{_CONSTRAINED}.{module}"
    for module in (
        "base_grammar_backend",
        "grammar_manager",
        "llguidance_backend",
        "outlines_backend",
        "reasoner_grammar_backend",
        "xgrammar_backend",
    )
)
# Loggers that speak of much else, and how they begin when they do.
_OF_MORE = (
    "sglang.srt.entrypoints.http_server",
    "sglang.srt.managers.schedule_batch",
    "sglang.srt.managers.scheduler_components.batch_result_processor",
)
_BEGINNINGS = (
    "Failed to compile",
    "[http_server] Error: Failed to compile",
    "[http_server] Error: Grammar preprocessing timed out",
    "[http_server] Error: invalid stop_regex",
    "Grammar accept_token failed",
    "Grammar preprocessing timed out",
    "invalid stop_regex",
    "req %s: invalid stop_regex",
)
_FROM_HERE = re.compile(r"[:=,{%]| for req ")


class _HideGrammars(logging.Filter):
    """Cuts messages where a request's own words may begin. ``beginnings``: which; None: all."""

    def __init__(self, beginnings: tuple[str, ...] | None):
        super().__init__()
        self.beginnings = beginnings

    def filter(self, record: logging.LogRecord) -> bool:
        message = str(record.msg)
        if self.beginnings is None or message.startswith(self.beginnings):
            record.msg, record.args = cut(message), None
            record.exc_info = record.exc_text = None
        return True


def cut(message: str) -> str:
    """Return what a message says before it shows a grammar, tokens, or an id."""
    if message.startswith("req %s: "):
        return "A request has an invalid stop_regex"
    return _FROM_HERE.split(message, maxsplit=1)[0].strip()


def hide_grammars() -> None:
    """Have this process's log show no grammar from now on. Twice is as good as once."""
    for name in (*_OF_GRAMMARS, *_OF_MORE):
        log = logging.getLogger(name)
        if not any(isinstance(known, _HideGrammars) for known in log.filters):
            log.addFilter(_HideGrammars(None if name in _OF_GRAMMARS else _BEGINNINGS))
