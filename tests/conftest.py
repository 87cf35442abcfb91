"""Fixtures for all tests."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

REPOSITORY = Path(__file__).parent.parent

# Programs, not packages; tests use what they are made of.
PROGRAMS = ("scripts", "benchmarks", "examples", "examples/monitoring")
sys.path += [str(REPOSITORY / name) for name in PROGRAMS]

import debian_tools  # noqa: E402
import demo_model  # noqa: E402
from server_process import ServerProcess  # noqa: E402
from support.forkserver import client  # noqa: E402

# What passes once passes each time, also on a busy machine: the same examples, by no clock.
settings.register_profile(
    "tests",
    derandomize=True,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("tests")


# Files that take longest, the longest first. Begun last, one would run while the other core idles.
LONGEST = (
    *("test_container", "test_fair_replay", "test_ranks_agree", "test_faulty_requests"),
    *("test_bench_gpu", "test_replicas", "test_bench_engines", "test_response_cache_http"),
    *("test_request_intake", "test_preemption_http", "test_several_processes"),
    *("test_selective_outputs", "test_packaging", "test_fuzz", "test_series", "test_gpu_pack"),
    *("test_bench_collusion", "test_response_streams", "test_fair_schedule", "test_cuda_path"),
    *("test_response_fuzz", "test_eviction_memory", "test_prompt_room", "test_tree_property"),
    *("test_torch_cpu", "test_client_server", "test_selective", "test_storage"),
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the files that take longest, each as a whole."""
    places = {name: place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: places.get(item.path.stem, len(places)))


@pytest.fixture(scope="session", autouse=True)
def _servers_are_forks() -> Iterator[None]:
    """Start servers, also those of the benchmarks, without importing the engine for each."""
    with client.running() as server, pytest.MonkeyPatch.context() as patch:
        patch.setattr(ServerProcess, "start", staticmethod(server.start))
        yield


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a tiny model, made once."""
    folder = tmp_path_factory.mktemp("models") / "tiny"
    demo_model.make_model(folder)
    return folder


@pytest.fixture(scope="session")
def debian_tool() -> Callable[[str], Path]:
    """Return what finds, or fetches, a program of ``debian_tools.TOOLS``."""

    def find(name: str) -> Path:
        try:
            return debian_tools.find(name)
        except debian_tools.NoApt as reason:
            pytest.skip(str(reason))

    return find
