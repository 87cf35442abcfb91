"""The demo model: the same every time, and a chat model in all that shows."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import demo_model
import pytest
from hypothesis import given
from hypothesis import strategies as st
from jinja2.sandbox import ImmutableSandboxedEnvironment
from safetensors.numpy import load_file
from tokenizers import Tokenizer


def _digests(folder: Path) -> dict[str, str]:
    return {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in folder.iterdir()}


def test_same_recipe_gives_the_same_bytes(tmp_path: Path) -> None:
    demo_model.make_model(tmp_path / "one")
    demo_model.make_model(tmp_path / "two")
    assert _digests(tmp_path / "one") == _digests(tmp_path / "two")


def test_another_seed_gives_other_weights(tmp_path: Path) -> None:
    demo_model.make_model(tmp_path / "one", seed=1)
    demo_model.make_model(tmp_path / "two", seed=2)
    one, two = (_digests(tmp_path / name)["model.safetensors"] for name in ("one", "two"))
    assert one != two


def test_finished_model_is_kept(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    assert demo_model.make_model(folder)
    made = (folder / "model.safetensors").stat().st_mtime_ns
    assert not demo_model.make_model(folder)
    assert (folder / "model.safetensors").stat().st_mtime_ns == made


def test_model_of_another_recipe_is_replaced(tmp_path: Path) -> None:
    demo_model.make_model(tmp_path / "model", seed=1)
    assert demo_model.make_model(tmp_path / "model", seed=2)
    demo_model.make_model(tmp_path / "fresh", seed=2)
    assert _digests(tmp_path / "model") == _digests(tmp_path / "fresh")
    assert {entry.name for entry in tmp_path.iterdir()} == {"model", "fresh"}


def test_folder_with_other_files_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(FileExistsError, match="holds no demo model"):
        demo_model.make_model(tmp_path)
    assert (tmp_path / "thesis.txt").read_text() == "years of work"


@given(st.text(alphabet=st.characters(codec="utf-8")))
def test_tokenizer_returns_any_text(text: str) -> None:
    tokenizer = demo_model.make_tokenizer()
    ids = tokenizer.encode(text).ids
    assert tokenizer.decode(ids, skip_special_tokens=False) == text


def test_a_byte_is_the_token_of_its_value() -> None:
    text = "a é 語 \n\x00"
    assert demo_model.make_tokenizer().encode(text).ids == list(text.encode())


def test_chat_template_marks_the_turns(tiny_model: Path) -> None:
    messages = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Hello"},
        {"role": "assistant", "content": "Hi."},
    ]
    assert _render(tiny_model, messages, add_generation_prompt=False) == (
        "<|system|>Be brief.<|end|><|user|>Hello<|end|><|assistant|>Hi.<|end|>"
    )


def test_chat_template_begins_the_reply(tiny_model: Path) -> None:
    messages = [{"role": "user", "content": "Hello"}]
    prompt = _render(tiny_model, messages, add_generation_prompt=True)
    assert prompt == "<|user|>Hello<|end|><|assistant|>"


def test_chat_markers_are_single_tokens_and_end_ends(tiny_model: Path) -> None:
    tokenizer = Tokenizer.from_file(str(tiny_model / "tokenizer.json"))
    ids = tokenizer.encode("<|user|>x<|end|>").ids
    assert len(ids) == 3
    config = json.loads((tiny_model / "config.json").read_text())
    assert ids[-1] == config["eos_token_id"]


def test_only_letters_can_be_said(tiny_model: Path) -> None:
    """Coordinate 0 of the output matrix weighs on all that is not to be said."""
    bias = load_file(tiny_model / "model.safetensors")["lm_head.weight"][:, 0]
    sayable = {chr(token) for token in range(256) if bias[token] >= 0}
    assert sayable == set(demo_model.SPOKEN)
    assert bias[demo_model.token_id(demo_model.END)] < 0


def _render(model: Path, messages: list[dict[str, str]], **options: bool) -> str:
    # The environment in which transformers renders a template.
    environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)
    template = environment.from_string((model / "chat_template.jinja").read_text())
    return str(template.render(messages=messages, **options))
