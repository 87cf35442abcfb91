"""What the detector lets become public on a whole server, and what never."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from support import scan_results
from support.asks import Asker
from support.patience import until
from support.prompts import fresh_prompt, fresh_user
from support.scan_results import ask_three, detector, scanned, settle
from support.server import Server

pytestmark = pytest.mark.server

FLAGS = (
    *("--enable-tenant-cache", "--enable-cache-report", "--page-size", "16"),
    *("--tenant-epoch-requests", "100000", *scan_results.FLAGS),
)


@pytest.fixture(scope="module")
def server(tiny_model: Path) -> Iterator[Server]:
    with Server(tiny_model, *FLAGS) as server:
        yield server


@pytest.fixture
def asker(server: Server) -> Asker:
    return Asker(server)


def shared(asker: Asker, endpoint: str, prompt: str) -> int:
    """Tokens that a fourth user gets from the cache."""
    return asker.ask(endpoint, prompt, user_id=fresh_user()).cached


@pytest.mark.parametrize(
    "endpoint", ["generate", "completions", "chat", "chat streaming", "responses"]
)
def test_harmless_text_becomes_public(asker: Asker, endpoint: str) -> None:
    prompt = fresh_prompt(400)
    ask_three(asker, endpoint, prompt)
    # The end of a prompt is left open: what follows might belong to it.
    until(lambda: shared(asker, endpoint, prompt) >= 300)


@pytest.mark.parametrize("endpoint", ["generate", "chat"])
@pytest.mark.parametrize("where", [0, 200])
def test_what_follows_a_card_number_never_does(asker: Asker, endpoint: str, where: int) -> None:
    prompt = fresh_prompt(400)
    prompt = f"{prompt[:where]} 5105 1051 0510 5100 {prompt[where:]}"
    ask_three(asker, endpoint, prompt)
    witness = fresh_prompt(400)  # scan results are delivered in order
    ask_three(asker, endpoint, witness)
    until(lambda: shared(asker, endpoint, witness) >= 300)
    # A chat's prompt has a role before the text.
    assert shared(asker, endpoint, prompt) <= where + 16


def test_two_users_are_not_enough(asker: Asker) -> None:
    prompt = fresh_prompt(400)
    settle(asker.server)
    before = scanned(asker.server)
    for _ in range(2):
        asker.ask("chat", prompt, user_id=fresh_user())
    until(lambda: scanned(asker.server) >= before + 2)
    assert shared(asker, "chat", prompt) == 0


def test_what_asks_to_stay_private_is_not_even_read(asker: Asker) -> None:
    before = detector(asker.server)["counts"].get("offered", 0)
    prompt = fresh_prompt(400)
    for scope in ("private", "none"):
        asker.ask("chat", prompt, user_id=fresh_user(), cache_scope=scope)
    asker.ask("chat", prompt)  # anonymous
    assert detector(asker.server)["counts"].get("offered", 0) == before


def test_a_batch_with_samples_is_scanned(asker: Asker) -> None:
    prompts = [fresh_prompt(300), fresh_prompt(300)]
    before = scanned(asker.server)
    for _ in range(3):
        sampling = {"max_new_tokens": 2, "n": 2, "temperature": 0.5}
        asker.generate(text=prompts, user_id=fresh_user(), sampling_params=sampling)
    until(lambda: scanned(asker.server) >= before + 6)
    until(lambda: all(shared(asker, "generate", prompt) >= 200 for prompt in prompts))


def offered(asker: Asker) -> int:
    return int(detector(asker.server)["counts"].get("offered", 0))


def test_only_the_first_request_of_a_session_is_scanned(asker: Asker) -> None:
    """What continues it is not where the tree begins; nothing is said of it: it stays private."""
    first, more = fresh_prompt(300), fresh_prompt(300)
    settle(asker.server)
    for _ in range(3):
        user = {"user_id": fresh_user()}
        session = asker.post("/open_session", {"capacity_of_str_len": 10_000, **user}).json()
        before, known = scanned(asker.server), offered(asker)
        begun = asker.generate(text=first, session_params={"id": session}, **user)
        after = {"id": session, "rid": begun["meta_info"]["id"]}
        asker.generate(text=more, session_params=after, **user)
        assert offered(asker) == known + 1
        until(lambda before=before: scanned(asker.server) == before + 1)  # type: ignore[misc]
    until(lambda: shared(asker, "generate", first) >= 200)
    assert shared(asker, "generate", more) == 0


def test_an_extra_key_is_a_world_of_its_own(asker: Asker) -> None:
    prompt = fresh_prompt(400)
    ask_three(asker, "generate", prompt, extra_key="team")
    until(
        lambda: asker.ask("generate", prompt, user_id=fresh_user(), extra_key="team").cached >= 300
    )
    assert shared(asker, "generate", prompt) == 0


def test_text_in_many_bytes_becomes_public(asker: Asker) -> None:
    prompt = "".join(chr(0x4E00 + ord(letter)) for letter in fresh_prompt(100))
    ask_three(asker, "chat", prompt)
    until(lambda: shared(asker, "chat", prompt) >= 80)


def test_a_dead_detector_stops_no_request(asker: Asker) -> None:
    """Requests go on, the counter says so, it runs again. Last: it harms the others' counts."""
    state = detector(asker.server)
    psutil.Process(state["pid"]).kill()
    asker.ask("chat", fresh_prompt(400), user_id=fresh_user())

    def runs_again() -> bool:
        now = detector(asker.server)
        return bool(now["running"] and now["pid"] != state["pid"])

    until(runs_again)
    assert detector(asker.server)["counts"]["crashes"] >= 1
    prompt = fresh_prompt(400)
    ask_three(asker, "chat", prompt)
    until(lambda: shared(asker, "chat", prompt) >= 300)


JUDGED = ("--tenant-detector-judge", "--enable-priority-scheduling")


def test_the_served_model_is_asked_and_leaves_no_trace(tiny_model: Path) -> None:
    """The demo model's answers are gibberish: what it is asked about stays private."""
    with Server(tiny_model, *FLAGS, *JUDGED) as server:
        asker = Asker(server)
        start = fresh_prompt(300)
        prompt = f"{start} She was diagnosed with cancer in spring. {fresh_prompt(300)}"
        ask_three(asker, "chat", prompt)
        until(lambda: 300 - 32 <= shared(asker, "chat", prompt) <= 300 + 16)
        counts = detector(server)["counts"]
        assert counts["judge_unclear"] >= 1
        assert "judge_failures" not in counts
        assert "may be shown to strangers" not in server.log


def test_no_log_line_holds_a_prompt(asker: Asker) -> None:
    secret = "nobody.special@private-mail.org"
    asker.ask("chat", f"write to {secret} {fresh_prompt(300)}", user_id=fresh_user())
    until(lambda: detector(asker.server)["kinds"].get("mail", 0) >= 1)
    assert "private-mail" not in asker.server.log
