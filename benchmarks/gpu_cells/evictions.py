"""An eviction with memory full and many leaves, on pools of the device, in a process of its own."""

from __future__ import annotations

import sys
import tempfile
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from gpu_cells.plan import Trees

TESTS = str(Path(__file__).resolve().parents[2] / "tests")


def evictions_of(trees: Trees, device: str) -> dict[str, Any]:
    """Upstream's tree and ours in turns. The device's memory is free again afterwards."""
    # Not forked: a process that has asked for its GPU cannot be.
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(_measured, trees, device).result()


def _measured(trees: Trees, device: str) -> dict[str, Any]:
    sys.path.insert(0, TESTS)
    import torch
    from support.trees import start_group
    from tree_cost.operations import evictions
    from tree_cost.subjects import SELECTIVE, SHARED, UPSTREAM, Subject
    from tree_cost.timing import undisturbed
    from tree_cost.traces import Shape

    torch.set_num_threads(1)
    shape = Shape(trees.leaves, trees.users)
    with tempfile.TemporaryDirectory() as folder:
        start_group(Path(folder))
        with undisturbed():
            kinds = (UPSTREAM, SHARED, SELECTIVE)
            subjects = {kind.name: Subject(kind, shape, device=device) for kind in kinds}
            for subject in subjects.values():
                subject.fill()
            return asdict(evictions(subjects, trees.batches, trees.seconds))
