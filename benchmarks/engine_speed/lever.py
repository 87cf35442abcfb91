"""Settings that are measured: a server with one against a server without it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from serving.client import Client
from serving.connection import Refused
from serving.server import RULES, Mode

from engine_speed.contenders import ADMIN_KEY, Contender
from engine_speed.load import CONVERSATION, CROWD, DOCUMENT, Load

BASE, CHANGED = "without", "with"

# Done with a server each time after its cache was emptied.
Prepare = Callable[[Client, Load], Awaitable[None]]


@dataclass(frozen=True)
class Lever:
    """``flags`` are added to those of ``base``, or take their place. ``loads``: for which it
    should matter."""

    name: str
    loads: Sequence[str]
    flags: tuple[str, ...] = ()
    base: tuple[str, ...] = ()
    prepare: Prepare | None = None
    done: str = ""  # what ``prepare`` does

    @property
    def setting(self) -> str:
        return f"`{self.done or ' '.join(self.flags)}`"

    @property
    def contenders(self) -> tuple[Contender, Contender]:
        return (
            Contender(BASE, Mode(BASE, self.base, False, "")),
            Contender(CHANGED, Mode(CHANGED, (*self.base, *self.flags), False, "")),
        )


async def warm_document(client: Client, load: Load) -> None:
    """Register what all prompts begin with, and have it computed."""
    headers = {"Authorization": f"Bearer {ADMIN_KEY}"}
    url, name = f"{client.url}/tenant/public_prefixes", "document"
    async with client.http.delete(url, params={"name": name}, headers=headers) as answer:
        await answer.read()  # 404 the first time
    prefix = common_prefix([request.prompt for request in load.requests])
    body = {"name": name, "input_ids": list(prefix), "warm": True}
    async with client.http.post(url, json=body, headers=headers) as answer:
        if answer.status != 200:
            raise Refused(answer.status, await answer.text())


def common_prefix(prompts: Sequence[Sequence[int]]) -> Sequence[int]:
    tuples = [tuple(prompt) for prompt in prompts]
    first, last = min(tuples), max(tuples)
    length = next((n for n, (a, b) in enumerate(zip(first, last, strict=False)) if a != b), None)
    return first if length is None else first[:length]


SMALL_POOL = ("--max-total-tokens", "1536")  # less than the conversations need together

LEVERS = (
    Lever("no prefix cache", (CONVERSATION, DOCUMENT), ("--disable-radix-cache",)),
    Lever(
        "host tier, device too small",
        (CONVERSATION,),
        ("--enable-hierarchical-cache", "--hicache-ratio", "4"),
        SMALL_POOL,
    ),
    Lever("pages of 64 tokens", (CONVERSATION, DOCUMENT), ("--page-size", "64")),
    Lever(
        "document computed beforehand",
        (DOCUMENT,),
        base=RULES.flags,
        prepare=warm_document,
        done="warm = true",
    ),
    Lever("chunks of 256 tokens", (DOCUMENT, CROWD), ("--chunked-prefill-size", "256")),
    Lever("two requests at once", (CROWD,), ("--max-running-requests", "2")),
    Lever("a message for each eight tokens", (CROWD,), ("--stream-interval", "8")),
    Lever("bfloat16", (CONVERSATION, CROWD), ("--dtype", "bfloat16")),
)
