"""Several replicas: behind a router, on one storage, as ``examples/router`` runs them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
from router import serve
from server_process import free_port
from support.asks import TIMEOUT, sampling
from support.operator import fresh_admin_key
from support.patience import until
from support.prompts import fresh_prompt
from support.replica import Replica
from support.routers import VERSIONS, installed
from support.sharing import beyond_chance

from sglang.srt.tenancy.fleet import command

pytestmark = pytest.mark.server

ADMIN_KEY = fresh_admin_key()
CHAT = "/v1/chat/completions"

FLAGS = (
    *("--served-model-name", "demo", "--admin-api-key", ADMIN_KEY),
    *("--tenant-detector", "off-trust-all", "--tenant-public-users", "3"),
    *("--hicache-ratio", "4"),
    *("--hicache-storage-backend-extra-config", '{"prefetch_threshold": 16}'),
)


@pytest.fixture(scope="module")
def workers(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Replica]]:
    folder = tmp_path_factory.mktemp("router")
    with serve.workers(["--model-path", str(tiny_model), *FLAGS], folder) as urls:
        yield [
            Replica(url, serve.gateway_key(), serve.HEADER, folder / f"worker-{number}.log")
            for number, url in enumerate(urls)
        ]


@pytest.fixture(scope="module", params=sorted(VERSIONS))
def router(request: pytest.FixtureRequest, workers: list[Replica]) -> Iterator[Replica]:
    command = str(installed(request.param))
    with serve.router(command, [worker.url for worker in workers], free_port()) as (url, _):
        yield Replica(url, serve.gateway_key(), serve.HEADER)


def client(router: Replica, user: str) -> openai.OpenAI:
    return openai.OpenAI(
        base_url=f"{router.url}/v1",
        api_key=router.key,
        default_headers={router.header: user},
        max_retries=0,
        timeout=TIMEOUT,
    )


def fresh_name() -> str:
    """A user id that is also a good routing key."""
    return f"user-{fresh_prompt(12).replace(' ', '.')}"


def chat(router: Replica, user: str, messages: list[Any]) -> tuple[str, int, int]:
    """The answer, its prompt's tokens, and how many of them were cached."""
    reply = client(router, user).chat.completions.create(
        model="demo", messages=messages, max_tokens=8, temperature=0
    )
    usage = reply.usage
    assert usage is not None
    details = usage.prompt_tokens_details
    cached = (details.cached_tokens or 0) if details else 0
    return reply.choices[0].message.content or "", usage.prompt_tokens, cached


def served(workers: list[Replica]) -> list[int]:
    return [worker.answered(CHAT, 200) for worker in workers]


def since(before: list[int], workers: list[Replica], number: int) -> list[int]:
    """How many of that many chats each worker served; a log may tell of the last one late."""
    until(lambda: sum(served(workers)) == sum(before) + number, "the logs tell of all")
    return [now - then for now, then in zip(served(workers), before, strict=True)]


def test_a_user_stays_with_one_worker_and_finds_what_they_said(
    router: Replica, workers: list[Replica]
) -> None:
    for user in (fresh_name(), fresh_name()):
        messages: list[Any] = []
        before, last = served(workers), 0
        for turn in range(4):
            messages.append({"role": "user", "content": fresh_prompt(60)})
            answer, tokens, cached = chat(router, user, messages)
            assert cached >= last - 2 if turn else beyond_chance(cached) < 60
            messages.append({"role": "assistant", "content": answer})
            last = tokens
        turns = since(before, workers, 4)
        assert sorted(turns) == [0, 4]


def test_others_find_nothing(router: Replica) -> None:
    prompt, alice = fresh_prompt(), fresh_name()
    assert beyond_chance(router.cached(prompt, alice)) == 0
    for _ in range(2):  # whichever worker they come to
        assert beyond_chance(router.cached(prompt, fresh_name())) == 0
    assert router.cached(prompt, alice) >= len(prompt) - 2


def test_a_user_who_got_lost_is_refused(router: Replica) -> None:
    body = {"model": "demo", "messages": [{"role": "user", "content": "x"}], "max_tokens": 1}
    response = router.post(CHAT, body)
    assert response.status_code == 401
    message = response.json()["error"]["message"]
    assert message.startswith(f"{router.header}: missing")
    assert "router may have dropped it" in message
    # Named in the body only: one router drops that, the other hands it on.
    response = router.post(CHAT, body | {"user_id": "alice"})
    assert response.status_code in (401, 403)
    assert router.header in response.json()["error"]["message"]


def test_without_the_gateways_key_nobody_comes_in(router: Replica) -> None:
    body = {"text": "x", "sampling_params": sampling()}
    assert router.post("/generate", body, "alice", key="sk-another").status_code == 401
    assert httpx.post(f"{router.url}/generate", json=body, timeout=TIMEOUT).status_code == 401


def test_what_is_refused_to_one_is_held_against_nobody(
    router: Replica, workers: list[Replica]
) -> None:
    """A router may take refusals for faults of the worker, or try again what a limit refused."""
    limited, body = fresh_name(), {"text": fresh_prompt(20), "sampling_params": sampling()}
    for worker in workers:
        worker.put(f"/tenant/users/{limited}", {"tokens_per_minute": 1}, ADMIN_KEY)
    assert router.post("/generate", body, limited).status_code == 200
    before = sum(worker.answered("/generate", 429) for worker in workers)
    for _ in range(15):
        assert router.post("/generate", body, limited).status_code == 429
        assert router.post("/generate", body).status_code == 401
    until(
        lambda: sum(worker.answered("/generate", 429) for worker in workers) >= before + 15,
        "the logs tell of all",
    )
    for _ in range(4):
        assert router.post("/generate", body, fresh_name()).status_code == 200
    assert sum(worker.answered("/generate", 429) for worker in workers) == before + 15


def test_streams_come_through(router: Replica) -> None:
    user = fresh_name()
    messages: list[Any] = [{"role": "user", "content": fresh_prompt()}]
    for again in (False, True):
        stream = client(router, user).chat.completions.create(
            model="demo",
            messages=messages,
            max_tokens=100,
            temperature=0,
            stream=True,
            stream_options={"include_usage": True},
        )
        chunks = list(stream)
        assert sum(bool(c.choices and c.choices[0].delta.content) for c in chunks) > 1
        usage = chunks[-1].usage
        assert usage is not None
        details = usage.prompt_tokens_details
        cached = (details.cached_tokens or 0) if details else 0
        assert (cached >= usage.prompt_tokens - 2) == again


def test_what_one_worker_stored_another_finds_for_its_owner_alone(workers: list[Replica]) -> None:
    here, there = workers
    prompt, alice = fresh_prompt(), fresh_name()
    assert beyond_chance(here.cached(prompt, alice)) == 0
    here.empty_cache(ADMIN_KEY)
    assert beyond_chance(there.cached(prompt, fresh_name())) == 0
    assert beyond_chance(there.cached(prompt, alice, extra_key="another adapter")) == 0
    assert there.cached(prompt, alice) >= len(prompt) - 2


def test_what_is_public_at_one_worker_is_asked_for_by_everybody_at_another(
    workers: list[Replica],
) -> None:
    """Stored public pages have names that everybody may ask for; what comes is private again."""
    here, there = workers
    prompt = fresh_prompt()
    for _ in range(3):
        here.cached(prompt, fresh_name())
    here.empty_cache(ADMIN_KEY)
    assert there.cached(prompt, fresh_name()) >= len(prompt) - 2


class Fleet:
    """Commands to all workers, and what came of them."""

    def __init__(self, workers: list[Replica], capsys: pytest.CaptureFixture[str]):
        self._urls = ",".join(worker.url for worker in workers)
        self._capsys = capsys

    def run(self, *words: str) -> tuple[int, list[Any]]:
        """The exit code, and each worker's answer."""
        self._capsys.readouterr()
        code = command.main(["--workers", self._urls, "--json", *words])
        told = json.loads(self._capsys.readouterr().out)
        assert told["done"] == (code == 0)
        return code, [one["answer"] for one in told["replicas"]]

    def table(self, *words: str) -> list[str]:
        self._capsys.readouterr()
        assert command.main(["--workers", self._urls, *words]) == 0
        return self._capsys.readouterr().out.splitlines()


@pytest.fixture
def fleet(
    workers: list[Replica], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Fleet:
    monkeypatch.setenv(command.KEY_VARIABLE, ADMIN_KEY)
    return Fleet(workers, capsys)


def test_a_prefix_is_registered_everywhere_and_taken_back(
    fleet: Fleet, workers: list[Replica], tmp_path: Path
) -> None:
    prompt, file = fresh_prompt(), tmp_path / "prefix.json"
    file.write_text(json.dumps({"name": "all", "text": prompt}))
    for _ in range(2):  # repeated, it changes nothing
        code, answers = fleet.run("prefixes", "add", str(file))
        assert code == 0
        assert [answer["name"] for answer in answers] == ["all", "all"]
    for worker in workers:
        worker.cached(prompt, fresh_name())
        assert worker.cached(prompt, fresh_name()) >= len(prompt) - 2
    assert [line.split()[1] for line in fleet.table("prefixes", "list")[1:]] == ["all", "all"]
    file.write_text(json.dumps({"name": "all", "text": fresh_prompt()}))
    code, answers = fleet.run("prefixes", "add", str(file))
    assert code == 1
    assert all(answer["error"]["code"] == 409 for answer in answers)
    assert fleet.run("prefixes", "remove", "all")[0] == 0
    assert fleet.run("prefixes", "remove", "all")[0] == 1, "it was nowhere"
    assert all(line.endswith("none") for line in fleet.table("prefixes", "list"))


def test_what_one_replica_lacks_is_taken_back_all_the_same(
    fleet: Fleet, workers: list[Replica]
) -> None:
    workers[1].post(
        "/tenant/public_prefixes", {"name": "one", "text": fresh_prompt()}, key=ADMIN_KEY
    )
    lines = fleet.table("prefixes", "remove", "one")
    assert lines[1].endswith("was not there")
    assert "true" in lines[2]


def test_settings_of_a_user_are_set_everywhere(fleet: Fleet) -> None:
    user = fresh_name()
    for _ in range(2):
        code, answers = fleet.run("user", "set", user, "max_running=3", "weight=2")
        assert code == 0
        assert [(one["max_running"], one["weight"]) for one in answers] == [(3, 2.0)] * 2
    assert fleet.run("user", "get", user)[1][0]["set_by"]["max_running"] == "request"
    code, answers = fleet.run("user", "set", user, "max_running=many")
    assert code == 1
    assert answers[0]["error"]["param"] == "max_running"
    assert fleet.run("user", "unset", user)[0] == 0
    assert fleet.run("user", "unset", user)[0] == 1
    assert fleet.run("user", "get", user)[0] == 1


def test_a_user_is_forgotten_everywhere(fleet: Fleet, workers: list[Replica]) -> None:
    prompt, alice = fresh_prompt(), fresh_name()
    for worker in workers:
        worker.cached(prompt, alice)
    code, answers = fleet.run("erase", alice)
    assert code == 0
    assert all(answer["freed_tokens"]["device"] >= len(prompt) - 2 for answer in answers)
    assert fleet.run("erase", alice)[1][0]["freed_tokens"]["device"] == 0
    # At one of them: then it is stored again, for all.
    assert beyond_chance(workers[1].cached(prompt, alice)) == 0


def test_the_fleet_is_asked(fleet: Fleet, workers: list[Replica]) -> None:
    lines = fleet.table("stats")
    assert lines[0].split()[:3] == ["replica", "public", "private"]
    assert [line.split()[0] for line in lines[1:]] == [worker.url for worker in workers]
    assert all("true" in line for line in fleet.table("selftest")[1:])


def test_without_the_admin_key_nothing_is_done(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(command.KEY_VARIABLE, "another")
    code, answers = fleet.run("stats")
    assert code == 1
    assert all(not answer.get("replicas") for answer in answers)


def public_tokens(worker: Replica) -> int:
    return int(worker.get("/tenant/stats", ADMIN_KEY)["replicas"][0]["device"]["public"])


def test_what_became_public_at_one_becomes_public_at_the_others(
    fleet: Fleet, workers: list[Replica]
) -> None:
    here, there = workers
    # Nothing else begins as the second does: not even its first token becomes public.
    prompt, not_told = fresh_prompt(), "#" + fresh_prompt()
    for _ in range(3):
        here.cached(prompt, fresh_name())
    code, answers = fleet.run("sync")
    assert code == 0
    assert answers[1]["public"] >= 1
    before = public_tokens(there)
    there.cached(not_told, fresh_name())
    assert public_tokens(there) == before
    there.cached(prompt, fresh_name())
    assert public_tokens(there) >= before + len(prompt) - 12
    code, answers = fleet.run("sync")
    assert code == 0
    assert answers[1] == {"public": 0, "demoted": 0}
    assert fleet.table("sync")[0].split()[1:] == ["new_public", "new_demoted"]


def test_no_text_travels(workers: list[Replica]) -> None:
    here = workers[0]
    for _ in range(3):
        here.cached(fresh_prompt(), fresh_name())
    told = here.get("/tenant/public_hashes", ADMIN_KEY)
    assert told.keys() == {"key_check", "public", "demoted"}
    assert told["public"]
    for entry in told["public"]:
        assert entry.keys() == {"tokens", "hash"}
        assert type(entry["tokens"]) is int
        assert len(bytes.fromhex(entry["hash"])) == 16


@pytest.mark.parametrize(
    ("change", "status", "param"),
    [
        ({"key_check": "0" * 16}, 409, "key_check"),
        ({"key_check": None}, 400, "key_check"),
        ({"public": 5}, 400, "public"),
        ({"demoted": [{}] * 2049}, 400, "demoted"),
        ({"public": [5]}, 400, "public[0].tokens"),
        ({"public": [{"tokens": True, "hash": "0" * 32}]}, 400, "public[0].tokens"),
        ({"public": [{"tokens": 2**40, "hash": "0" * 32}]}, 400, "public[0].tokens"),
        ({"demoted": [{"tokens": 5, "hash": "x" * 32}]}, 400, "demoted[0].hash"),
        ({"demoted": [{"tokens": 5, "hash": "0" * 30}]}, 400, "demoted[0].hash"),
    ],
)
def test_what_no_replica_told_is_refused(
    workers: list[Replica], change: dict[str, Any], status: int, param: str
) -> None:
    told = workers[0].get("/tenant/public_hashes", ADMIN_KEY)
    answer = workers[1].post("/tenant/public_hashes", told | change, key=ADMIN_KEY)
    assert answer.status_code == status
    error = answer.json()["error"]
    assert error["param"] == param
    assert error["message"].startswith(f"{param}: ")


def test_only_operators_hear_of_it(workers: list[Replica]) -> None:
    worker = workers[0]
    assert worker.post("/tenant/public_hashes", {}, "alice").status_code == 401
