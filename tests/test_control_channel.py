"""Control requests: what crosses the wire, and which replies belong to which request."""

from __future__ import annotations

import asyncio
from array import array
from typing import Any

import pytest

from sglang.srt.managers.io_struct import msgpack_decode, msgpack_encode
from sglang.srt.tenancy.control import channel as channel_module
from sglang.srt.tenancy.control.channel import Channel
from sglang.srt.tenancy.control.messages import (
    Configure,
    ControlRequest,
    Erase,
    Limited,
    ListPrefixes,
    Prefix,
    Publish,
    Refusal,
    Refused,
    ScanResult,
    SetUser,
    Stats,
    TenantControl,
    TenantControlReply,
    Tick,
    Tree,
    Usage,
    UserErased,
    Withdraw,
)
from sglang.srt.tenancy.http.access_log import hidden
from sglang.srt.tenancy.user_id import digest
from sglang.srt.tenancy.user_settings import UserSettings

TOKENS = array("q", [1, 2**40])
REQUESTS: list[ControlRequest] = [
    Publish(Prefix("a", "text", TOKENS)),
    Withdraw("a"),
    Configure([Prefix("a", "messages", TOKENS), Prefix("b", "input_ids", TOKENS)]),
    Configure([], {"alice": UserSettings(weight=2.0, cache_share=0.25)}, 0.5),
    SetUser("alice", UserSettings(max_running=3)),
    SetUser("alice", None),
    Usage(),
    Limited({"alice": {"max_running": 3}}),
    ListPrefixes(),
    Stats(3),
    Tree(1, 2),
    ScanResult("alice", None, TOKENS, 2),
    ScanResult("alice", "lora", TOKENS, 0, 1),
    Erase("alice"),
    Tick(12),
]


@pytest.mark.parametrize("sent", REQUESTS)
def test_requests_survive_the_wire(sent: ControlRequest) -> None:
    message = TenantControl(rid="r", request=sent)
    assert msgpack_decode(msgpack_encode(message)) == message


def test_replies_survive_the_wire() -> None:
    answer = {"list": [{"none": None, "yes": True}], "number": 7}
    reply = TenantControlReply(rid="r", rank=1, answer=answer, refusal=Refusal(400, "a", "b"))
    assert msgpack_decode(msgpack_encode(reply)) == reply


def test_notices_survive_the_wire() -> None:
    notice = UserErased(user="alice")
    assert msgpack_decode(msgpack_encode(notice)) == notice


class Wire:
    """The far end of a channel to two ranks: what was sent, and a way to reply."""

    def __init__(self) -> None:
        self.sent: list[TenantControl] = []
        self.channel = Channel(self.sent.append, ranks=2)

    def reply(self, number: int, rank: int, refusal: Refusal | None = None, **answer: Any) -> None:
        rid = self.sent[number].rid
        self.channel.receive(TenantControlReply(rid=rid, rank=rank, answer=answer, refusal=refusal))

    async def ask(self) -> asyncio.Task[list[dict[str, Any]]]:
        task = asyncio.create_task(self.channel.ask(ListPrefixes()))
        await asyncio.sleep(0)  # until it waits for replies
        return task


async def test_an_answer_waits_for_every_rank_and_is_in_their_order() -> None:
    wire = Wire()
    task = await wire.ask()
    wire.reply(0, rank=1, of=1)
    await asyncio.sleep(0)
    assert not task.done()
    wire.reply(0, rank=0, of=0)
    assert await task == [{"of": 0}, {"of": 1}]


async def test_replies_are_told_apart_by_their_request() -> None:
    wire = Wire()
    first, second = await wire.ask(), await wire.ask()
    for number in (1, 0):
        for rank in (0, 1):
            wire.reply(number, rank, to=number)
    assert await first == [{"to": 0}] * 2
    assert await second == [{"to": 1}] * 2


async def test_late_replies_to_a_request_given_up_are_nobodys() -> None:
    wire = Wire()
    given_up = await wire.ask()
    wire.reply(0, rank=0)
    given_up.cancel()
    await asyncio.wait([given_up])
    later = await wire.ask()
    wire.reply(0, rank=1, wrong=True)
    wire.reply(1, rank=0)
    await asyncio.sleep(0)
    assert not later.done()
    wire.reply(1, rank=1)
    assert await later == [{}, {}]


async def test_one_ranks_refusal_refuses_all() -> None:
    wire = Wire()
    task = await wire.ask()
    wire.reply(0, rank=0)
    wire.reply(0, rank=1, refusal=Refusal(404, "name", "name: unknown"))
    with pytest.raises(Refused, match="name: unknown") as refused:
        await task
    assert refused.value.refusal.status == 404


async def test_silence_ends_in_a_503(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(channel_module, "_SECONDS", 0.01)
    with pytest.raises(Refused, match="no answer") as refused:
        await Wire().channel.ask(ListPrefixes())
    assert refused.value.refusal.status == 503


@pytest.mark.parametrize(
    "path",
    [
        "/tenant/users/alice/cache",
        "/tenant/users/alice",
        "/tenant/users/alice?x=1",
        "/behind-a-proxy/tenant/users/alice/cache?x=1",
    ],
)
def test_a_user_in_a_path_is_hidden(path: str) -> None:
    shown = str(hidden(path))
    assert "alice" not in shown
    assert f"/tenant/users/#{digest('alice')}" in shown


def test_users_with_slashes_are_hidden_whole() -> None:
    assert hidden("/tenant/users/team%2Fa/b@c/cache") == (
        f"/tenant/users/#{digest('team/a/b@c')}/cache"
    )
    assert hidden("/tenant/stats?owners=3") == "/tenant/stats?owners=3"
    assert hidden(200) == 200


@pytest.mark.parametrize("name", ["user", "user_id", "us%65r%5Fid", "safety_identifier"])
def test_a_user_in_a_query_is_hidden(name: str) -> None:
    mark = f"#{digest('team/a b')}"
    assert hidden(f"/x?a=1&{name}=team%2Fa+b&b=&c") == f"/x?a=1&{name}={mark}&b=&c"
    assert hidden(f"/x?{name}=") == f"/x?{name}="
    assert hidden("/users?username=bob&what=user") == "/users?username=bob&what=user"
