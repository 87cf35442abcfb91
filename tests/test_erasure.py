"""A user who was erased is in no tier, and nothing that comes late brings anything back."""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.engine import Engine, Setting
from support.page_folder import PageFolder
from support.patience import until
from support.served import own, serve
from support.trees import start_group

from sglang.srt.mem_cache.radix_cache import RadixKey
from sglang.srt.tenancy.cache.core.node import walk
from sglang.srt.tenancy.namespace import Namespace

PAGE = 4
COMMON = array("q", range(100, 140))  # ten pages


@pytest.fixture(autouse=True, scope="module")
def _group(tmp_path_factory: pytest.TempPathFactory) -> None:
    start_group(tmp_path_factory.mktemp("group"))


def engine(**changes: Any) -> Engine:
    return Engine(Setting(**{"page_size": PAGE, "host": False} | changes))


def erase(on: Engine, user: str) -> Any:
    erased = on.cache.erase(user, [task.req for task in on.tasks])
    on.check()
    return erased


def test_what_was_first_an_erased_users_is_never_theirs_again() -> None:
    on = engine(detector="none")
    on.cache.publish(COMMON[:20])
    serve(on, "ann", COMMON[:20] + own("ann"), written=True)
    serve(on, "ben", COMMON[:20] + own("ben"), written=True)
    erase(on, "ann")
    assert on.cache.core.device.order.sizes == {"": 20, "ben": 12}
    on.cache.withdraw(COMMON[:20])
    on.check()
    assert [on.find(user, COMMON) for user in ("ann", "ben", "cyn")] == [0, 0, 0]
    assert on.cache.core.device.order.sizes == {}
    on.drain()


def test_what_others_had_first_stays_theirs() -> None:
    on = engine(detector="none")
    on.cache.publish(COMMON[:8])
    serve(on, "ann", COMMON[:8], written=True)
    on.cache.publish(COMMON)
    serve(on, "ben", COMMON, written=True)
    erase(on, "ben")
    on.cache.withdraw(COMMON)
    on.cache.withdraw(COMMON[:8])
    on.check()
    assert [on.find(user, COMMON) for user in ("ann", "ben")] == [8, 0]
    on.drain()


@pytest.mark.parametrize("host", [False, True])
@pytest.mark.parametrize("chunk", [8, 512])
def test_requests_under_way_insert_nothing_more(host: bool, chunk: int) -> None:
    on = engine(host=host)
    serve(on, "ann", COMMON, written=True)
    running = on.new_task("ann", COMMON + own("ann", 40), chunk=chunk)
    assert on.admit(running)
    waiting = on.new_task("ann", own("later", 40))
    on.peek(waiting)
    erase(on, "ann")
    assert on.admit(waiting)
    for task in (running, waiting):
        while not task.decoding:
            on.step(task)
            on.check()
        on.finish(task)
    on.land(99, 99)
    on.check()
    assert on.cache.core.device.order.sizes == {}
    assert on.find("ann", COMMON) == on.find("ann", own("later", 40)) == 0
    serve(on, "ann", COMMON, written=True)  # who comes after it is a user as any other
    assert on.find("ann", COMMON) == 40
    on.drain()


def test_a_late_scan_result_brings_nothing_back() -> None:
    on = engine()
    serve(on, "ann", COMMON, written=True)
    erase(on, "ann")
    key = RadixKey(COMMON, Namespace("ann", None))
    on.cache.apply_scan_result(key, 40, None)
    on.cache.apply_scan_result(key, 8, 12)
    on.check()
    assert on.find("ann", COMMON) == 0
    assert not walk(on.cache.root_node)
    on.drain()


def test_all_of_a_user_is_found_wherever_it_hangs() -> None:
    """Splits, joins, merges and promotions move the tops of somebody's subtrees."""
    on = engine(host=True, detector="none")
    serve(on, "ann", COMMON + own("x"), written=True)
    serve(on, "ann", COMMON[:20] + own("y"), extra_key="lora", written=True)
    serve(on, "ann", COMMON[:20] + own("z"), written=True)
    on.cache.publish(COMMON[:12])
    serve(on, "ben", COMMON[:12], written=True)
    serve(on, "ann", COMMON[:12] + own("w"), written=True)
    serve(on, "ben", COMMON + own("ben"), written=True)
    freed = on.cache.core.device.order.sizes["ann"], on.cache.core.host.order.sizes["ann"]
    erased = erase(on, "ann")
    assert (erased.device, erased.host, erased.storage) == (*freed, 0)
    assert {node.owner for node in walk(on.cache.root_node)} == {"", "ben"}
    on.drain()


# Storage


@pytest.fixture
def storage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[PageFolder]:
    monkeypatch.setenv("SGLANG_HICACHE_FILE_BACKEND_STORAGE_DIR", str(tmp_path))
    storage = PageFolder(tmp_path, Setting(page_size=PAGE))
    yield storage
    storage.gate.set()
    storage.engine.cache.detach_storage_backend()


def test_a_users_pages_leave_the_storage(storage: PageFolder) -> None:
    on = storage.engine
    serve(on, "ann", own("ann", 40), written=True)
    serve(on, "ben", own("ben", 40), written=True)
    storage.settle()
    hers, his = storage.names("ann"), storage.names("ben")
    assert storage.pages() == hers | his
    on.evict(10_000)  # the host has them still
    erased = erase(on, "ann")
    assert erased.storage == 40
    assert storage.pages() == his
    assert any("evicted" in where for where in erased.not_reached)
    assert erase(on, "ann").storage == 0
    assert on.find("ben", own("ben", 40)) == 40


def test_what_was_stored_before_its_beginning_became_public_is_deleted(storage: PageFolder) -> None:
    on = storage.engine
    prompts = [COMMON + own("ann", tokens) for tokens in (12, 24)]
    for prompt in prompts:
        serve(on, "ann", prompt, written=True)
    storage.settle()
    before = storage.pages()
    on.evict(10_000)
    on.evict_host(10_000)
    on.cache.publish(COMMON[:20])
    serve(on, "ben", COMMON[:20], written=True)
    storage.settle()
    public = storage.pages() - before
    assert len(public) == 5
    for prompt in prompts:
        serve(on, "ann", prompt, written=True)
    storage.settle()
    erase(on, "ann")
    assert storage.pages() == public
    on.drain()


def test_a_write_that_is_under_way_is_deleted_when_it_ends(storage: PageFolder) -> None:
    on = storage.engine
    storage.gate.clear()
    serve(on, "ann", own("ann", 40), written=True)
    assert on.cache.ongoing_backup
    erase(on, "ann")
    storage.gate.set()
    storage.settle()
    on.land(99, 99)
    assert storage.pages() == set()
    on.drain()


def test_a_read_that_is_under_way_comes_to_nothing(storage: PageFolder) -> None:
    on = storage.engine
    prompt = own("ann", 40)
    serve(on, "ann", prompt, written=True)
    storage.settle()
    on.evict(10_000)
    on.evict_host(10_000)
    storage.gate.clear()
    task = on.new_task("ann", prompt + own("more"))
    on.peek(task)
    req = task.req
    on.cache.prefetch_from_storage(req.rid, req.last_host_node, req.full_untruncated_fill_ids)
    until(lambda: _operation(on, req.rid).host_indices is not None, "it is being read")
    on.cache.erase("ann", [req])
    storage.gate.set()
    until(lambda: _operation(on, req.rid).completed_tokens == 40, "it was read")
    until(lambda: on.cache.check_prefetch_progress(req.rid), "it has ended")
    on.check()
    assert on.find("ann", prompt) == 0
    assert not walk(on.cache.root_node)
    on.drain()


def _operation(on: Engine, rid: str) -> Any:
    on.land(99, 99)
    return on.cache.ongoing_prefetch[rid][2]


def test_a_backend_that_cannot_delete_is_named(storage: PageFolder) -> None:
    on = storage.engine
    serve(on, "ann", own("ann", 40), written=True)
    storage.settle()
    controller = on.cache.cache_controller

    class KeepsAll:
        pass

    files, controller.storage_backend = controller.storage_backend, KeepsAll()
    erased = erase(on, "ann")
    controller.storage_backend = files
    assert erased.storage == 0
    assert erased.not_reached == ("storage: KeepsAll cannot delete pages",)
    assert storage.pages()
