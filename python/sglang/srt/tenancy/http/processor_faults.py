"""Let what a media processor stumbles over reach its request, and keep the media out of the log.

More places for pictures than pictures make some processors raise StopIteration. No future can hold
one: the request would wait for ever, also when its client is gone. Other faults say, and log, what
the medium was.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable
from typing import Any

from sglang.srt.multimodal.mm_utils import has_valid_data
from sglang.srt.plugins.hook_registry import HookRegistry, HookSource, HookType
from sglang.srt.tenancy.errors import RequestError, bad_field
from sglang.srt.tenancy.http.log import where
from sglang.srt.tenancy.media.references import FIELDS
from sglang.srt.utils import logger as processors_logger  # of other code of upstream's, too

_RUN = "sglang.srt.multimodal.processors.executor.MultimodalProcessorExecutor._run"
_NOT_LOADED = "An exception occurred while loading"
_MEDIUM = re.compile(r"base64,[A-Za-z0-9+/=]+")


def install() -> None:
    """Have processors in threads raise what a future holds. To be applied by the registry."""
    if _RUN not in HookRegistry._hooks:
        source = HookSource("tenant processor faults", None)
        HookRegistry.register(_RUN, _run, HookType.AROUND, source=source)
        processors_logger.addFilter(_hide_media)


def refusal_of(error: Exception, request: Any) -> RequestError | None:
    """Return what to tell of a medium that could not be loaded, or None for another error."""
    text = str(error)
    if not (text.startswith(_NOT_LOADED) or _MEDIUM.search(text)):
        return None
    field = next((name for name in FIELDS if has_valid_data(getattr(request, name, None))), None)
    return None if field is None else bad_field(field, "cannot be read; is it whole?")


def _run(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    try:
        return original(*args, **kwargs)
    except StopIteration:
        raise ValueError("There are more places for media in the prompt than media") from None


def _hide_media(record: logging.LogRecord) -> bool:
    message = record.getMessage()
    error = record.exc_info[1] if record.exc_info else None
    if _MEDIUM.search(f"{message} {error}"):
        message = _MEDIUM.sub("base64,...", message)
        record.msg = message if error is None else f"{message} ({where(error)})"
        record.args, record.exc_info, record.exc_text = (), None, None
    return True
