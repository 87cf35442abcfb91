"""Storage (L3) whose transfers take place when a play says so, and that checks what is stored."""

from __future__ import annotations

import itertools
import json
import threading
from typing import Any

import torch

from sglang.srt.managers.cache_controller import HiCacheController
from sglang.srt.mem_cache.hicache_storage import HiCacheStorage

PAGES: dict[int, dict[str, torch.Tensor]] = {}  # of each shelf that was opened
_shelves = itertools.count()


class MemoryStorage(HiCacheStorage):
    """A backend of upstream's dynamic kind. It outlives being detached, as a disk does."""

    def __init__(self, config: Any, more: Any):
        self.pages = PAGES.setdefault(config.extra_config["shelf"], {})

    def get(self, key: str, *_: Any) -> torch.Tensor | None:
        return self.pages.get(key)

    def batch_get(self, keys: list[str], *_: Any) -> list[torch.Tensor | None]:
        return [self.pages.get(key) for key in keys]

    def set(self, key: str, value: torch.Tensor | None = None, *_: Any) -> bool:
        assert value is not None
        old = self.pages.setdefault(key, value.clone())
        assert torch.equal(old, value), "one name for two pages"
        return True

    def batch_set(self, keys: list[str], values: list[torch.Tensor] | None = None, *_: Any) -> bool:
        assert values is not None
        return all(self.set(key, value) for key, value in zip(keys, values, strict=True))

    def exists(self, key: str) -> bool:
        return key in self.pages


class Stopped(threading.Event):
    """Tells upstream's threads to end, and nobody else unless ``everybody`` is to."""

    everybody = False

    def is_set(self) -> bool:
        return self.everybody or threading.current_thread() is not threading.main_thread()


class Storage:
    """Attaches a ``MemoryStorage`` to a cache, and does its threads' work when it is told to.

    What is copied, and how, is upstream's; only the time is ours.
    """

    def __init__(self, cache: Any):
        self.cache = cache
        self.controller: HiCacheController = cache.cache_controller
        self.shelf = next(_shelves)
        self._expected: dict[int, list[torch.Tensor]] = {}  # of backups: what is to be stored
        self.stopped = self.controller.storage_stop_event = Stopped()
        write = self.controller.write_storage

        def remember(host_slots: torch.Tensor, key: Any, names: list[str], *more: Any) -> int:
            operation = write(host_slots, key, names, *more)
            page = cache.page_size
            first = host_slots[::page].tolist()
            pool: Any = self.controller.mem_pool_host
            self._expected[operation] = [pool.get_data_page(slot).clone() for slot in first]
            return operation

        self.controller.write_storage = remember

    def join(self) -> None:
        """Wait for the threads that upstream has just started: they end at once."""
        if self.attached:
            self.controller.prefetch_thread.join()
            self.controller.prefetch_io_aux_thread.join()
            self.controller.backup_thread.join()

    def attach(self, **how: Any) -> tuple[bool, str]:
        extra = {
            "backend_name": "memory",
            "module_path": __name__,
            "class_name": MemoryStorage.__name__,
            "shelf": self.shelf,
            "prefetch_threshold": 1,
        }
        done: tuple[bool, str] = self.cache.attach_storage_backend(
            storage_backend="dynamic", storage_backend_extra_config_json=json.dumps(extra), **how
        )
        self.join()
        return done

    def detach(self) -> None:
        done, message = self.cache.detach_storage_backend()
        assert done, message
        self._expected.clear()

    @property
    def attached(self) -> bool:
        return bool(self.cache.enable_storage)

    def drop(self) -> None:
        """Give back the memory that the pages take."""
        PAGES.pop(self.shelf, None)

    def pages(self) -> dict[str, torch.Tensor]:
        return PAGES.get(self.shelf, {})

    def land(self, backups: int, fetches: int) -> None:
        """So many transfers to storage, and from it, take place."""
        if not self.attached:
            return
        self._back_up(backups)
        self._answer_queries()
        self._fetch(fetches)

    def _back_up(self, number: int) -> None:
        queue = self.controller.backup_queue
        pool: Any = self.controller.mem_pool_host
        for _ in range(min(number, queue.qsize())):
            operation = queue.get_nowait()
            slots = operation.host_indices[:: self.cache.page_size].tolist()
            expected = self._expected.pop(operation.id)
            for slot, page in zip(slots, expected, strict=True):
                assert torch.equal(pool.get_data_page(slot), page), "host slots were used again"
            self.controller._page_backup(operation)
            self.controller.ack_backup_queue.put(operation)

    def _answer_queries(self) -> None:
        """Which pages are there, for each fetch that was asked for."""
        if not self.controller.prefetch_queue.qsize():
            return
        waiting = self.controller.prefetch_buffer
        self.stopped.everybody = True  # when all are answered
        self.controller.prefetch_thread_func()
        self.controller.prefetch_io_aux_thread.join()
        self.stopped.everybody = False
        self.controller.prefetch_buffer = waiting

    def _fetch(self, number: int) -> None:
        queue = self.controller.prefetch_buffer
        for _ in range(min(number, queue.qsize())):
            operation = queue.get_nowait()
            self.controller._page_transfer(operation)
            self.controller.append_host_mem_release(
                operation.host_indices[operation.completed_tokens :]
            )
