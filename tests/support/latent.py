"""A tiny model with latent attention (DeepSeek-V2's), random weights, and replies that depend
on the whole prompt."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path

import torch

from sglang.srt.platforms import torch_cpu_vision

torch_cpu_vision.install()  # transformers imports torchvision, whatever was installed beside torch
from transformers import DeepseekV2Config, DeepseekV2ForCausalLM  # noqa: E402

_SHARP = {"q_proj": 3.0, "o_proj": 3.5, "down_proj": 3.5, "lm_head": 3.0}


@dataclass(frozen=True)
class Widths:
    """Of what is kept of a token, and of a head."""

    latent: int
    rotary: int
    head: int


SMALL = Widths(64, 32, 64)
# DeepSeek's own: kernels of GPUs know no other.
SERVED = Widths(512, 64, 128)


def make_latent_model(folder: Path, tokenizer_from: Path, widths: Widths = SMALL) -> None:
    """Write the model into the folder, with the demo model's tokenizer."""
    described = json.loads((tokenizer_from / "config.json").read_text())
    config = DeepseekV2Config(
        vocab_size=described["vocab_size"],
        hidden_size=128,
        intermediate_size=256,
        num_hidden_layers=2,
        first_k_dense_replace=2,  # no experts
        moe_layer_freq=1,
        n_routed_experts=2,
        num_experts_per_tok=1,
        num_attention_heads=4,
        num_key_value_heads=4,
        q_lora_rank=None,
        kv_lora_rank=widths.latent,
        qk_nope_head_dim=widths.head,
        qk_rope_head_dim=widths.rotary,
        v_head_dim=widths.head,
        max_position_embeddings=described["max_position_embeddings"],
        bos_token_id=described["bos_token_id"],
        eos_token_id=described["eos_token_id"],
        pad_token_id=described["pad_token_id"],
    )
    torch.manual_seed(0)
    model = DeepseekV2ForCausalLM(config).float()
    for name, weight in model.named_parameters():
        if weight.dim() == 2:
            scale = next((s for part, s in _SHARP.items() if part in name), 1.0)
            width = 1 if "embed" in name else weight.shape[1]
            torch.nn.init.normal_(weight, std=scale / width**0.5)
    # It speaks the letters of the demo model: replies are text of one byte a token.
    letters = torch.tensor([ord(letter) for letter in "abcdefghijklmnopqrstuvwxyz "])
    spoken = torch.zeros(described["vocab_size"], dtype=torch.bool)
    spoken[letters] = True
    with torch.no_grad():
        model.lm_head.weight[~spoken] = 0.0
    model.save_pretrained(folder)
    for part in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        shutil.copy(tokenizer_from / part, folder)
