"""Let PyTorch say that it sees a GPU, for programs that only ask. Nothing can be computed on it."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import torch

PLATFORMS = Path(__file__).parents[2] / "python" / "sglang" / "srt" / "platforms"
GIB = 1 << 30
DEVICE = SimpleNamespace(
    name="NVIDIA H100 80GB HBM3",
    major=9,
    minor=0,
    multi_processor_count=132,
    total_memory=80 * GIB,
    warp_size=32,
    L2_cache_size=50 << 20,
    shared_memory_per_block_optin=232_448,
)
# Upstream imports names of these where it sees a GPU. They load nothing without a driver.
KERNELS = ("sgl_kernel", "flashinfer")


def pretend() -> None:
    """Answer questions about the GPU, in this process, until it ends."""
    torch.version.cuda = "13.0"
    cuda: Any = torch.cuda
    cuda.is_available = lambda: True
    cuda.device_count = lambda: 1
    cuda.current_device = lambda: 0
    cuda.get_device_capability = lambda _device=None: (DEVICE.major, DEVICE.minor)
    cuda.get_device_properties = lambda _device=None: DEVICE
    cuda.get_device_name = lambda _device=None: DEVICE.name
    cuda.mem_get_info = lambda _device=None: (79 * GIB, DEVICE.total_memory)
    sys.meta_path.insert(0, _Kernels())
    _let_torchvision_load()


def _let_torchvision_load() -> None:
    """With a PyTorch for CPUs its own library may not load; on a GPU it does."""
    # By its file: the package imports torchvision.
    spec = importlib.util.spec_from_file_location("vision", PLATFORMS / "torch_cpu_vision.py")
    assert spec is not None
    assert spec.loader is not None
    vision = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(vision)
    vision.install()
    sys.modules[spec.name] = vision  # what it declared would go with it


class _Kernels(MetaPathFinder, Loader):
    """Finds modules of `KERNELS` of which every function refuses to be called."""

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if name.partition(".")[0] not in KERNELS:
            return None
        return ModuleSpec(name, self, is_package=True)

    def exec_module(self, module: ModuleType) -> None:
        module.__dict__["__getattr__"] = _Refusing(module.__name__).__getattr__
        module.__dict__["__version__"] = "999"


class _Refusing:
    """A name of such a module, and any name of that."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __getattr__(self, name: str) -> _Refusing:
        if name.startswith("__"):
            raise AttributeError(name)
        return _Refusing(f"{self._name}.{name}")

    def __mro_entries__(self, _bases: tuple[object, ...]) -> tuple[type, ...]:
        """Let a class derive from it."""
        return ()

    def __call__(self, *_arguments: object, **_named: object) -> None:
        raise RuntimeError(f"{self._name}: there is no GPU")
