"""The scheduler's side: users who come once, on the real tree with both tiers.

They share documents that change, so that prefixes are promoted, merged and evicted; some are
erased, some scan results come late or for something that is gone, prefixes are published and
withdrawn, requests overlap, give up, and keep to themselves.
"""

from __future__ import annotations

import gc
import random
from array import array
from collections.abc import Iterator
from typing import Any

from sglang.srt.mem_cache.radix_cache import RadixKey
from sglang.srt.tenancy import namespace as ownership
from sglang.srt.tenancy.cache.core.node import Node, walk
from sglang.srt.tenancy.namespace import Namespace
from support.engine import Engine, Setting, Task
from support.one_off.samples import alive, entries

DEVICE = 4096  # tokens
DOCUMENT = 32  # tokens that many have in common
OWN = 16  # tokens of one user
READERS = 100  # users of a document, before the next takes its place
RUNNING = 3  # requests that overlap
REGISTERED = 2  # documents that are published at a time
SCOPES = (None,) * 18 + ("private", "none")

Asked = tuple[str, "array[int]"]


def _text(document: int) -> list[int]:
    return [document * DOCUMENT + at for at in range(DOCUMENT)]


class Visitors:
    """Plays them, one after the other, and counts what is left."""

    def __init__(self, seed: int = 1, page_size: int = 1):
        gc.collect()  # in a run of tests others' trees are alive, and are not counted
        self._others_nodes, self._others_names = alive(Node), len(ownership._held)
        self.engine = Engine(
            Setting(page_size=page_size, device_tokens=DEVICE, epoch_requests=256, public_users=3)
        )
        self._rng = random.Random(seed)
        self._number = 0
        self._running: list[Task] = []
        self._lately: list[Asked] = []
        self._published: list[array[int]] = []

    def come(self, users: int) -> None:
        """So many more users come, once each."""
        for _ in range(users):
            self._come()
            self._number += 1

    def _come(self) -> None:
        rng, number = self._rng, self._number
        user, prompt = f"visitor-{number}", self._prompt(number)
        if number % READERS == READERS // 2:
            self._publish(number // READERS + 2)
        task = self.engine.new_task(user, prompt, scope=rng.choice(SCOPES))
        if self.engine.admit(task):
            self._answer(task)
        else:
            self.engine.abort(task)
        self._lately.append((user, prompt))
        del self._lately[:-200]
        if number % 8 == 0:
            self._late_scan_result()
        if number % 16 == 0:
            self.engine.cache.erase(rng.choice(self._lately)[0])
        if number % 4 == 0:
            self.engine.land(10_000, 10_000)

    def _prompt(self, number: int) -> array[int]:
        """A document, of two that are read just now, and what only this user says."""
        document = number // READERS + number % 2
        shared = _text(document)
        own = [(1 << 30) + number * OWN + at for at in range(OWN)]
        if number % 10 == 9:  # nothing in common with anybody
            shared = []
        return array("q", [*shared, *own])

    def _answer(self, task: Task) -> None:
        engine, fate = self.engine, self._rng.random()
        if fate < 0.03:  # the client is gone before the first token
            engine.abort(task)
            return
        engine.step(task, 7)
        if fate < 0.06:
            engine.retract(task)
            engine.abort(task)
            return
        self._running.append(task)
        if len(self._running) > RUNNING:
            engine.finish(self._running.pop(self._rng.randrange(RUNNING)))

    def _late_scan_result(self) -> None:
        """Often of a prompt that is gone by now, or was promoted."""
        user, tokens = self._rng.choice(self._lately)
        sensitive = self._rng.randrange(len(tokens)) if self._rng.random() < 0.2 else None
        harmless = len(tokens) if sensitive is None else sensitive
        key = RadixKey(tokens, Namespace(user, None))
        self.engine.cache.apply_scan_result(key, harmless, sensitive)

    def _publish(self, document: int) -> None:
        """Before it is read; withdrawn while it is."""
        tokens = array("q", _text(document))
        self.engine.cache.publish(tokens)
        self._published.append(tokens)
        if len(self._published) > REGISTERED:
            self.engine.cache.withdraw(self._published.pop(0))

    def counts(self) -> dict[str, int]:
        """Objects that are alive: nodes, in the tree and at all, and entries of tables."""
        cache = self.engine.cache
        tables = dict(self._tables(cache))
        return {
            "nodes": alive(Node) - self._others_nodes,
            "nodes_of_the_tree": len(walk(cache.root_node)),
            "names": len(ownership._held) - self._others_names,
            **tables,
        }

    @staticmethod
    def _tables(cache: Any) -> Iterator[tuple[str, int]]:
        yield "device_order", entries(cache.core.device.order)
        yield "host_order", entries(cache.core.host.order)
        tables = (found for found in vars(cache).values() if isinstance(found, (dict, list, set)))
        yield "tables", sum(map(len, tables))

    def happened(self) -> dict[str, int]:
        """What the tree did for them."""
        return dict(self.engine.cache.core.counts)
