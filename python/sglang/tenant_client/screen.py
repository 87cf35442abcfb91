"""What a chat shows. Text of models and users is only text: it commands no terminal."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from .answer import Answer, Figures
from .session_state import SessionState
from .warming import Warmth

_BAR = 10  # characters


class Screen:
    """Shows on a terminal, or in a pipe without colours."""

    def __init__(self, console: Console) -> None:
        self._console = console

    def ask(self, name: str, share: float | None) -> str:
        """Ask on a terminal for the next line, by the session and its cached share."""
        shown = "" if share is None else f" {share:.0%} cached"
        return self._console.input(Text(f"{plain(name)}{shown} > ", style="bold"))

    @property
    def is_terminal(self) -> bool:
        """Whether somebody types."""
        return self._console.is_terminal

    def piece(self, text: str) -> None:
        """Show the next piece of an answer."""
        self._console.print(Text(plain(text)), end="", soft_wrap=True)

    def note(self, text: str, style: str = "dim") -> None:
        """Show a line of the chat's own."""
        self._console.print(Text(plain(text), style=style), soft_wrap=True)

    def fault(self, text: str) -> None:
        """Show what did not work."""
        self.note(text, "red")

    def answered(self, answer: Answer) -> None:
        """Show the figures of an answer."""
        self._console.print()
        self.note(figures_line(answer.figures))
        if answer.dropped_turns:
            self.note(f"the {answer.dropped_turns} oldest turns were forgotten")

    def warmth(self, name: str, warmth: Warmth | None) -> None:
        """Show what is known of a system prompt that was warmed."""
        if warmth is not None:
            known = {True: "warm", False: "not warm", None: "unknown whether warm"}
            self.note(f"{name}: system prompt {known[warmth.confirmed]}: {warmth.reason}")

    def sessions(
        self, states: Sequence[SessionState], current: str | None, shares: dict[str, float | None]
    ) -> None:
        """Show all sessions; ``shares``: of the last answer's prompt, by key."""
        table = Table(box=None, pad_edge=False)
        for column in ("", "session", "turns", "tokens", "cached", "forked from"):
            table.add_column(column, overflow="fold")
        for state in states:
            total = state.turns[-1].total if state.turns else None
            table.add_row(
                "*" if state.name == current else "",
                Text(plain(state.name)),
                str(len(state.turns)),
                "" if total is None else str(total),
                percent(shares.get(state.key)),
                Text(plain(state.forked_from or "")),
            )
        self._console.print(table)


def figures_line(figures: Figures) -> str:
    """Return an answer's figures as one line."""
    parts = []
    if figures.hit_share is not None:
        full = round(figures.hit_share * _BAR)
        bar = "█" * full + "░" * (_BAR - full)
        cached = f"{figures.cached_tokens} of {figures.prompt_tokens} prompt tokens cached"
        parts.append(f"{bar} {percent(figures.hit_share)}, {cached}")
    elif figures.prompt_tokens is not None:
        parts.append(f"{figures.prompt_tokens} prompt tokens, cached: unknown")
    if figures.first_token is not None:
        parts.append(f"first token {figures.first_token * 1000:.0f} ms")
    parts.append(f"{figures.seconds:.2f} s")
    if figures.replayed:
        parts.append("from the response cache, as are the counts")
    if figures.fallback:
        parts.append(f"answered by {figures.endpoint}")
    return ", ".join(parts)


def percent(share: float | None) -> str:
    """Return a share for a table; nothing where it is not known."""
    return "" if share is None else f"{share:.0%}"


def plain(text: str) -> str:
    """Return the text without what a terminal would obey."""
    return "".join(letter for letter in text if letter.isprintable() or letter in "\n\t")
