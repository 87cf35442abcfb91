"""LoRA adapters on a CPU: their tensors in plain memory."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import Any

import torch

from sglang.srt.lora import layers
from sglang.srt.lora.backend import torch_backend

_FACTORIES = ("tensor", "zeros")


def install() -> None:
    """Let SGLang load and apply adapters where memory cannot be pinned."""
    # SGLang pins every small tensor of LoRA for a copy to the device, without asking
    # the platform whether it can; without an accelerator PyTorch refuses.
    modules: tuple[Any, ...] = (layers, torch_backend)
    for module in modules:
        module.torch = _UnpinnedTorch()
    tensor: Any = torch.Tensor
    tensor.pin_memory = _as_it_is


class _UnpinnedTorch(ModuleType):
    """`torch`, for one module, without pinned memory."""

    def __init__(self) -> None:
        super().__init__("torch")
        for name in _FACTORIES:
            setattr(self, name, _unpinned(getattr(torch, name)))

    def __getattr__(self, name: str) -> Any:
        return getattr(torch, name)


def _unpinned(factory: Callable[..., torch.Tensor]) -> Callable[..., torch.Tensor]:
    def make(*args: Any, pin_memory: bool = False, **kwargs: Any) -> torch.Tensor:
        return factory(*args, **kwargs)

    return make


def _as_it_is(tensor: torch.Tensor, *_device: object) -> torch.Tensor:
    return tensor
