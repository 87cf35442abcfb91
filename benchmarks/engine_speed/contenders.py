"""Who is compared, and how all of them are started."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path

from report.figure import BLUE, GREY, ORANGE, PURPLE, RED, SAND
from server_process import ServerProcess
from serving import server
from serving.client import Client
from serving.server import ISOLATED, RULES, SHARED, UPSTREAM, Mode, Model
from serving.together import together

from engine_speed.engine import (
    HF,
    HF_KEPT,
    HF_PADDED,
    Engine,
    HfEngine,
    HfKept,
    HfPadded,
    ServerEngine,
)
from engine_speed.hf_process import HfProcess
from engine_speed.upstream_wheel import unpacked

ADMIN_KEY = "sk-benchmark"
SETTINGS = (
    *("--max-total-tokens", "24576", "--random-seed", "0"),
    *("--admin-api-key", ADMIN_KEY, "--log-level", "warning"),
)


@dataclass(frozen=True)
class Contender:
    """A server. ``own_wheel``: upstream's package, not the fork's."""

    name: str
    mode: Mode
    own_wheel: bool = False

    @contextmanager
    def started(self, model: Model, threads: int, package: Path | None) -> Iterator[ServerProcess]:
        """Its server. ``package``: upstream's, unpacked."""
        other = package if self.own_wheel else None
        with server.started(model, self.mode, SETTINGS, threads=threads, package=other) as process:
            yield process


WHEEL = Contender("upstream", UPSTREAM, own_wheel=True)
FORK_OFF = Contender("tenant cache off", UPSTREAM)
IN_SHARED = Contender("shared", SHARED)
IN_ISOLATED = Contender("isolated", ISOLATED)
IN_SELECTIVE = Contender("selective", RULES)
SERVERS = (WHEEL, IN_SHARED, IN_ISOLATED, IN_SELECTIVE)

COLOURS: Mapping[str, str] = {
    HF: GREY,
    HF_KEPT: SAND,
    HF_PADDED: SAND,
    WHEEL.name: RED,
    FORK_OFF.name: RED,
    IN_SHARED.name: ORANGE,
    IN_ISOLATED.name: PURPLE,
    IN_SELECTIVE.name: BLUE,
}


@contextmanager
def started(
    contenders: Sequence[Contender], model: Model, threads: int
) -> Iterator[dict[str, ServerProcess]]:
    """Name -> server. Raises ServerFailed, and Refusal where upstream's wheel cannot be had."""
    package = unpacked() if any(each.own_wheel for each in contenders) else None
    with together([each.started(model, threads, package) for each in contenders]) as processes:
        yield {each.name: process for each, process in zip(contenders, processes, strict=True)}


@asynccontextmanager
async def connected(
    contenders: Sequence[Contender], servers: Mapping[str, ServerProcess], hf: HfProcess
) -> AsyncIterator[list[Engine]]:
    """Hugging Face's ways first, then the servers."""
    engines: list[Engine] = [HfEngine(hf), HfKept(hf), HfPadded(hf)]
    async with AsyncExitStack() as stack:
        for each in contenders:
            process = servers[each.name]
            client = await stack.enter_async_context(Client(process.url, ADMIN_KEY))
            await _check_package(client, each)
            engines.append(ServerEngine(each.name, client, process, named=each.mode.has_owners))
        yield engines


async def _check_package(client: Client, contender: Contender) -> None:
    """Raise RuntimeError where the server runs another package than was meant."""
    headers = {"Authorization": f"Bearer {ADMIN_KEY}"}
    async with client.http.get(f"{client.url}/server_info", headers=headers) as answer:
        answer.raise_for_status()
        version = str((await answer.json())["version"])
    if ("tenant" in version) == contender.own_wheel:
        raise RuntimeError(f"{contender.name} runs sglang {version}")
