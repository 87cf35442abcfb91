"""Check a pack of scripts/pack_gpu.py, and what was installed of it. Needs nothing but Python.

    python check_gpu.py --files MANIFEST FOLDER
    python check_gpu.py --imports [--without-gpu]

The first compares the unpacked files with the manifest. The second, in the new environment, prints
what was found and imports what a server imports.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib
import importlib.metadata
import json
import platform
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ANYWHERE = (
    "transformers",
    "xgrammar",
    "tvm_ffi",
    "flashinfer.sampling",
    "sglang.srt.platforms",
    "sglang.srt.managers.scheduler",
    "sglang.srt.entrypoints.http_server",
    "sglang.srt.entrypoints.openai.serving_responses",
    "sglang.srt.models.llama",
    "sglang.srt.models.qwen3",
    "sglang.srt.tenancy.registry",
    "sglang.srt.tenancy.http.startup",
    "sglang.launch_server",
)
# Linked with the driver's library.
WITH_DRIVER = ("sgl_kernel", "sgl_kernel.spatial", "sglang.srt.layers.attention.triton_backend")
NEEDED_TO_COMPILE = ("nvcc", "g++", "ninja")


def main() -> int:
    """Check; return the exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--files", nargs=2, type=Path, metavar=("MANIFEST", "FOLDER"))
    what.add_argument("--imports", action="store_true")
    parser.add_argument("--without-gpu", action="store_true", help="import the rest all the same")
    options = parser.parse_args()
    if options.files:
        problems = list(wrong_files(*options.files))
    else:
        problems = list(check_imports(without_gpu=options.without_gpu))
    for problem in problems:
        print(f"error: {problem}", file=sys.stderr)
    return 1 if problems else 0


def wrong_files(manifest: Path, folder: Path) -> Iterator[str]:
    """Yield a sentence for each file that is not what the manifest says."""
    content: dict[str, Any] = json.loads(manifest.read_text())
    here = f"{sys.version_info.major}.{sys.version_info.minor}"
    if content["python"] != here:
        yield (
            f"the pack is for Python {content['python']}, and {sys.executable} is {here}: name "
            f"another with --python, or pack again with --python-version {here}"
        )
    for part in content["parts"]:
        places = folder / part["file"], manifest.parent / part["file"]
        file = next((place for place in places if place.is_file()), None)
        if file is None:
            yield f"{part['file']} is missing: unpack again"
        elif hashlib.sha256(file.read_bytes()).hexdigest() != part["sha256"]:
            yield f"{file} is not what was packed: bring the pack here again"


def check_imports(*, without_gpu: bool) -> Iterator[str]:
    """Print what is there; yield a sentence for each thing that does not work."""
    import torch

    print(f"Python {platform.python_version()}, torch {torch.__version__}")
    with_gpu = torch.cuda.is_available()
    if with_gpu:
        device = torch.cuda.get_device_properties(0)
        print(f"{device.name}, sm{device.major}{device.minor}, CUDA {torch.version.cuda}")
        yield from _tools()
    elif not without_gpu:
        yield "PyTorch sees no GPU; --without-gpu imports what needs none"
    for name in (*WITH_DRIVER, *ANYWHERE) if with_gpu else ANYWHERE:
        if problem := _import(name):
            yield problem
    print(f"sglang {importlib.metadata.version('sglang')}")


def _import(name: str) -> str:
    """Import the module; return what went wrong, if anything."""
    try:
        importlib.import_module(name)
    except Exception as problem:  # noqa: BLE001 - a module may do anything while it is imported
        return f"import {name}: {type(problem).__name__}: {problem}"
    print(f"import {name}: works")
    return ""


def _tools() -> Iterator[str]:
    """Print the compiler; yield what is missing: upstream compiles small kernels at first use."""
    for name in NEEDED_TO_COMPILE:
        if shutil.which(name) is None:
            yield f"{name} is not on PATH: upstream compiles small kernels when it first needs them"
    if nvcc := shutil.which("nvcc"):
        told = subprocess.run([nvcc, "--version"], capture_output=True, text=True, check=False)
        print(told.stdout.strip().splitlines()[-1])


if __name__ == "__main__":
    sys.exit(main())
