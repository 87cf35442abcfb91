"""CPU platform: every model layer runs its plain PyTorch forward.

Registered under the entry-point group `sglang.srt.platforms`. It needs no
native SGLang kernels, and carries the hierarchical cache with both its tiers.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import torch

from sglang.srt.platforms.cpu import CpuDeviceMixin
from sglang.srt.platforms.device_mixin import PlatformEnum
from sglang.srt.platforms.interface import SRTPlatform

if TYPE_CHECKING:
    from sglang.srt.server_args import ServerArgs

_ACCELERATORS = ("cuda", "xpu", "hpu", "npu", "musa", "mps")


def activate() -> str | None:
    """Return the platform class path, or None where another platform is meant.

    None where PyTorch sees an accelerator, and where `SGLANG_USE_CPU_ENGINE=1`
    asks for SGLang's own CPU engine.
    """
    if os.environ.get("SGLANG_USE_CPU_ENGINE", "0") == "1" or _has_accelerator():
        return None
    return f"{__name__}.TorchCpuPlatform"


def _has_accelerator() -> bool:
    if torch.accelerator.is_available():
        return True
    modules = (getattr(torch, name, None) for name in _ACCELERATORS)
    return any(module is not None and module.is_available() for module in modules)


class TorchCpuPlatform(CpuDeviceMixin, SRTPlatform):
    """The host CPU as an out-of-tree SGLang platform."""

    # OOT makes layers dispatch on get_dispatch_key_name(), not on sgl_kernel.
    _enum = PlatformEnum.OOT
    device_name = "cpu"
    device_type = "cpu"

    def __init__(self) -> None:
        # SGLang resolves the platform while its base modules are imported, in
        # every process, so what they miss on a CPU is supplied from here.
        from sglang.srt.platforms import torch_cpu_events, torch_cpu_vision

        torch_cpu_events.install()
        torch_cpu_vision.install()

    def apply_server_args_defaults(self, server_args: ServerArgs) -> None:
        """Fill in what the user left open; see `torch_cpu_defaults`."""
        from sglang.srt.platforms import torch_cpu_defaults

        torch_cpu_defaults.apply(server_args)

    def init_backend(self) -> None:
        """Supply what SGLang has as CUDA kernels only; once per worker."""
        from sglang.srt.platforms import (
            torch_cpu_grammar,
            torch_cpu_hicache,
            torch_cpu_lora,
            torch_cpu_mla,
        )

        torch_cpu_hicache.install()
        torch_cpu_mla.install()
        torch_cpu_grammar.install()
        torch_cpu_lora.install()

    def get_device(self, device_id: int = 0) -> str:
        """Name the device; `--device` takes a string where it is left open."""
        return "cpu"

    def get_dispatch_key_name(self) -> str:
        """Name the `forward_<key>` method that layers run."""
        return "native"

    def get_default_attention_backend(self) -> str:
        """Name the attention backend that needs nothing but PyTorch."""
        return "torch_native"

    def get_compile_backend(self, mode: str | None = None) -> str:
        """Name the `torch.compile` backend; eager needs no C++ compiler."""
        return "eager"

    def get_mha_kv_pool_cls(self) -> type:
        """Return SGLang's pool for multi-head attention, which is plain PyTorch."""
        from sglang.srt.mem_cache.memory_pool import MHATokenToKVPool

        return MHATokenToKVPool

    def get_mla_kv_pool_cls(self) -> type:
        """Return the pool for multi-head latent attention."""
        from sglang.srt.platforms.torch_cpu_pools import CpuMLATokenToKVPool

        return CpuMLATokenToKVPool

    def get_paged_allocator_cls(self) -> type:
        """Return the slot allocator; SGLang's own one runs Triton kernels."""
        from sglang.srt.platforms.torch_cpu_pools import CpuPagedAllocator

        return CpuPagedAllocator
