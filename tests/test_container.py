"""The container, without a container daemon: its files are sound, its steps run, and what it runs
serves as a user who may write next to nothing."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
import server_process
import yaml
from support.patience import until

ROOT = Path(__file__).parent.parent
DOCKERFILE = (ROOT / "Dockerfile").read_text()
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "compose.yaml").read_text())
SERVER_USER = 10001
QUICK = ("--max-total-tokens", "4096", "--skip-server-warmup")


def stages() -> dict[str, list[tuple[str, str]]]:
    """The instructions of each build stage, in their order."""
    joined = re.sub(r"\\\n", " ", re.sub(r"(?m)^\s*#.*\n", "", DOCKERFILE))
    found: dict[str, list[tuple[str, str]]] = {}
    for line in filter(None, map(str.strip, joined.splitlines())):
        name, rest = line.split(maxsplit=1)
        if name == "FROM":
            found[rest.split(" AS ")[1]] = []
        else:
            found[list(found)[-1]].append((name, rest))
    return found


def last(stage: str, name: str) -> str:
    return [rest for instruction, rest in stages()[stage] if instruction == name][-1]


def test_the_file_is_clean() -> None:
    hadolint = Path(sys.executable).with_name("hadolint")
    done = subprocess.run(
        [hadolint, ROOT / "Dockerfile"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("stage", ["cpu", "cuda"])
def test_an_image_serves_as_nobody_and_says_how_it_is(stage: str) -> None:
    assert last(stage, "USER") == f"{SERVER_USER}:{SERVER_USER}"
    assert last(stage, "ENTRYPOINT") == '["serve"]'
    assert "/health" in last(stage, "HEALTHCHECK")
    assert last(stage, "VOLUME") == "/var/lib/sglang"


@pytest.mark.parametrize(("profile", "target"), [("cpu", "cpu"), ("gpu", "cuda")])
def test_a_service_may_write_only_its_state(profile: str, target: str) -> None:
    service = COMPOSE["services"][profile]
    assert service["profiles"] == [profile]
    assert service["build"]["target"] == target
    assert target in stages()
    assert service["read_only"] is True
    assert service["user"] == f"{SERVER_USER}:{SERVER_USER}"
    assert service["cap_drop"] == ["ALL"]
    assert service["ports"] == ["127.0.0.1:${PORT:-30000}:30000"]
    assert [volume for volume in service["volumes"] if not volume.endswith(":ro")] == [
        "state:/var/lib/sglang"
    ]
    for name in service["environment"].values():
        assert name.rpartition("/")[2] in COMPOSE["secrets"]


def test_what_an_image_is_built_of_is_not_ignored() -> None:
    kept = [line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines()[1:]]
    needed = ["build_hooks", "constraints", "patches", "python", "scripts"]
    assert {*needed, "*.toml", "*.json", "README.md"} <= set(kept)


@pytest.mark.build
@pytest.mark.parametrize("stage", ["cpu-build", "cuda"])
def test_the_steps_build_the_fork(stage: str, tmp_path: Path) -> None:
    """As written, in folders of this test; the dependencies are those that are installed here."""
    source, target = tmp_path / "src", tmp_path / "opt"
    source.mkdir()
    for name in ("build_hooks", "constraints", "patches", "python", "scripts"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "upstream.json", "README.md"):
        shutil.copy(ROOT / name, source)
    (step,) = [rest for name, rest in stages()[stage] if name == "RUN"]
    if stage == "cuda":  # upstream's image has an environment, and folders for programs and state
        run("python3", "-m", "venv", str(target), folder=source)
    for there, here in (
        ("/opt/sglang", target),
        ("python3 -m pip", f"{target}/bin/python -m pip"),
        ("/usr/local/bin", target / "bin"),
        ("/var/lib/sglang", target / "state"),
    ):
        step = step.replace(there, str(here))
    if os.getuid() != 0:  # who is not root gives nothing to anybody
        step = step.replace(" -o 10001 -g 10001", "")
    if "--no-deps" not in step:
        step = step.replace("pip install", "pip install --no-deps")
    run("sh", "-ec", step, folder=source)
    installed = list(target.glob("lib/python3*/site-packages/sglang/srt/tenancy/registry.py"))
    assert len(installed) == 1
    assert (target / "bin" / "sglang").exists()
    if stage == "cuda":
        assert os.access(target / "bin" / "serve", os.X_OK)
        owner = SERVER_USER if os.getuid() == 0 else os.getuid()
        assert (target / "state").stat().st_uid == owner


def run(*command: str, folder: Path) -> None:
    # What is installed is looked at, not run.
    env = {**os.environ, "PIP_NO_COMPILE": "1"}
    done = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture(scope="module")
def inside(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the container has of its own: a temporary folder, state, model, config and secrets."""
    folder = tmp_path_factory.mktemp("container")
    for name in ("tmp", "state"):
        (folder / name).mkdir()
        os.chown(folder / name, SERVER_USER, SERVER_USER)
    shutil.copytree(tiny_model, folder / "model")
    (folder / "tenants.toml").write_text('[users.anne]\nkeys = ["sk-anne"]\n')
    (folder / "admin_key").write_text("sk-admin\n")
    (folder / "process_key").write_text("ab" * 32 + "\n")
    return folder


@pytest.mark.server
@pytest.mark.skipif(os.getuid() != 0, reason="only root can become the container's user")
def test_the_service_runs_as_nobody_and_keeps_its_state(inside: Path) -> None:
    port = server_process.free_port()
    flags = " ".join(COMPOSE["services"]["cpu"]["command"])
    for there, here in (
        ("/models/model", inside / "model"),
        ("/etc/sglang/tenants.toml", inside / "tenants.toml"),
        ("/var/lib/sglang", inside / "state"),
        ("--port=30000", f"--port={port}"),
        ("--host=0.0.0.0", "--host=127.0.0.1"),
    ):
        assert there in flags
        flags = flags.replace(there, str(here))
    env = {
        "PATH": f"{Path(sys.executable).parent}:/usr/local/bin:/usr/bin:/bin",
        "HOME": str(inside / "tmp"),
        "TMPDIR": str(inside / "tmp"),
        "ADMIN_KEY_FILE": str(inside / "admin_key"),
        "PROCESS_KEY_FILE": str(inside / "process_key"),
        "OMP_NUM_THREADS": "1",
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    who = ["setpriv", "--reuid", str(SERVER_USER), "--regid", str(SERVER_USER), "--clear-groups"]
    # It may read everything: the interpreter of these tests may lie where only root looks.
    who += ["--inh-caps", "+dac_read_search", "--ambient-caps", "+dac_read_search"]
    command = [*who, str(ROOT / "scripts" / "container_entrypoint.sh"), *shlex.split(flags)]
    log = inside / "log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [*command, *QUICK, "--tenant-report-cached", "none"],
            cwd="/",
            env=env,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    url = f"http://127.0.0.1:{port}"
    try:
        check = re.search(r"CMD (\[.*\])", last("cpu", "HEALTHCHECK"))
        assert check
        probe = [sys.executable, *yaml.safe_load(check[1])[1:]]
        probe[-1] = probe[-1].replace(":30000", f":{port}")

        def healthy() -> bool:
            assert process.poll() is None, log.read_text()[-3000:]
            time.sleep(0.3)
            # A probe is an interpreter: none before anybody listens.
            if not _listens(port):
                return False
            return subprocess.run(probe, capture_output=True, check=False).returncode == 0

        until(healthy, "it is healthy", seconds=200)
        admin = {"Authorization": "Bearer sk-admin"}
        put = httpx.put(f"{url}/tenant/users/anne", json={"weight": 2}, headers=admin, timeout=60)
        assert put.status_code == 200, put.text
        body = {"text": "hello", "sampling_params": {"max_new_tokens": 2}}
        anne = {"Authorization": "Bearer sk-anne"}
        for _ in range(2):
            answer = httpx.post(f"{url}/generate", json=body, headers=anne, timeout=60)
            assert answer.status_code == 200
            # The server's proof at start-up saw what it must; users are told nothing.
            assert answer.json()["meta_info"]["cached_tokens"] == 0
        assert (inside / "state" / "state.sqlite").stat().st_size
        owners = {p.uids().real for p in psutil.process_iter() if _session(p) == process.pid}
        assert owners == {SERVER_USER}
    finally:
        for one in psutil.process_iter():
            if _session(one) == process.pid:
                one.kill()
        process.wait()


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _session(process: psutil.Process) -> int:
    try:
        return os.getsid(process.pid)
    except ProcessLookupError:
        return -1
