"""What other replicas say of prefixes: hashes that only replicas of one key have in common."""

from __future__ import annotations

import random
from array import array
from typing import Any

import pytest

from sglang.srt.tenancy.cache.core.elsewhere import CAPACITY, Elsewhere, HashedPrefix

KEY = "SGLANG_TENANT_PROCESS_KEY"


def tokens(*values: int) -> array[int]:
    return array("q", values)


def hashed(prompt: array[int], *lengths: int, salt: Any = None) -> list[HashedPrefix]:
    """As another replica tells it."""
    return Elsewhere(1).hashes(salt, prompt, lengths)


def test_replicas_of_one_key_agree(monkeypatch: pytest.MonkeyPatch) -> None:
    prompt = tokens(*range(100))
    monkeypatch.setenv(KEY, "ab" * 32)
    first = hashed(prompt, 3, 100)
    assert hashed(prompt, 3, 100) == first
    assert len({*first, *hashed(prompt, 3, salt="lora")}) == 3
    monkeypatch.setenv(KEY, "cd" * 32)
    assert not set(hashed(prompt, 3, 100)) & set(first)


def test_no_hash_tells_of_another() -> None:
    """Sums would: of prompts that differ in one token, they differ by a multiple of a factor."""
    prompts = [tokens(1, 2, last) for last in (3, 4, 5)]
    one, two, three = (int.from_bytes(hashed(prompt, 3)[0][1], "little") for prompt in prompts)
    for half in (0, 64):
        a, b, c = ((number >> half) % 2**64 for number in (one, two, three))
        assert (b - a) % 2**64 != (c - b) % 2**64


def test_the_longest_known_prefix_counts() -> None:
    prompt, here = tokens(*range(50)), Elsewhere(1)
    here.learn(hashed(prompt, 10, 20, 40), [])
    assert here.covers(None, prompt, 0, 50) == 40
    assert here.covers(None, prompt, 0, 39) == 20
    assert here.covers(None, prompt, 20, 39) == 20
    assert here.covers("lora", prompt, 0, 50) == 0
    other = tokens(*range(15), 99, *range(16, 50))
    assert here.covers(None, other, 0, 50) == 10


def test_what_begins_with_something_demoted_is_not_taken_over() -> None:
    prompt, here = tokens(*range(50)), Elsewhere(1)
    here.learn(hashed(prompt, 10, 20, 40), hashed(prompt, 15))
    assert here.covers(None, prompt, 0, 50) == 10
    assert here.covers(None, prompt, 10, 50) == 10
    assert here.covers(None, prompt, 18, 50) == 18, "it begins above what is private"
    here.demote(None, prompt, 5)
    assert here.covers(None, prompt, 0, 50) == 0
    here.learn(hashed(prompt, 10, 20, 40), [])
    assert here.covers(None, prompt, 0, 50) == 0, "whatever others say later"


def test_what_others_demoted_is_not_asked_for_as_public() -> None:
    prompt, here = tokens(*range(50)), Elsewhere(1)
    assert here.allowed(None, prompt, 0, 50) == 50
    here.demote(None, prompt, 5)
    assert here.allowed(None, prompt, 0, 50) == 50, "its own, its quarantine keeps back"
    here.learn([], hashed(prompt, 15, 30))
    assert here.allowed(None, prompt, 0, 50) == 14
    assert here.allowed(None, prompt, 0, 14) == 14
    assert here.allowed(None, prompt, 20, 50) == 20
    assert here.allowed("lora", prompt, 0, 50) == 50


def test_pages_of_another_size_are_left_out() -> None:
    prompt, here = tokens(*range(50)), Elsewhere(16)
    assert here.learn(hashed(prompt, 16, 20, 32), hashed(prompt, 1)) == (2, 0)
    assert here.covers(None, prompt, 0, 48) == 32


def test_hearing_it_again_is_nothing_new() -> None:
    prompt, here = tokens(*range(50)), Elsewhere(1)
    assert here.learn(hashed(prompt, 10, 20), hashed(prompt, 5)) == (2, 1)
    assert here.learn(hashed(prompt, 10, 20), hashed(prompt, 5)) == (0, 0)
    assert (len(here.public), len(here.demoted)) == (2, 1)


def test_the_tables_are_bounded() -> None:
    rng, here = random.Random(1), Elsewhere(1)
    prompt = tokens(*range(50))
    here.learn(hashed(prompt, 10, 20), [])
    for _ in range(CAPACITY - 1):
        entry = (rng.randrange(1, 100), rng.randbytes(16))
        here.learn([entry], [entry])
        here.learn(hashed(prompt, 20), [])
    assert len(here.public) == CAPACITY
    assert here.covers(None, prompt, 0, 50) == 20, "heard of last"
    assert here.covers(None, prompt, 0, 19) == 0, "heard of first"
    assert here.public.lengths(0, 100) == sorted({length for length, _ in here.public})


def test_where_nobody_told_anything_nothing_is_hashed(monkeypatch: pytest.MonkeyPatch) -> None:
    here = Elsewhere(1)
    monkeypatch.setattr(here._prefixes, "of", None)
    assert here.covers(None, tokens(*range(50)), 3, 50) == 3
