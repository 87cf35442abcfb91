"""The logger of our HTTP side."""

from __future__ import annotations

import logging

# In tokenizer workers upstream sets up this logger and no other: infos of ours were lost.
logger = logging.getLogger("sglang.srt.entrypoints.http_server")
