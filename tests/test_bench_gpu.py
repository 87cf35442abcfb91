"""benchmarks/gpu.py on a CPU: that it runs, goes on where it stopped, and says what it is not."""

from __future__ import annotations

import json
from pathlib import Path

import gpu
import pytest
import torch
from gpu_cells.cells import ATTACK, CAPACITY, EVICTION, FAIRNESS, SHARING, Cell, Store, in_turns
from gpu_cells.gpu_table import ON_A_CPU
from gpu_cells.models import GIB, LARGER, SMALL, Dummy, fitting
from gpu_cells.plan import QUICK_ON_CPU, cells
from gpu_cells.summary import spread
from model_shapes import LLAMA_8B, QWEN_8B, Shape

CELL = Cell(SHARING, "a-model", "a mode", 1)
ON_CPU = ("--device", "cpu", "--quick")


@pytest.mark.parametrize(
    ("shape", "billions"),
    [
        (LLAMA_8B, 8.03),
        (QWEN_8B, 8.19),
        *zip(LARGER, (14.8, 32.8, 70.6), strict=True),
    ],
    ids=lambda value: value.name if isinstance(value, Shape) else "",
)
def test_shapes_are_as_large_as_published(shape: Shape, billions: float) -> None:
    assert shape.weights / 2 == pytest.approx(billions * 1e9, rel=0.01)


@pytest.mark.parametrize("shape", [LLAMA_8B, QWEN_8B, *SMALL], ids=lambda shape: shape.name)
def test_transformers_knows_the_shapes(shape: Shape, tmp_path: Path) -> None:
    from transformers import AutoConfig

    Dummy(shape, tmp_path).flags()
    known = AutoConfig.from_pretrained(tmp_path / shape.name)
    assert known.architectures == [f"{shape.family}ForCausalLM"]
    assert known.head_dim == shape.head_width


@pytest.mark.parametrize(
    ("gib", "names"),
    [
        (16, []),
        (40, ["llama-3.1-8b", "qwen3-8b"]),
        (79, ["llama-3.1-8b", "qwen3-8b", "qwen3-14b"]),
        (140, ["llama-3.1-8b", "qwen3-8b", "qwen3-32b"]),
    ],
)
def test_what_does_not_fit_is_said(gib: int, names: list[str], tmp_path: Path) -> None:
    models, left_out = fitting(gib * GIB, tmp_path)
    assert list(models) == names
    assert all(line.endswith(f"{gib} are free") for line in left_out)
    assert any(line.startswith("llama-3.3-70b needs") for line in left_out)


def test_modes_take_turns_forth_and_back() -> None:
    turns = in_turns(["a", "b"], 3)
    assert turns == [("a", 1), ("b", 1), ("b", 2), ("a", 2), ("a", 3), ("b", 3)]


def test_what_others_are_multiples_of_is_measured_first() -> None:
    order = list(cells(QUICK_ON_CPU, ["one", "two"]))
    assert len(set(order)) == len(order)
    parts = [(cell.part, cell.model) for cell in order]
    assert [part for part, model in parts[:2]] == [CAPACITY, SHARING]
    assert parts.index((SHARING, "two")) > parts.index((EVICTION, ""))
    fairness = parts.index((FAIRNESS, "one"))
    assert (parts[fairness - 1], order[fairness - 1].mode) == ((CAPACITY, "one"), FAIRNESS)
    assert (FAIRNESS, "two") not in parts


def test_a_cell_is_kept_for_its_settings_alone(tmp_path: Path) -> None:
    store = Store(tmp_path, lambda cell: {"requests": 8})
    assert store.figures(CELL) is None
    store.keep(CELL, 7.0, {"found": [1.0, 2.0]})
    assert (store.figures(CELL), store.seconds(CELL)) == ({"found": [1.0, 2.0]}, 7.0)
    assert store.figures(Cell(SHARING, "a-model", "a mode", 2)) is None
    assert Store(tmp_path, lambda cell: {"requests": 9}).figures(CELL) is None


def test_a_cell_that_failed_is_measured_again(tmp_path: Path) -> None:
    store = Store(tmp_path, lambda cell: {})
    store.keep(CELL, 3.0, None, "ServerFailed: no memory")
    assert (store.figures(CELL), store.error(CELL)) == (None, "ServerFailed: no memory")
    store.keep(CELL, 3.0, {"found": 1})
    assert (store.figures(CELL), store.error(CELL)) == ({"found": 1}, "")


def test_an_interval_is_what_seeds_found() -> None:
    assert spread([1.0, 4.0, 2.5]) == {"value": 2.5, "low": 1.0, "high": 4.0}


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_without_a_gpu_it_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        gpu.main([])
    assert "finds no CUDA device here" in capsys.readouterr().err


def test_figures_of_a_cpu_do_not_get_among_those_of_gpus(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit, match="2"):
        gpu.main([*ON_CPU, "--out", "benchmarks/results/gpu"])
    assert "figures of a CPU do not belong there" in capsys.readouterr().err


def test_nothing_begins_that_would_end_too_late(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert gpu.main([*ON_CPU, "--limit-minutes", "0", "--out", str(tmp_path)]) == 0
    said = capsys.readouterr().out
    assert "would end too late" in said
    assert "the same command goes on with them" in said
    report = json.loads((tmp_path / "a-cpu-quick" / "gpu.json").read_text())
    assert (report["done"], report["failed"]) == (0, {})


@pytest.mark.server
@pytest.mark.slow
def test_all_of_it_runs_on_a_cpu(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    call = [*ON_CPU, "--out", str(tmp_path), "--directory", str(tmp_path / "models")]
    folder = tmp_path / "a-cpu-quick"
    assert gpu.main([*call, "--parts", EVICTION]) == 0
    eviction = next((folder / "cells").glob("eviction*"))
    before = eviction.stat().st_mtime_ns
    assert gpu.main(call) == 0
    assert eviction.stat().st_mtime_ns == before, "what is there is not measured again"
    report = json.loads((folder / "gpu.json").read_text())
    assert report["done"] == report["cells"] > 0
    (sharing,) = report["summary"][SHARING].values()
    cached = {
        name: stages["warm"]["cached_share"]["value"]
        for name, stages in sharing["documents"]["methods"].items()
    }
    assert cached["selective"] > cached["isolated"] == cached["salt per user"]
    (attacked,) = report["summary"][ATTACK].values()
    assert attacked["upstream"]["confirmed"] == attacked["upstream"]["right_guesses"] > 0
    assert attacked["selective"]["confirmed"] == 0
    text = (folder / "gpu.md").read_text()
    assert ON_A_CPU in text
    assert "40.58 %" in text
    assert (folder / "gpu.png").stat().st_size > 10_000
