"""Models of published shapes with random weights: their speed is the real ones', and nothing has to
be downloaded."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from serving.server import VOCABULARY, Model

GIB = 1 << 30
TOKENIZER = ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja")
BYTES = 2  # of a number: bfloat16
LEAST_POOL = 65_536  # tokens of KV that must fit beside the weights
OVERHEAD = 6 * GIB  # of kernels, graphs and what a forward pass computes with


@dataclass(frozen=True)
class Shape:
    """Of a published model, as its config.json has it."""

    name: str
    family: str
    width: int
    layers: int
    heads: int
    feed_forward: int
    vocabulary: int
    context: int
    rope_theta: float
    norm_eps: float
    kv_heads: int = 8
    head_width: int = 128

    @property
    def weights(self) -> int:
        """Bytes."""
        attention = 2 * self.width * self.head_width * (self.heads + self.kv_heads)
        layer = attention + 3 * self.width * self.feed_forward
        return BYTES * (2 * self.vocabulary * self.width + self.layers * layer)

    @property
    def kv_of_a_token(self) -> int:
        """Bytes."""
        return BYTES * 2 * self.layers * self.kv_heads * self.head_width

    @property
    def needed(self) -> int:
        """Bytes of the device's memory."""
        return self.weights + LEAST_POOL * self.kv_of_a_token + OVERHEAD

    def config(self) -> dict[str, Any]:
        """As its config.json has it. No token ends an answer, nor do scaled positions matter."""
        return {
            "architectures": [f"{self.family}ForCausalLM"],
            "model_type": self.family.lower(),
            "vocab_size": self.vocabulary,
            "hidden_size": self.width,
            "num_hidden_layers": self.layers,
            "num_attention_heads": self.heads,
            "num_key_value_heads": self.kv_heads,
            "head_dim": self.head_width,
            "intermediate_size": self.feed_forward,
            "max_position_embeddings": self.context,
            "hidden_act": "silu",
            "rms_norm_eps": self.norm_eps,
            "rope_theta": self.rope_theta,
            "attention_bias": False,
            "tie_word_embeddings": False,
            "torch_dtype": "bfloat16",
            "bos_token_id": 0,
            "eos_token_id": 0,
        }


LLAMA_8B = Shape("llama-3.1-8b", "Llama", 4_096, 32, 32, 14_336, 128_256, 131_072, 500_000.0, 1e-5)
QWEN_8B = Shape("qwen3-8b", "Qwen3", 4_096, 36, 32, 12_288, 151_936, 40_960, 1e6, 1e-6)
# The last of them that fits is measured too.
LARGER = (
    Shape("qwen3-14b", "Qwen3", 5_120, 40, 40, 17_408, 151_936, 40_960, 1e6, 1e-6),
    Shape("qwen3-32b", "Qwen3", 5_120, 64, 64, 25_600, 151_936, 40_960, 1e6, 1e-6),
    Shape("llama-3.3-70b", "Llama", 8_192, 80, 64, 28_672, 128_256, 131_072, 500_000.0, 1e-5),
)
# For a CPU: the same families, so that all but the kernels is as on a GPU.
SMALL = tuple(
    Shape(
        f"small-{family.lower()}",
        family,
        *(128, 2, 4, 256, VOCABULARY, 16_384, 10_000.0, 1e-5),
        kv_heads=2,
        head_width=64,
    )
    for family in ("Llama", "Qwen3")
)


@dataclass(frozen=True)
class Dummy:
    """A model of this shape in ``directory``, with the demo model's tokenizer."""

    shape: Shape
    directory: Path

    def flags(self) -> list[str]:
        folder = self.directory / self.shape.name
        demo = Model(self.directory / "tiny", "tiny")
        demo.make()
        folder.mkdir(parents=True, exist_ok=True)
        for part in TOKENIZER:
            shutil.copy(demo.directory / part, folder / part)
        (folder / "config.json").write_text(json.dumps(self.shape.config(), indent=2) + "\n")
        # Upstream's random weights are so small that every sum is finite.
        flags = ["--model-path", str(folder), "--load-format", "dummy"]
        return [*flags, "--dtype", "bfloat16", "--random-seed", "0"]


def small(directory: Path) -> dict[str, Dummy]:
    """Those that a CPU can serve, by name."""
    return {shape.name: Dummy(shape, directory) for shape in SMALL}


def fitting(free: int, directory: Path) -> tuple[dict[str, Dummy], list[str]]:
    """The models that fit into so many bytes, by name, and a sentence for each that does not."""
    fit = [shape for shape in LARGER if shape.needed <= free][-1:]
    models = {s.name: Dummy(s, directory) for s in (LLAMA_8B, QWEN_8B, *fit) if s.needed <= free}
    return models, list(_left_out((LLAMA_8B, QWEN_8B, *LARGER), models, free))


def _left_out(shapes: Sequence[Shape], models: dict[str, Dummy], free: int) -> list[str]:
    return [
        f"{shape.name} needs {shape.needed / GIB:.0f} GiB, {free / GIB:.0f} are free"
        for shape in shapes
        if shape.name not in models and shape.needed > free
    ]
