"""What conversations have in common, token by token."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from ..session_state import Message, SessionState, message
from ..steps import Call, Reply, Steps, fault_of
from ..warming import common_length, tokenize

_LOOKS = (".", "?")


@dataclass(frozen=True)
class Conversation:
    """``tokens``: what the server computed for a session. ``whole``: up to where its copy ends.

    ``group``: whose it is; those of one user share what is private to them.
    """

    name: str
    group: int
    tokens: Sequence[int]
    whole: bool


@dataclass
class Prefix:
    """Tokens from ``start`` to ``end``, which the ``members`` have in common; indices."""

    start: int
    end: int
    members: tuple[int, ...]
    children: list[Prefix] = field(default_factory=list)


def conversation(state: SessionState, group: int, unique: int) -> Steps[Conversation | str]:
    """Find a session's tokens, by the server's template; or say why not.

    ``unique``: a number of this session alone, for tokens that are not known.
    """
    if not state.turns:
        return (yield from _system_alone(state, group))
    last = state.turns[-1]
    asked = [*state.messages(state.turns[:-1]), message("user", last.user)]
    prompt_reply: Reply = yield _tokenize(asked, state)
    # With a message behind it: upstream takes an answer at the end for the user's.
    full = [*state.messages(), message("user", _LOOKS[0])]
    full_reply: Reply = yield _tokenize(full, state)
    for reply in (prompt_reply, full_reply):
        if not reply.ok:
            return f"{state.name}: /tokenize: {fault_of(reply)}"
    prompt, whole = prompt_reply.content["tokens"], full_reply.content["tokens"]
    if last.prompt_tokens != len(prompt) or last.completion_tokens is None:
        return f"{state.name}: its last prompt had other tokens than /tokenize makes of it"
    # Of the last token of an answer nothing is computed.
    length = len(prompt) + max(0, last.completion_tokens - 1)
    known = whole[: len(prompt)] == prompt and len(whole) >= length
    tokens = whole[:length] if known else prompt + [-1 - unique] * (length - len(prompt))
    return Conversation(state.name, group, tokens, whole=True)


def _system_alone(state: SessionState, group: int) -> Steps[Conversation | str]:
    if not state.system:
        return f"{state.name}: nothing was said yet"
    renderings = []
    for look in _LOOKS:
        reply: Reply = yield _tokenize([*state.messages(), message("user", look)], state)
        if not reply.ok:
            return f"{state.name}: /tokenize: {fault_of(reply)}"
        renderings.append(reply.content["tokens"])
    common = common_length(*renderings)
    return Conversation(state.name, group, renderings[0][:common], whole=False)


def _tokenize(messages: list[Message], state: SessionState) -> Call:
    """As operator: who looks at the tree need not have the users' keys."""
    return replace(tokenize(messages, state.options), as_operator=True)


def in_common(conversations: Sequence[Conversation]) -> list[Prefix]:
    """Return what all that begin alike have in common, and below it what fewer have."""
    return _grow(conversations, tuple(range(len(conversations))), 0)


def _grow(
    conversations: Sequence[Conversation], members: tuple[int, ...], start: int
) -> list[Prefix]:
    by_token: dict[int, list[int]] = {}
    for member in members:
        tokens = conversations[member].tokens
        if len(tokens) > start:
            by_token.setdefault(tokens[start], []).append(member)
    grown = []
    for alike in by_token.values():
        first = conversations[alike[0]].tokens
        end = min(common_length(first, conversations[member].tokens) for member in alike)
        below = _grow(conversations, tuple(alike), end)
        grown.append(Prefix(start, end, tuple(alike), below))
    return grown
