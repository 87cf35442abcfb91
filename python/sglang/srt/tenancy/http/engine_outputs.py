"""Read the engine's outputs, and put right what clients are to see of them."""

from __future__ import annotations

from typing import Any

from sglang.srt.tenancy.errors import RequestError
from sglang.srt.tenancy.http.request_ids import client_id


def was_aborted(output: Any) -> bool:
    """Tell whether an answer, or one of several, was cut off. Some endpoints do not say so."""
    each = output if isinstance(output, list) else [output]
    told = [one.get("meta_info", {}) for one in each if isinstance(one, dict)]
    return any((meta.get("finish_reason") or {}).get("type") == "abort" for meta in told)


def show_client_ids(output: Any) -> None:
    for one in _each(output):
        one["meta_info"]["id"] = client_id(one["meta_info"]["id"])


def name_alternatives(output: Any) -> None:
    """Have no alternatives of a prompt's tokens where upstream's completions look for some."""
    for one in _each(output):
        if "input_token_logprobs" in one["meta_info"]:
            one["meta_info"].setdefault("input_top_logprobs", None)


def fault_of(output: Any) -> RequestError | None:
    """Return what the scheduler refused the request for, if it did: in a stream it is an answer."""
    if isinstance(output, list):
        return None
    reason = output["meta_info"].get("finish_reason")
    if not isinstance(reason, dict) or reason.get("status_code") != 400:
        return None
    return RequestError(400, "request", f"request: {reason.get('message')}")


def _each(output: Any) -> list[Any]:
    return output if isinstance(output, list) else [output]
