"""The device that the tests run on, and what it has."""

from __future__ import annotations

import importlib.metadata
import os
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import psutil
import torch

KINDS = ("cuda", "cpu")
PACKAGES = ("sglang", "torch", "sglang-kernel", "flashinfer-python", "flash-attn-4", "triton")
GIB = 1 << 30


@dataclass(frozen=True)
class Device:
    """``capability``: of CUDA, 9.0 on Hopper; (0, 0) on a CPU. ``memory``: GiB that are free.
    ``packages``: their versions, those that are installed."""

    kind: str
    name: str
    count: int
    capability: tuple[int, int]
    memory: float
    packages: dict[str, str]

    @property
    def on_cuda(self) -> bool:
        return self.kind == "cuda"

    def facts(self) -> dict[str, Any]:
        """As the results file has it."""
        return asdict(self)


class NoDevice(RuntimeError):
    """There is no such device; the message says what is missing, and what runs without it."""


def find(kind: str) -> Device:
    """Raises NoDevice."""
    packages = {name: version for name in PACKAGES if (version := _version(name))}
    if kind == "cpu":
        memory = psutil.virtual_memory().available / GIB
        return Device("cpu", "CPU", os.cpu_count() or 1, (0, 0), memory, packages)
    if not torch.cuda.is_available():
        built = torch.version.cuda
        reason = f"none that its CUDA {built} can use" if built else "it is built without CUDA"
        raise NoDevice(
            f"There is no CUDA device for PyTorch {torch.__version__}: {reason}. These tests are "
            "for one. As much of them as a CPU can do runs with --device cpu."
        )
    free, _ = torch.cuda.mem_get_info()
    return Device(
        "cuda",
        torch.cuda.get_device_name(),
        torch.cuda.device_count(),
        torch.cuda.get_device_capability(),
        free / GIB,
        packages,
    )


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


Need = Callable[[Device], str]
"""Says why something cannot run on a device; nothing where it can."""


def cuda(what: str) -> Need:
    return lambda device: "" if device.on_cuda else f"{what} needs a CUDA device"


def capability(what: str, least: tuple[int, int], most: tuple[int, int] = (99, 0)) -> Need:
    def lacks(device: Device) -> str:
        if not device.on_cuda:
            return f"{what} needs a CUDA device"
        if least <= device.capability <= most:
            return ""
        bounds = "or more" if most[0] == 99 else f"to {_dotted(most)}"
        has = f"{device.name} has {_dotted(device.capability)}"
        return f"{what} needs compute capability {_dotted(least)} {bounds}; {has}"

    return lacks


def devices(count: int) -> Need:
    """A CPU's ranks share its cores."""

    def lacks(device: Device) -> str:
        if not device.on_cuda or device.count >= count:
            return ""
        return f"{count} ranks need as many devices; there is {device.count}"

    return lacks


def package(name: str) -> Need:
    return lambda device: "" if name in device.packages else f"{name} is not installed"


def _dotted(version: tuple[int, int]) -> str:
    return f"{version[0]}.{version[1]}"
