"""The client, the tables and the pictures of benchmarks/fairness.py.

What is asserted are counts of requests and tokens, never times: those are for a quiet machine.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from fair_service.curves import POINTS, curves
from fair_service.endpoint import CUT, Endpoint, Patience, Reply, Speech, note, outcomes
from fair_service.fairness_table import as_markdown
from fair_service.live import figures
from fair_service.palette import colours
from fair_service.policies import SMALL_SERVER, mode_of, weights_of
from fair_service.record import Ask, Scale, Scenario, Served
from fair_service.scenario_figures import draw_all
from fair_service.scenarios import SCENARIOS
from report.results import read, write_compact
from serving.server import Model, running

REPOSITORY = Path(__file__).parent.parent
SMALL = Scale(seconds=1.0, capacity=8.0, prompt=64, answer=4)


def replies_of(scenario: Scenario, *, starved: str = "") -> list[Reply]:
    """Each request takes a second to its first token and one more; ``starved`` gets none."""
    replies = []
    for ask in scenario.asks:
        if ask.user == starved:
            replies.append(Reply(Served(ask), 200, CUT))
        else:
            served = Served(
                ask, first_token=ask.at + 1, finished=ask.at + 2, produced=ask.answer, cached=5
            )
            replies.append(Reply(served, 200))
    return replies


def report_of(starved: str = "", labels: tuple[str, ...] = ("fcfs", "vtc")) -> dict[str, Any]:
    scenarios = {}
    for name in ("overload", "long and short"):
        scenario = SCENARIOS[name](SMALL, 1)
        found = figures(scenario, replies_of(scenario, starved=starved))
        scenarios[name] = {**scenario.described(), "policies": dict.fromkeys(labels, found)}
    return {"live": {"scenarios": scenarios}}


def test_events_of_a_stream_are_counted() -> None:
    reply = Reply(Served(Ask(0.0, "a", [1, 2, 3], 4)))
    note(reply, {"choices": [{"text": ""}], "usage": None}, 0.5)
    note(reply, {"choices": [{"text": "x"}]}, 0.7)
    assert (reply.served.first_token, reply.served.produced) == (0.5, 2)
    usage = {"completion_tokens": 4, "prompt_tokens_details": {"cached_tokens": 2}}
    note(reply, {"choices": [], "usage": usage}, 0.9)
    assert (reply.served.produced, reply.served.cached) == (4, 2)
    assert reply.served.first_token == 0.5


def test_an_error_within_a_stream_is_kept() -> None:
    reply = Reply(Served(Ask(0.0, "a", [1], 4)), 200)
    note(reply, {"error": {"message": "out of memory"}}, 0.5)
    assert "out of memory" in reply.error
    assert outcomes([reply])["failed"] == 1


def test_each_user_speaks_with_their_own_key() -> None:
    speech = Speech(exact=False, keys={"alice": "sk-1", "*": "sk-2"})
    assert speech.headers("alice") == {"Authorization": "Bearer sk-1"}
    assert speech.headers("bob") == {"Authorization": "Bearer sk-2"}
    assert Speech().headers("bob") == {}
    body = speech.body("m", Ask(0.0, "alice", (7, 8), 3))
    assert (body["prompt"], body["user"], body["max_tokens"]) == ([7, 8], "alice", 3)
    assert "ignore_eos" not in body
    assert Speech().body("m", Ask(0.0, "alice", (7, 8), 3))["ignore_eos"] is True


def test_users_have_one_weight_on_one_server() -> None:
    scenarios = [make(SMALL, 1) for make in SCENARIOS.values()]
    assert weights_of(scenarios) == {"two": 2.0, "four": 4.0}
    weighted = SCENARIOS["weights"](SMALL, 1)
    with pytest.raises(ValueError, match="four"):
        weights_of([weighted, replace(weighted, weights={})])


def test_curves_end_where_service_ends() -> None:
    scenario = Scenario("x", "", (Ask(0.0, "a", [1] * 10, 5), Ask(4.0, "b", [1], 1)), victim="b")
    served = [Served(scenario.asks[0], 0, 1.0, 2.0, 0, 5), Served(scenario.asks[1])]
    drawn = curves(scenario, served)
    assert len(drawn["times"]) == len(drawn["service"]["a"]) == POINTS
    assert drawn["service"]["a"][-1] == 10 + 2 * 5
    assert drawn["service"]["b"][-1] == 0
    assert drawn["victim_waits"] == [None] * POINTS


def test_the_table_names_who_was_never_served() -> None:
    fed, starved = as_markdown(report_of()), as_markdown(report_of(starved="light"))
    assert "1.00 / 1.00 / 1.00" in fed
    assert "never" not in fed
    assert "never / never / never" in starved
    rows = [line for line in starved.splitlines() if line.startswith("| live | ")]
    assert [row.split(" | ")[1] for row in rows] == ["fcfs", "vtc"] * 2
    assert len({row.count("|") for row in rows}) == 1


def test_results_can_be_read_again(tmp_path: Path) -> None:
    report = report_of(starved="light")
    write_compact(report, tmp_path / "fairness.json")
    kept = read(tmp_path / "fairness.json")
    assert kept["live"]["scenarios"]["overload"]["victim"] == "light"
    drawn = kept["live"]["scenarios"]["overload"]["policies"]["vtc"]["curves"]
    assert drawn["victim_waits"] == [None] * POINTS
    assert len((tmp_path / "fairness.json").read_text().splitlines()) < 400
    assert read(tmp_path / "nothing.json") == {}


@pytest.mark.slow
def test_each_scenario_has_a_picture(tmp_path: Path) -> None:
    report = report_of(starved="light", labels=("vtc", "elsewhere", "somewhere"))
    report["replay"] = report["live"]
    draw_all(report, tmp_path)
    drawn = {path.name for path in tmp_path.rglob("*.png")}
    assert drawn == {"fairness.png", "overload.png", "long-and-short.png"}
    palette = colours(["vtc", "elsewhere", "somewhere"])
    assert len({palette[name] for name in ("vtc", "elsewhere", "somewhere")}) == 3


CONFIG = """
[users.limited]
max_running = 1
max_queued = 0
"""


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("vtc")
    (folder / "tenants.toml").write_text(CONFIG)
    settings = (*SMALL_SERVER.settings, "--tenant-config", str(folder / "tenants.toml"))
    with running(Model(folder / "tiny", "tiny"), mode_of("vtc"), settings) as url:
        yield url


def played(url: str, asks: list[Ask], patience: Patience | None = None) -> list[Reply]:
    async def play() -> list[Reply]:
        async with Endpoint(f"{url}/v1/") as endpoint:
            assert await endpoint.flush()
            return await endpoint.play(asks, patience)

    return asyncio.run(play())


@pytest.mark.server
@pytest.mark.alone
def test_every_request_is_served_and_counted(url: str) -> None:
    asks = list(SCENARIOS["overload"](SMALL, 1).asks)
    replies = played(url, asks)
    assert outcomes(replies) == outcomes_of(len(asks), finished=len(asks))
    assert [r.served.produced for r in replies] == [ask.answer for ask in asks]
    assert all(r.served.ask.at < r.served.first_token <= r.served.finished for r in replies)


@pytest.mark.server
@pytest.mark.alone
def test_who_has_computed_for_long_is_answered(url: str) -> None:
    """The server has closed the idle connection, and nobody had time to hear of it."""

    async def talk() -> None:
        async with Endpoint(url) as endpoint:
            time.sleep(6)
            assert await endpoint.flush()

    asyncio.run(talk())


@pytest.mark.server
@pytest.mark.alone
def test_cached_tokens_are_those_of_the_same_user(url: str) -> None:
    prompt = list(range(600, 700))
    asks = [Ask(at, user, prompt, 2) for at, user in ((0, "ann"), (2, "ann"), (4, "ben"))]
    cached = [reply.served.cached for reply in played(url, asks)]
    assert cached[0] == cached[2] == 0
    assert cached[1] >= len(prompt) - 1


@pytest.mark.server
@pytest.mark.alone
def test_what_a_limit_refuses_is_recorded(url: str) -> None:
    asks = [Ask(0.0, "limited", list(range(600 + n, 900 + n)), 40) for n in range(6)]
    found = outcomes(played(url, asks))
    assert found["refused"] >= 1
    assert found["finished"] >= 1
    assert found["refused"] + found["finished"] == len(asks)


@pytest.mark.server
@pytest.mark.alone
def test_who_is_awaited_is_finished_and_the_others_are_cut(url: str) -> None:
    # All of them fit at once, so that nobody has to end before the short one begins.
    asks = [Ask(0.0, "long", [700 + n] * 64, 1_200) for n in range(4)]
    asks.append(Ask(0.0, "short", [900] * 64, 4))
    replies = played(url, asks, Patience(0.0, 60.0, "short"))
    assert outcomes(replies) == outcomes_of(5, finished=1, cut=4)
    assert replies[-1].finished


@pytest.mark.server
@pytest.mark.alone
def test_a_second_label_is_put_beside_the_first(url: str, tmp_path: Path) -> None:
    for label in ("one", "two"):
        command = ["--url", url, "--label", label, "--scenarios", "overload", "weights"]
        sizes = ["--seconds", "1", "--prompt", "64", "--answer", "4"]
        program = [sys.executable, str(REPOSITORY / "benchmarks" / "fairness.py")]
        subprocess.run([*program, *command, *sizes, "--out", str(tmp_path)], check=True)
    live = json.loads((tmp_path / "fairness.json").read_text())["live"]
    for scenario in live["scenarios"].values():
        assert list(scenario["policies"]) == ["one", "two"]
        for label in ("one", "two"):
            counts = scenario["policies"][label]["outcomes"]
            assert counts["asked"] == scenario["requests"] > 0
            assert counts["finished"] > counts["failed"] == 0
    assert "| live | two |" in (tmp_path / "fairness.md").read_text()
    assert (tmp_path / "fairness" / "weights.png").exists()


def outcomes_of(asked: int, **others: int) -> dict[str, int]:
    return {"asked": asked, "finished": 0, "refused": 0, "cut": 0, "failed": 0} | others
