"""Models of well-known shapes without weights, for `--load-format dummy`."""

from __future__ import annotations

import itertools
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import demo_model

_CONSONANTS, _VOWELS = "bcdfghjklmnprstvwxyz", "aeiou"
_SPACE = "\u0120"  # how byte-level tokenizers write it


@dataclass(frozen=True)
class Shape:
    """What config.json says, beyond what all of them have in common."""

    architecture: str
    model_type: str
    vocabulary: int
    context: int
    layers: int
    feed_forward: int
    rope_theta: float
    epsilon: float
    width: int = 4_096
    heads: int = 32
    kv_heads: int = 8
    head_width: int = 128


SHAPES = {
    "llama-3.1-8b": Shape(
        "LlamaForCausalLM", "llama", 128_256, 131_072, 32, 14_336, 500_000.0, 1e-5
    ),
    "qwen3-8b": Shape("Qwen3ForCausalLM", "qwen3", 151_936, 40_960, 36, 12_288, 1e6, 1e-6),
}


def write_model(directory: Path, shape: Shape) -> None:
    """Write what a server needs to make random weights of this shape."""
    directory.mkdir(parents=True)
    # Random weights choose any id; an answer's text must tell which.
    words = _words(shape.vocabulary - demo_model.VOCABULARY)
    demo_model.make_tokenizer(words).save(str(directory / "tokenizer.json"))
    _write_json(directory / "config.json", _config(shape))
    _write_json(directory / "tokenizer_config.json", demo_model.tokenizer_config(shape.context))
    (directory / "chat_template.jinja").write_text(demo_model.CHAT_TEMPLATE)


def _words(count: int) -> list[str]:
    syllables = ["".join(pair) for pair in itertools.product(_CONSONANTS, _VOWELS)]
    words = itertools.product(syllables, repeat=3)
    return [_SPACE + "".join(word) for word in itertools.islice(words, count)]


def _config(shape: Shape) -> dict[str, Any]:
    return {
        "architectures": [shape.architecture],
        "model_type": shape.model_type,
        "vocab_size": shape.vocabulary,
        "hidden_size": shape.width,
        "num_hidden_layers": shape.layers,
        "num_attention_heads": shape.heads,
        "num_key_value_heads": shape.kv_heads,
        "head_dim": shape.head_width,
        "intermediate_size": shape.feed_forward,
        "max_position_embeddings": shape.context,
        "hidden_act": "silu",
        "rms_norm_eps": shape.epsilon,
        "rope_theta": shape.rope_theta,
        "attention_bias": False,
        "tie_word_embeddings": False,
        "torch_dtype": "bfloat16",
        "bos_token_id": demo_model.token_id(demo_model.BEGIN),
        "eos_token_id": demo_model.token_id(demo_model.END),
        "pad_token_id": demo_model.token_id(demo_model.PAD),
    }


def _write_json(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2) + "\n")
