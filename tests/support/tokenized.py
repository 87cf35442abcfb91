"""A request as the tokenizer manager sends it to the scheduler."""

from __future__ import annotations

from array import array
from typing import Any

from sglang.srt.managers.io_struct import TokenizedGenerateReqInput
from sglang.srt.sampling.sampling_params import SamplingParams


def tokenized(**fields: Any) -> TokenizedGenerateReqInput:
    """Of alice, 100 tokens, unless ``fields`` say otherwise."""
    plain: dict[str, Any] = {
        "input_text": "",
        "input_ids": array("q", range(100)),
        "input_embeds": None,
        "mm_inputs": None,
        "token_type_ids": None,
        "sampling_params": SamplingParams(),
        "return_logprob": False,
        "logprob_start_len": -1,
        "top_logprobs_num": 0,
        "token_ids_logprob": None,
        "stream": False,
        "rid": "r",
        "user_id": "alice",
    }
    return TokenizedGenerateReqInput(**(plain | fields))
