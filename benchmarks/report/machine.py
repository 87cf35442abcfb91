"""What the figures were measured on: of the kind of machine, nothing that identifies one."""

from __future__ import annotations

import os
import platform
from collections.abc import Callable, Mapping
from importlib.metadata import version
from typing import Any

import torch

_FACTS: Mapping[str, Callable[[], Any]] = {
    "architecture": platform.machine,
    "cores": os.cpu_count,
    "gpu": lambda: torch.cuda.get_device_name() if torch.cuda.is_available() else None,
    "load": lambda: round(os.getloadavg()[0], 1),
    "load_average_at_start": lambda: round(os.getloadavg()[0], 2),
    "python": platform.python_version,
    "sglang": lambda: version("sglang"),
    "torch": lambda: torch.__version__,
}
SERVING = ("cores", "architecture", "gpu", "load_average_at_start")


def describe(*facts: str) -> dict[str, Any]:
    """Each named fact, by default those that matter to a server."""
    return {fact: _FACTS[fact]() for fact in facts or SERVING}
