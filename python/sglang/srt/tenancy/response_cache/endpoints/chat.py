"""/v1/chat/completions: messages, with reasoning and calls of tools."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from sglang.srt.tenancy.response_cache.endpoints import chat_delta, sse
from sglang.srt.tenancy.response_cache.endpoints.choices import (
    ChoicesEndpoint,
    cut_logprobs,
    merged_lists,
    so_far,
)
from sglang.srt.tenancy.response_cache.endpoints.endpoint import Body, Split
from sglang.srt.tenancy.response_cache.endpoints.pieces import Piece, at_tokens, shared, text_of

# In the order in which models write them. Servers other than SGLang say "reasoning".
_TEXTS = ("reasoning_content", "reasoning", "content")
# Of a choice: what no chunk has, or another one than the last.
_NOT_LAST = ("message", "logprobs", "hidden_states", "prompt_token_ids", "token_ids", "meta_info")


class Chat(ChoicesEndpoint):
    path = "/v1/chat/completions"
    kind = "chat.completion"
    chunk_kind = "chat.completion.chunk"
    whole_only = ("return_token_ids", "return_prompt_token_ids", "return_meta_info")

    def _says_all(self, answer: Body, chunks: Sequence[Body], body: Mapping[str, Any]) -> bool:
        """Upstream's streams lose logprobs: of a token that no text is shown for, and but for the
        first one of a chunk, what else the token might have been. And they tell of calls that are
        cut off, which whole answers leave in the text, or out."""
        if any(map(_cut_off, answer["choices"])):
            return False
        if not body.get("logprobs"):
            return True
        told = sum(len(_entries(choice)) for choice in answer["choices"])
        tokens = (answer.get("usage") or {}).get("completion_tokens")
        each = [_entries(choice) for chunk in chunks for choice in chunk["choices"]]
        return (tokens is None or told >= tokens) and not any(map(_repeated, each))

    def _add(self, choice: Body, delta: Body) -> None:
        for name, value in delta.items():
            if name == "delta":
                chat_delta.add(choice.setdefault("message", {}), value or {})
            elif name == "logprobs":
                choice[name] = merged_lists(choice.get(name), value)
            elif value is not None or name not in choice:
                choice[name] = value

    def _whole(self, choice: Body) -> Body:
        message = choice.pop("message", {})
        hidden_states = message.pop("hidden_states", None)
        calls = message.pop("tool_calls", None)
        empty = {"role": "assistant", "content": None, "reasoning_content": None}
        base = {"index": choice.pop("index"), "message": empty | message | {"tool_calls": calls}}
        if hidden_states is not None:
            choice["hidden_states"] = hidden_states
        return base | choice

    def _chunks(
        self, head: Body, choice: Body, body: Mapping[str, Any], split: Split, usage: Any
    ) -> Iterator[bytes]:
        message, index = choice["message"], choice["index"]
        # Without texts, and as far as upstream sends it in each delta.
        plain = {name: None for name in ("reasoning_content",) if name in message}
        ending = {name: choice[name] for name in choice if name not in _NOT_LAST}

        def chunk(delta: Body, logprobs: Any = None, taken: int | None = None) -> bytes:
            said = {"index": index, "delta": delta, "logprobs": logprobs}
            said |= dict.fromkeys(name for name in ending if name != "index")
            counted = {} if taken is None or usage is None else {"usage": so_far(usage, taken)}
            return sse.written({**head, "choices": [said], **counted})

        yield chunk(plain | _opening(message))
        texts, tokens = _pieces(choice, split)
        end = 0
        for number, (name, piece) in enumerate(texts):
            part = end, end + piece.tokens, tokens
            end = part[1]
            shown = cut_logprobs(choice.get("logprobs"), part, number == 0)
            yield chunk(plain | ({name: piece.text} if piece.text else {}), shown, end)
        for delta in _calls(message, split):
            yield chunk({"role": None, "content": None, **plain, "tool_calls": [delta]}, None, end)
        if choice.get("logprobs") is not None and (end < tokens or not texts):
            part = end, tokens, tokens
            yield chunk(dict(plain), cut_logprobs(choice["logprobs"], part, not texts), tokens)
        last = {"index": index, "delta": dict(plain), "logprobs": None} | ending
        yield sse.written({**head, "choices": [last]})

    def _after(self, head: Body, choices: Sequence[Body]) -> Iterator[bytes]:
        for choice in choices:
            if choice.get("hidden_states") is not None:
                delta = {"role": None, "content": None, "hidden_states": choice["hidden_states"]}
                shown = {"index": choice["index"], "delta": delta, "finish_reason": None}
                yield sse.written({**head, "choices": [shown]})


def _entries(choice: Body) -> Sequence[Body]:
    """Return the logprobs of a choice's tokens."""
    return (choice.get("logprobs") or {}).get("content") or ()


def _repeated(entries: Sequence[Body]) -> bool:
    tops = [entry.get("top_logprobs") for entry in entries]
    return len(tops) > 1 and bool(tops[0]) and all(top == tops[0] for top in tops)


def _cut_off(choice: Body) -> bool:
    """Tell whether a choice ends in the middle of calls."""
    return choice["finish_reason"] == "length" and bool(choice["message"].get("tool_calls"))


def _opening(message: Body) -> Body:
    """Return the first delta: the role, and what is not streamed in pieces."""
    delta = {"role": message.get("role"), "content": None if message.get("content") is None else ""}
    for name, value in message.items():
        if name not in (*delta, *_TEXTS, "tool_calls") or (value in ("", []) and name != "content"):
            delta[name] = value
    return delta


def _pieces(choice: Body, split: Split) -> tuple[list[tuple[str, Piece]], int]:
    """Cut a choice's texts into those of its chunks; and of how many tokens these are."""
    message = choice["message"]
    texts = [(name, text) for name in _TEXTS if (text := text_of(message.get(name)))]
    tokens = [entry["token"] for entry in _entries(choice)]
    pieces = _at_tokens(texts, tokens) if tokens else None
    if pieces is None:
        parts = [(name, part) for name, text in texts for part in split(text)]
        count = len(tokens or parts)
        even = shared([part for _, part in parts], count)
        return [(name, piece) for (name, _), piece in zip(parts, even, strict=True)], count
    # Where a parser is at work, what is left is told in chunks without text.
    if pieces and not (message.get("tool_calls") or message.get("reasoning_content")):
        name, piece = pieces[-1]
        left = len(tokens) - sum(piece.tokens for _, piece in pieces)
        pieces[-1] = name, Piece(piece.text, piece.tokens + left)
    return pieces, len(tokens)


def _at_tokens(
    texts: Sequence[tuple[str, str]], tokens: Sequence[str]
) -> list[tuple[str, Piece]] | None:
    pieces: list[tuple[str, Piece]] = []
    begin = 0
    for name, text in texts:
        found = at_tokens(text, tokens, begin)
        if found is None:
            return None
        pieces += [(name, piece) for piece in found[0]]
        begin = found[1]
    return pieces


def _calls(message: Body, split: Split) -> Iterator[Body]:
    """Return the deltas of a message's calls: first the name, then the arguments in pieces."""
    for index, call in enumerate(message.get("tool_calls") or ()):
        function = call.get("function")
        arguments = function.get("arguments") if isinstance(function, dict) else None
        if not isinstance(function, dict) or not isinstance(arguments, str):
            yield {**call, "index": index}
            continue
        yield {**call, "index": index, "function": {**function, "arguments": ""}}
        for piece in split(arguments) if arguments else ():
            added = {"name": None, "arguments": piece}
            yield {"id": None, "index": index, "type": "function", "function": added}
