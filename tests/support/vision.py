"""A tiny model that looks at pictures (Qwen2-VL's), random weights, the demo model's tokenizer."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from demo_model import BEGIN, END, PAD, VOCABULARY, make_tokenizer
from tokenizers import AddedToken

from sglang.srt.platforms import torch_cpu_vision

torch_cpu_vision.install()  # transformers imports torchvision, whatever was installed beside torch
from transformers import (  # noqa: E402
    Qwen2VLConfig,
    Qwen2VLForConditionalGeneration,
    Qwen2VLImageProcessor,
)

CONTEXT = 16_384
PICTURE = "<|vision_start|><|image_pad|><|vision_end|>"  # where a prompt has one
FLAGS = ("--disable-fast-image-processor",)  # that one is for GPUs

_TOKENS = ("<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>")
_LEAST, _MOST = 28 * 28, 16 * 28 * 28  # pixels of what the model sees
_TEMPLATE = f"""\
{{%- for message in messages %}}
{{{{- '<|' ~ message.role ~ '|>' }}}}
{{%- if message.content is string %}}
{{{{- message.content }}}}
{{%- else %}}
{{%- for part in message.content %}}
{{{{- '{PICTURE}' if part.type == 'image' else part.text }}}}
{{%- endfor %}}
{{%- endif %}}
{{{{- '<|end|>' }}}}
{{%- endfor %}}
{{%- if add_generation_prompt %}}
{{{{- '<|assistant|>' }}}}
{{%- endif %}}"""


def make_vision_model(folder: Path) -> None:
    """Write the model into the folder."""
    ids = {token: VOCABULARY + place for place, token in enumerate(_TOKENS)}
    special = {
        f"{name}_token_id": ids[f"<|{token}|>"]
        for name, token in {
            "image": "image_pad",
            "video": "video_pad",
            "vision_start": "vision_start",
            "vision_end": "vision_end",
        }.items()
    }
    config = Qwen2VLConfig(
        text_config={
            "vocab_size": VOCABULARY + len(_TOKENS),
            "hidden_size": 128,
            "intermediate_size": 256,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "max_position_embeddings": CONTEXT,
            "rope_parameters": {
                "rope_type": "default",
                "rope_theta": 10_000.0,
                "mrope_section": [4, 6, 6],
            },
        },
        vision_config={
            "depth": 1,
            "embed_dim": 64,
            "num_heads": 2,
            "hidden_size": 128,
            "mlp_ratio": 2,
            "patch_size": 14,
            "spatial_merge_size": 2,
            "temporal_patch_size": 2,
            "in_channels": 3,
            "in_chans": 3,
        },
        **special,
    )
    torch.manual_seed(0)
    Qwen2VLForConditionalGeneration(config).float().save_pretrained(folder)
    Qwen2VLImageProcessor(min_pixels=_LEAST, max_pixels=_MOST).save_pretrained(folder)
    tokenizer = make_tokenizer()
    tokenizer.add_special_tokens(
        [AddedToken(token, special=True, normalized=False) for token in _TOKENS]
    )
    tokenizer.save(str(folder / "tokenizer.json"))
    described = {"tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": CONTEXT}
    described |= {"bos_token": BEGIN, "eos_token": END, "pad_token": PAD}
    (folder / "tokenizer_config.json").write_text(json.dumps(described))
    (folder / "processor_config.json").write_text('{"processor_class": "Qwen2VLProcessor"}')
    (folder / "chat_template.jinja").write_text(_TEMPLATE)
