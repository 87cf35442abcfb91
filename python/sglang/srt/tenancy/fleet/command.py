"""The command line: read an order, send it, show what came of it."""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import urlsplit

from . import orders
from .orders import Order, OrderError
from .replicas import Answer, Replicas
from .sync import sync
from .table import as_json, as_table

KEY_VARIABLE = "SGLANG_TENANT_ADMIN_KEY"
_OWNERS = 10


def main(argv: Sequence[str] | None = None) -> int:
    """Carry out one command. Returns 0 if every replica did it, 1 if not, 2 for a bad command."""
    arguments = _parser().parse_args(argv)
    try:
        replicas = Replicas(arguments.workers, _key(arguments.key_file), arguments.retry)
        sending = sync(replicas) if arguments.command == "sync" else _send(replicas, arguments)
        order, answers = asyncio.run(sending)
    except OrderError as error:
        print(f"fleet: {error}", file=sys.stderr)
        return 2
    done = is_done(answers)
    print(as_json(answers, done=done) if arguments.json else as_table(order, answers))
    return 0 if done else 1


async def _send(replicas: Replicas, arguments: argparse.Namespace) -> tuple[Order, list[Answer]]:
    order = _order(arguments)
    return order, await replicas.send(order)


def is_done(answers: Sequence[Answer]) -> bool:
    """Tell whether every replica did it; what is to be taken away was there at one of them."""
    return all(one.done for one in answers) and any(one.status != 404 for one in answers)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="fleet",
        description="Send an operator's order to every replica. The exit code is 0 if all did it; "
        "an order may be repeated.",
        epilog=f"The admin key comes from --key-file or ${KEY_VARIABLE}.",
    )
    parser.add_argument(
        "--workers", required=True, type=_urls, metavar="URL,URL", help="the replicas, not a router"
    )
    parser.add_argument("--key-file", metavar="FILE", help="a file that holds the admin key alone")
    parser.add_argument(
        "--retry",
        type=_seconds,
        default=0.0,
        metavar="SECONDS",
        help="ask those that are down again, for so long (0)",
    )
    parser.add_argument("--json", action="store_true", help="all answers in full, as one object")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    stats = commands.add_parser("stats", help="how full each cache is")
    stats.add_argument("--owners", type=int, default=_OWNERS, help=f"largest owners ({_OWNERS})")
    prefixes = commands.add_parser("prefixes", help="public prefixes").add_subparsers(
        dest="action", required=True, metavar="list|add|remove"
    )
    prefixes.add_parser("list")
    add = prefixes.add_parser("add")
    add.add_argument("file", help="JSON as POST /tenant/public_prefixes takes; - is stdin")
    prefixes.add_parser("remove").add_argument("name")
    commands.add_parser("erase", help="forget a user").add_argument("user")
    user = commands.add_parser("user", help="what holds for a user").add_subparsers(
        dest="action", required=True, metavar="get|set|unset"
    )
    for action in ("get", "set", "unset"):
        user.add_parser(action).add_argument("user", help="or [default]")
    user.choices["set"].add_argument("fields", nargs="+", metavar="field=value")
    commands.add_parser("selftest", help="prove that isolation holds")
    commands.add_parser("sync", help="tell each replica what became public at the others")
    return parser


def _order(arguments: argparse.Namespace) -> Order:
    match arguments.command, getattr(arguments, "action", None):
        case "stats", _:
            return orders.stats(arguments.owners)
        case "prefixes", "list":
            return orders.list_prefixes()
        case "prefixes", "add":
            return orders.add_prefix(_read(arguments.file), arguments.file)
        case "prefixes", _:
            return orders.remove_prefix(arguments.name)
        case "erase", _:
            return orders.erase(arguments.user)
        case "user", "get":
            return orders.get_user(arguments.user)
        case "user", "set":
            return orders.set_user(arguments.user, arguments.fields)
        case "user", _:
            return orders.unset_user(arguments.user)
        case _:
            return orders.selftest()


def _urls(text: str) -> list[str]:
    urls = list(dict.fromkeys(url.strip().rstrip("/") for url in text.split(",") if url.strip()))
    for url in urls:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.netloc:
            raise argparse.ArgumentTypeError(f"{url!r} is no URL; write http://HOST:PORT")
    if not urls:
        raise argparse.ArgumentTypeError("names no replica; write http://HOST:PORT,http://...")
    return urls


def _seconds(text: str) -> float:
    seconds = float(text)
    if not 0 <= seconds < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is out of range; give seconds from 0")
    return seconds


def _key(file: str | None) -> str:
    """Read the admin key. Never from the command line, which everybody on a machine can list."""
    key = (_read(file) if file else os.environ.get(KEY_VARIABLE, "")).strip()
    if not key:
        where = file or f"${KEY_VARIABLE}"
        raise OrderError(f"{where}: holds no admin key; set ${KEY_VARIABLE} or give --key-file")
    return key


def _read(file: str) -> str:
    try:
        return sys.stdin.read() if file == "-" else Path(file).read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise OrderError(f"{file}: cannot be read: {error}") from None
