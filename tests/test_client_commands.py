"""The client's chat and analysis, as processes, on a real server whose users hold keys."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pexpect
import pytest
from server_process import free_port
from support.operator import fresh_admin_key
from support.prompts import fresh_prompt
from support.server import Server

from sglang.tenant_client import Client, Options, Refused
from sglang.tenant_client.analysis.findings import PRIVATE, analyse

pytestmark = pytest.mark.server

ADMIN_KEY = fresh_admin_key()
PAGE = 16  # tokens
USERS = ("alice", "bob", "carol")
KEYS = {"SGLANG_TENANT_KEY": "sk-carol"}
SHORT: Options = {"temperature": 0, "max_tokens": 4, "extra_body": {"ignore_eos": True}}
LAUNCHER = str(Path(__file__).parent.parent / "python" / "sglang_tenant.py")
COMMAND = [sys.executable, LAUNCHER]


@pytest.fixture(scope="module")
def server(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    config = tmp_path_factory.mktemp("config") / "tenants.toml"
    config.write_text("".join(f'[users.{user}]\nkeys = ["sk-{user}"]\n' for user in USERS))
    with Server(
        tiny_model,
        *("--enable-tenant-cache", "--enable-cache-report", "--tenant-detector", "none"),
        *("--tenant-config", str(config), "--admin-api-key", ADMIN_KEY),
        *("--page-size", str(PAGE), "--max-total-tokens", "16384"),
    ) as server:
        yield server


# The chat, as a process


def command(
    *arguments: str, server: Server, typed: str = "", **env: str
) -> subprocess.CompletedProcess[str]:
    """Run a command as carol."""
    return subprocess.run(
        [*COMMAND, *arguments],
        input=typed,
        env={**os.environ, **KEYS, "SGLANG_TENANT_URL": server.url, "COLUMNS": "120", **env},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


def test_a_chat_forks_and_saves(server: Server, tmp_path: Path) -> None:
    file = tmp_path / "sessions.json"
    typed = (
        f"hello\n/fork other\nwhat else\n/switch main\nand then\n/list\n/save {file}\n/quit\nnever"
    )
    system = fresh_prompt(150)
    arguments = ["chat", "--system", system, "--max-tokens", "6"]
    done = command(*arguments, server=server, typed=typed)
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert lines[0] == "main: system prompt warm: 144 of 153 tokens found"
    shares = [line for line in lines if "prompt tokens cached" in line]
    assert len(shares) == 3, "what comes after /quit is not said"
    assert all(" 144 of " in line or int(line.split("%")[0].split()[-1]) > 75 for line in shares)
    assert any(line.split()[:3] == ["*", "main", "2"] for line in lines), done.stdout
    assert any(line.split()[:2] == ["other", "2"] and line.endswith("main") for line in
               map(str.rstrip, lines))  # fmt: skip
    assert file.stat().st_mode & 0o777 == 0o600
    saved = {entry["name"]: entry for entry in json.loads(file.read_text())["sessions"]}
    assert [turn["user"] for turn in saved["other"]["turns"]] == ["hello", "what else"]
    assert [turn["user"] for turn in saved["main"]["turns"]] == ["hello", "and then"]


def test_somebody_who_types_may_change_their_mind(server: Server) -> None:
    # Greedy: an answer that begins with a letter.
    arguments = [*COMMAND[1:], "chat", "--url", server.url, "--temperature", "0"]
    env = {**os.environ, **KEYS}
    chat = pexpect.spawn(COMMAND[0], arguments, encoding="utf-8", timeout=60, env=env)
    try:
        chat.expect("main > ")
        chat.sendline("hello")
        # What the line editor sends when a line ends is no answer yet.
        chat.expect(r"hello\r\n(\x1b\[\?2004l\r)?[^\x1b\r\n]{2}")
        chat.sendintr()
        chat.expect("cancelled; the session is as before")
        chat.expect("main > ")
        chat.sendline("/list")
        chat.expect(r"main +0 ")
        chat.sendline("/quit")
        chat.expect(pexpect.EOF)
    finally:
        chat.close()
    assert chat.exitstatus == 0


def test_a_chat_says_what_does_not_work(server: Server) -> None:
    typed = "/switch nowhere\n/frok x\n/delete\nhello\n/new again\nhello\n"
    done = command("chat", "--max-tokens", "3", server=server, typed=typed)
    assert (done.returncode, done.stderr) == (0, "")
    for part in ("'nowhere'", "/frok: is no command", "deleted main", "/new NAME", "now in again"):
        assert part in done.stdout
    assert "Traceback" not in done.stdout


def test_a_chat_without_a_server_ends_by_saying_so(server: Server) -> None:
    down = f"http://127.0.0.1:{free_port()}"
    done = command("chat", "--wait", "0.1", "--url", down, server=server, typed="hi\n")
    assert done.returncode == 1
    assert "not reached" in done.stderr
    assert "Traceback" not in done.stderr
    assert command("chat", "--url", "nowhere", server=server).returncode == 2


# The analysis


def talk(client: Client, system: str) -> None:
    """Three sessions that fork, and one of its own."""
    first = client.sessions.create("first", system, options=SHORT)
    first.ask("hello there")
    first.fork("second").ask("and what else, I wonder")
    client.sessions.get("second").fork("third").ask("why")
    first.ask("more")
    client.sessions.create("alone", options=SHORT).ask(fresh_prompt(37))


def test_the_analysis_finds_sessions_in_the_tree(server: Server) -> None:
    with Client(server.url, api_key="sk-carol", admin_key=ADMIN_KEY) as client:
        talk(client, fresh_prompt(150))
        figures = [state.turns[-1] for state in client.sessions.list()]
        found = client.transport.run(analyse([client.sessions.list()]))
    assert found.faults == []
    shared = [row for row in found.rows if len(row.names) == 3]
    assert {row.held for row in found.rows} == {PRIVATE}
    # All three begin with the prompt, its question, and the answer to that.
    assert max(row.end for row in shared) >= 160, "in whole pages"
    assert set(shared[-1].names) == {"first", "second", "third"}
    without = sum(((turn.total or 0) - 1) // PAGE * PAGE for turn in figures)
    assert found.held + found.saved == without
    assert found.saved >= 2 * shared[-1].end


def test_the_analysis_of_two_users(server: Server, tmp_path: Path) -> None:
    """From files: each user has a copy of what both have in common."""
    system, files = fresh_prompt(160), []
    for key in ("sk-alice", "sk-bob"):
        with Client(server.url, api_key=key) as client:
            talk(client, system)
            client.sessions.save(tmp_path / f"{key}.json")
            files.append(str(tmp_path / f"{key}.json"))
    picture = tmp_path / "picture.png"
    done = command(
        *("analysis", "--sessions", *files, "--picture", str(picture)),
        server=server,
        SGLANG_TENANT_ADMIN_KEY=ADMIN_KEY,
    )
    assert (done.returncode, done.stderr) == (0, "")
    of_alice, of_bob = [line for line in done.stdout.splitlines() if line.startswith("0 to ")]
    assert "1:first" in of_alice
    assert "2:first" in of_bob
    assert all("private" in line for line in (of_alice, of_bob))
    assert "not found" not in done.stdout
    assert "left out" not in done.stdout
    assert picture.read_bytes().startswith(b"\x89PNG")
    plain = command("analysis", server=server, SGLANG_TENANT_ADMIN_KEY=ADMIN_KEY)
    assert "prompts below" in plain.stdout
    assert "alice" not in plain.stdout


def test_the_analysis_needs_the_admin_key(server: Server) -> None:
    done = command("analysis", server=server)
    assert done.returncode == 1
    assert "needs the admin key" in done.stderr
    with Client(server.url, api_key="sk-carol") as client, pytest.raises(Refused):
        client.transport.run(analyse([]))
