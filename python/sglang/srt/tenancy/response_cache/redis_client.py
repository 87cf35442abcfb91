"""Connect to Redis. Importing this raises StoreError where redis-py is not installed."""

from __future__ import annotations

import asyncio
from urllib.parse import urlsplit

from sglang.srt.tenancy.response_cache.store import StoreError

try:
    from redis.asyncio import BlockingConnectionPool, Redis
    from redis.asyncio.retry import Retry
    from redis.backoff import NoBackoff
    from redis.exceptions import ConnectionError as NoConnection
    from redis.exceptions import RedisError
    from redis.exceptions import TimeoutError as TooLate
except ModuleNotFoundError:
    raise StoreError(
        "response cache in Redis: redis-py is not installed; pip install 'sglang[redis]'"
    ) from None

# What a server that is away, slow or of another mind lets redis-py raise.
REDIS_ERRORS = (RedisError, OSError, asyncio.TimeoutError)
_AWAY = (NoConnection, TooLate, OSError, asyncio.TimeoutError)

_SCHEMES = ("redis", "rediss", "unix")
_ANSWER = 0.5  # seconds, to connect and for each answer; a URL's own `?socket_timeout=` goes before
_CONNECTIONS = 32
_FREE_CONNECTION = 1.0  # seconds to wait for one


def connect(url: str) -> Redis:
    """Make a client; it connects when it is used. Raises StoreError for what is no Redis URL."""
    try:
        pool = BlockingConnectionPool.from_url(
            url,
            max_connections=_CONNECTIONS,
            timeout=_FREE_CONNECTION,
            socket_connect_timeout=_ANSWER,
            socket_timeout=_ANSWER,
            # A server that was restarted has closed the connections that wait in the pool.
            retry=Retry(NoBackoff(), 1, supported_errors=(NoConnection,)),
            protocol=2,
        )
    except (ValueError, TypeError):
        # Their messages may hold the password.
        raise StoreError(
            f"response cache {shown(url)}: no URL of a Redis server; "
            "give redis://[USER:PASSWORD@]HOST[:PORT][/DB], rediss:// (TLS) or unix://PATH"
        ) from None
    return Redis.from_pool(pool)


def shown(url: str) -> str:
    """Return what a log may say of a URL: no user, password or option."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        return "in Redis"
    if parts.scheme not in _SCHEMES:
        return "in Redis"
    where = f"[{host}]" if ":" in host else host
    return f"{parts.scheme}://{where}{f':{port}' if port else ''}{parts.path}"


def is_away(error: BaseException) -> bool:
    """Tell whether the server could not be reached, or did not answer in time."""
    return isinstance(error, _AWAY)
