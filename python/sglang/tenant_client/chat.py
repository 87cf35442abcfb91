"""A chat in the terminal: what is typed goes to the session, what begins with / to the chat."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TextIO

import openai

from .errors import BadArgument, ClientError
from .options import Options
from .screen import Screen
from .sync_client import Client
from .sync_sessions import Session

FIRST = "main"
HELP = (
    ("/new NAME [SYSTEM PROMPT]", "begin a session"),
    ("/fork NAME", "go on twice: a session with the same conversation"),
    ("/switch NAME", "go on with another session"),
    ("/list", "show all sessions"),
    ("/delete [NAME]", "forget a session, or this one"),
    ("/save FILE", "write all sessions to a file"),
    ("/quit", "end, as Ctrl-D does"),
    ("//...", "say something that begins with a slash"),
)


class Quit(Exception):
    """The chat is to end."""


class Chat:
    """``options``: of every answer. ``bounds``: turns and tokens of a history, or None."""

    def __init__(self, client: Client, screen: Screen, options: Options) -> None:
        self._client = client
        self._screen = screen
        self._options = options
        self._current: str | None = None
        self._shares: dict[str, float | None] = {}
        self.bounds: tuple[int | None, int | None] = (None, None)
        self._commands: dict[str, Callable[[str], None]] = {
            "/new": self._new,
            "/fork": self._fork,
            "/switch": self._switch,
            "/list": self._list,
            "/delete": self._delete,
            "/save": self._save,
            "/help": self._help,
            "/quit": self._quit,
        }

    def begin(self, system: str | None, file: str | None) -> None:
        """Begin with a file's sessions, or with a new one. Raises as ``sessions.create``."""
        if file is not None:
            self._client.sessions.load(file)
        states = self._client.sessions.list()
        if states:
            self._current = states[0].name
            self._list("")
        else:
            self._create(FIRST, system)

    def run(self, lines: TextIO) -> None:
        """Do what each line says, until there is none or one says so."""
        try:
            for line in self._typed() if self._screen.is_terminal and lines.isatty() else lines:
                self._one(line.rstrip("\n"))
        except (Quit, EOFError):
            pass

    def _typed(self) -> Iterator[str]:
        while True:
            session = self._session() if self._current else None
            share = self._shares.get(session.state.key) if session else None
            try:
                yield self._screen.ask(self._current or "no session", share)
            except KeyboardInterrupt:
                # Sessions that were not saved would be gone.
                self._screen.note("/quit, or Ctrl-D, ends the chat")

    def _one(self, line: str) -> None:
        if not line.strip():
            return
        try:
            word, _, rest = line.partition(" ")
            if line.startswith("//") or not line.startswith("/"):
                self._say(line.removeprefix("/") if line.startswith("//") else line)
            elif word in self._commands:
                self._commands[word](rest.strip())
            else:
                raise BadArgument(word, "is no command; /help lists them")
        except (ClientError, openai.OpenAIError, OSError) as error:
            self._screen.fault(str(error))
        except KeyboardInterrupt:  # what is begun leaves nothing
            self._screen.fault("\ncancelled; the session is as before")

    def _say(self, text: str) -> None:
        session = self._session()
        with session.stream(text) as stream:
            for piece in stream:
                self._screen.piece(piece)
        self._shares[session.state.key] = stream.answer.figures.hit_share
        self._screen.answered(stream.answer)

    def _session(self) -> Session:
        if self._current is None:
            raise BadArgument("session", "there is none; /new NAME begins one")
        return self._client.sessions.get(self._current)

    def _create(self, name: str, system: str | None) -> None:
        turns, tokens = self.bounds
        session = self._client.sessions.create(
            name, system, history_turns=turns, history_tokens=tokens, options=self._options
        )
        self._current = name
        self._screen.warmth(name, session.warmth)

    def _new(self, rest: str) -> None:
        name, _, system = rest.partition(" ")
        self._create(name, system.strip() or None)
        self._screen.note(f"now in {name}")

    def _fork(self, name: str) -> None:
        session = self._session().fork(name)
        self._current = session.name
        self._screen.note(f"now in {name}, forked from {session.state.forked_from}")

    def _switch(self, name: str) -> None:
        self._current = self._client.sessions.get(name).name
        self._screen.note(f"now in {name}")

    def _list(self, _: str) -> None:
        self._screen.sessions(self._client.sessions.list(), self._current, self._shares)

    def _delete(self, name: str) -> None:
        name = name or self._session().name
        self._client.sessions.delete(name)
        self._screen.note(f"deleted {name}")
        if name == self._current:
            left = self._client.sessions.list()
            self._current = left[0].name if left else None
            self._screen.note(f"now in {self._current or 'no session'}")

    def _save(self, file: str) -> None:
        if not file:
            raise BadArgument("/save", "name a file")
        self._client.sessions.save(file)
        self._screen.note(f"saved {len(self._client.sessions.list())} sessions in {file}")

    def _help(self, _: str) -> None:
        for command, meaning in HELP:
            self._screen.note(f"{command:28}{meaning}")

    def _quit(self, _: str) -> None:
        raise Quit
