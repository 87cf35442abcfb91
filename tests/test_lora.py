"""LoRA adapters on the CPU platform: each of them has, for each user, a cache of its own."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from demo_model import SHAPES
from safetensors.numpy import load_file, save_file
from support import scan_results
from support.asks import Asker
from support.patience import until
from support.prompts import fresh_prompt, fresh_user
from support.reference import is_greedy
from support.scan_results import ask_three
from support.server import Server
from support.sharing import beyond_chance

from sglang.srt.lora.lora_registry import LoRARef

pytestmark = pytest.mark.server

SELECTIVE = ("--enable-tenant-cache", "--enable-cache-report", *scan_results.FLAGS)
ADAPTERS = ("one", "two")
RANK, ALPHA = 4, 8
WEIGHTS, ADAPTER_WEIGHTS = "model.safetensors", "adapter_model.safetensors"

Array = npt.NDArray[np.float32]


def make_adapter(folder: Path, seed: int) -> None:
    """Write an adapter of the tiny model's queries and values, random and about as loud."""
    shape, random = SHAPES["tiny"], np.random.default_rng(seed)
    weights: dict[str, Array] = {}
    for layer in range(shape.layers):
        for target, heads in (("q_proj", shape.heads), ("v_proj", shape.kv_heads)):
            name = f"base_model.model.model.layers.{layer}.self_attn.{target}"
            into = random.standard_normal((RANK, shape.width), np.float32)
            out = random.standard_normal((heads * shape.head_width, RANK), np.float32)
            weights[f"{name}.lora_A.weight"] = into
            weights[f"{name}.lora_B.weight"] = out * np.float32(0.1)
    folder.mkdir()
    save_file(weights, folder / ADAPTER_WEIGHTS, metadata={"format": "pt"})
    config: dict[str, Any] = {"peft_type": "LORA", "task_type": "CAUSAL_LM", "bias": "none"}
    config |= {"r": RANK, "lora_alpha": ALPHA, "target_modules": ["q_proj", "v_proj"]}
    (folder / "adapter_config.json").write_text(json.dumps(config))


def merge(model: Path, adapter: Path, merged: Path) -> None:
    """Write the model that the adapter makes of ``model``."""
    shutil.copytree(model, merged)
    weights, parts = load_file(model / WEIGHTS), load_file(adapter / ADAPTER_WEIGHTS)
    for name in parts:
        if name.endswith(".lora_A.weight"):
            target = name.removeprefix("base_model.model.").replace(".lora_A", "")
            change = parts[name.replace("lora_A", "lora_B")] @ parts[name]
            weights[target] += change * np.float32(ALPHA / RANK)
    save_file(weights, merged / WEIGHTS, metadata={"format": "pt"})


@pytest.fixture(scope="module")
def folders(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The adapters by name; beside each, ``NAME-merged`` is the model that it makes."""
    root = tmp_path_factory.mktemp("adapters")
    for seed, name in enumerate(ADAPTERS):
        make_adapter(root / name, seed)
        merge(tiny_model, root / name, root / f"{name}-merged")
    return {name: root / name for name in ADAPTERS}


@pytest.fixture(scope="module")
def server(tiny_model: Path, folders: dict[str, Path]) -> Iterator[Server]:
    paths = [f"{name}={folder}" for name, folder in folders.items()]
    flags = ("--enable-hierarchical-cache", "--enable-lora", "--lora-paths", *paths)
    with Server(tiny_model, *SELECTIVE, *flags) as server:
        yield server


@pytest.fixture
def asker(server: Server) -> Asker:
    return Asker(server)


def cached(asker: Asker, prompt: str, user: str, adapter: str | None, **body: Any) -> int:
    """How many tokens of the prompt came from the cache, asked with an adapter or none."""
    reply = asker.ask("generate", prompt, user_id=user, lora_path=adapter, **body)
    return beyond_chance(reply.cached)


@pytest.mark.parametrize("adapter", [None, *ADAPTERS])
def test_an_adapter_computes_what_it_makes_of_the_model(
    server: Server, tiny_model: Path, folders: dict[str, Path], adapter: str | None
) -> None:
    prompt, alice = fresh_prompt(), fresh_user()
    model = folders[adapter].with_name(f"{adapter}-merged") if adapter else tiny_model
    for hit in (False, True):
        reply = server.generate(prompt, lora_path=adapter, user_id=alice)
        assert (beyond_chance(reply["meta_info"]["cached_tokens"]) > 0) is hit
        assert is_greedy(model, list(prompt.encode()), reply["output_ids"])


def test_adapters_share_nothing_of_one_user(asker: Asker) -> None:
    prompt, alice = fresh_prompt(), fresh_user()
    for adapter in (None, *ADAPTERS):
        assert cached(asker, prompt, alice, adapter) == 0
    for adapter in (None, *ADAPTERS):
        assert cached(asker, prompt, alice, adapter) > 0


def test_users_share_nothing_of_one_adapter(asker: Asker) -> None:
    prompt, alice, bob = fresh_prompt(), fresh_user(), fresh_user()
    assert [cached(asker, prompt, user, "one") for user in (alice, bob)] == [0, 0]
    assert cached(asker, prompt, alice, "one") > 0


def test_what_becomes_public_is_so_for_its_adapter(asker: Asker) -> None:
    """A scan result speaks of the tokens as one adapter computes them."""
    prompt = fresh_prompt(400)
    ask_three(asker, "generate", prompt, lora_path="one")
    until(lambda: cached(asker, prompt, fresh_user(), "one") >= 300)
    assert [cached(asker, prompt, fresh_user(), other) for other in (None, "two")] == [0, 0]


def test_a_batch_of_several_adapters(asker: Asker) -> None:
    prompt, alice = fresh_prompt(), fresh_user()
    asker.ask("generate", prompt, user_id=alice, lora_path="two")
    replies = asker.generate(text=[prompt] * 2, lora_path=list(ADAPTERS), user_id=alice)
    first, second = (reply["meta_info"]["cached_tokens"] for reply in replies)
    assert beyond_chance(first) == 0
    assert second > 0


def test_a_salt_that_spells_an_adapter_reads_nothing_of_it(
    asker: Asker, folders: dict[str, Path]
) -> None:
    prompt, alice = fresh_prompt(), fresh_user()
    cached(asker, prompt, alice, "one")
    spelled = LoRARef.deterministic_id("one", str(folders["one"]))
    assert cached(asker, prompt, alice, None, extra_key=spelled) == 0


@pytest.mark.parametrize("prompts", ["x", ["x", "y"]])
def test_a_list_of_adapters_that_does_not_fit_is_refused(
    asker: Asker, prompts: str | list[str]
) -> None:
    for path, field in (("/generate", "text"), ("/v1/completions", "prompt")):
        refused = asker.post(path, {field: prompts, "model": "demo", "lora_path": ["one"]})
        assert refused.status_code == 400
        assert "lora_path" in refused.text
    assert cached(asker, fresh_prompt(), fresh_user(), "one") == 0  # it is still there
