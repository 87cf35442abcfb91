"""docs/levers.md names flags that the server knows, and says what it does with long answers."""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Iterator
from pathlib import Path

import httpx
import levers
import pytest
from engine_speed.lever import BASE, CHANGED, LEVERS, Lever
from support.server import Server

from sglang.srt.server_args import ServerArgs

PAGE = Path(__file__).parents[1] / "docs" / "levers.md"
CONTEXT = 16_384  # of the tiny model

# Code that begins with a flag: `--flag`, `--flag value`, `--flag value|other`.
_CODE = re.compile(r"`(--[a-z][^`]*)`")
# Where any value will do, a letter in capitals, or a word in them, stands for it.
_PLACEHOLDER = re.compile(r"[A-Z]+")


def named() -> list[str]:
    return sorted(set(_CODE.findall(PAGE.read_text())))


@pytest.fixture(scope="module")
def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(exit_on_error=False)
    ServerArgs.add_cli_args(parser)
    return parser


def uses(code: str) -> Iterator[list[str]]:
    """A flag of the code, and each value that it allows."""
    for part in re.split(r" (?=--)", code.replace("\\|", "|")):
        flag, _, values = part.partition(" ")
        for value in values.split("|"):
            yield [flag, *([value] if value else [])]


def is_taken(parser: argparse.ArgumentParser, arguments: list[str]) -> bool:
    """Whether a flag is known, takes a value or none as written, and this one."""
    flag, *values = arguments
    action = parser._option_string_actions.get(flag)
    if action is None or action.help == argparse.SUPPRESS:
        return False
    if action.nargs == 0:
        return not values
    if not values:
        return True  # only named
    choices = None if action.choices is None else set(action.choices)
    if _PLACEHOLDER.fullmatch(values[0]):
        return choices is None or flag.endswith("-backend")
    if choices is not None and values[0] not in choices:
        return False
    return not callable(action.type) or action.type(values[0]) is not None


def test_the_page_names_many_flags() -> None:
    assert len(named()) > 30


@pytest.mark.parametrize("code", named())
def test_the_server_knows_the_flag(parser: argparse.ArgumentParser, code: str) -> None:
    for arguments in uses(code):
        assert is_taken(parser, arguments), arguments


@pytest.mark.parametrize("code", [["--prefix-cache"], ["--page-size", "many"], ["--dtype", "int3"]])
def test_another_flag_would_show(parser: argparse.ArgumentParser, code: list[str]) -> None:
    try:
        taken = is_taken(parser, code)
    except ValueError:
        taken = False
    assert not taken


@pytest.mark.parametrize("lever", LEVERS, ids=lambda lever: lever.name)
def test_what_is_measured_is_on_the_page_and_taken(
    parser: argparse.ArgumentParser, lever: Lever
) -> None:
    options = parser.parse_args(["--model-path", "x", *lever.base, *lever.flags])
    assert options.model_path == "x"
    assert lever.name in PAGE.read_text()


@pytest.fixture(scope="module")
def server(tiny_model: Path) -> Iterator[Server]:
    with Server(tiny_model, "--enable-tenant-cache", "--max-total-tokens", "512") as server:
        yield server


@pytest.mark.server
def test_more_than_the_context_is_refused_with_both_numbers(server: Server) -> None:
    with pytest.raises(httpx.HTTPStatusError) as refused:
        server.generate("long" * 10, max_new_tokens=CONTEXT, user_id="alice")
    answer = refused.value.response
    assert answer.status_code == 400
    assert "40" in answer.text
    assert str(CONTEXT) in answer.text


@pytest.mark.server
def test_what_memory_does_not_hold_is_cut_and_said(server: Server) -> None:
    answer = server.generate("long" * 10, max_new_tokens=600, user_id="alice")
    assert answer["meta_info"]["finish_reason"]["type"] == "length"
    assert 400 < answer["meta_info"]["completion_tokens"] < 512


@pytest.mark.server
def test_a_document_computed_beforehand_is_found_by_everybody(tmp_path: Path) -> None:
    name = "document computed beforehand"
    arguments = ["--quick", "--rounds", "1", "--size", "tiny", "--out", str(tmp_path)]
    levers.main([*arguments, "--model", str(tmp_path / "model"), "--levers", name])
    (row,) = json.loads((tmp_path / "levers.json").read_text())["levers"]
    before, after = (row["engines"][who]["cached_share"] for who in (BASE, CHANGED))
    assert before < 0.5 < 0.7 < after
    assert row["agreement"]["equal"] == row["agreement"]["answers"]
    assert name in (tmp_path / "levers.md").read_text()
    assert (tmp_path / "levers.png").stat().st_size > 10_000
