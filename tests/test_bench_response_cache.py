"""benchmarks/response_cache.py on a real server and our proxy: what it counts, never times."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import response_cache
from response_cost import others
from response_cost.measure import in_turns, stampede
from response_cost.response_figure import draw, table
from serving.server import ISOLATED, UPSTREAM, Model, running

AT_ONCE = 50
HAS_CACHE = ("server", "proxy")


@pytest.fixture(scope="module")
def urls(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    model, folder = Model(tiny_model, "tiny"), tmp_path_factory.mktemp("proxy")
    flags = response_cache.SETTINGS
    with (
        running(model, UPSTREAM, flags) as engine,
        others.proxy(engine, folder) as proxy,
        running(model, ISOLATED, (*flags, *response_cache.KEPT)) as server,
    ):
        yield {"server": server, "proxy": proxy, "engine": engine}


@pytest.mark.server
def test_only_caches_give_the_same_answer_again(urls: dict[str, str], tmp_path: Path) -> None:
    steps: list[None] = []
    results = in_turns(urls, 1, 0.2, lambda: steps.append(None))
    assert len(steps) == 6
    for name, figures in results.items():
        for connections, found in figures.items():
            assert found["requests"] >= int(connections)
            assert found["answers"] == (1 if name in HAS_CACHE else found["requests"])
    assert "engine" in table(results, {})
    draw(results, tmp_path / "picture.png")
    assert (tmp_path / "picture.png").stat().st_size > 10_000


@pytest.mark.server
@pytest.mark.parametrize("place", HAS_CACHE)
def test_a_stampede_is_one_computation(urls: dict[str, str], place: str) -> None:
    before = response_cache._misses(urls[place])
    assert before is not None
    assert stampede(urls[place], AT_ONCE)["computations"] == 1
    assert response_cache._misses(urls[place]) == before + 1


@pytest.mark.server
def test_without_a_cache_each_is_computed(urls: dict[str, str]) -> None:
    assert response_cache._misses(urls["engine"]) is None
    assert stampede(urls["engine"], AT_ONCE)["computations"] == AT_ONCE
