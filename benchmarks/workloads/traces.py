"""Published traces, where the user has the files.

Neither format names users: conversations are given to users by the same Zipf law as in the
workloads that are made up.
"""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from serving.prompts import FIRST_TOKEN
from serving.server import VOCABULARY

from workloads.request import PASSES, Request, Size, Zipf

BLOCK = 512  # tokens that one of Mooncake's hashes stands for
LONGEST = 4_096  # tokens of a prompt; what is longer is cut


class TraceError(ValueError):
    """A file is not what it should be; the message names the file and the line or entry."""


def read(kind: str, path: Path, size: Size, seed: int) -> list[Request]:
    """As many requests as ``size`` wants for all passes. Raises TraceError."""
    readers = {"mooncake": mooncake, "sharegpt": sharegpt}
    if kind not in readers:
        raise TraceError(f"--trace {kind}:{path}: {kind} is unknown; give {' or '.join(readers)}")
    wanted = PASSES * size.requests
    found = readers[kind](path, size, seed)
    if len(found) < wanted:
        raise TraceError(f"{path}: {len(found)} requests, {wanted} wanted; give fewer --requests")
    return found


def mooncake(path: Path, size: Size, seed: int) -> list[Request]:
    """JSON lines of ``timestamp`` (ms), ``input_length``, ``output_length``, ``hash_ids``.

    Equal hashes become equal tokens, ``size.scale`` of 512 to a block. What goes on from a
    prompt that was there, beyond its first block, is of the same user.
    """
    randoms = random.Random(seed)
    users = Zipf(size.users, size.zipf, randoms)
    owners: dict[int, str] = {}
    requests: list[Request] = []
    with path.open() as lines:
        for number, line in enumerate(lines, 1):
            if len(requests) == PASSES * size.requests:
                break
            row = _row(path, number, line)
            blocks = row["hash_ids"]
            known = [owners[block] for block in blocks[1:] if block in owners]
            user = known[-1] if known else f"user-{users.draw()}"
            owners |= dict.fromkeys(blocks[1:], user)
            length = min(size.tokens(row["input_length"]), LONGEST)
            prompt = [token for block in blocks for token in _block(block, size)][:length]
            requests.append(Request(row["timestamp"] / 1e3, user, prompt, size.output))
    return at_rate(requests, size.rate)


def _row(path: Path, number: int, line: str) -> dict[str, Any]:
    try:
        row = json.loads(line)
        return {
            "timestamp": float(row["timestamp"]),
            "input_length": int(row["input_length"]),
            "hash_ids": [int(block) for block in row["hash_ids"]],
        }
    except (ValueError, KeyError, TypeError) as problem:
        raise TraceError(f"{path}, line {number}: no Mooncake request: {problem!r}") from problem


def _block(number: int, size: Size) -> list[int]:
    tokens = random.Random(number)
    return [tokens.randrange(FIRST_TOKEN, VOCABULARY) for _ in range(size.tokens(BLOCK))]


def at_rate(requests: Sequence[Request], rate: float) -> list[Request]:
    """The same gaps, stretched so that ``rate`` requests arrive in a second."""
    if not requests:
        return []
    start, span = requests[0].at, requests[-1].at - requests[0].at
    factor = len(requests) / rate / span if span else 0.0
    return [replace(request, at=(request.at - start) * factor) for request in requests]


def sharegpt(path: Path, size: Size, seed: int) -> list[Request]:
    """A JSON list of ``conversations``, each a list of turns ``from`` human or gpt with a
    ``value``. Each human turn is a request with all that went before; a byte is a token.

    Several conversations go on at once; turns arrive as a Poisson process.
    """
    randoms = random.Random(seed)
    users = Zipf(size.users, size.zipf, randoms)
    talks = _talks(path, size)
    active: list[tuple[str, list[list[int]]]] = []
    requests: list[Request] = []
    now = 0.0
    while len(requests) < PASSES * size.requests and (talks or active):
        while talks and len(active) < 16:
            active.append((f"user-{users.draw()}", talks.pop(0)))
        index = randoms.randrange(len(active))
        user, prompts = active[index]
        now += randoms.expovariate(size.rate)
        requests.append(Request(now, user, prompts.pop(0), size.output))
        if not prompts:
            active.pop(index)
    return requests


def _talks(path: Path, size: Size) -> list[list[list[int]]]:
    """The prompts of each conversation that has any."""
    try:
        entries = json.loads(path.read_text())
    except ValueError as problem:
        raise TraceError(f"{path}: not JSON: {problem}") from problem
    talks = []
    for number, entry in enumerate(entries):
        try:
            turns = [(str(turn["from"]), str(turn["value"])) for turn in entry["conversations"]]
        except (KeyError, TypeError) as problem:
            raise TraceError(f"{path}, entry {number}: no conversation: {problem!r}") from problem
        if prompts := _prompts(turns, size):
            talks.append(prompts)
        if len(talks) == PASSES * size.requests:
            break
    return talks


def _prompts(turns: list[tuple[str, str]], size: Size) -> list[list[int]]:
    said: list[int] = []
    prompts = []
    for speaker, words in turns:
        said += words.encode()[: size.tokens(LONGEST)]
        if speaker == "human" and 0 < len(said) <= LONGEST:
            prompts.append(list(said))
    return prompts
