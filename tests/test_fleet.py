"""The fleet's command line: what it sends, to whom, how often, and what it says of it."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from server_process import free_port
from support.patience import until

from sglang.srt.tenancy.fleet import command
from sglang.srt.tenancy.fleet.orders import OrderError, add_prefix, erase, set_user

FOLDER = Path(command.__file__).parent


class Stub(ThreadingHTTPServer):
    """Answers as told, in turn, the last answer for ever; remembers what it was asked."""

    daemon_threads = True

    def __init__(self, *answers: tuple[int, str], port: int = 0):
        self.answers = list(answers)
        self.asked: list[tuple[str, str, str]] = []
        self.bodies: list[bytes] = []
        self.before_answer: Callable[[], object] = lambda: None
        stub = self

        class Handler(BaseHTTPRequestHandler):
            def answer(self) -> None:
                stub.bodies.append(self.rfile.read(int(self.headers.get("Content-Length", 0))))
                key = self.headers.get("Authorization", "")
                stub.asked.append((self.command, self.path, key))
                stub.before_answer()
                status, body = stub.answers.pop(0) if len(stub.answers) > 1 else stub.answers[0]
                self.send_response(status)
                self.end_headers()
                self.wfile.write(body.encode())

            do_GET = do_POST = do_PUT = do_DELETE = answer  # noqa: N815

            def log_message(self, *args: object) -> None:
                pass

        super().__init__(("127.0.0.1", port), Handler)
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.thread = threading.Thread(target=self.serve_forever, daemon=True)
        self.thread.start()

    def end(self) -> None:
        self.shutdown()
        self.server_close()


PASSED = (200, '{"passed": true}')
NOT_THERE = (404, '{"error": {"message": "name: not known", "param": "name", "code": 404}}')


@pytest.fixture
def stubs() -> Iterator[Callable[..., Stub]]:
    made: list[Stub] = []

    def make(*answers: tuple[int, str], port: int = 0) -> Stub:
        made.append(Stub(*answers, port=port))
        return made[-1]

    yield make
    for stub in made:
        stub.end()


@pytest.fixture(autouse=True)
def _key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(command.KEY_VARIABLE, "the-key")


def run(*words: str, urls: list[str]) -> int:
    return command.main(["--workers", ",".join(urls), *words])


def test_all_are_asked_at_the_same_time(stubs: Callable[..., Stub]) -> None:
    both = threading.Barrier(2, timeout=30)
    workers = [stubs(PASSED), stubs(PASSED)]
    for worker in workers:
        worker.before_answer = both.wait
    assert run("selftest", urls=[worker.url for worker in workers]) == 0
    for worker in workers:
        assert worker.asked == [("POST", "/tenant/selftest", "Bearer the-key")]


def test_one_that_is_down_is_named(
    stubs: Callable[..., Stub], capsys: pytest.CaptureFixture[str]
) -> None:
    down = f"http://127.0.0.1:{free_port()}"
    assert run("selftest", urls=[stubs(PASSED).url, down]) == 1
    assert f"{down}" in (line := capsys.readouterr().out.splitlines()[-1])
    assert "not reached" in line


@pytest.mark.slow
def test_one_that_comes_back_is_asked_again(stubs: Callable[..., Stub]) -> None:
    port = free_port()
    up = stubs(PASSED)
    late: list[Stub] = []

    def come_back() -> None:
        until(lambda: up.asked)
        late.append(stubs((503, "{}"), (503, "{}"), PASSED, port=port))

    coming = threading.Thread(target=come_back)
    coming.start()
    assert run("--retry", "60", "selftest", urls=[up.url, f"http://127.0.0.1:{port}"]) == 0
    coming.join()
    assert len(up.asked) == 1, "it had done it"
    assert len(late[0].asked) == 3


def test_what_is_refused_is_not_asked_again(stubs: Callable[..., Stub]) -> None:
    refusing = stubs((409, '{"error": {"message": "no", "param": "name", "code": 409}}'))
    assert run("--retry", "60", "prefixes", "remove", "x", urls=[refusing.url]) == 1
    assert len(refusing.asked) == 1


def test_what_was_taken_away_before_is_done(stubs: Callable[..., Stub]) -> None:
    there, not_there = stubs((200, '{"deleted": true}')), stubs(NOT_THERE)
    assert run("user", "unset", "ann", urls=[there.url, not_there.url]) == 0
    assert run("user", "unset", "ann", urls=[not_there.url]) == 1
    nothing_of_ours = stubs((404, '{"detail": "Not Found"}'))
    assert run("user", "unset", "ann", urls=[there.url, nothing_of_ours.url]) == 1
    assert run("user", "get", "ann", urls=[there.url, not_there.url]) == 1


def test_json_tells_all(stubs: Callable[..., Stub], capsys: pytest.CaptureFixture[str]) -> None:
    up, down = stubs(PASSED), f"http://127.0.0.1:{free_port()}"
    assert run("--json", "selftest", urls=[up.url, down]) == 1
    told = json.loads(capsys.readouterr().out)
    assert told["done"] is False
    first, second = told["replicas"]
    assert (first["done"], first["status"], first["answer"]) == (True, 200, {"passed": True})
    assert (second["url"], second["done"], second["status"]) == (down, False, None)


def told(check: str, **prefixes: list[int]) -> tuple[int, str]:
    """What a replica says of prefixes of these numbers of tokens."""
    both = {
        kind: [{"tokens": tokens, "hash": f"{tokens:032x}"} for tokens in prefixes.get(kind, [])]
        for kind in ("public", "demoted")
    }
    return 200, json.dumps({"key_check": check} | both)


LEARNT = (200, '{"public": 1, "demoted": 0}')


def test_each_is_told_what_the_others_say(
    stubs: Callable[..., Stub], capsys: pytest.CaptureFixture[str]
) -> None:
    workers = [
        stubs(told("a", public=[1, 2]), LEARNT),
        stubs(told("a", public=[3, 1], demoted=[4]), LEARNT),
        stubs(told("a"), LEARNT),
    ]
    assert run("sync", urls=[worker.url for worker in workers]) == 0
    bodies = [json.loads(worker.bodies[1]) for worker in workers]
    lengths = [
        [[entry["tokens"] for entry in body[kind]] for kind in ("public", "demoted")]
        for body in bodies
    ]
    assert lengths == [[[3, 1], [4]], [[1, 2], []], [[1, 3, 2], [4]]]
    assert all(body["key_check"] == "a" for body in bodies)


def test_replicas_of_different_keys_refuse_each_other(stubs: Callable[..., Stub]) -> None:
    refusal = (409, '{"error": {"message": "key_check: no", "param": "key_check", "code": 409}}')
    workers = [stubs(told("a"), refusal), stubs(told("b"), refusal)]
    assert run("sync", urls=[worker.url for worker in workers]) == 1
    assert [json.loads(worker.bodies[1])["key_check"] for worker in workers] == ["b", "a"]


def test_those_that_are_up_tell_each_other(
    stubs: Callable[..., Stub], capsys: pytest.CaptureFixture[str]
) -> None:
    workers = [stubs(told("a", public=[1]), LEARNT), stubs(told("a"), LEARNT)]
    down = f"http://127.0.0.1:{free_port()}"
    assert run("sync", urls=[workers[0].url, down, workers[1].url]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[1:]] == [workers[0].url, down, workers[1].url]
    assert "not reached" in lines[2]
    assert len(workers[1].bodies) == 2
    assert run("sync", urls=[stubs(told("a")).url, down]) == 1
    assert "no other replica was reached" in capsys.readouterr().out


def test_a_user_id_stays_whole_in_the_path() -> None:
    assert erase("a/b:c@d").path == "/tenant/users/a/b%3Ac%40d/cache"
    assert set_user("[default]", ["max_running=8"]).path == "/tenant/users/%5Bdefault%5D"
    assert set_user("ann", ["weight=0.5", "x=y"]).body == {"weight": 0.5, "x": "y"}


@pytest.mark.parametrize("fields", [[], ["max_running"], ["=8"]])
def test_bad_settings_are_not_sent(fields: list[str]) -> None:
    with pytest.raises(OrderError, match="max_running=8"):
        set_user("ann", fields)


@pytest.mark.parametrize("text", ["", "{", "[1]"])
def test_a_bad_prefix_is_not_sent(text: str) -> None:
    with pytest.raises(OrderError, match=r"^here: no JSON"):
        add_prefix(text, "here")


def test_the_key_comes_from_a_file_or_the_environment(
    stubs: Callable[..., Stub],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    worker, file = stubs(PASSED), tmp_path / "key"
    file.write_text("from-the-file\n")
    assert run("--key-file", str(file), "selftest", urls=[worker.url]) == 0
    assert worker.asked[0][2] == "Bearer from-the-file"
    assert run("--key-file", str(tmp_path / "none"), "selftest", urls=[worker.url]) == 2
    monkeypatch.delenv(command.KEY_VARIABLE)
    assert run("selftest", urls=[worker.url]) == 2
    assert command.KEY_VARIABLE in capsys.readouterr().err
    assert len(worker.asked) == 1


@pytest.mark.parametrize("workers", ["", "127.0.0.1:1", "ftp://x"])
def test_workers_are_urls(workers: str) -> None:
    with pytest.raises(SystemExit) as ended:
        command.main(["--workers", workers, "selftest"])
    assert ended.value.code == 2


@pytest.mark.slow
def test_it_starts_without_the_engine(stubs: Callable[..., Stub]) -> None:
    """As a folder; as a module upstream's package comes first, and imports the engine."""
    worker = stubs(PASSED)
    code = (
        "import runpy, sys; sys.argv = sys.argv[1:]\n"
        "try: runpy.run_path(sys.argv[0], run_name='__main__')\n"
        "finally: assert not {'sglang', 'torch'} & sys.modules.keys()"
    )
    words = [str(FOLDER), "--workers", worker.url, "selftest"]
    ended = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert "true" in ended.stdout
