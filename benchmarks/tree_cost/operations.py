"""The operations that are timed, on trees that were filled to one shape."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

import torch

from sglang.srt.mem_cache.base_prefix_cache import EvictParams, InsertParams, MatchPrefixParams
from tree_cost.subjects import Subject
from tree_cost.timing import Times, seconds_each, take_turns
from tree_cost.traces import LEAF, LONG, SEED, SYSTEM, Prompt, Turn, leaf, long_prompt, mixed

MATCH_LONG, INSERT_LONG = f"match {LONG} tokens", f"insert {LONG} tokens"
MATCH_LEAF, INSERT_LEAF = f"match {SYSTEM + LEAF} tokens", f"insert {SYSTEM + LEAF} tokens"
EVICT, MIXED = "evict one leaf", "request of the mixed trace"
OPERATIONS = (MATCH_LONG, MATCH_LEAF, EVICT, INSERT_LONG, INSERT_LEAF, MIXED)

_CALLS = 8  # of a batch
_TRIM_EVERY = 25  # batches of inserts, by which the tree grows


@dataclass(frozen=True)
class Effort:
    """``batches`` of matches and inserts, ``samples`` of evictions and requests; the latter
    two end after so many ``seconds``, as upstream's take long in a large tree."""

    batches: int
    samples: int
    seconds: float


def measure(subjects: Mapping[str, Subject], effort: Effort) -> dict[str, Times]:
    """Operation -> times. In an order in which none changes the tree for the next one."""
    for subject in subjects.values():
        _insert_long_prompts(subject)
    times = {
        MATCH_LONG: _turns(subjects, _match_long, effort),
        MATCH_LEAF: _turns(subjects, _match_leaf, effort),
        EVICT: evictions(subjects, effort.samples, effort.seconds),
        INSERT_LONG: _turns(subjects, _insert_long, effort),
        INSERT_LEAF: _turns(subjects, _insert_leaf, effort),
        MIXED: requests(subjects, effort),
    }
    return {name: times[name] for name in OPERATIONS}


def _turns(
    subjects: Mapping[str, Subject], operation: Callable[[Subject, int], float], effort: Effort
) -> Times:
    return take_turns(
        {name: partial(operation, subject) for name, subject in subjects.items()},
        effort.batches,
        effort.seconds,
    )


def _insert_long_prompts(subject: Subject) -> None:
    for number in range(_CALLS):
        _insert_until_backed_up(subject, long_prompt(number, subject.shape.users))


def _insert_until_backed_up(subject: Subject, prompt: Prompt) -> None:
    """Or an insert that is timed would do it, for the one tree now and for another later."""
    for _ in range(3):
        subject.insert(prompt)
        subject.tree.settle()


def _match_long(subject: Subject, batch: int) -> float:
    return _match(subject, [long_prompt(i, subject.shape.users) for i in range(_CALLS)])


def _match_leaf(subject: Subject, batch: int) -> float:
    """Leaves from anywhere in the tree."""
    rng = random.Random(SEED + batch)
    shape = subject.shape
    return _match(subject, [leaf(rng.randrange(shape.leaves), shape.users) for _ in range(_CALLS)])


def _match(subject: Subject, prompts: list[Prompt]) -> float:
    keys = [subject.tree.key(p.tokens, subject.kind.owner(p.user)) for p in prompts]
    return seconds_each(subject.cache.match_prefix, [MatchPrefixParams(key=key) for key in keys])


def _insert_long(subject: Subject, batch: int) -> float:
    """Known prompts with another last token."""
    prompts = []
    for number in range(_CALLS):
        user, tokens = long_prompt(number, subject.shape.users)
        prompts.append(Prompt(user, [*tokens[:-1], -1 - batch * _CALLS - number]))
    return _insert(subject, prompts, batch)


def _insert_leaf(subject: Subject, batch: int) -> float:
    """New leaves behind known system prompts."""
    prompts = [subject.fresh_leaf() for _ in range(_CALLS)]
    for user, tokens in prompts:
        _insert_until_backed_up(subject, Prompt(user, tokens[:SYSTEM]))
    return _insert(subject, prompts, batch)


def _insert(subject: Subject, prompts: list[Prompt], batch: int) -> float:
    if batch % _TRIM_EVERY == 0:
        subject.trim()
    arguments = [_insert_params(subject, prompt) for prompt in prompts]
    each = seconds_each(subject.cache.insert, arguments)
    subject.tree.settle()
    return each


def _insert_params(subject: Subject, prompt: Prompt) -> InsertParams:
    """Slots for what is new; what the tree has needs none, it is only looked up."""
    known = subject.match(prompt)
    slots = subject.tree.allocator.alloc(len(prompt.tokens) - known)
    assert slots is not None, "the pool has room for the inserts between two trims"
    return InsertParams(
        key=subject.tree.key(prompt.tokens, subject.kind.owner(prompt.user)),
        value=torch.cat((torch.zeros(known, dtype=torch.int64, device=slots.device), slots)),
    )


def evictions(subjects: Mapping[str, Subject], batches: int, seconds: float) -> Times:
    """One leaf at a time, with memory full; the tree is filled up again between batches."""
    return _short_of_memory(subjects, _evict, 128, batches, seconds)


def _evict(subject: Subject, batch: int) -> float:
    # Upstream's is slow and always equally so; ours is fast, and one in many does more.
    calls = 2 * _CALLS if subject.kind.ours else 1
    each = seconds_each(subject.cache.evict, [EvictParams(num_tokens=1)] * calls)
    for _ in range(calls):
        subject.insert_leaf()
    subject.use_some_again(calls)
    subject.tree.settle()
    return each


def requests(subjects: Mapping[str, Subject], effort: Effort) -> Times:
    """The tree as it is, full memory, and every request needs room."""
    users = next(iter(subjects.values())).shape.users
    turns = list(mixed(users, effort.samples))
    for subject in subjects.values():
        subject.trim()
    operation = partial(_request, turns)
    return _short_of_memory(subjects, operation, 0, effort.samples, effort.seconds)


def _request(turns: list[Turn], subject: Subject, batch: int) -> float:
    turn = turns[batch]
    req = subject.request(turn)
    start = time.perf_counter()
    subject.serve(req, turn.answer)
    return time.perf_counter() - start


def _short_of_memory(
    subjects: Mapping[str, Subject],
    operation: Callable[[Subject, int], float],
    margin: int,
    batches: int,
    seconds: float,
) -> Times:
    for subject in subjects.values():
        subject.fill_pool(margin)
    times = take_turns(
        {name: partial(operation, subject) for name, subject in subjects.items()},
        batches,
        seconds,
    )
    for subject in subjects.values():
        subject.release_pool()
    return times
