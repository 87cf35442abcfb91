"""A server whose isolation is broken from within must not start, and must leave nothing."""

from __future__ import annotations

from pathlib import Path

import pytest
from server_process import ServerProcess
from support import plugin
from support.patience import until

pytestmark = pytest.mark.server

# What the scheduler is made to do: forget whom a prefix belongs to, or share it at once.
SABOTAGES = {
    "isolated": """
def sabotage():
    from sglang.srt.tenancy import namespace as ownership

    ownership.Namespace = lambda owner, extra_key: extra_key
""",
    "selective": """
def sabotage():
    from sglang.srt.tenancy.cache.core.promotion import Promoter

    Promoter.promotable = lambda self, key, path, start, end: end
""",
}


@pytest.mark.parametrize(("mode", "workers"), [("isolated", 1), ("selective", 2)])
def test_it_does_not_start(tiny_model: Path, tmp_path: Path, mode: str, workers: int) -> None:
    (tmp_path / "saboteur.py").write_text(SABOTAGES[mode])
    flags = [
        *("--model-path", str(tiny_model), "--enable-tenant-cache", "--tenant-mode", mode),
        *("--tokenizer-worker-num", str(workers)),
    ]
    env = {"PYTHONPATH": plugin.install(tmp_path, "saboteur:sabotage"), "TMPDIR": str(tmp_path)}
    log = tmp_path / "log"
    with log.open("wb") as output:
        server = ServerProcess(flags, output=output, env=env)
    try:
        until(lambda: server.popen.poll() is not None, "it has ended", seconds=240)
        assert server.popen.wait() != 0
        until(lambda: not server.processes(), "all its processes have ended")
    finally:
        server.kill()
    said = "a second user was served 63 cached tokens of the first user's prompt"
    assert f"Tenant self-test failed, the server stops: /generate: {said}" in log.read_text()
