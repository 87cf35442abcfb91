"""Serve Ollama's chats, which upstream cannot with the tokenizers of transformers 5.

There a chat template gives a mapping with token ids in it where upstream takes it for the ids. And
of Ollama's options, ``seed`` is no name of a sampling parameter.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from sglang.srt.managers.io_struct import GenerateReqInput
from sglang.srt.plugins.hook_registry import HookRegistry, HookSource, HookType
from sglang.srt.tenancy.http.off_loop import run_off_loop

_SERVING = "sglang.srt.entrypoints.ollama.serving.OllamaServing"


def install() -> None:
    """Have Ollama's endpoints served so. To be applied by the registry."""
    source = HookSource("tenant ollama", None)
    for method, hook, kind in (
        ("handle_chat", _chat, HookType.AROUND),
        ("_convert_options_to_sampling_params", _name_seed, HookType.AFTER),
    ):
        target = f"{_SERVING}.{method}"
        if target not in HookRegistry._hooks:
            HookRegistry.register(target, hook, kind, source=source)


async def _chat(_: Callable[..., Any], serving: Any, request: Any, raw_request: Any) -> Any:
    """Make the prompt, a long one in a thread, and let upstream answer it."""
    manager = serving.tokenizer_manager
    render = partial(
        manager.tokenizer.apply_chat_template,
        tokenize=True,
        add_generation_prompt=True,
        return_dict=False,
    )
    messages = [message.model_dump(include={"role", "content"}) for message in request.messages]
    asked = GenerateReqInput(
        input_ids=await run_off_loop(render, messages),
        sampling_params=serving._convert_options_to_sampling_params(request.options),
        stream=request.stream,
    )
    answer = serving._stream_chat_response if request.stream else serving._generate_chat_response
    return await answer(asked, raw_request, manager.served_model_name)


def _name_seed(params: dict[str, Any], *_: Any) -> dict[str, Any]:
    if "seed" in params:
        params["sampling_seed"] = params.pop("seed")
    return params
