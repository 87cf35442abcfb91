"""An engine with storage: a folder of pages, upstream's file backend."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

from sglang.srt.runtime_context import get_parallel
from sglang.srt.tenancy.cache.adapters.hiradix.hashes import ensure_hashes
from sglang.srt.tenancy.cache.core.node import walk
from support.engine import Engine, Setting
from support.patience import until


class PageFolder:
    """``gate``: while it is shut, no page is written or read."""

    def __init__(self, folder: Path, setting: Setting):
        self.folder = folder
        self.engine = Engine(setting)
        cache = self.engine.cache
        with get_parallel().override(tp_rank=0, tp_size=1, pp_rank=0, pp_size=1):
            attached, why = cache.attach_storage_backend("file", '{"prefetch_threshold": 4}')
        assert attached, why
        self.gate = threading.Event()
        self.gate.set()
        backend = cache.cache_controller.storage_backend
        get, put = backend.get, backend.set

        def slow_get(*args: Any) -> Any:
            self.gate.wait(30)
            return get(*args)

        def slow_put(*args: Any) -> Any:
            self.gate.wait(30)
            return put(*args)

        backend.get, backend.set = slow_get, slow_put

    def pages(self) -> set[str]:
        return {path.name[:64] for path in self.folder.iterdir()}

    def settle(self) -> None:
        """Until everything that is to be written is."""

        def settled() -> bool:
            self.engine.land(99, 99)
            return not self.engine.cache.ongoing_backup

        until(settled, "the pages are written")

    def names(self, user: str) -> set[str]:
        """What a user's pages are called."""
        found: set[str] = set()
        for node in walk(self.engine.cache.root_node):
            if node.owner == user:
                ensure_hashes(node, self.engine.page)
                found.update(node.hash_value or ())
        return found
