"""The proxy's command line."""

from __future__ import annotations

import argparse
import gc
import hashlib
import os
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import urlsplit

import uvicorn

from sglang.srt.tenancy.response_cache.store import ResponseStore
from sglang.srt.tenancy.response_proxy.app import Proxy

KEY_VARIABLE = "SGLANG_TENANT_ADMIN_KEY"
_SIZE, _TTL, _SHARE = 256 << 20, 86_400.0, 1.0


def main(argv: Sequence[str] | None = None) -> int:
    """Serve until stopped. Returns the exit code."""
    server = server_of(argv)
    # Else a collection walks all that was imported, and all who ask wait for it.
    gc.collect()
    gc.freeze()
    server.run()
    return 0


def server_of(argv: Sequence[str] | None) -> uvicorn.Server:
    """Make the server that a command line asks for. Exits with code 2 for one that is wrong."""
    parser = _parser()
    arguments = parser.parse_args(argv)
    if arguments.take_from and arguments.anonymous != "share":
        parser.error("--import: the file names no users; it needs --anonymous share")
    try:
        store = _store(arguments)
    except (OSError, ValueError, ImportError) as error:
        parser.error(str(error))
    if not arguments.quiet:
        print(_greeting(arguments), flush=True)
    config = uvicorn.Config(
        _proxy(arguments, store),
        host=arguments.host,
        port=arguments.port,
        log_level="warning" if arguments.quiet else "info",
        access_log=not arguments.quiet,
    )
    return uvicorn.Server(config)


def _proxy(arguments: argparse.Namespace, store: ResponseStore) -> Proxy:
    return Proxy(
        arguments.upstream,
        store,
        user_header=arguments.user_header,
        anonymous=arguments.anonymous,
        admin_key=os.environ.get(KEY_VARIABLE) or None,
        place=arguments.cache_path or ("redis" if arguments.redis else None),
        overwrite=arguments.overwrite,
        take_from=arguments.take_from,
        sglang=arguments.engine == "sglang",
    )


def _greeting(arguments: argparse.Namespace) -> str:
    kept = "one user's" if arguments.anonymous == "share" else "not kept (--anonymous share)"
    return (
        f"Keeping answers of {arguments.upstream} at http://{arguments.host}:{arguments.port}; "
        f"those to requests without a key or a user are {kept}."
    )


def _store(arguments: argparse.Namespace) -> ResponseStore:
    def share(owner: str) -> float:
        return arguments.share

    if arguments.cache_path:
        from sglang.srt.tenancy.response_cache.sqlite_file import SqliteStore

        return SqliteStore(arguments.cache_path, arguments.size, arguments.ttl, share, _tag)
    if arguments.redis:
        from sglang.srt.tenancy.response_cache.redis_store import RedisStore

        return RedisStore(arguments.redis, arguments.ttl, _tag)
    from sglang.srt.tenancy.response_cache.memory import MemoryStore

    return MemoryStore(arguments.size, arguments.ttl, share)


def _tag(owner: str) -> str:
    """Name an owner in a store. The key that is a part of it has been hashed before."""
    return hashlib.sha256(owner.encode()).hexdigest()[:32]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="response_proxy",
        description="Answer a user's identical requests once: a cache in front of SGLang, or of "
        "any server with OpenAI's API.",
        epilog=f"/cache/stats, /cache/info and /cache/clear need the key in ${KEY_VARIABLE}; "
        "without one, they are answered on this machine only.",
    )
    parser.add_argument("--upstream", "--sglang-url", required=True, type=_url, metavar="URL")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=30001)
    add = parser.add_argument
    add("--size", type=int, default=_SIZE, metavar="BYTES", help="of answers (256 MiB)")
    add("--ttl", type=float, default=_TTL, metavar="SECONDS", help="that they are kept (a day)")
    add("--share", type=float, default=_SHARE, help="of the size, for one user (1)")
    places = parser.add_mutually_exclusive_group()
    places.add_argument("--cache-path", metavar="FILE", help="keep answers in a file (SQLite)")
    places.add_argument("--redis", metavar="URL", help="keep answers in Redis")
    parser.add_argument("--engine", choices=("sglang", "other"), default="sglang", help="(sglang)")
    parser.add_argument("--user-header", metavar="NAME", help="that names users, from a gateway")
    parser.add_argument("--anonymous", choices=("isolate", "share"), default="isolate")
    parser.add_argument("--overwrite", action="store_true", help="drop what was kept before")
    parser.add_argument(
        "--import", dest="take_from", type=_file, metavar="FILE", help="of another response cache"
    )
    parser.add_argument("--quiet", action="store_true", help="log warnings only")
    return parser


def _file(text: str) -> Path:
    if not Path(text).is_file():
        raise argparse.ArgumentTypeError(f"{text!r} is no file")
    return Path(text)


def _url(text: str) -> str:
    parts = urlsplit(text)
    if parts.scheme not in ("http", "https") or not parts.netloc:
        raise argparse.ArgumentTypeError(f"{text!r} is no http(s) URL")
    return text
