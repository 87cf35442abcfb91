"""Storage (L3): pages come back to their owner after memory forgot them, and to nobody else."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from support.asks import Asker
from support.operator import Operator, fresh_admin_key
from support.prompts import fresh_prompt, fresh_user
from support.server import Server
from support.sharing import beyond_chance

pytestmark = pytest.mark.server

ADMIN_KEY = fresh_admin_key()

FLAGS = (
    *("--admin-api-key", ADMIN_KEY),
    *("--enable-tenant-cache", "--enable-cache-report"),
    *("--tenant-detector", "off-trust-all", "--tenant-public-users", "3"),
    *("--enable-hierarchical-cache", "--hicache-ratio", "4"),
    *("--hicache-storage-backend", "file", "--hicache-storage-prefetch-policy", "wait_complete"),
    *("--hicache-storage-backend-extra-config", '{"prefetch_threshold": 16}'),
)


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that storage is."""
    return tmp_path_factory.mktemp("pages")


@pytest.fixture(scope="module", params=["1", "16"])
def server(request: pytest.FixtureRequest, tiny_model: Path, pages: Path) -> Iterator[Server]:
    env = {"SGLANG_HICACHE_FILE_BACKEND_STORAGE_DIR": str(pages)}
    with Server(tiny_model, *FLAGS, "--page-size", request.param, env=env) as server:
        yield server


@pytest.fixture
def asker(server: Server) -> Asker:
    return Asker(server, ADMIN_KEY)


def cached(asker: Asker, prompt: str, user: str, **body: str) -> tuple[int, int]:
    meta = asker.generate(text=prompt, user_id=user, **body)["meta_info"]
    return beyond_chance(meta["cached_tokens"]), int(meta["prompt_tokens"])


def test_a_private_prompt_comes_back_to_its_owner_alone(asker: Asker) -> None:
    prompt, alice = fresh_prompt(), fresh_user()
    assert cached(asker, prompt, alice)[0] == 0
    asker.empty_cache()
    assert cached(asker, prompt, fresh_user())[0] == 0
    asker.empty_cache()
    assert cached(asker, prompt, alice, extra_key="another adapter")[0] == 0
    hit, tokens = cached(asker, prompt, alice)
    assert hit >= tokens - 17


def test_a_public_prompt_comes_back_to_everybody(asker: Asker) -> None:
    prompt = fresh_prompt()
    for _ in range(3):
        cached(asker, prompt, fresh_user())
    asker.empty_cache()
    hit, tokens = cached(asker, prompt, fresh_user())
    assert hit >= tokens - 17
    asker.empty_cache()
    assert cached(asker, prompt, fresh_user(), extra_key="salt")[0] == 0


def test_what_was_private_and_became_public_is_found_under_its_new_name(asker: Asker) -> None:
    prompt, tail = fresh_prompt(), " and only this of mine: " + fresh_prompt()
    alice = fresh_user()
    cached(asker, prompt + tail, alice)
    for _ in range(2):
        cached(asker, prompt + " " + fresh_prompt(), fresh_user())
    assert cached(asker, prompt, fresh_user())[0] > 0
    asker.empty_cache()
    stranger, _ = cached(asker, prompt + tail, fresh_user())
    asker.empty_cache()
    own, tokens = cached(asker, prompt + tail, alice)
    assert 0 < stranger < own
    assert own >= tokens - 17


def test_an_erased_users_pages_are_gone(asker: Asker, pages: Path) -> None:
    def stored() -> set[Path]:
        asker.empty_cache()  # what is being written gets there first
        return set(pages.iterdir())

    prompt, alice, bob = fresh_prompt(), fresh_user(), fresh_user()
    before = stored()
    cached(asker, prompt, bob)
    others = stored()
    assert others > before
    _, tokens = cached(asker, prompt, alice)
    # Once more: the tree is to hold what storage has, so that its names are known.
    assert stored() > others
    cached(asker, prompt, alice)
    operator = Operator(asker.server, ADMIN_KEY)
    answer = operator.json("DELETE", f"/tenant/users/{alice}/cache")
    assert answer["freed_tokens"]["storage"] >= tokens - 17
    assert any(where.startswith("storage: pages") for where in answer["not_reached"])
    assert cached(asker, prompt, alice)[0] == 0
    operator.json("DELETE", f"/tenant/users/{alice}/cache")
    assert stored() == others
    assert cached(asker, prompt, bob)[0] > 0
