"""What is registered, and what the tree is told of it."""

from __future__ import annotations

from array import array

import pytest

from sglang.srt.tenancy.control.messages import Prefix, Refused
from sglang.srt.tenancy.control.prefix_table import PrefixTable
from sglang.srt.tenancy.prefix_spec import MAX_PREFIXES

PAGE = 4


class Told:
    """A table, and the token sequences that it made public, in order of the calls."""

    def __init__(self) -> None:
        self.public: list[list[int]] = []
        self.calls: list[str] = []
        self.table = PrefixTable(PAGE, self._publish, self._withdraw)

    def _publish(self, tokens: array[int]) -> None:
        self.calls.append("publish")
        assert pages(tokens) not in self.public
        self.public.append(pages(tokens))

    def _withdraw(self, tokens: array[int]) -> None:
        self.calls.append("withdraw")
        self.public.remove(pages(tokens))

    def names(self) -> list[str]:
        return [entry["name"] for entry in self.table.list()]


def pages(tokens: array[int]) -> list[int]:
    return list(tokens[: len(tokens) // PAGE * PAGE])


def prefix(name: str, *tokens: int) -> Prefix:
    return Prefix(name, "input_ids", array("q", tokens))


@pytest.fixture
def told() -> Told:
    return Told()


def test_names_of_the_same_pages_are_told_once(told: Told) -> None:
    told.table.add(prefix("a", 1, 2, 3, 4))
    told.table.add(prefix("b", 1, 2, 3, 4, 5))
    assert told.calls == ["publish"]
    told.table.remove("a")
    assert told.public == [[1, 2, 3, 4]]
    told.table.remove("b")
    assert told.public == []


def test_usable_are_whole_pages(told: Told) -> None:
    answer = told.table.add(prefix("a", *range(11)))
    assert (answer["tokens"], answer["usable_tokens"]) == (11, 8)


def test_less_than_a_page_is_refused(told: Told) -> None:
    with pytest.raises(Refused, match=r"^input_ids: 3 tokens .* one page .*\(4\)") as refused:
        told.table.add(prefix("a", 1, 2, 3))
    assert refused.value.refusal.status == 400
    assert told.names() == []


def test_a_name_keeps_its_tokens(told: Told) -> None:
    told.table.add(prefix("a", 1, 2, 3, 4, 5))
    with pytest.raises(Refused, match=r"^name: 'a' names other tokens") as refused:
        told.table.add(prefix("a", 1, 2, 3, 4))
    assert refused.value.refusal.status == 409
    told.table.add(prefix("a", 1, 2, 3, 4, 5))
    assert told.calls == ["publish"]


def test_the_table_is_bounded(told: Told) -> None:
    for number in range(MAX_PREFIXES):
        told.table.add(prefix(f"p{number}", number, 2, 3, 4))
    with pytest.raises(Refused, match=f"^name: {MAX_PREFIXES} .*delete one first"):
        told.table.add(prefix("more", 9, 9, 9, 9))
    with pytest.raises(Refused, match=str(MAX_PREFIXES)):
        told.table.configure([prefix("more", 9, 9, 9, 9)])
    assert len(told.table) == MAX_PREFIXES == len(told.public)


def test_the_file_replaces_its_own_and_leaves_others(told: Told) -> None:
    told.table.add(prefix("posted", 7, 7, 7, 7))
    told.table.configure([prefix("a", 1, 1, 1, 1), prefix("b", 2, 2, 2, 2)])
    told.table.configure([prefix("b", 3, 3, 3, 3), prefix("c", 1, 1, 1, 1)])
    assert sorted(told.names()) == ["b", "c", "posted"]
    assert sorted(told.public) == [[1] * 4, [3] * 4, [7] * 4]
    # What one name lost and another took was never taken back.
    assert told.calls == ["publish"] * 4 + ["withdraw"]


def test_the_file_wins_over_a_request_of_the_same_name(told: Told) -> None:
    told.table.add(prefix("a", 7, 7, 7, 7))
    told.table.configure([prefix("a", 1, 1, 1, 1)])
    assert told.public == [[1] * 4]
    with pytest.raises(Refused, match="config file") as refused:
        told.table.remove("a")
    assert refused.value.refusal.status == 409
    told.table.configure([])
    assert (told.public, told.names()) == ([], [])


def test_a_file_with_one_bad_prefix_changes_nothing(told: Told) -> None:
    told.table.configure([prefix("a", 1, 1, 1, 1)])
    with pytest.raises(Refused, match=r"^public_prefixes\.c\.input_ids: 1 tokens"):
        told.table.configure([prefix("b", 2, 2, 2, 2), prefix("c", 3)])
    assert (told.public, told.names()) == ([[1] * 4], ["a"])


def test_an_unknown_name_is_a_404(told: Told) -> None:
    with pytest.raises(Refused, match=r"^name: 'a' is no public prefix") as refused:
        told.table.remove("a")
    assert refused.value.refusal.status == 404
