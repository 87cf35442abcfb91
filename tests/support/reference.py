"""The demo model, run by transformers: an opinion of what the engine should have said."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import torch

from sglang.srt.platforms import torch_cpu_vision

torch_cpu_vision.install()  # transformers imports torchvision, whatever was installed beside torch
from transformers import AutoModelForCausalLM  # noqa: E402

# How far below the best logit a token may lie. Rounding moves logits by 1e-4; a prefix
# with one wrong letter in it by whole units.
TOLERANCE = 0.01


@cache
def _model(folder: Path) -> Any:
    torch.set_num_threads(1)  # the model is tiny
    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()


# Two tokens of which the model is undecided: batches of other shapes may choose the other one.
UNDECIDED = 0.001


def _logits(folder: Path, prompt: list[int], output: list[int]) -> torch.Tensor:
    """What the model thinks of each place of ``output``."""
    tokens = torch.tensor([prompt + output])
    with torch.no_grad():
        logits: torch.Tensor = _model(folder)(tokens).logits[0, len(prompt) - 1 : -1]
    return logits


def is_greedy(folder: Path, prompt: list[int], output: list[int]) -> bool:
    """Whether every token of ``output`` is the most likely one after those before it."""
    logits = _logits(folder, prompt, output)
    chosen = logits.gather(1, torch.tensor(output)[:, None])[:, 0]
    return bool((logits.max(dim=1).values - chosen <= TOLERANCE).all())


def is_same(folder: Path, prompt: list[int], one: list[int], other: list[int]) -> bool:
    """Whether two outputs are the same, as far as rounding lets them: where they part, nobody can
    say which token is likelier."""
    if one == other:
        return True
    if len(one) != len(other):
        return False
    parting = next(at for at, pair in enumerate(zip(one, other, strict=True)) if len({*pair}) > 1)
    logits = _logits(folder, prompt, one)[parting]
    return bool((logits[one[parting]] - logits[other[parting]]).abs() <= UNDECIDED)
