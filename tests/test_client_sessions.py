"""Sessions of the client, without a server: random plays against a model, and files."""

from __future__ import annotations

import json
import os
import random
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from sglang.tenant_client import session_file
from sglang.tenant_client.errors import BadArgument, NoSession, SessionExists
from sglang.tenant_client.options import check_options, merged
from sglang.tenant_client.session_state import Bounds, SessionState, plan
from sglang.tenant_client.session_table import SessionTable

NAMES = ["a", "b", "c", "d"]
MARKUP = 3  # tokens of a message besides its letters


@dataclass
class Told:
    """What the model remembers of a session: all that was said since the last cut."""

    system: str | None
    bounds: Bounds
    used: float
    said: list[tuple[str, str]] = field(default_factory=list)


def tokens_of(messages: list[dict[str, str]]) -> int:
    """The prompt tokens that a server would count: a letter is a token."""
    return sum(MARKUP + len(message["content"]) for message in messages) + 1


class Play:
    """Does the same to a table and to plain lists."""

    def __init__(self, seed: int, folder: Path):
        self.rng = random.Random(seed)
        self.table = SessionTable()
        self.model: dict[str, Told] = {}
        self.now = 0.0
        self.file = folder / "sessions.json"

    def step(self) -> None:
        self.now += self.rng.random()
        self.rng.choice([self.create, self.say, self.say, self.say, self.fail, self.fork,
                         self.delete, self.cleanup, self.restart])()  # fmt: skip
        self.check()

    def word(self) -> str:
        return "".join(self.rng.choices("abcdef é\n", k=self.rng.randrange(1, 30)))

    def create(self) -> None:
        name, system = self.rng.choice(NAMES), self.rng.choice((None, self.word()))
        bounds = Bounds(self.rng.choice((None, 1, 3, 6)), None, self.rng.choice((0.0, 0.5, 1.0)))
        state = SessionState(name, system, bounds=bounds, used=self.now)
        if name in self.model:
            with pytest.raises(SessionExists):
                self.table.add(state)
            return
        self.table.add(state)
        self.model[name] = Told(system, bounds, self.now)

    def say(self) -> None:
        name, text, answer = self.rng.choice(NAMES), self.word(), self.word()
        if name not in self.model:
            with pytest.raises(NoSession):
                self.table.get(name)
            return
        told = self.model[name]
        planned = plan(self.table.get(name), text)
        if told.bounds.turns is not None and len(told.said) >= told.bounds.turns:
            left = min(int(told.bounds.turns * told.bounds.keep), told.bounds.turns - 1)
            assert planned.dropped == len(told.said) - left
            told.said = told.said[len(told.said) - left :]
        else:
            assert planned.dropped == 0
        expected = [] if told.system is None else [("system", told.system)]
        for user, assistant in told.said:
            expected += [("user", user), ("assistant", assistant)]
        expected.append(("user", text))
        assert [(one["role"], one["content"]) for one in planned.messages] == expected
        after = planned.after(answer, tokens_of(planned.messages), len(answer), self.now)
        self.table.update(after)
        told.said.append((text, answer))
        told.used = self.now

    def fail(self) -> None:
        """A turn that is planned and comes to nothing, or whose session is gone when it ends."""
        name = self.rng.choice(NAMES)
        if name not in self.model:
            return
        planned = plan(self.table.get(name), self.word())
        if self.rng.random() < 0.3:
            self.table.delete(name)
            self.table.update(planned.after("late", 1, 1, self.now))
            del self.model[name]

    def fork(self) -> None:
        name, new = self.rng.choice(NAMES), self.rng.choice(NAMES)
        if name not in self.model or new in self.model:
            with pytest.raises((NoSession, SessionExists)):
                self.table.fork(name, new, self.now)
            return
        assert self.table.fork(name, new, self.now).forked_from == name
        told = self.model[name]
        self.model[new] = Told(told.system, told.bounds, self.now, list(told.said))

    def delete(self) -> None:
        name = self.rng.choice(NAMES)
        if name in self.model:
            self.table.delete(name)
            del self.model[name]
        else:
            with pytest.raises(NoSession):
                self.table.delete(name)

    def cleanup(self) -> None:
        age = self.rng.random() * 20
        old = {name for name, told in self.model.items() if self.now - told.used > age}
        assert {state.name for state in self.table.cleanup(age, self.now)} == old
        for name in old:
            del self.model[name]

    def restart(self) -> None:
        session_file.save(self.file, self.table.list())
        states = self.table.list()
        self.table = SessionTable()
        self.table.add(*session_file.load(self.file))
        assert self.table.list() == states

    def check(self) -> None:
        states = {state.name: state for state in self.table.list()}
        assert states.keys() == self.model.keys()
        for name, told in self.model.items():
            assert [(turn.user, turn.assistant) for turn in states[name].turns] == told.said
            assert (states[name].system, states[name].used) == (told.system, told.used)
        used = [state.used for state in self.table.list()]
        assert used == sorted(used, reverse=True)


@pytest.mark.parametrize("seed", range(20))
def test_sessions_do_as_lists_do(seed: int, tmp_path: Path) -> None:
    play = Play(seed, tmp_path)
    for _ in range(150):
        play.step()


@pytest.mark.parametrize("seed", range(20))
def test_a_history_is_bounded_by_tokens(seed: int) -> None:
    rng = random.Random(seed)
    system = rng.choice((None, "s" * rng.randrange(1, 200)))
    most, keep = rng.randrange(50, 400), rng.choice((0.0, 0.5, 0.9))
    state = SessionState("x", system, bounds=Bounds(None, most, keep))
    own = len(system or "") + MARKUP
    cuts = 0
    for _ in range(60):
        planned = plan(state, "u" * rng.randrange(1, 40))
        kept = tokens_of(state.messages(planned.kept))
        # What the last answer's figures said is exact, what single turns took is an estimate.
        assert not planned.kept or kept <= most + own
        if planned.dropped:
            one_more = tokens_of(state.messages(state.turns[planned.dropped - 1 :]))
            assert not planned.kept or kept <= most * keep + own
            assert one_more >= most * keep - own
        cuts += planned.dropped > 0
        answer = "a" * rng.randrange(1, 40)
        state = planned.after(answer, tokens_of(planned.messages), len(answer), 0.0)
    assert 0 < cuts < 60, "it is cut now and then, not with each turn"


def test_without_figures_tokens_bound_nothing() -> None:
    state = SessionState("x", bounds=Bounds(None, 10))
    for _ in range(5):
        state = plan(state, "u" * 99).after("a" * 99, None, None, 0.0)
    assert len(state.turns) == 5


@pytest.mark.parametrize("name", ["", " x", "x\n", "\x1b[2J", "n" * 129])
def test_a_name_that_cannot_be_shown_is_none(name: str) -> None:
    with pytest.raises(BadArgument, match=r"^name: "):
        SessionState(name)


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"temprature": 0}, "temprature"),
        ({"n": 2}, "n"),
        ({"stream": True}, "stream"),
        ({"user_id": "bob"}, "user_id"),
        ({"extra_body": 3}, "extra_body"),
    ],
)
def test_an_option_that_is_none_is_refused(options: dict[str, object], field: str) -> None:
    with pytest.raises(BadArgument) as refusal:
        check_options(options)
    assert refusal.value.field == field


def test_a_turns_options_win_over_the_sessions() -> None:
    of_session = {"temperature": 1, "max_tokens": 5, "extra_body": {"top_k": 1, "min_p": 0}}
    both = merged(of_session, {"temperature": 0, "extra_body": {"top_k": 2}})
    assert both == {"temperature": 0, "max_tokens": 5, "extra_body": {"top_k": 2, "min_p": 0}}


# Files


def saved(folder: Path) -> Path:
    file = folder / "sessions.json"
    state = SessionState("x", "be brief", options={"temperature": 0})
    session_file.save(file, [plan(state, "hi").after("ho", 5, 2, 1.0)])
    return file


def test_only_its_owner_reads_a_file(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        file = saved(tmp_path)
    finally:
        os.umask(before)
    assert file.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_write_that_fails_leaves_the_file_before(
    call: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = saved(tmp_path)
    before = file.read_bytes()

    def fail(*_: object) -> None:
        raise OSError("no space left")

    monkeypatch.setattr(os, call, fail)
    with pytest.raises(OSError, match="no space"):
        session_file.save(file, [])
    assert file.read_bytes() == before
    assert [entry.name for entry in tmp_path.iterdir()] == [file.name]


@pytest.mark.parametrize(
    ("where", "value", "field"),
    [
        (("version",), 2, "version"),
        (("sessions",), {}, "sessions"),
        (("sessions", 0, "name"), 5, "sessions[0].name"),
        (("sessions", 0, "name"), "", "sessions[0].name"),
        (("sessions", 0, "turns"), None, "sessions[0].turns"),
        (("sessions", 0, "turns", 0, "user"), None, "sessions[0].turns[0].user"),
        (("sessions", 0, "turns", 0, "tokens"), True, "sessions[0].turns[0].tokens"),
        (("sessions", 0, "bounds", "turns"), 0, "sessions[0].bounds"),
        (("sessions", 0, "more"), 1, "sessions[0].more"),
    ],
)
def test_a_file_that_is_wrong_is_refused_by_field(
    where: tuple[str | int, ...], value: object, field: str, tmp_path: Path
) -> None:
    file = saved(tmp_path)
    content = json.loads(file.read_text())
    place = content
    for step in where[:-1]:
        place = place[step]
    place[where[-1]] = value
    file.write_text(json.dumps(content))
    with pytest.raises(BadArgument) as refusal:
        session_file.load(file)
    assert str(refusal.value).startswith(f"{file}: {field}")


def test_every_truncated_file_is_refused(tmp_path: Path) -> None:
    file = saved(tmp_path)
    whole = file.read_text()
    for end in range(len(whole)):
        file.write_text(whole[:end])
        with pytest.raises(BadArgument):
            session_file.load(file)
