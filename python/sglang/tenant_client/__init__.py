"""A client of servers of this fork: sessions that stay warm, fork, and say what was cached.

``Client`` for threads, ``AsyncClient`` for asyncio. Imports nothing of the engine. docs/client.md
"""

from .answer import Answer, Figures
from .async_client import AsyncClient
from .async_sessions import AsyncAnswerStream, AsyncSession, AsyncSessions
from .endpoint import Endpoint, Retries, Timeouts
from .errors import (
    BadArgument,
    BrokenAnswer,
    ClientError,
    NoSession,
    NotReady,
    Refused,
    SessionExists,
    TurnOpen,
)
from .options import Options
from .server_state import Capacity, Health
from .session_state import Bounds, SessionState, Turn
from .sync_client import Client
from .sync_sessions import AnswerStream, Session, Sessions
from .warming import Warmth

__all__ = [
    "Answer",
    "AnswerStream",
    "AsyncAnswerStream",
    "AsyncClient",
    "AsyncSession",
    "AsyncSessions",
    "BadArgument",
    "Bounds",
    "BrokenAnswer",
    "Capacity",
    "Client",
    "ClientError",
    "Endpoint",
    "Figures",
    "Health",
    "NoSession",
    "NotReady",
    "Options",
    "Refused",
    "Retries",
    "Session",
    "SessionExists",
    "SessionState",
    "Sessions",
    "Timeouts",
    "Turn",
    "TurnOpen",
    "Warmth",
]
