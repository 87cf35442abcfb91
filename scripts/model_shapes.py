"""Shapes of published models, for random weights: nothing has to be downloaded to serve them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

BYTES = 2  # of a number: bfloat16


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
