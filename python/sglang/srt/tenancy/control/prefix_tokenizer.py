"""Turn what an operator wrote into the tokens that requests will begin with.

The server's own handlers do the work: another rendering would be a prefix of nothing.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from sglang.srt.tenancy.control.messages import Prefix
from sglang.srt.tenancy.control.prefix_table import content_of
from sglang.srt.tenancy.prefix_spec import MAX_TOKENS, PrefixSpec, PrefixSpecError

if TYPE_CHECKING:
    from fastapi import FastAPI

# How a conversation may go on. What all of these begin with, every conversation does, whatever
# the template adds or moves at its end and however the tokenizer joins its first letters.
_CONTINUATIONS: tuple[tuple[tuple[str, str], ...], ...] = (
    (),
    (("user", "a"),),
    (("user", "7"),),
    (("user", "\n\n x"),),
    (("user", "早"),),
    (("assistant", "b"), ("user", "c")),
    (("assistant", "\n\n 8"), ("user", "d")),
)


class PrefixTokenizer:
    """Makes prefixes of specs with the tokenizer and the chat template of this server."""

    def __init__(self, app: FastAPI, manager: Any):
        self._chat: Any = app.state.openai_serving_chat
        self._manager = manager

    async def tokenize(self, source: PrefixSpec) -> Prefix:
        """Return the prefix. Raises PrefixSpecError for the source's kind or ``tools``."""
        tokens = await self._tokens(source)
        limit = min(MAX_TOKENS, self._manager.model_config.context_len)
        if len(tokens) > limit:
            raise PrefixSpecError(
                source.kind, f"{len(tokens)} tokens; {limit} are the most, give a shorter prefix"
            )
        content = array("q", tokens)
        return Prefix(source.name or content_of(content)[:16], source.kind, content)

    async def _tokens(self, source: PrefixSpec) -> Sequence[int]:
        if source.kind == "input_ids":
            return self._known(source.value)
        if self._manager.tokenizer is None:
            raise PrefixSpecError(source.kind, "this server has no tokenizer; give input_ids")
        if source.kind == "text":
            return await self._tokenize(source.value)
        return await self._of_messages(source)

    def _known(self, tokens: list[int]) -> list[int]:
        vocab = self._manager.model_config.vocab_size
        if max(tokens) >= vocab:
            raise PrefixSpecError("input_ids", f"{max(tokens)} is no token; they are below {vocab}")
        return tokens

    async def _tokenize(self, text: str) -> list[int]:
        tokens, _ = await self._manager._tokenize_texts(text)
        return list(tokens)

    async def _of_messages(self, source: PrefixSpec) -> list[int]:
        """Return the longest common prefix of all continuations that the template takes."""
        rendered, problem = [], None
        # Upstream makes an assistant's last message a user's: alone, it renders as another.
        turned = source.value[-1].get("role") == "assistant"
        for continuation in _CONTINUATIONS[1:] if turned else _CONTINUATIONS:
            more = [{"role": role, "content": content} for role, content in continuation]
            try:
                rendered.append(await self._render_chat([*source.value, *more], source.tools))
            except PrefixSpecError:
                raise
            except Exception as error:  # noqa: BLE001 - templates raise what they like
                problem = problem or error
        # One alone has nothing to be compared with: its end might be the template's.
        if len(rendered) < 2:
            raise PrefixSpecError("messages", f"the chat template refuses them: {problem}")
        return _common_prefix(rendered)

    async def _render_chat(
        self, messages: list[dict[str, Any]], tools: list[dict[str, Any]] | None
    ) -> list[int]:
        from sglang.srt.entrypoints.openai.protocol import ChatCompletionRequest

        try:
            request = ChatCompletionRequest(messages=messages, tools=tools, model="")
        except ValidationError as error:
            raise _named(error) from None
        multimodal = self._manager.model_config.is_multimodal
        result = self._chat._process_messages(request, multimodal)
        if result.image_data or result.video_data or result.audio_data:
            raise PrefixSpecError("messages", "only text can be public; leave out images and sound")
        if multimodal and result.prompt:
            return await self._tokenize(result.prompt)
        ids = result.prompt_ids
        return await self._tokenize(ids) if isinstance(ids, str) else list(ids)


def _common_prefix(sequences: list[list[int]]) -> list[int]:
    for position, tokens in enumerate(zip(*sequences, strict=False)):
        if len(set(tokens)) > 1:
            return sequences[0][:position]
    return min(sequences, key=len)


def _named(error: ValidationError) -> PrefixSpecError:
    """Name the field at fault. A message is tried as each role's, and most only say that the
    role is another: what else is wrong says more."""
    errors = error.errors(include_input=False, include_url=False, include_context=False)
    telling = min(errors, key=lambda detail: detail["loc"][-1] == "role")
    # The names of the classes that were tried are upstream's affair.
    path = [part for part in map(str, telling["loc"]) if part.islower() or part.isdigit()]
    return PrefixSpecError(path[0], f"{'.'.join(path)}: {telling['msg']}")
