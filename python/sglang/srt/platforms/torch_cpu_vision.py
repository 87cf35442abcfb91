"""Let `torchvision` be imported where its native library does not load.

SGLang imports torchvision in every process. A torchvision built for CUDA next
to a PyTorch built for CPU fails on import, although no text model needs it.
"""

from __future__ import annotations

import importlib.machinery
import importlib.util
from pathlib import Path

import torch

# torchvision registers shape functions for exactly these at import.
_SCHEMAS = {
    "nms": "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms": "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
}

# A Library's definitions go when it is collected.
_library: torch.library.Library | None = None


def install() -> None:
    """Declare the operators that torchvision's own library did not bring."""
    global _library
    if _library is not None or _native_library_loads():
        return
    _library = torch.library.Library("torchvision", "FRAGMENT")
    for name, schema in _SCHEMAS.items():
        if not hasattr(torch.ops.torchvision, name):
            _library.define(schema)


def _native_library_loads() -> bool:
    spec = importlib.util.find_spec("torchvision")
    if spec is None or spec.origin is None:
        return False
    for suffix in importlib.machinery.EXTENSION_SUFFIXES:
        path = Path(spec.origin).with_name(f"_C{suffix}")
        if path.exists():
            return _loads(path)
    return False


def _loads(path: Path) -> bool:
    try:
        torch.ops.load_library(str(path))
    except OSError:
        return False
    return hasattr(torch.ops.torchvision, "nms")
