"""Sessions that nobody closes do not pile up in the scheduler."""

from __future__ import annotations

import pytest
from support.tokenized import tokenized

from sglang.srt.managers.io_struct import OpenSessionReqInput, SessionParams
from sglang.srt.managers.schedule_batch import FINISH_LENGTH, Req
from sglang.srt.mem_cache.chunk_cache import ChunkCache
from sglang.srt.session.session_controller import SessionController
from sglang.srt.tenancy.schedule.sessions import MOST, MOST_OF_ONE, RecentSessions, close_unused


@pytest.fixture
def controller() -> SessionController:
    # It is only told that sessions ended, which no tree of ours needs to know.
    return SessionController(ChunkCache.__new__(ChunkCache))


def open_session(controller: SessionController, name: str) -> None:
    answer = controller.open(OpenSessionReqInput(capacity_of_str_len=100, session_id=name))
    assert answer.success
    close_unused(controller, name)


def ask(controller: SessionController, name: str, rid: str) -> Req:
    session = controller.get(name)
    assert session is not None
    message = tokenized(rid=rid, session_params=SessionParams(id=name))
    return session.create_req(message, None, 1000)


@pytest.mark.slow
def test_one_off_users_leave_a_bounded_number(controller: SessionController) -> None:
    for number in range(20_000):
        open_session(controller, f"{number:016x}.s")
    sessions = controller.sessions
    assert isinstance(sessions, RecentSessions)
    assert len(sessions) == len(sessions.held) == MOST
    assert f"{19_999:016x}.s" in sessions


@pytest.mark.slow
def test_what_is_used_stays(controller: SessionController) -> None:
    open_session(controller, "ann.s")
    for number in range(2 * MOST):
        if number % 1000 == 0:
            ask(controller, "ann.s", f"r{number}").finished_reason = FINISH_LENGTH(1)
        open_session(controller, f"{number:016x}.s")
    assert "ann.s" in controller
    assert len(controller.sessions) == MOST


def test_one_users_sessions_do_not_drive_out_others(controller: SessionController) -> None:
    open_session(controller, "ann.s")
    for number in range(2 * MOST):
        open_session(controller, f"bob.{number}")
    assert "ann.s" in controller
    assert len(controller.sessions) == MOST_OF_ONE + 1


def test_a_session_with_a_request_is_not_closed(controller: SessionController) -> None:
    open_session(controller, "bob.0")
    running = ask(controller, "bob.0", "r")
    for number in range(1, 2 * MOST_OF_ONE):
        open_session(controller, f"bob.{number}")
    assert "bob.0" in controller
    running.finished_reason = FINISH_LENGTH(1)
    for number in range(MOST_OF_ONE):
        open_session(controller, f"bob.more.{number}")
    assert "bob.0" not in controller
