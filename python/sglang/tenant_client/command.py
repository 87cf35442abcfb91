"""The command line: ``sglang-tenant chat``, ``sglang-tenant analysis``."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

import openai
from rich.console import Console

from .chat import Chat
from .endpoint import Endpoint
from .errors import BadArgument, ClientError
from .options import Options
from .screen import Screen
from .sync_client import Client

URL_VARIABLE = "SGLANG_TENANT_URL"
KEY_VARIABLE = "SGLANG_TENANT_KEY"
ADMIN_KEY_VARIABLE = "SGLANG_TENANT_ADMIN_KEY"


def main(argv: Sequence[str] | None = None) -> int:
    """Carry out one command. Returns 0, 1 where the server cannot, or 2 for a bad command."""
    arguments = _parser().parse_args(argv)
    try:
        with _client(arguments) as client:
            if arguments.wait:
                client.wait_ready(arguments.wait)
            run = _chat if arguments.command == "chat" else _analysis
            return run(client, arguments)
    except (ClientError, openai.OpenAIError, OSError) as error:
        print(f"sglang-tenant: {error}", file=sys.stderr)
        return 2 if isinstance(error, BadArgument) else 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="sglang-tenant",
        description="Talk to a server, and see what of it was cached.",
        epilog=f"Keys come from files or from ${KEY_VARIABLE} and ${ADMIN_KEY_VARIABLE}.",
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="chat|analysis")
    chat = commands.add_parser("chat", help="conversations that fork")
    _add_server(chat)
    chat.add_argument("--fallback", action="append", default=[], metavar="URL", help="may repeat")
    chat.add_argument("--fallback-key-file", metavar="FILE", help="their key")
    chat.add_argument("--system", metavar="TEXT", help="the first session's system prompt")
    chat.add_argument("--load", metavar="FILE", help="sessions that /save wrote")
    chat.add_argument("--max-tokens", type=int, metavar="N", help="of an answer")
    chat.add_argument("--temperature", type=float, metavar="T")
    chat.add_argument("--history-turns", type=int, metavar="N", help="older turns are forgotten")
    chat.add_argument("--history-tokens", type=int, metavar="N", help="the same, by tokens")
    analysis = commands.add_parser("analysis", help="which prefixes are shared, what that saves")
    _add_server(analysis)
    analysis.add_argument(
        "--sessions", nargs="*", default=[], metavar="FILE", help="what /save wrote, one of a user"
    )
    analysis.add_argument("--picture", metavar="FILE", help="write a PNG, too")
    analysis.add_argument("--admin-key-file", metavar="FILE", help="needed, or the variable")
    return parser


def _add_server(parser: argparse.ArgumentParser) -> None:
    url = os.environ.get(URL_VARIABLE, "http://127.0.0.1:30000")
    parser.add_argument("--url", default=url, help=f"(${URL_VARIABLE}, or %(default)s)")
    parser.add_argument("--user", metavar="ID", help="who asks, where users hold no keys")
    parser.add_argument("--key-file", metavar="FILE", help="a file that holds the key alone")
    parser.add_argument("--model", help="the server's first, if left out")
    parser.add_argument(
        "--wait", type=float, default=0.0, metavar="SECONDS", help="for the server to be up (0)"
    )


def _client(arguments: argparse.Namespace) -> Client:
    key = _key(arguments.key_file, KEY_VARIABLE)
    endpoint = Endpoint(arguments.url, key, arguments.user, arguments.model)
    admin_key = _key(getattr(arguments, "admin_key_file", None), ADMIN_KEY_VARIABLE)
    # The first server's key is nobody else's business.
    other_key = _key(getattr(arguments, "fallback_key_file", None), "")
    fallbacks = [
        Endpoint(url, other_key, arguments.user) for url in getattr(arguments, "fallback", [])
    ]
    return Client(endpoint, fallbacks=fallbacks, admin_key=admin_key)


def _key(file: str | None, variable: str) -> str | None:
    """Read a key. Never from the command line, which everybody on a machine can list."""
    key = (Path(file).read_text() if file else os.environ.get(variable, "")).strip()
    if file and not key:
        raise BadArgument(file, "holds no key")
    return key or None


def _chat(client: Client, arguments: argparse.Namespace) -> int:
    options = Options()
    if arguments.max_tokens is not None:
        options["max_tokens"] = arguments.max_tokens
    if arguments.temperature is not None:
        options["temperature"] = arguments.temperature
    chat = Chat(client, Screen(Console(highlight=False)), options)
    chat.bounds = (arguments.history_turns, arguments.history_tokens)
    chat.begin(arguments.system, arguments.load)
    chat.run(sys.stdin)
    return 0


def _analysis(client: Client, arguments: argparse.Namespace) -> int:
    # Only here: the picture takes matplotlib.
    from .analysis.report import show

    files = [Path(file) for file in arguments.sessions]
    picture = Path(arguments.picture) if arguments.picture else None
    show(client, files, Console(highlight=False), picture)
    return 0
