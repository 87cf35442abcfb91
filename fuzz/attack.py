"""Send cases to a server as users; see whether another one, and the server, are as before."""

from __future__ import annotations

import contextlib
import json
import re
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any

import client
import demo_model
import httpx
import psutil
import server_process
from cases import MALLORY, MORGAN, Case
from transcript import transcript
from values import CONTEXT, HER_ID, PAGE, POOL, SECRET

ALICE, ADMIN = "sk-alice", "sk-admin"
# Two who ask the same, one of them beside an attack.
PAUL, PAULA = "sk-paul", "sk-paula"
KEYS = {MALLORY: "sk-mallory", MORGAN: "sk-morgan"}
CONFIG = f"""
[users.alice]
keys = ["{ALICE}"]
[users.paul]
keys = ["{PAUL}"]
[users.paula]
keys = ["{PAULA}"]
[users.{MALLORY}]
keys = ["{KEYS[MALLORY]}"]
[users.{MORGAN}]
keys = ["{KEYS[MORGAN]}"]
max_running = 6
max_queued = 20
tokens_per_minute = 1000000
"""
START_SECONDS = 300.0
AT_ONCE = 8
QUIET_SECONDS = 30.0  # until nothing of what was asked is left
_FEWEST_LOOKS = 50
_PATIENCE = 120.0  # seconds, of the user who is to be left alone
# What an answer to a user must not tell of the server.
_INSIDE = ('File "', "site-packages", "Traceback (most", "/sglang/srt/")
_NOT_TO_LOG = (SECRET, "never retrieved", "Exception in ASGI application", "Fatal error on tra")
_FAILED, _NOT_OFFERED = 500, 501
_FAILED_LATER = re.compile(r'^data: .*"code": ?50\d', re.MULTILINE)


class Target:
    """A server under attack. ``answers``: how many of each status, by path."""

    def __init__(self, server: server_process.ServerProcess, log: Path):
        self.server = server
        self._log = log.open("rb")
        self.pids = {process.pid for process in server.processes()}
        self.answers: Counter[tuple[str, str]] = Counter()
        # The engine is to answer her, each time.
        computed = _key(ALICE) | {"Cache-Control": "no-store"}
        self._alice = httpx.Client(base_url=server.url, timeout=_PATIENCE, headers=computed)
        self._admin = httpx.Client(base_url=server.url, timeout=_PATIENCE, headers=_key(ADMIN))
        self._ask()
        self._expected = self._ask()

    def fault_of(self, cases: Sequence[Case]) -> str | None:
        """Send the cases; say what was wrong with an answer, or with the server then or later."""
        with ThreadPoolExecutor(AT_ONCE + 1) as pool:
            beside = pool.submit(self._harm_meanwhile)
            faults = [fault for fault in pool.map(self._fault_of_one, cases) if fault]
            faults += [fault for fault in [beside.result()] if fault]
        if any(step.in_background for case in cases for step in case.steps()):
            with contextlib.suppress(httpx.HTTPError):
                self._admin.post("/abort_request", json={"abort_all": True})
        later = self.harm()
        return faults[0] if faults else later

    def harm(self) -> str | None:
        """Say what the other user or the server suffers, if anything."""
        if not self.pids <= {process.pid for process in self.server.processes()}:
            return "a process of the server has ended"
        try:
            if left := self._what_is_left():
                return f"not all that was asked for has ended: {left}"
            if told := self._told_to_the_log():
                return f"the log tells of a prompt, or of what nobody has caught: {told}"
            answer = self._ask()
        except (httpx.HTTPError, ValueError) as error:
            return f"the other user or the operator has no answer: {type(error).__name__}"
        if answer != self._expected:
            return f"the other user's answer is another one: {_difference(self._expected, answer)}"
        return None

    def status_of(self, case: Case) -> int:
        """Send one case as a user; return the status of the answer, 0 where there is none."""
        return client.send(case, self.server.port, KEYS[case.user]).status

    def transcript(self, key: str) -> list[Any]:
        """Ask as a user who goes on for a while; return all that they are told."""
        with httpx.Client(base_url=self.server.url, timeout=_PATIENCE, headers=_key(key)) as http:
            return transcript(http)

    def transcript_beside(self, key: str, cases: Iterator[Case]) -> list[Any]:
        """The same, while cases are sent as fast as they go."""
        with ThreadPoolExecutor(AT_ONCE + 1) as pool:
            told = pool.submit(self.transcript, key)
            sending = {pool.submit(self._fault_of_one, next(cases)) for _ in range(AT_ONCE)}
            while not told.done():
                done, sending = wait(sending, return_when=FIRST_COMPLETED)
                sending |= {pool.submit(self._fault_of_one, next(cases)) for _ in done}
        return told.result()

    def memory(self) -> dict[str, int]:
        """Return the resident MiB of the server's processes, by their names."""
        held: Counter[str] = Counter()
        for process in self.server.processes():
            with contextlib.suppress(psutil.NoSuchProcess):
                name = " ".join(process.cmdline())[:40] or process.name()
                held[name] += process.memory_info().rss >> 20
        return dict(held)

    def _harm_meanwhile(self) -> str | None:
        try:
            answer = self._ask()
        except (httpx.HTTPError, ValueError) as error:
            return f"the other user has no answer beside the attack: {type(error).__name__}"
        same = ("text", "output_ids")
        if any(answer[name] != self._expected[name] for name in same):
            return f"the other user's answer is another one beside the attack: {answer}"
        return None

    def _ask(self) -> dict[str, Any]:
        body = {
            "text": "The quick brown fox jumps over the lazy dog",
            "rid": HER_ID,
            "sampling_params": {"temperature": 0, "max_new_tokens": 8, "ignore_eos": True},
            "return_logprob": True,
        }
        response = self._alice.post("/generate", json=body)
        response.raise_for_status()
        answer = response.json()
        seen = ("id", "finish_reason", "prompt_tokens", "cached_tokens", "output_token_logprobs")
        return {
            "text": answer["text"],
            "output_ids": answer["output_ids"],
            **{name: answer["meta_info"][name] for name in seen},
        }

    def _what_is_left(self) -> dict[str, int]:
        """Wait until no request is left anywhere; return what is still there after a while.

        That is a time and a number of looks: a machine that stands still counts for nothing.
        """
        deadline = time.monotonic() + QUIET_SECONDS
        looks = 0
        while left := self._open():
            looks += 1
            if looks > _FEWEST_LOOKS and time.monotonic() > deadline:
                break
            time.sleep(0.05)
        return left

    def _open(self) -> dict[str, int]:
        """Return the counters of the server that are not zero, and should be."""
        stats = self._admin.get("/tenant/stats").raise_for_status().json()
        load = self._admin.get("/v1/loads").raise_for_status().json()["loads"][0]
        counted = {
            **stats["process"],
            "locked tokens": stats["replicas"][0]["device"]["protected"],
            "running in the scheduler": load["num_running_reqs"],
            **{f"queue {name}": held for name, held in load["queues"].items()},
        }
        return {name: count for name, count in counted.items() if count}

    def _told_to_the_log(self) -> str | None:
        """Return a line of the log, since it was looked at last, that should not be there."""
        lines = self._log.read().decode(errors="replace").splitlines()
        return next((line[:300] for line in lines if any(w in line for w in _NOT_TO_LOG)), None)

    def _fault_of_one(self, case: Case) -> str | None:
        answer = client.send(case, self.server.port, KEYS[case.user])
        self.answers[case.path.partition("?")[0][:40], _kind(answer)] += 1
        if fault := _fault_in(answer, case):
            return fault
        faults = [self._fault_of_one(step) for step in case.following(_name_in(answer.text))]
        return next((fault for fault in faults if fault), None)


def _fault_in(answer: client.Answer, case: Case) -> str | None:
    if answer.status >= _FAILED and answer.status != _NOT_OFFERED:
        return f"{answer.status}: {answer.text[:300]}"
    if failed := _FAILED_LATER.search(answer.text):
        return f"failed in a stream: {failed[0][:300]}"
    if told := next((inside for inside in _INSIDE if inside in answer.text), None):
        return f"the answer tells of the server: {told}"
    if answer.status == 0 and case.answer_is_due and not answer.left:
        return f"no answer: {answer.text}"
    return None


def _kind(answer: client.Answer) -> str:
    if answer.left:
        return "left"
    return f"{answer.status // 100}xx" if answer.status else "none"


def _name_in(text: str) -> str:
    """Return what an answer names: a session's is a string, a response has an id."""
    try:
        answer = json.loads(text)
    except ValueError:
        return "none"
    named = answer.get("id") if isinstance(answer, dict) else answer
    return named if isinstance(named, str) else "none"


def _difference(expected: dict[str, Any], answer: dict[str, Any]) -> dict[str, Any]:
    return {name: (was, answer[name]) for name, was in expected.items() if answer[name] != was}


@contextlib.contextmanager
def target(folder: Path) -> Iterator[Target]:
    """A server that has just started, with a demo model and its users in ``folder``."""
    model, config = folder / "model", folder / "tenants.toml"
    demo_model.make_model(model)
    config.write_text(CONFIG)
    flags = ["--model-path", str(model), "--served-model-name", "demo"]
    flags += ["--max-total-tokens", str(POOL), "--page-size", str(PAGE), "--enable-metrics"]
    flags += ["--enable-tenant-cache", "--enable-hierarchical-cache"]
    flags += ["--tenant-config", str(config), "--admin-api-key", ADMIN, "--enable-cache-report"]
    flags += ["--context-length", str(CONTEXT), "--tenant-response-cache", str(1 << 20)]
    flags += ["--tool-call-parser", "qwen25", "--reasoning-parser", "qwen3"]
    # With it the scheduler ends where slots of the cache are lost, not only when it is idle.
    env = {"OMP_NUM_THREADS": "1", "SGLANG_ENABLE_STRICT_MEM_CHECK_DURING_BUSY": "1"}
    env["SGLANG_ALLOW_OVERWRITE_LONGER_CONTEXT_LEN"] = "1"
    with server_process.running(flags, env, seconds=START_SECONDS) as (server, log):
        try:
            yield Target(server, log)
        finally:
            (folder / "server.log").write_bytes(log.read_bytes())


def _key(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}
