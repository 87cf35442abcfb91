"""What an HTTP process holds of a user outside the cache, and how it forgets it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sglang.srt.tenancy.detect import service as detector
from sglang.srt.tenancy.grammar import service as grammar_trials
from sglang.srt.tenancy.http import response_caching
from sglang.srt.tenancy.http.log import logger
from sglang.srt.tenancy.http.request_context import forget_requests
from sglang.srt.tenancy.user_id import digest

if TYPE_CHECKING:
    from fastapi import FastAPI


def forget(app: FastAPI, user: str) -> None:
    """Drop this process's stored responses of a user, and their prompts that wait for the detector.

    Requests that are under way go on, and store nothing. Background responses are cancelled:
    nobody could fetch them any more.
    """
    forget_requests(user)
    response_caching.clear_soon(user)
    prompts = detector.forget(user)
    grammar_trials.forget(user)
    responses = 0
    serving: Any = getattr(app.state, "openai_serving_responses", None)
    if serving is not None:
        ids = [*serving.response_store.forget(user), *serving.msg_store.forget(user)]
        responses = len(set(ids))
        for response_id in ids:
            task = serving.background_tasks.get(response_id)
            if task is not None:
                serving.tokenizer_manager.abort_request(rid=response_id)
                task.cancel()
    logger.info(
        "Erased of user #%s: %d stored responses, %d prompts that waited for the detector.",
        digest(user),
        responses,
        prompts,
    )
