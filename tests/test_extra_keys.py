"""Different salts, keys and adapters never make one ``extra_key``."""

from __future__ import annotations

from itertools import product

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from sglang.srt.managers.io_struct import GenerateReqInput
from sglang.srt.managers.schedule_batch import Req
from sglang.srt.sampling.sampling_params import SamplingParams
from sglang.srt.tenancy.extra_keys import joined, qualified

# Few letters, so that collisions are near: those of the joined form itself among them.
parts = st.text(alphabet="ab|1:\x1e\x1f", min_size=1, max_size=8)
sent = st.lists(parts, max_size=2).map(tuple)
keys = st.none() | parts


@given(sent, sent)
@example(("a", "bc"), ("ab", "c"))
@example(("a|b",), ("a", "b"))
@example(("\x1f1:ab",), ("a", "b"))
@example(("\x1f1:a", "b"), ("\x1f1:ab",))
def test_what_a_client_sends_is_injective(one: tuple[str, ...], other: tuple[str, ...]) -> None:
    assert (joined(*one) == joined(*other)) == (one == other)


@given(keys, keys, keys, keys)
@example("id", None, None, "id")
@example("id", None, None, "\x1e2:id")
@example("id", "x", "idx", None)
@example(None, "\x1ea", None, "\x1e0:\x1ea")
def test_no_key_is_that_of_another_adapter(
    name: str | None, key: str | None, other_name: str | None, other_key: str | None
) -> None:
    same = (name, key) == (other_name, other_key)
    assert (qualified(name, key) == qualified(other_name, other_key)) == same


@given(keys, keys, keys)
def test_expert_sizes_and_adapters_do_not_mix(
    name: str | None, other_name: str | None, key: str | None
) -> None:
    one, other = (qualified(adapter, key) for adapter in (name, other_name))
    assert (qualified("size=8", one) == qualified("size=8", other)) == (name == other_name)
    assert qualified("size=4", one) != qualified("size=8", one)


@pytest.mark.parametrize("key", [None, "", "x", "a|b", "é"])
def test_alone_it_is_what_upstream_has(key: str | None) -> None:
    assert joined(key) == key
    assert qualified(None, key) == key


def test_requests_of_adapters_have_keys_of_their_own() -> None:
    adapters, salts = (None, "one", "two"), (None, "one", "x", "xone")
    made = {
        Req("rid", "", [1], SamplingParams(), lora_id=adapter, extra_key=salt).extra_key
        for adapter, salt in product(adapters, salts)
    }
    assert len(made) == len(adapters) * len(salts)


def test_a_batch_has_a_key_for_each_prompt() -> None:
    batch = GenerateReqInput(text=["x", "y"], extra_key=["a", "b"], sampling_params={"n": 2})
    batch.normalize_batch_and_arguments()
    assert [batch[i].extra_key for i in range(4)] == ["a", "b", "a", "b"]


@pytest.mark.parametrize("key", [[], ["a"]])
def test_a_list_for_one_prompt_is_refused(key: list[str]) -> None:
    with pytest.raises(ValueError, match="extra_key"):
        GenerateReqInput(text="x", extra_key=key).normalize_batch_and_arguments()
