"""Models of published shapes with random weights: their speed is the real ones', and nothing has to
be downloaded."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from model_shapes import LLAMA_8B, QWEN_8B, Shape
from serving.server import VOCABULARY, Model

GIB = 1 << 30
TOKENIZER = ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja")
LEAST_POOL = 65_536  # tokens of KV that must fit beside the weights
OVERHEAD = 6 * GIB  # of kernels, graphs and what a forward pass computes with


def needed(shape: Shape) -> int:
    """Bytes of the device's memory."""
    return shape.weights + LEAST_POOL * shape.kv_of_a_token + OVERHEAD


# The last of them that fits is measured too.
LARGER = (
    Shape("qwen3-14b", "Qwen3", 5_120, 40, 40, 17_408, 151_936, 40_960, 1e6, 1e-6),
    Shape("qwen3-32b", "Qwen3", 5_120, 64, 64, 25_600, 151_936, 40_960, 1e6, 1e-6),
    Shape("llama-3.3-70b", "Llama", 8_192, 80, 64, 28_672, 128_256, 131_072, 500_000.0, 1e-5),
)
# For a CPU: the same families, so that all but the kernels is as on a GPU.
SMALL = tuple(
    Shape(
        f"small-{family.lower()}",
        family,
        *(128, 2, 4, 256, VOCABULARY, 16_384, 10_000.0, 1e-5),
        kv_heads=2,
        head_width=64,
    )
    for family in ("Llama", "Qwen3")
)


@dataclass(frozen=True)
class Dummy:
    """A model of this shape in ``directory``, with the demo model's tokenizer."""

    shape: Shape
    directory: Path

    def flags(self) -> list[str]:
        folder = self.directory / self.shape.name
        demo = Model(self.directory / "tiny", "tiny")
        demo.make()
        folder.mkdir(parents=True, exist_ok=True)
        for part in TOKENIZER:
            shutil.copy(demo.directory / part, folder / part)
        (folder / "config.json").write_text(json.dumps(self.shape.config(), indent=2) + "\n")
        # Upstream's random weights are so small that every sum is finite.
        flags = ["--model-path", str(folder), "--load-format", "dummy"]
        return [*flags, "--dtype", "bfloat16", "--random-seed", "0"]


def small(directory: Path) -> dict[str, Dummy]:
    """Those that a CPU can serve, by name."""
    return {shape.name: Dummy(shape, directory) for shape in SMALL}


def fitting(free: int, directory: Path) -> tuple[dict[str, Dummy], list[str]]:
    """The models that fit into so many bytes, by name, and a sentence for each that does not."""
    fit = [shape for shape in LARGER if needed(shape) <= free][-1:]
    models = {s.name: Dummy(s, directory) for s in (LLAMA_8B, QWEN_8B, *fit) if needed(s) <= free}
    return models, list(_left_out((LLAMA_8B, QWEN_8B, *LARGER), models, free))


def _left_out(shapes: Sequence[Shape], models: dict[str, Dummy], free: int) -> list[str]:
    return [
        f"{shape.name} needs {needed(shape) / GIB:.0f} GiB, {free / GIB:.0f} are free"
        for shape in shapes
        if shape.name not in models and needed(shape) > free
    ]
