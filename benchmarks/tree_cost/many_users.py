"""What the scheduler's loop takes where many users were here: milliseconds, and tokens found."""

from __future__ import annotations

import random
import statistics
import time
from array import array
from collections.abc import Callable
from typing import Any

from support.eviction import hold

from sglang.srt.mem_cache.base_prefix_cache import MatchPrefixParams
from sglang.srt.tenancy.cache.core import report
from sglang.srt.tenancy.cache.core.node import private_path
from tree_cost.subjects import Kind, Subject
from tree_cost.traces import SEED, Shape, Turn

PROMPT = 8_000  # tokens of the prompt for which the blocklist is asked
ENTRIES = 65_536  # of the blocklist
OWNERS = 100_000  # of whom stats are told
_SAMPLES = 21

# The play of users who come once, and of one who stays.
DEVICE, HOST = 8_192, 16_384  # tokens of each tier
TALK, ONE_OFF, ONE_OFF_USERS = 2_000, 40, 60


def promotion_ms(kind: Kind) -> float:
    """To decide what of a prompt may become public, when others sent sensitive prompts of all
    lengths that begin like it. Three users hold its first token, two of them all of it."""
    subject = Subject(kind, Shape(leaves=3 * PROMPT, users=1), context=PROMPT)
    rng = random.Random(SEED)
    prompt = _fresh(rng, PROMPT)
    for user, tokens in enumerate((prompt, prompt, prompt[:1] + _fresh(rng, 10))):
        subject.tree.insert(tokens, kind.owner(user))
    cache: Any = subject.cache
    blocklist = cache.core.sharing.memory.blocklist
    for number in range(ENTRIES):
        start = prompt[: number % PROMPT]
        blocklist.block(None, start + array("q", [-1 - number]), len(start) + 1)
    key = subject.tree.key(prompt, kind.owner(0))
    path = private_path(cache.match_prefix(MatchPrefixParams(key=key)).last_device_node)
    promotable = cache.core.sharing.promoter.promotable
    assert promotable(key, path, 0, PROMPT) == 1, "only its first token has three users"
    return _milliseconds(lambda: promotable(key, path, 0, PROMPT))


def stats_ms(kind: Kind) -> float:
    """To answer ``GET /tenant/stats?owners=100`` where so many owners hold something."""
    subject = Subject(kind, Shape(leaves=1, users=1))
    cache: Any = subject.cache
    rng = random.Random(SEED)
    for order in (cache.core.device.order, cache.core.host.order):
        for number in range(OWNERS):
            hold(order, f"u{number}", rng.randrange(1, 4_000))
    return _milliseconds(lambda: report.stats(cache.core, 100))


def found_again(kind: Kind, rounds: int) -> float:
    """Share of a conversation's tokens that its user finds, who comes back each time that sixty
    others came once."""
    subject = Subject(
        kind,
        Shape(leaves=1, users=1),
        device_tokens=DEVICE,
        host_ratio=HOST / DEVICE,
        write_policy="write_through",
        context=TALK + 8,
    )
    rng = random.Random(SEED)
    talk = _fresh(rng, TALK).tolist()
    _ask(subject, Turn(0, talk, [0]))
    found = 0
    for number in range(rounds):
        for one_off in range(ONE_OFF_USERS):
            user = 1 + number * ONE_OFF_USERS + one_off
            _ask(subject, Turn(user, _fresh(rng, ONE_OFF).tolist(), [0]))
        found += _ask(subject, Turn(0, talk, [0]))
    return found / (rounds * (TALK - 1))  # the last token is always computed


def _ask(subject: Subject, turn: Turn) -> int:
    return subject.serve(subject.request(turn), turn.answer)


def _fresh(rng: random.Random, number: int) -> array[int]:
    return array("q", [rng.randrange(1 << 30) for _ in range(number)])


def _milliseconds(action: Callable[[], Any]) -> float:
    spent = []
    for _ in range(_SAMPLES):
        start = time.perf_counter()
        action()
        spent.append(time.perf_counter() - start)
    return statistics.median(spent) * 1e3
