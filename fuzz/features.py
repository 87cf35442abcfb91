"""Draw requests that are fine, of many features at once: what one batch of the engine must mix."""

from __future__ import annotations

import copy
import random
from typing import Any

from cases import Case
from endpoints import ENDPOINTS
from values import PROMPT, VOCABULARY

_SCHEMA = '{"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}'
_TOOL = {
    "type": "function",
    "function": {"name": "f", "parameters": {"type": "object", "properties": {}}},
}
# Of sampling parameters, by the names of all front ends that have them.
_SAMPLING: dict[str, tuple[Any, ...]] = {
    "temperature": (0, 0.5, 2.0),
    "top_p": (0.1, 1.0),
    "top_k": (-1, 1, 5),
    "min_p": (0.0, 0.5),
    "frequency_penalty": (-2.0, 1.5),
    "presence_penalty": (-1.0, 2.0),
    "repetition_penalty": (0.5, 1.5),
    "stop": ("a", ["a", "b", "zz"]),
    "stop_token_ids": ([100], [0, VOCABULARY - 1]),
    "stop_regex": ("[a-c]", ["x+", "y"]),
    "ignore_eos": (True,),
    "skip_special_tokens": (False,),
    "no_stop_trim": (True,),
    "logit_bias": ({"100": 5}, {"97": -100, "98": 100}),
    "custom_params": ({"a": 1}, {}),
}
_GRAMMARS: dict[str, tuple[Any, ...]] = {
    "json_schema": (_SCHEMA,),
    "regex": ("[a-z]{1,4}", "(ab|c)*"),
    "ebnf": ('root ::= "a" | "b" root',),
}
_ENGINE: dict[str, tuple[Any, ...]] = {
    "return_logprob": (True, True, False),
    "logprob_start_len": (-1, 0, 1, 3),
    "top_logprobs_num": (0, 1, 3),
    "token_ids_logprob": ([1], [97, 98, 99]),
    "return_text_in_logprobs": (True,),
    "return_sampling_mask": (True,),
    "return_flat_raw_top_logprobs": (True,),
    "return_entropy": (True,),
    "return_prompt_token_ids": (True,),
    "return_bytes": (True,),
    "priority": (0, 1),
    "cache_scope": ("private", "none"),
    "max_thinking_tokens": (0, 1),
    "require_reasoning": (True,),
    "extra_key": ("k",),
    "session_id": ("s",),
    "cache_bucket": (1, 2, 64, 0),
}
_OPENAI: dict[str, tuple[Any, ...]] = {
    "cache_bucket": (1, 2, 64, 0),
    "seed": (0, 7),
    "min_tokens": (0, 1, 2),
    "n": (1, 2, 3),
    "stream_options": ({"include_usage": True}, {"continuous_usage_stats": True}),
    "return_cached_tokens_details": (True,),
    "return_token_ids": (True,),
    "cache_salt": ("x",),
    "response_format": (
        {"type": "json_object"},
        {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "object"}}},
    ),
}
_OF_PATH: dict[str, dict[str, tuple[Any, ...]]] = {
    "/v1/completions": {
        "echo": (True,),
        "logprobs": (0, 1, 5),
        "best_of": (1, 3),
        "prompt": ([PROMPT, PROMPT], [[1, 2], [3]], [1, 2, 3]),
        "suffix": ("x",),
    },
    "/v1/chat/completions": {
        "logprobs": (True,),
        "top_logprobs": (0, 3),
        "tools": ([_TOOL], []),
        "tool_choice": (
            "auto",
            "none",
            "required",
            {"type": "function", "function": {"name": "f"}},
        ),
        "continue_final_message": (True,),
        "return_meta_info": (True,),
        "messages": (
            [{"role": "system", "content": PROMPT}, {"role": "user", "content": PROMPT}],
            [{"role": "user", "content": [{"type": "text", "text": PROMPT}]}],
            [{"role": "user", "content": PROMPT}, {"role": "assistant", "content": PROMPT}],
        ),
    },
}
_POINTS = {point.path: point for point in ENDPOINTS}


def featured(random: random.Random) -> Case:
    """Draw a request with two to seven features, of the native front end or OpenAI's."""
    path = random.choice(("/generate", "/generate", *_OF_PATH))
    body: dict[str, Any] = copy.deepcopy(_POINTS[path].request)
    sampling = body.get("sampling_params", body)
    for _ in range(random.choice((2, 3, 4, 5, 7))):
        _add(sampling, _SAMPLING, random)
        _add(body, _ENGINE if path == "/generate" else _OPENAI | _OF_PATH[path], random)
    if random.random() < 0.2:
        _add(sampling, _GRAMMARS, random)
    if path == "/generate":
        sampling["n"] = random.choice((1, 1, 1, 2, 3))
        sampling["max_new_tokens"] = random.choice((0, 1, 2, 8, 30))
        if random.random() < 0.3:
            body["text"] = [PROMPT, f"{PROMPT} again", "x"]
    else:
        body["max_tokens"] = random.choice((0, 1, 2, 8, 30))
    body["stream"] = random.random() < 0.3
    return Case(path, body)


def _add(into: dict[str, Any], choices: dict[str, tuple[Any, ...]], random: random.Random) -> None:
    name = random.choice(list(choices))
    into[name] = random.choice(choices[name])
