"""All that a user of many endpoints is told, as far as it does not tell who asks, or when."""

from __future__ import annotations

import json
from typing import Any

import httpx

_GREEDY = {"temperature": 0, "max_new_tokens": 6, "ignore_eos": True}
# What differs from one time to the next, whoever else is there.
_IDS = ("id", "session_id", "response_id", "created")
_TOLERANCE = 1e-3
_TIMES = ("_time", "_ts", "_at", "_latency", "_delay", "_throughput")


def transcript(http: httpx.Client) -> list[Any]:
    """Ask as one user of a server that has just met them; return every answer.

    No case's prompt begins like one of these: nothing of them becomes public.
    """
    told = _Told(http)
    for turn in range(3):
        told.ask("/generate", text=f"~A story in parts. {'On it goes. ' * turn}", rid="mine")
    told.ask(
        "/generate",
        text="~With its probabilities",
        return_logprob=True,
        top_logprobs_num=2,
        logprob_start_len=0,
    )
    told.ask("/generate", text=["~One of two", "~Two of two"], rid=["one", "two"])
    told.ask("/generate", text="~As it comes", stream=True)
    messages: list[dict[str, str]] = [{"role": "system", "content": "~You answer at length."}]
    for question in ("What is a cache?", "And whose?"):
        messages.append({"role": "user", "content": question})
        answer = told.chat(messages)
        messages.append({"role": "assistant", "content": answer})
    told.chat(messages[:2], stream=True)
    told.post("/v1/completions", model="demo", prompt="~Once", max_tokens=4, temperature=0, n=2)
    told.post("/v1/completions", model="demo", prompt="~Once", max_tokens=-4)
    told.post("/tokenize", model="demo", prompt="~Count me")
    session = told.post("/open_session", capacity_of_str_len=1000, session_id="talk")
    for text in ("~In a session, ", "~and on it goes"):
        told.ask("/generate", text=text, session_params={"id": session})
    told.post("/close_session", session_id="talk")
    told.post("/abort_request", rid="mine")
    told.ask("/generate", text="~A story in parts. ", rid="mine")
    return told.answers


def difference(one: Any, other: Any) -> str | None:
    """Say where two transcripts differ, if they do. A probability's last digits depend on how many
    requests are computed in one step, and tell no more than times do."""
    if isinstance(one, float) and isinstance(other, float):
        return None if abs(one - other) < _TOLERANCE else f"{one} is not {other}"
    if isinstance(one, dict) and isinstance(other, dict) and one.keys() == other.keys():
        parts = [(name, value, other[name]) for name, value in one.items()]
    elif isinstance(one, (list, tuple)) and len(one) == len(other):
        parts = [(str(at), *pair) for at, pair in enumerate(zip(one, other, strict=True))]
    else:
        return None if one == other else f"{one!r:.300} is not {other!r:.300}"
    found = ((name, difference(mine, theirs)) for name, mine, theirs in parts)
    return next((f"{name}: {said}" for name, said in found if said), None)


class _Told:
    """``answers``: path, status and what was said."""

    def __init__(self, http: httpx.Client):
        self._http = http
        self.answers: list[Any] = []

    def ask(self, path: str, **fields: Any) -> Any:
        return self.post(path, sampling_params=_GREEDY, **fields)

    def chat(self, messages: list[dict[str, str]], **fields: Any) -> str:
        body = {"model": "demo", "messages": messages, "max_tokens": 6, "temperature": 0}
        said = self.post("/v1/chat/completions", **body, **fields)
        return "" if fields else str(said["choices"][0]["message"]["content"])

    def post(self, path: str, **body: Any) -> Any:
        response = self._http.post(path, json=body)
        said = _read(response.text)
        self.answers.append((path, response.status_code, _lasting(said)))
        return said


def _read(text: str) -> Any:
    if not text:
        return None
    try:
        return json.loads(text)
    except ValueError:
        lines = [line.removeprefix("data: ") for line in text.splitlines() if line]
        return _whole([json.loads(line) if line.startswith("{") else line for line in lines])


def _whole(events: list[Any]) -> list[Any]:
    """Put a stream's answer together: into how many events it is cut is a matter of time."""
    *told, end = events
    if "choices" not in told[0]:
        return [told[-1], end]
    deltas = [choice["delta"] for event in told for choice in event["choices"]]
    names = ("reasoning_content", "content")
    said = {name: "".join(delta.get(name) or "" for delta in deltas) for name in names}
    reasons = [choice["finish_reason"] for event in told for choice in event["choices"]]
    return [said, reasons[-1], end]


def _lasting(said: Any) -> Any:
    if isinstance(said, dict):
        return {name: _lasting(value) for name, value in said.items() if not _is_passing(name)}
    return [_lasting(one) for one in said] if isinstance(said, list) else said


def _is_passing(name: str) -> bool:
    return name in _IDS or name.endswith(_TIMES)
