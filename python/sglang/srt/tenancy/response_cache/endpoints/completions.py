"""/v1/completions: texts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import accumulate
from typing import Any

from sglang.srt.tenancy.response_cache.endpoints import sse
from sglang.srt.tenancy.response_cache.endpoints.choices import (
    ChoicesEndpoint,
    cut_logprobs,
    merged_lists,
    so_far,
)
from sglang.srt.tenancy.response_cache.endpoints.endpoint import Body, Split
from sglang.srt.tenancy.response_cache.endpoints.pieces import (
    Piece,
    at_tokens,
    cut,
    shared,
    text_of,
)

# Of a choice: what only some chunks have.
_NOT_IN_ALL = ("prompt_token_ids", "token_ids", "hidden_states")


class Completions(ChoicesEndpoint):
    path = "/v1/completions"
    kind = chunk_kind = "text_completion"

    def samples(self, body: Mapping[str, Any]) -> int | None:
        return super().samples(body) if _one_prompt(body.get("prompt")) else None

    def _add(self, choice: Body, delta: Body) -> None:
        for name, value in delta.items():
            before = choice.get(name)
            if name == "text":
                choice[name] = text_of(before) + text_of(value)
            elif name == "logprobs":
                choice[name] = merged_lists(before, value)
            elif name == "token_ids" and before is not None:
                before.extend(value or ())
            elif value is not None or name not in choice:
                choice[name] = value

    def _whole(self, choice: Body) -> Body:
        return choice

    def _chunks(
        self, head: Body, choice: Body, body: Mapping[str, Any], split: Split, usage: Any
    ) -> Iterator[bytes]:
        pieces = _pieces(choice, body, split)
        ends = list(accumulate(piece.tokens for piece in pieces))
        kept = {name: value for name, value in choice.items() if name not in _NOT_IN_ALL}
        plain = dict.fromkeys(kept) | {"index": choice["index"]}
        for number, (piece, end) in enumerate(zip(pieces, ends, strict=True)):
            part = end - piece.tokens, end, ends[-1]
            shown = dict(plain if number < len(pieces) - 1 else kept, text=piece.text)
            shown["logprobs"] = cut_logprobs(choice.get("logprobs"), part, number == 0)
            if choice.get("token_ids") is not None:
                shown["token_ids"] = cut(choice["token_ids"], part)
            if number == 0 and choice.get("prompt_token_ids") is not None:
                shown["prompt_token_ids"] = choice["prompt_token_ids"]
            yield sse.written({**head, "choices": [shown], "usage": so_far(usage, end)})

    def _after(self, head: Body, choices: Sequence[Body]) -> Iterator[bytes]:
        for choice in choices:
            if choice.get("hidden_states") is not None:
                shown = {"index": choice["index"], "text": "", "logprobs": None}
                shown |= {"finish_reason": None, "hidden_states": choice["hidden_states"]}
                yield sse.written({**head, "choices": [shown], "usage": None})


def _one_prompt(prompt: Any) -> bool:
    """Tell whether it is one text, or one list of token ids."""
    if not isinstance(prompt, list) or not prompt:
        return isinstance(prompt, str)
    return len(prompt) == 1 or all(isinstance(token, int) for token in prompt)


def _pieces(choice: Body, body: Mapping[str, Any], split: Split) -> list[Piece]:
    """Cut a choice's text into those of its chunks, of which there is at least one."""
    text = text_of(choice.get("text"))
    tokens = (choice.get("logprobs") or {}).get("tokens") or []
    found = at_tokens(text, tokens) if tokens else None
    if found is None:
        texts = split(text) if text else []
        pieces, left = shared(texts, len(tokens or choice.get("token_ids") or texts)), 0
    else:
        pieces, left = found[0], len(tokens) - found[1]
    prompt = body.get("prompt")
    prompt = prompt[0] if isinstance(prompt, list) and len(prompt) == 1 else prompt
    if body.get("echo") and isinstance(prompt, str):
        pieces = _echo_first(pieces, prompt)
    # What ends by itself ends with a token that is not shown.
    if not pieces or choice.get("finish_reason") != "length":
        return [*pieces, Piece("", left)]
    return [*pieces[:-1], Piece(pieces[-1].text, pieces[-1].tokens + left)]


def _echo_first(pieces: list[Piece], prompt: str) -> list[Piece]:
    """Join the pieces that repeat the prompt with the first one after it."""
    text, tokens, number = "", 0, 0
    while number < len(pieces) and len(text) <= len(prompt):
        text += pieces[number].text
        tokens += pieces[number].tokens
        number += 1
    return [Piece(text, tokens), *pieces[number:]]
