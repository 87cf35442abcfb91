"""Tests of servers on a GPU: what they run on, and what becomes of each.

    make test-gpu                          on a machine with CUDA
    make test-gpu ARGS='--device cpu'      what of it a CPU can do

`make test` leaves this folder out.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from server_process import ServerProcess
from support.forkserver import client
from support.gpu.device import KINDS, Device, NoDevice, find
from support.gpu.outcomes import Outcomes

DEVICE = pytest.StashKey[Device]()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--device", choices=KINDS, default="cuda", help="what servers run on")
    parser.addoption(
        "--report", type=Path, default=Path("build/test-gpu.json"), help="where results are written"
    )


def pytest_configure(config: pytest.Config) -> None:
    try:
        device = find(config.getoption("--device"))
    except NoDevice as problem:
        raise pytest.UsageError(str(problem)) from None
    config.stash[DEVICE] = device
    config.pluginmanager.register(Outcomes(device, config.getoption("--report")))


@pytest.fixture(scope="session")
def device(pytestconfig: pytest.Config) -> Device:
    """Return what servers run on."""
    return pytestconfig.stash[DEVICE]


@pytest.fixture(scope="session", autouse=True)
def _servers_are_forks(device: Device) -> Iterator[None]:
    """On a CPU only: a process that has asked for its GPUs cannot be forked."""
    if device.on_cuda:
        yield
        return
    with client.running() as server, pytest.MonkeyPatch.context() as patch:
        patch.setattr(ServerProcess, "start", staticmethod(server.start))
        yield
