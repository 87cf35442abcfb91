"""What schemathesis draws for the cached endpoints: sent twice, to the server and the proxy."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import client
import pytest
from cases import Case
from openapi import cases_of
from support.response_proxy import running
from support.server import Server

pytestmark = [pytest.mark.server, pytest.mark.slow]

PATHS = (
    *("/generate", "/v1/completions", "/v1/chat/completions", "/v1/responses", "/v1/messages"),
)
KEY, OF_EACH, SEED = "sk-anne", 4, 20_261_126
CONFIG = f'[users.anne]\nkeys = ["{KEY}"]\n'


@pytest.fixture(scope="module")
def cases() -> list[Case]:
    from sglang.srt.entrypoints.http_server import app

    drawn = list(cases_of(app.openapi(), {("POST", path) for path in PATHS}, OF_EACH, SEED))
    assert Counter(case.path.partition("?")[0] for case in drawn).keys() == set(PATHS)
    return drawn


@pytest.fixture(scope="module", params=["server", "proxy"])
def port(
    request: pytest.FixtureRequest, tiny_model: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[int]:
    if request.param == "proxy":
        with Server(tiny_model, "--api-key", KEY) as plain, running(plain.url) as url:
            yield int(url.rpartition(":")[2])
        return
    config = tmp_path_factory.mktemp("drawn") / "tenants.toml"
    config.write_text(CONFIG)
    flags = "--enable-tenant-cache", "--tenant-config", str(config)
    with Server(tiny_model, *flags, "--tenant-response-cache", "1000000") as server:
        yield int(server.url.rpartition(":")[2])


def test_no_case_fails_and_again_it_is_answered_alike(port: int, cases: list[Case]) -> None:
    statuses: Counter[int] = Counter()
    for case in cases:
        first, again = (client.send(case, port, KEY) for _ in range(2))
        if first.left or again.left:  # it asked for so many tokens
            continue
        assert first.status == again.status, case
        assert 0 < first.status < 500 or first.status == 501, (case, first)
        statuses[first.status] += 1
    assert sum(statuses.values()) > len(cases) // 2, statuses
