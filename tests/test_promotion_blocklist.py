"""The blocklist says what a table of plain prefixes would, holds no prompt, and is quick."""

from __future__ import annotations

import random
import statistics
import time
from array import array
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from support.engine import Engine, Setting
from support.served import serve
from support.trees import start_group

from sglang.srt.mem_cache.radix_cache import RadixKey
from sglang.srt.tenancy.cache.core.promotion_blocklist import PromotionBlocklist
from sglang.srt.tenancy.cache.core.scan_results import Scanned
from sglang.srt.tenancy.namespace import Namespace

PAGE = 4
COMMON = array("q", range(100, 140))


def tokens(*some: int) -> array[int]:
    return array("q", some)


def allowed(table: PromotionBlocklist, prompt: array[int], **how: Any) -> int:
    return table.allowed(
        how.get("extra_key"),
        prompt,
        how.get("above", 0),
        how.get("end", len(prompt)),
        how.get("epoch", 0),
    )


# What it says


@pytest.mark.parametrize("seed", range(40))
def test_it_says_what_a_table_of_plain_prefixes_says(seed: int) -> None:
    """Two symbols, one of them 0, so that prompts meet each other's prefixes; two salts."""
    rng = random.Random(seed)
    table = PromotionBlocklist()
    plain: dict[tuple[str | None, tuple[int, ...]], float] = {}
    for step in range(400):
        epoch = step // 50
        salt = rng.choice((None, "lora"))
        prompt = array("q", rng.choices((0, 1), k=rng.randrange(1, 12)))
        length = rng.randrange(1, len(prompt) + 1)
        place = (salt, tuple(prompt[:length]))
        kind = rng.choices(("ask", "block", "quarantine"), (90, 5, 5))[0]
        if kind == "block":
            table.block(salt, prompt, length)
            plain[place] = float("inf")
        elif kind == "quarantine":
            until = epoch + rng.randrange(3)
            table.quarantine(salt, prompt, length, until)
            plain[place] = max(plain.get(place, 0), until)
        above = rng.randrange(len(prompt) + 1)
        end = rng.randrange(above, len(prompt) + 1)
        expected = end
        for n in range(end, above, -1):
            if plain.get((salt, tuple(prompt[:n])), 0) > epoch:
                expected = n - 1
        how = {"extra_key": salt, "above": above, "end": end, "epoch": epoch}
        assert allowed(table, prompt, **how) == expected


def test_tokens_of_any_size_are_told_apart() -> None:
    table = PromotionBlocklist()
    for blocked in (0, -1, 1 << 31, 1 << 40, (1 << 62) + 1):
        table.block(None, tokens(7, blocked), 2)
    for other in (1, -2, 1 << 32, 1 << 41, 1 << 62):
        assert allowed(table, tokens(7, other)) == 2
    for blocked in (0, -1, 1 << 31, 1 << 40, (1 << 62) + 1):
        assert allowed(table, tokens(7, blocked)) == 1


def test_zeros_behind_a_blocked_prefix_are_no_blocked_prefix() -> None:
    table = PromotionBlocklist()
    table.block(None, tokens(5, 0, 0), 3)
    assert allowed(table, tokens(5, 0)) == 2
    assert allowed(table, tokens(5)) == 1
    assert allowed(table, tokens(5, 0, 0, 0)) == 2


def test_a_prompt_longer_than_any_before_is_known_by_its_old_prefix() -> None:
    table = PromotionBlocklist()
    rng = random.Random(1)
    prompt = array("q", [rng.randrange(1 << 17) for _ in range(40_000)])
    table.block(None, prompt, 100)
    assert allowed(table, prompt, above=200) == 40_000
    assert allowed(table, prompt) == 99
    table.block(None, prompt, 39_999)
    assert allowed(table, prompt, above=100) == 39_998


# What it keeps


def test_sensitive_prompts_do_not_flush_the_quarantines_nor_the_reverse() -> None:
    table = PromotionBlocklist(capacity=8)
    table.quarantine(None, tokens(1, 2), 2, until=5)
    table.block(None, tokens(3, 4), 2)
    for at in range(100, 108):
        table.block(None, tokens(at), 1)
    assert allowed(table, tokens(1, 2)) == 1
    assert allowed(table, tokens(3, 4)) == 2  # the one put first is forgotten
    for at in range(200, 300):
        table.quarantine(None, tokens(at), 1, until=9)
    assert allowed(table, tokens(107)) == 0
    assert (len(table.sensitive), len(table.quarantined)) == (8, 8)


def test_what_was_blocked_again_lately_stays() -> None:
    table = PromotionBlocklist(capacity=2)
    for at in (1, 2, 1, 3):
        table.block(None, tokens(at), 1)
    assert [allowed(table, tokens(at)) for at in (1, 2, 3)] == [0, 1, 0]


def test_quarantines_that_are_over_take_no_room() -> None:
    table = PromotionBlocklist()
    table.quarantine(None, tokens(1, 2, 3), 2, until=5)
    assert allowed(table, tokens(1, 2, 3), epoch=4) == 1
    assert allowed(table, tokens(1, 2, 3), epoch=5) == 3
    assert len(table.quarantined) == 0


def test_nothing_in_it_can_be_read_without_the_key(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is kept of one prompt is 128 bits, which another server's key makes others."""

    def kept(key: str) -> list[tuple[int, int]]:
        monkeypatch.setenv("SGLANG_TENANT_PROCESS_KEY", key * 32)
        table = PromotionBlocklist()
        for length in (1, 30):
            table.block(None, COMMON, length)
        table.quarantine("salt", COMMON, 1, until=3)
        return [*table.sensitive._until, *table.quarantined._until]

    mine, theirs = kept("0a"), kept("0b")
    assert len({half for pair in (*mine, *theirs) for half in pair}) == 12
    assert all(0 <= half < 1 << 64 for pair in mine for half in pair)
    assert mine == kept("0a")


# What it costs

CROWDED = 65_536
PROMPT = 8_000


def milliseconds(action: Callable[[], Any], times: int = 21) -> float:
    spent = []
    for _ in range(times):
        start = time.process_time()
        action()
        spent.append(time.process_time() - start)
    return statistics.median(spent) * 1e3


def prompt_of(seed: int, length: int = PROMPT) -> array[int]:
    rng = random.Random(seed)
    return array("q", [rng.randrange(150_000) for _ in range(length)])


def beside(prompt: array[int]) -> Iterator[array[int]]:
    """Prompts of every length that leave this one with their last token."""
    for at in range(CROWDED):
        length = at % len(prompt)
        yield prompt[:length] + array("q", [1_000_000 + at])


def filled(kind: str, prompt: array[int]) -> PromotionBlocklist:
    table = PromotionBlocklist()
    match kind:
        case "all lengths, one prefix":
            for other in beside(prompt):
                table.block(None, other, len(other))
        case "one length, one prefix":
            for at in range(CROWDED):
                table.block(None, prompt[:-1] + array("q", [1_000_000 + at]), len(prompt))
        case "the prompt itself under a salt":
            for length in range(1, len(prompt) + 1):
                table.block("salt", prompt, length)
        case "zeros":
            for length in range(1, len(prompt) + 1):
                table.block(None, array("q", [0]) * length, length)
        case "both tables":
            for at, other in enumerate(beside(prompt)):
                table.block(None, other, len(other))
                other[-1] += CROWDED
                table.quarantine(None, other, len(other), until=at)
    return table


@pytest.mark.alone
@pytest.mark.slow
@pytest.mark.parametrize(
    "kind",
    [
        "all lengths, one prefix",
        "one length, one prefix",
        "the prompt itself under a salt",
        "zeros",
        "both tables",
    ],
)
def test_a_prompt_costs_less_than_a_millisecond_whatever_the_tables_hold(kind: str) -> None:
    prompt = array("q", [0]) * PROMPT if kind == "zeros" else prompt_of(1)
    table = filled(kind, prompt)
    if kind == "zeros":
        prompt[0] = 1
    assert len(table.sensitive) == (CROWDED if "prefix" in kind or "both" in kind else PROMPT)
    assert allowed(table, prompt) == PROMPT
    assert milliseconds(lambda: allowed(table, prompt)) < 1


def about_to_end(prompt: array[int]) -> PromotionBlocklist:
    table = PromotionBlocklist()
    for length in range(8, PROMPT, 8):
        table.quarantine(None, prompt, length, until=1)
    return table


@pytest.mark.alone
@pytest.mark.slow
def test_a_thousand_quarantines_that_end_together_cost_no_more() -> None:
    prompt = prompt_of(2)
    tables = [about_to_end(prompt) for _ in range(9)]
    each = iter(tables)
    assert milliseconds(lambda: allowed(next(each), prompt, epoch=1), len(tables)) < 5
    assert not any(table.quarantined for table in tables)


# What forgetting means for the tree


@pytest.fixture(autouse=True, scope="module")
def _group(tmp_path_factory: pytest.TempPathFactory) -> None:
    start_group(tmp_path_factory.mktemp("group"))


def judging() -> Engine:
    on = Engine(Setting(page_size=PAGE, host=False))
    on.cache.core.sharing.memory.results = Scanned()
    on.cache.core.sharing.memory.blocklist = PromotionBlocklist(capacity=4)
    return on


def judge(on: Engine, user: str, prompt: array[int], harmless: int, at: int | None = None) -> None:
    on.cache.apply_scan_result(RadixKey(prompt, Namespace(user, None)), harmless, at)
    on.check()


def flush(on: Engine) -> None:
    """As a client does who sends one sensitive prompt after another."""
    for at in range(4):
        prompt = array("q", range(5000 + 10 * at, 5008 + 10 * at))
        serve(on, "mallory", prompt)
        judge(on, "mallory", prompt, 0, 2)
    assert on.cache.core.sharing.memory.blocklist.allowed(None, COMMON, 0, len(COMMON), 0) == len(
        COMMON
    )


def test_what_was_forgotten_must_be_scanned_again() -> None:
    on = judging()
    for user in ("ann", "ben"):
        serve(on, user, COMMON)
        judge(on, user, COMMON, 8, 10)
    flush(on)
    for user in ("ann", "ben", "cyn", "dan"):
        serve(on, user, COMMON)
    assert on.find("eve", COMMON) == 8  # what was found harmless, no token more
    judge(on, "cyn", COMMON, 24)
    assert on.find("eve", COMMON) == 24
    on.drain()


@pytest.mark.parametrize("joined", [False, True])
def test_a_later_result_takes_back_an_earlier_one_also_when_it_is_forgotten(joined: bool) -> None:
    on = judging()
    serve(on, "ann", COMMON)
    judge(on, "ann", COMMON, 40)
    if joined:
        serve(on, "ann", COMMON + array("q", range(8)))
        judge(on, "ann", COMMON + array("q", range(8)), 48)
        on.peek(on.new_task("ann", COMMON + array("q", range(16))))
    judge(on, "ann", COMMON, 8, 10)
    flush(on)
    serve(on, "ben", COMMON)
    serve(on, "ann", COMMON)
    serve(on, "ben", COMMON)
    assert on.find("eve", COMMON) == 8
    on.drain()


def test_users_are_counted_before_anything_is_hashed() -> None:
    on = judging()
    asked: list[int] = []
    ask = on.cache.core.sharing.memory.blocklist.allowed

    def watched(*how: Any) -> int:
        asked.append(how[3])
        return int(ask(*how))

    on.cache.core.sharing.memory.blocklist.allowed = watched
    serve(on, "ann", COMMON)
    judge(on, "ann", COMMON, 40)
    serve(on, "ann", COMMON)
    assert asked == []
    serve(on, "ben", COMMON)
    judge(on, "ben", COMMON, 40)
    assert asked
    assert on.find("eve", COMMON) == 40
    on.drain()


def test_a_prompt_is_compared_with_1024_owners_at_most() -> None:
    """Thousands may hold its first page, and none of them count: they kept it to themselves."""
    on = Engine(Setting(host=False))
    for number in range(2_000):
        prompt = array("q", (7, 10 + number))
        task = on.new_task(f"user-{number}", prompt, scope="private")
        assert on.admit(task)
        on.step(task)
        on.finish(task)
    compared = 0
    promoter = on.cache.core.sharing.promoter
    reach = promoter._reach

    def watched(*how: Any, **more: Any) -> int:
        nonlocal compared
        compared += 1
        return int(reach(*how, **more))

    promoter._reach = watched
    serve(on, "ann", array("q", (7, 8, 9)))
    assert compared == 2 * 1024  # after its prompt, and when it ended
    assert on.find("ben", array("q", (7, 8))) == 0
    serve(on, "ben", array("q", (7, 8, 9)))
    assert on.find("cyn", array("q", (7, 8, 9))) == 3
