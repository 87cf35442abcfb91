"""Models of well-known shapes without weights, for `--load-format dummy`."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import demo_model
from model_shapes import LLAMA_8B, QWEN_8B, Shape

_CONSONANTS, _VOWELS = "bcdfghjklmnprstvwxyz", "aeiou"
_SPACE = "\u0120"  # how byte-level tokenizers write it


SHAPES = {shape.name: shape for shape in (LLAMA_8B, QWEN_8B)}


def write_model(directory: Path, shape: Shape) -> None:
    """Write what a server needs to make random weights of this shape."""
    directory.mkdir(parents=True)
    # Random weights choose any id; an answer's text must tell which.
    words = _words(shape.vocabulary - demo_model.VOCABULARY)
    demo_model.make_tokenizer(words).save(str(directory / "tokenizer.json"))
    ends = {"bos": demo_model.BEGIN, "eos": demo_model.END, "pad": demo_model.PAD}
    ids = {f"{name}_token_id": demo_model.token_id(token) for name, token in ends.items()}
    _write_json(directory / "config.json", shape.config() | ids)
    _write_json(directory / "tokenizer_config.json", demo_model.tokenizer_config(shape.context))
    (directory / "chat_template.jinja").write_text(demo_model.CHAT_TEMPLATE)


def _words(count: int) -> list[str]:
    syllables = ["".join(pair) for pair in itertools.product(_CONSONANTS, _VOWELS)]
    words = itertools.product(syllables, repeat=3)
    return [_SPACE + "".join(word) for word in itertools.islice(words, count)]


def _write_json(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2) + "\n")
