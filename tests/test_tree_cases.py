"""The tree's situations by name, each on real pools with real requests."""

from __future__ import annotations

from array import array
from typing import Any

import pytest
from support.engine import Engine, Setting
from support.served import begin, own, serve
from support.trees import start_group

from sglang.srt.mem_cache.base_prefix_cache import EvictParams
from sglang.srt.mem_cache.radix_cache import RadixKey
from sglang.srt.tenancy.cache.core.node import LOGICALLY_FREED, Node, walk
from sglang.srt.tenancy.cache.core.scan_results import Scanned
from sglang.srt.tenancy.namespace import Namespace

PAGE = 4
COMMON = array("q", range(100, 140))  # ten pages


@pytest.fixture(autouse=True, scope="module")
def _group(tmp_path_factory: pytest.TempPathFactory) -> None:
    start_group(tmp_path_factory.mktemp("group"))


def engine(**changes: Any) -> Engine:
    return Engine(Setting(**{"page_size": PAGE, "host": False} | changes))


def holders(on: Engine) -> dict[str, int]:
    """Owner -> tokens on the device; the public's name is empty."""
    return dict(on.cache.core.device.order.sizes)


def found(on: Engine, *users: str, prompt: array[int] = COMMON) -> list[int]:
    return [on.find(user, prompt) for user in users]


# Promotion


def test_promotion_splits_a_longer_private_node() -> None:
    on = engine()
    serve(on, "ann", COMMON + own("ann"))
    assert found(on, "ben") == [0]
    serve(on, "ben", COMMON[:20] + own("ben"))
    assert found(on, "ann", "ben", "cyn") == [40, 20, 20]
    assert holders(on) == {"": 20, "ann": 32, "ben": 12}
    assert on.cache.core.counts["freed_duplicates"] == 20
    on.drain()


def test_of_three_holders_the_third_longest_part_becomes_public() -> None:
    on = engine(public_users=3)
    for user, length in (("ann", 40), ("ben", 24), ("cyn", 12)):
        assert found(on, "dan") == [0]
        serve(on, user, COMMON[:length] + own(user))
    assert found(on, "ann", "ben", "cyn", "dan") == [40, 24, 12, 12]
    serve(on, "dan", COMMON + own("dan"))  # with the other two they are three again
    assert found(on, "ann", "ben", "cyn", "eve") == [40, 24, 24, 24]
    on.drain()


@pytest.mark.parametrize("host", [False, True])
def test_requests_run_on_over_the_promotion_of_what_they_read(host: bool) -> None:
    on = engine(host=host)
    serve(on, "ann", COMMON + own("ann"))
    on.land(99, 99)
    task = begin(on, "ann", COMMON + own("ann") + own("more"))
    before = on.allocator.available_size()
    serve(on, "ben", COMMON + own("ben"))
    on.land(99, 99)
    assert on.cache.core.counts["logical_frees"] > 0
    assert on.cache.core.tree.logical.tokens() == 40
    for _ in range(6):
        on.step(task, 2)  # check() compares the bytes in the request's row
        on.check()
    on.finish(task)
    on.land(99, 99)
    on.check()
    assert on.cache.core.tree.logical.tokens() == 0
    assert on.allocator.available_size() < before
    assert holders(on)[""] == 40
    on.drain()


def test_chunks_go_on_behind_a_promotion() -> None:
    on = engine()
    serve(on, "ann", COMMON)
    task = on.new_task("ann", COMMON + own("ann", 40), chunk=8)
    assert on.admit(task)
    on.step(task)
    serve(on, "ben", COMMON)
    while not task.decoding:
        on.step(task)
        on.check()
    on.finish(task)
    on.check()
    assert on.find("ann", COMMON + own("ann", 40)) == 80
    assert on.find("ben", COMMON + own("ann", 40)) == 40
    on.drain()


def test_chunks_go_on_when_what_they_read_is_merged_away() -> None:
    """The request's row must move on to the public copy: its own user's is freed."""
    on = engine()
    serve(on, "ann", COMMON)
    task = on.new_task("ann", COMMON + own("ann", 40), chunk=8)
    assert on.admit(task)
    serve(on, "ben", COMMON)
    assert on.cache.core.tree.logical.tokens() == 40
    on.step(task)
    on.check()
    assert on.cache.core.tree.logical.tokens() == 0
    while not task.decoding:
        on.step(task)
        on.check()
    on.finish(task)
    on.drain()


def test_what_stays_private_is_no_reason_to_promote() -> None:
    on = engine()
    serve(on, "ann", COMMON, scope="private")
    serve(on, "ben", COMMON, scope="private")
    serve(on, "cyn", COMMON)
    assert found(on, "ann", "ben", "cyn", "dan") == [40, 40, 40, 0]
    serve(on, "dan", COMMON)
    assert found(on, "eve") == [40]
    on.drain()


def test_nothing_is_promoted_without_a_verdict() -> None:
    on = engine(detector="none")
    for user in ("ann", "ben", "cyn"):
        assert serve(on, user, COMMON) == 0
    assert holders(on) == {"ann": 40, "ben": 40, "cyn": 40}


def test_a_holder_before_the_window_does_not_count() -> None:
    on = engine(epoch_requests=2)
    serve(on, "ann", COMMON)
    for at in range(4):
        serve(on, "dan", own(f"{at}"))
    serve(on, "ben", COMMON)
    assert found(on, "cyn") == [0]
    serve(on, "ann", COMMON)
    assert found(on, "cyn") == [40]


def test_a_retracted_request_counts_once() -> None:
    on = engine()
    task = begin(on, "ann", COMMON)
    on.retract(task)
    on.check()
    assert on.admit(task)
    while not task.decoding:
        on.step(task)
    on.finish(task)
    assert on.cache.core.clock.admitted == 1
    assert {node.hit_cur for node in walk(on.cache.root_node)} <= {0, 1}
    on.drain()


def test_a_request_in_chunks_counts_once() -> None:
    on = engine()
    serve(on, "ann", COMMON, chunk=8)
    assert on.cache.core.clock.admitted == 1
    assert {node.hit_cur for node in walk(on.cache.root_node)} <= {0, 1}


def test_looking_does_not_count() -> None:
    on = engine()
    serve(on, "ann", COMMON)
    task = on.new_task("ann", COMMON)
    for _ in range(5):
        on.peek(task)
    assert on.cache.core.clock.admitted == 1


# Merging while bytes move


def test_a_copy_on_its_way_to_the_host_goes_to_the_public_node() -> None:
    """The public node was never written: the loser's copy is all there is."""
    on = engine(host=True, write_policy="write_through_selective")
    serve(on, "ann", COMMON)
    serve(on, "ann", COMMON)  # the second use writes it
    assert on.streams is not None
    assert on.streams.writes
    serve(on, "ben", COMMON)
    on.check()
    written = on.cache.core.host.order.sizes[""]
    assert on.cache.core.host.order.sizes == {"": written}
    assert written >= 36  # the second use found all but the last page
    on.evict(10_000)
    assert holders(on) == {"": written}  # not while the copy is being written
    on.land(99, 99)
    on.check()
    on.evict(10_000)
    assert holders(on) == {}
    assert serve(on, "cyn", COMMON + own("cyn")) == written
    on.drain()


def test_a_merge_while_the_duplicate_is_loaded_back() -> None:
    on = engine(host=True)
    serve(on, "ann", COMMON)
    on.land(99, 99)
    on.evict(10_000)
    task = on.new_task("ann", COMMON + own("ann"))
    assert on.admit(task)
    assert on.loaded == 40
    assert on.streams is not None
    assert on.streams.loads
    other = on.new_task("ben", COMMON)
    assert on.admit(other)
    on.cache.cache_unfinished_req(other.req)  # the load of ann's request is still on its way
    on.check()
    assert found(on, "cyn") == [40]
    while not task.decoding:
        on.step(task)
        on.check()
    on.finish(task)
    other.decoding = True
    on.finish(other)
    on.land(99, 99)
    on.check()
    on.drain()


# Demotion


def probed(**changes: Any) -> Engine:
    """ann and ben made COMMON public; three more hits by ben make it look probed."""
    on = engine(rdr_threshold=0.5, rdr_min_hits=5, epoch_requests=16, **changes)
    serve(on, "ann", COMMON)
    serve(on, "ben", COMMON + own("ben"))
    assert found(on, "cyn") == [40]
    return on


def probe(on: Engine) -> None:
    while not on.cache.core.counts.get("demotions"):
        serve(on, "ben", COMMON + own("ben"))


def test_a_probed_prefix_goes_back_to_its_first_owner() -> None:
    on = probed()
    probe(on)
    assert found(on, "ann", "ben", "cyn") == [40, 0, 0]
    on.drain()


@pytest.mark.parametrize("host", [False, True])
def test_a_request_runs_on_over_the_demotion_of_what_it_reads(host: bool) -> None:
    on = probed(host=host)
    task = begin(on, "cyn", COMMON + own("cyn"))
    probe(on)
    on.land(99, 99)
    for _ in range(6):
        on.step(task, 3)
        on.check()
    on.finish(task)
    on.land(99, 99)
    on.check()
    assert found(on, "cyn") == [0]  # and it inserted nothing
    on.drain()


def test_quarantine_keeps_a_prefix_private_and_ends() -> None:
    on = probed(quarantine_epochs=2)
    probe(on)
    for user in ("ann", "ben", "cyn"):
        serve(on, user, COMMON)
    assert found(on, "dan") == [0]
    ends = on.cache.core.clock.epoch + 2
    while on.cache.core.clock.epoch < ends:
        serve(on, "eve", own("eve"))
    for user in ("ann", "ben"):
        serve(on, user, COMMON)
    assert found(on, "dan") == [40]
    on.drain()


def test_nobody_is_given_back_what_they_never_had() -> None:
    """The eldest holder of the first page need not hold the rest."""
    on = engine(public_users=2)
    serve(on, "ann", COMMON[:8] + own("ann"))
    serve(on, "ben", COMMON, scope="private")
    on.cache.publish(COMMON)
    serve(on, "ben", COMMON)
    on.cache.withdraw(COMMON)
    on.check()
    assert on.find("ann", COMMON) <= 8
    on.drain()


def test_a_split_does_not_make_the_first_owner_younger() -> None:
    on = engine()
    serve(on, "ann", COMMON)
    serve(on, "ben", COMMON, scope="private")
    serve(on, "ann", COMMON[:20] + own("ann"), scope="private")  # splits ann's node
    on.cache.publish(COMMON[:20])
    serve(on, "ben", COMMON[:20])
    on.cache.withdraw(COMMON[:20])
    assert found(on, "ann", "ben") == [40, 0]


def test_a_request_is_not_counted_on_nodes_that_left_the_tree() -> None:
    """They were public, look probed, and are nobody's any more: there is nothing to demote."""
    on = engine(rdr_threshold=0.5, rdr_min_hits=8)
    serve(on, "ann", COMMON[:20])
    serve(on, "ben", COMMON)
    serve(on, "dan", COMMON)  # ann was first above, ben below
    tasks = [on.new_task("cyn", COMMON + own(name)) for name in ("x", "y", "z")]
    for task in tasks:
        assert on.admit(task)
    while not on.cache.core.counts.get("demotions"):
        serve(on, "ben", COMMON + own("ben"))
    assert on.cache.core.tree.logical.tokens() > 0
    for task in tasks:
        while not task.decoding:
            on.step(task)
            on.check()
        on.finish(task)
        on.check()
    assert on.cache.core.counts["demotions"] == 1
    on.drain()


# Published prefixes


def test_a_published_prefix_is_public_at_its_first_use_and_private_when_withdrawn() -> None:
    on = engine(detector="none")
    serve(on, "ann", COMMON)
    on.cache.publish(COMMON[:22])  # whole pages of it
    assert found(on, "ben") == [0]
    serve(on, "ann", COMMON + own("ann"))
    assert found(on, "ben") == [20]
    serve(on, "ben", COMMON[:20] + own("ben"))
    on.cache.withdraw(COMMON[:22])
    on.check()
    assert found(on, "ann", "ben") == [40, 0]
    with pytest.raises(ValueError, match="tokens"):
        on.cache.withdraw(COMMON[:22])
    on.drain()


def test_withdrawing_leaves_what_users_made_public() -> None:
    on = engine()
    serve(on, "ann", COMMON)
    serve(on, "ben", COMMON)
    on.cache.publish(COMMON)
    on.cache.withdraw(COMMON)
    assert found(on, "cyn") == [40]


def test_a_published_part_of_a_public_node_is_never_demoted() -> None:
    on = probed()
    on.cache.publish(COMMON[:20])
    probe(on)
    on.check()
    assert found(on, "ann", "ben", "cyn") == [40, 20, 20]


def test_withdrawing_two_public_parts_of_different_first_owners() -> None:
    on = engine(detector="none")
    on.cache.publish(COMMON[:8])
    serve(on, "ann", COMMON[:8])
    on.cache.publish(COMMON)
    serve(on, "ben", COMMON)
    on.cache.withdraw(COMMON[:8])
    assert found(on, "cyn") == [40]  # the longer one covers it
    on.cache.withdraw(COMMON)
    on.check()
    assert found(on, "ann", "ben", "cyn") == [8, 0, 0]
    on.drain()


@pytest.mark.parametrize("mode", ["shared", "isolated"])
def test_publishing_means_nothing_where_nothing_changes_sides(mode: str) -> None:
    on = engine(mode=mode)
    serve(on, "ann", COMMON)
    before = found(on, "ann", "ben")
    on.cache.publish(COMMON)
    serve(on, "ann", COMMON)
    on.cache.withdraw(COMMON)
    on.check()
    assert found(on, "ann", "ben") == before


# Order of use


def test_joining_keeps_who_was_used_last() -> None:
    """Holders are counted from the last used one back: joining must not change the order."""
    on = engine(epoch_requests=2, detector="off-trust-all", public_users=3)
    serve(on, "ann", COMMON[:20], scope="private")
    serve(on, "ann", COMMON, scope="private")
    for at in range(6):
        serve(on, "dan", own(f"{at}"))
    serve(on, "ben", COMMON)
    on.peek(on.new_task("ann", COMMON + own("ann")))  # joins ann's two nodes
    serve(on, "cyn", COMMON)
    assert found(on, "eve") == [0]
    serve(on, "eve", COMMON)
    assert found(on, "fay") == [40]


def test_looking_does_not_join_what_was_used_at_different_times() -> None:
    on = engine(epoch_requests=1)
    serve(on, "ann", COMMON)
    serve(on, "ann", COMMON[:20])
    serve(on, "ann", COMMON[:20])
    serve(on, "ann", COMMON[:20])
    on.peek(on.new_task("ann", COMMON + own("ann")))
    serve(on, "ben", COMMON[:20])
    assert found(on, "cyn") == [20]


# Chains


def test_fifty_turns_are_few_nodes_and_lose_only_their_end() -> None:
    on = engine()
    talk = COMMON
    for turn in range(50):
        serve(on, "ann", talk)
        talk = talk + own(f"{turn}", 8)
    serve(on, "ann", talk)
    assert len(walk(on.cache.root_node)) <= 4
    held = holders(on)["ann"]
    on.evict(PAGE)
    on.check()
    assert 0 < held - holders(on)["ann"] <= held // 4
    assert on.find("ann", talk) == holders(on)["ann"]
    on.drain()


def test_a_joined_node_is_cut_where_talks_part() -> None:
    on = engine()
    talk = COMMON
    for turn in range(6):
        serve(on, "ann", talk)
        talk = talk + own(f"{turn}", 8)
    assert serve(on, "ann", talk[:56] + own("other")) == 56
    assert on.find("ann", talk) == len(talk) - 8
    on.check()
    on.drain()


# Erasure


@pytest.mark.parametrize("host", [False, True])
def test_a_user_is_erased_while_a_request_of_theirs_runs(host: bool) -> None:
    on = engine(host=host)
    serve(on, "ann", COMMON)
    serve(on, "ben", own("ben"))
    task = begin(on, "ann", COMMON + own("ann"))
    on.cache.erase("ann")
    on.check()
    assert found(on, "ann") == [0]
    for _ in range(6):
        on.step(task, 2)
        on.check()
    on.finish(task)
    on.land(99, 99)
    on.check()
    assert found(on, "ann") == [0]
    assert on.find("ben", own("ben")) == 12
    assert on.cache.core.tree.logical.tokens() == 0
    on.drain()


# Verdicts


def judge(on: Engine, user: str, prompt: array[int], harmless: int, **how: Any) -> None:
    key = RadixKey(prompt, Namespace(user, None))
    on.cache.apply_scan_result(key, harmless, how.get("sensitive"))
    on.check()


def judging(**changes: Any) -> Engine:
    on = engine(**changes)
    on.cache.core.sharing.memory.results = Scanned()
    return on


@pytest.mark.parametrize("host", [False, True])
def test_a_late_verdict_promotes_what_it_covers(host: bool) -> None:
    on = judging(host=host)
    for user in ("ann", "ben"):
        serve(on, user, COMMON + own(user))
        on.land(99, 99)
    assert found(on, "ann", "ben", "cyn") == [40, 40, 0]
    judge(on, "ben", COMMON + own("ben"), 22)  # a page that is not wholly judged stays private
    assert found(on, "ann", "ben", "cyn") == [40, 40, 20]
    judge(on, "ann", COMMON + own("ann"), 52)
    assert found(on, "ann", "ben", "cyn") == [40, 40, 40]
    assert found(on, "ann", "cyn", prompt=COMMON + own("ann")) == [52, 40]
    on.drain()


def test_what_is_sensitive_never_becomes_public_whoever_judges_it() -> None:
    on = judging()
    for user in ("ann", "ben"):
        serve(on, user, COMMON + own(user))
    judge(on, "ann", COMMON, 10, sensitive=10)
    judge(on, "ben", COMMON, 40)
    assert found(on, "ann", "ben", "cyn") == [40, 40, 8]
    on.cache.evict(EvictParams(num_tokens=10_000))
    for user in ("ann", "ben", "cyn"):
        serve(on, user, COMMON)
        judge(on, user, COMMON, 40)
    assert found(on, "ann", "dan") == [40, 8]
    on.drain()


def test_a_verdict_on_what_is_gone_does_nothing() -> None:
    on = judging()
    judge(on, "ann", COMMON, 40)
    serve(on, "ann", COMMON)
    serve(on, "ben", COMMON)
    assert found(on, "cyn") == [0]
    on.drain()


# Storage


def fetched(on: Engine, anchor: Node, user: str, tokens: array[int]) -> int:
    """Pages that storage had, as upstream hangs them below the node they were fetched for.
    Returns the tokens that were dropped."""
    slots = on.cache.token_to_kv_pool_host.alloc(len(tokens))
    key = RadixKey(tokens, Namespace(user, None))
    dropped = int(on.cache._insert_helper_host(anchor, key, slots, ["name"] * 99))
    on.cache.token_to_kv_pool_host.free(slots[:dropped])
    anchor.release_host()
    on.cache.check_hicache_events()
    on.cache.sanity_check()
    return dropped


def test_fetched_pages_are_private_to_who_asked() -> None:
    on = engine(host=True)
    serve(on, "ann", COMMON[:20])
    on.land(99, 99)
    anchor = next(iter(on.cache.root_node.children.values()))
    anchor.protect_host()
    assert fetched(on, anchor, "ann", COMMON[20:]) == 0
    task = on.new_task("ann", COMMON + own("ann"))
    task.req.init_next_round_input(on.cache)
    assert (len(task.req.prefix_indices), task.req.host_hit_length) == (20, 20)
    stranger = on.new_task("ben", COMMON + own("ben"))
    stranger.req.init_next_round_input(on.cache)
    assert (len(stranger.req.prefix_indices), stranger.req.host_hit_length) == (0, 0)


def test_pages_fetched_for_a_node_that_was_merged_away_are_dropped() -> None:
    on = engine(host=True)
    serve(on, "ann", COMMON[:20])
    on.land(99, 99)
    anchor = next(iter(on.cache.root_node.children.values()))
    anchor.protect_host()  # as upstream does while the fetch is under way
    host = on.cache.token_to_kv_pool_host
    serve(on, "ben", COMMON[:20])
    on.land(99, 99)
    assert holders(on) == {"": 20}
    assert anchor.state & LOGICALLY_FREED
    before = host.available_size()
    assert fetched(on, anchor, "ann", COMMON[20:]) == 20
    assert host.available_size() >= before
    assert host.size - host.available_size() == sum(on.cache.core.host.order.sizes.values())
    on.drain()
