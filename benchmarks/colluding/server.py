"""The cache's whole policy, real tree and all, on memory that is only counted: a request takes some
tens of microseconds, so that an attack can be tried many thousands of times."""

from __future__ import annotations

import sys
from array import array
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tests"))

from support.core_engine import Key, NoEvents

from sglang.srt.tenancy.cache.core.cache import Engine, Lasting, OwnedCache, TierSize
from sglang.srt.tenancy.cache.core.erasure import NoStorage
from sglang.srt.tenancy.cache.core.interfaces import NoTransfers
from sglang.srt.tenancy.cache.core.node import Node
from sglang.srt.tenancy.cache.core.options import PolicyOptions
from sglang.srt.tenancy.namespace import Namespace

_PLENTY = 1 << 40  # tokens: nothing is evicted unless somebody says so


class CountedMemory:
    """Slots that hold nothing: as many bytes as there are tokens."""

    def __init__(self) -> None:
        self.used = 0

    def concat(self, parts: Sequence[bytes]) -> bytes:
        return b"".join(parts)

    def copy(self, slots: bytes) -> bytes:
        return slots

    def numbers(self, slots: bytes) -> list[int]:
        raise NotImplementedError("these slots have no numbers")

    def available(self) -> int:
        return _PLENTY - self.used

    def free_device(self, slots: bytes) -> None:
        self.used -= len(slots)

    def free_host(self, slots: bytes) -> None:
        raise NotImplementedError("there is no host tier")

    def synchronize(self) -> None:
        pass


class Server:
    """One scheduler's cache. ``secret``: of its thresholds."""

    def __init__(self, options: PolicyOptions, secret: bytes, page_size: int = 1):
        self.memory = CountedMemory()
        self._engine = Engine(
            page_size=page_size,
            new_key=Key,
            empty=b"",
            root_priority=0,
            priority=_least_recently_used,
            device=TierSize(_PLENTY, set()),
            host=None,
            memory=self.memory,
            transfers=NoTransfers(),
            events=NoEvents(),
            storage=NoStorage(),
        )
        self._options, self._lasting = options, Lasting(page_size, options, secret)
        self.flush()
        self._shared = options.mode == "shared"

    def flush(self) -> None:
        """Forget the tree."""
        self.core = OwnedCache(self._engine, self._options, self._lasting, {})

    def ask(self, user: str, prompt: Sequence[int]) -> int:
        """Serve one request, and keep what it computed. Returns the tokens it found cached."""
        core = self.core
        key = self._key(user, prompt)
        end = core.whole_pages(key)
        path = core.tree.walk_path(key, end)
        found = path[1] + path[3]
        held, last = core.tree.insert(key, end, bytes(end), path=path)
        self.memory.used += end - held
        core.count_request(user, last, key, None)
        core.device_frees.advance()
        return found

    def probe(self, user: str, prompt: Sequence[int]) -> int:
        """As ``ask``, with ``cache_scope: "none"``: it leaves nothing, and finds the same."""
        key = self._key(user, prompt)
        nodes, end, _, shared = self.core.tree.walk_path(key, self.core.whole_pages(key))
        self.core.count_request(user, nodes[-1] if nodes else self.core.tree.root, None, None)
        return end + shared

    def erase(self, user: str) -> None:
        """Free what is private to a user, as eviction may at any time."""
        self.core.eraser.erase(user)  # not the cache's, which takes back votes, too

    def end_window(self, number: int) -> None:
        """Send requests of nobody until voting window ``number`` ends, which must be running."""
        budget = self.core.sharing.memory.budget
        if budget is None:
            return
        assert budget.window == number, "more requests than a window has"
        while budget.window == number:
            self.core.count_request(None, self.core.tree.root, None, None)

    def _key(self, user: str, prompt: Sequence[int]) -> Key:
        return Key(array("q", prompt), None if self._shared else Namespace(user, None))


def _least_recently_used(node: Node) -> int:
    return node.last_access_time
