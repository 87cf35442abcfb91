"""The table of published prefixes that a tree asks for every prompt."""

from __future__ import annotations

import random
import statistics
import time
from array import array
from collections.abc import Callable
from typing import Any

import pytest

from sglang.srt.tenancy.cache.core.published import Published


def covered(plain: set[tuple[int, ...]], tokens: array[int], end: int, page: int) -> int:
    """What the table promises, from the plain prefixes."""
    longest = 0
    for prefix in plain:
        same = 0
        while same < min(len(prefix), end) and prefix[same] == tokens[same]:
            same += 1
        longest = max(longest, same)
    return longest // page * page


@pytest.mark.parametrize("page", [1, 4])
@pytest.mark.parametrize("seed", range(20))
def test_it_says_what_a_list_of_prefixes_says(seed: int, page: int) -> None:
    rng = random.Random(seed)
    table, plain = Published(page), set[tuple[int, ...]]()
    for _ in range(300):
        tokens = array("q", rng.choices((0, 1), k=rng.randrange(1, 6 * page)))
        whole = tuple(tokens[: len(tokens) // page * page])
        if rng.random() < 0.4:
            known = sorted(plain)
            chosen = rng.choice(known) if known and rng.random() < 0.7 else whole
            if chosen in plain:
                plain.remove(chosen)
                assert tuple(table.remove(chosen)) == chosen
            else:
                with pytest.raises(ValueError, match="tokens: "):
                    table.remove(chosen)
        elif whole:
            plain.add(whole)
            table.add(tokens)
        assert len(table) == len(plain)
        end = rng.randrange(len(tokens) + 1)
        assert table.covers(tokens, end) == covered(plain, tokens, end, page)
    for prefix in sorted(plain):
        table.remove(prefix)
    assert len(table) == 0
    assert not table._root.children


def test_less_than_a_page_is_refused() -> None:
    with pytest.raises(ValueError, match="do not fill a page of 4"):
        Published(4).add([1, 2, 3])


def milliseconds(action: Callable[[], Any]) -> float:
    spent = []
    for _ in range(15):
        start = time.process_time()
        action()
        spent.append(time.process_time() - start)
    return statistics.median(spent) * 1e3


def test_a_prompt_is_compared_once_however_many_prefixes_begin_like_it() -> None:
    """256 of 131,072 tokens, the first 100,000 the same, are the most there can be."""
    rng = random.Random(1)
    shared = array("q", [rng.randrange(150_000) for _ in range(100_000)])
    table, one = Published(1), Published(1)
    for number in range(256):
        table.add(shared + array("q", [number]) * 31_072)
    one.add(shared)
    prompt = shared + array("q", [300])
    assert table.covers(prompt, len(prompt)) == one.covers(prompt, len(prompt)) == 100_000
    many = milliseconds(lambda: table.covers(prompt, len(prompt)))
    assert many < 5 * milliseconds(lambda: one.covers(prompt, len(prompt))) + 0.5
