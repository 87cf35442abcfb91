"""What the official clients put together of a stream."""

from __future__ import annotations

from typing import Any

import anthropic
import openai
from openai.lib.streaming._deltas import accumulate_delta

from sglang.srt.tenancy.response_cache.endpoints.endpoint import Body
from support.response_cases import CHAT, COMPLETIONS, RESPONSES

# Their own fields; the rest of a body goes beside them.
EXTRA = ("regex", "return_token_ids", "chat_template_kwargs")


def read(url: str, path: str, body: Body) -> Any:
    """Return what the official client puts together of a stream."""
    own = {name: value for name, value in body.items() if name not in (*EXTRA, "stream")}
    more = {name: value for name, value in body.items() if name in EXTRA}
    client = openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0)
    if path == COMPLETIONS:
        return _completion(client, own | {"extra_body": more})
    if path == CHAT:
        return _chat(client, own | {"extra_body": more})
    if path == RESPONSES:
        with client.responses.stream(**own) as responses:
            return responses.until_done().get_final_response().model_dump()
    other = anthropic.Anthropic(base_url=url, api_key="none", max_retries=0)
    own["extra_body"] = {"temperature": own.pop("temperature")}
    with other.messages.stream(**own) as messages:
        return messages.get_final_message().model_dump()


def _completion(client: openai.OpenAI, body: Body) -> Any:
    texts: dict[int, str] = {}
    reasons: dict[int, str | None] = {}
    usage = None
    for chunk in client.completions.create(**body, stream=True):
        usage = chunk.usage or usage
        for choice in chunk.choices:
            texts[choice.index] = texts.get(choice.index, "") + choice.text
            reasons[choice.index] = choice.finish_reason or reasons.get(choice.index)
    return {"texts": texts, "reasons": reasons, "usage": usage and usage.model_dump()}


def _chat(client: openai.OpenAI, body: Body) -> Any:
    """As the client's own helper for streams does, which raises at the length limit."""
    choices: dict[int, Any] = {}
    logprobs: list[Any] = []
    reasons: dict[int, Any] = {}
    usage = None
    for chunk in client.chat.completions.create(**body, stream=True):
        usage = chunk.usage or usage
        for choice in chunk.choices:
            so_far = choices.setdefault(choice.index, {})
            said: dict[object, object] = dict(choice.delta.model_dump().items())
            choices[choice.index] = accumulate_delta(so_far, said)
            reasons[choice.index] = choice.finish_reason
            logprobs += (choice.logprobs and choice.logprobs.content) or []
    told = [entry.model_dump() for entry in logprobs]
    usage_said = usage and usage.model_dump()
    return {"messages": choices, "reasons": reasons, "logprobs": told, "usage": usage_said}
