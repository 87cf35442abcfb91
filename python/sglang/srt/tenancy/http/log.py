"""The logger of the HTTP side, and what it may say of an error."""

from __future__ import annotations

import logging
import traceback

# In tokenizer workers upstream sets up this logger and no other: infos of ours were lost.
logger = logging.getLogger("sglang.srt.entrypoints.http_server")


def where(error: BaseException) -> str:
    """Say what was raised and where; not with which message: it may hold a part of a prompt."""
    frames = traceback.extract_tb(error.__traceback__)
    place = f" in {frames[-1].name}(), line {frames[-1].lineno}" if frames else ""
    return f"{type(error).__name__}{place}"
