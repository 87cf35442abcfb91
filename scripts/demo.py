"""Show in a minute what isolation means: several users, one server, one table.

    python scripts/demo.py [--plain]

Starts a server on a free port with a demo model, lets three users talk to it
through the OpenAI client, and prints how much of each prompt came from the
cache and how soon the first token came.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
import tempfile
import time
from pathlib import Path

import demo_model
import openai
from openai.types.chat import ChatCompletionMessageParam as Message
from serve import CACHE_FLAGS, TENANT_FLAGS
from server_process import ServerEnded, ServerProcess

MODEL = Path(".models/bench")
START_SECONDS = 300.0
REPLY_TOKENS = 12

# Long enough that its prefill is felt on a small machine.
SYSTEM = "You are the assistant of a bank. Be brief, be polite, and never guess. " * 20
SECRET = "My account number is 4417 1234 5678 9113. Why was I charged 29.99 twice?"

# Who says what. Each user's earlier turns and the replies are sent along.
SCRIPT = (
    ("alice", SECRET, "tells a secret"),
    ("alice", "It was on Tuesday.", "goes on"),
    ("bob", SECRET, "sends alice's very words"),
    ("carol", "When do you open?", "asks something else"),
    ("bob", "And now?", "goes on"),
    ("alice", "Thank you.", "goes on"),
)


@dataclasses.dataclass(frozen=True)
class Row:
    """What one request measured."""

    user: str
    act: str
    prompt_tokens: int
    cached_tokens: int
    first_token_ms: float


def main() -> int:
    """Run the demo; return the exit code."""
    arguments = _parser().parse_args()
    demo_model.make_model(MODEL, "bench")
    flags = [*CACHE_FLAGS, *(() if arguments.plain else TENANT_FLAGS)]
    flags += ["--model-path", str(MODEL), "--max-total-tokens", "32768"]
    with tempfile.TemporaryFile() as log:
        print("Starting a server ...", flush=True)
        server = ServerProcess(flags, output=log)
        try:
            server.wait_until_ready(START_SECONDS)
            rows = _play(openai.OpenAI(base_url=f"{server.url}/v1", api_key="none"))
        except ServerEnded as ended:
            log.seek(0)
            sys.stderr.write(log.read().decode(errors="replace"))
            print(f"\nerror: {ended}; its log is above", file=sys.stderr)
            return 1
        finally:
            server.stop()
    _print_table(rows)
    print(_lesson(rows))
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--plain", action="store_true", help="share the cache between users, to compare"
    )
    return parser


def _play(client: openai.OpenAI) -> list[Row]:
    # The first long prompt pays for memory that later ones find ready.
    _ask(client, "warm-up", "", [{"role": "user", "content": SYSTEM[::-1]}])
    conversations: dict[str, list[Message]] = {}
    rows = []
    for user, words, act in SCRIPT:
        start: Message = {"role": "system", "content": SYSTEM}
        messages = conversations.setdefault(user, [start])
        messages.append({"role": "user", "content": words})
        row, reply = _ask(client, user, act, messages)
        messages.append({"role": "assistant", "content": reply})
        rows.append(row)
    return rows


def _ask(client: openai.OpenAI, user: str, act: str, messages: list[Message]) -> tuple[Row, str]:
    started = time.perf_counter()
    first_token_at = None
    reply = ""
    usage = None
    for chunk in client.chat.completions.create(
        model="demo",
        messages=messages,
        max_tokens=REPLY_TOKENS,
        temperature=0,
        stream=True,
        stream_options={"include_usage": True},
        extra_body={"user_id": user},
    ):
        usage = chunk.usage or usage
        text = chunk.choices[0].delta.content if chunk.choices else None
        if text:
            first_token_at = first_token_at or time.perf_counter()
            reply += text
    if usage is None or first_token_at is None:
        raise RuntimeError(f"the server's answer to {user} has no text or no usage")
    details = usage.prompt_tokens_details
    cached = (details.cached_tokens if details else 0) or 0
    wait_ms = (first_token_at - started) * 1_000
    return Row(user, act, usage.prompt_tokens, cached, wait_ms), reply


def _print_table(rows: list[Row]) -> None:
    print(f"\n{'user':7}{'':26}{'prompt':>8}{'cached':>8}{'first token':>14}")
    for row in rows:
        tokens = f"{row.prompt_tokens:>8}{row.cached_tokens:>8}"
        print(f"{row.user:7}{row.act:26}{tokens}{row.first_token_ms:>11.0f} ms")


def _lesson(rows: list[Row]) -> str:
    own = next(row for row in rows[1:] if row.user == "alice")
    stranger = next(row for row in rows if row.user == "bob")
    if stranger.cached_tokens == 0:
        return (
            f"\nAlice found {own.cached_tokens} tokens of her own in the cache. Bob sent her very"
            " words and found none: nothing tells him that they were said before."
        )
    return (
        f"\nBob sent alice's very words and found {stranger.cached_tokens} tokens of them in the"
        " cache: on a server like this, a guess of another user's prompt can be checked."
    )


if __name__ == "__main__":
    sys.exit(main())
