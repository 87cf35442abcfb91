"""An HTTP process's side: users who come once, through all that a request passes there but the
engine, which would set the pace.

The middleware and its limits, the stamp, sessions' names, stored responses, what is spent, and
the scan cache.
"""

from __future__ import annotations

import time
from array import array
from types import SimpleNamespace
from typing import Any

import orjson
from fastapi import FastAPI, Request

from sglang.srt.managers.io_struct import GenerateReqInput
from sglang.srt.tenancy.config import TenantConfig
from sglang.srt.tenancy.detect.rules import Rules
from sglang.srt.tenancy.detect.scan import Scanner
from sglang.srt.tenancy.detect.scan_cache import CHUNK
from sglang.srt.tenancy.flags import TenantOptions
from sglang.srt.tenancy.http import startup
from sglang.srt.tenancy.http.identity import Resolver
from sglang.srt.tenancy.http.intake import Intake
from sglang.srt.tenancy.http.middleware import TenantMiddleware
from sglang.srt.tenancy.http.rate_limiter import RateLimiter
from sglang.srt.tenancy.http.response_store import MOST_STORED, OwnedStore
from sglang.srt.tenancy.limits import Limits

PACE = 100.0  # users a second, on the clock by which tokens wear off
OPTIONS = TenantOptions(enable_tenant_cache=True)


class FrontEnd:
    """The application of one HTTP process, with handlers that answer at once."""

    def __init__(self) -> None:
        self.app = FastAPI()
        startup.install(self.app)
        self.app.add_api_route("/generate", self._generate, methods=["POST"])
        self.responses = OwnedStore()
        self.scanner = Scanner([bytes([code]) for code in range(256)], [Rules()])
        self.refused = 0
        self._now = time.monotonic()
        self._number = 0
        config = TenantConfig()
        limits = Limits(max_running=1, max_queued=0, tokens_per_minute=6_000)
        TenantMiddleware.resolver = Resolver(config, None, "isolate")
        TenantMiddleware.limiter = self.limiter = RateLimiter(
            lambda user: limits, now=lambda: self._now
        )
        manager = SimpleNamespace(
            server_args=SimpleNamespace(
                **vars(OPTIONS),
                tokenizer_metrics_allowed_custom_labels=None,
                allow_auto_truncate=False,
            ),
            tokenizer=None,
            mm_processor=None,
            context_len=1 << 20,
            model_config=SimpleNamespace(vocab_size=256),
        )
        self.intake = Intake(manager, self.limiter)
        OwnedStore.most = MOST_STORED

    async def _generate(self, request: Request) -> dict[str, Any]:
        obj = GenerateReqInput(**await request.json())
        obj.session_params = {"id": "one"}
        call = await self.intake.take(obj, request)
        assert call is not None
        try:
            return self._answer(obj)
        finally:
            call.end()

    def _answer(self, obj: GenerateReqInput) -> dict[str, Any]:
        tokens = list(str(obj.text).encode())
        self.intake.check_one(obj, tokens)
        self.intake.calls[obj.rid].charge_answer(obj.rid, 1)
        name = f"resp_{self._number}"
        self.responses[name] = SimpleNamespace(status="completed", text=obj.text)
        self.scanner.scan([array("q", tokens)])
        return {"id": name, "session": obj.session_params["id"]}

    async def come(self, users: int) -> None:
        """So many more users come, once each."""
        for _ in range(users):
            await self._come()
            self._number += 1
            self._now += 1 / PACE

    async def _come(self) -> None:
        number = self._number
        text = f"visitor {number} asks what {number * 7919} is, ".ljust(CHUNK + 8, "?")
        body: dict[str, Any] = {"text": text, "rid": f"r{number}", "user_id": f"visitor-{number}"}
        if number % 20 == 19:
            body["user_id"] = "not a user id"
        if number % 20 == 9:
            body |= {"text": [text, text], "rid": None}  # two at once: more than they may
        status = await self._post(orjson.dumps(body))
        self.refused += status == 400
        assert status == (400 if number % 10 == 9 else 200), status

    async def _post(self, body: bytes) -> int:
        scope = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": "POST",
            "scheme": "http",
            "path": "/generate",
            "raw_path": b"/generate",
            "query_string": b"",
            "root_path": "",
            "headers": [(b"content-type", b"application/json")],
            "client": ("127.0.0.1", 1),
            "server": ("127.0.0.1", 2),
        }
        sent: list[dict[str, Any]] = []

        async def receive() -> dict[str, Any]:
            return {"type": "http.request", "body": body, "more_body": False}

        async def send(message: Any) -> None:
            sent.append(message)

        await self.app(scope, receive, send)  # type: ignore[arg-type]
        return int(sent[0]["status"])

    def counts(self) -> dict[str, int]:
        """Entries of what remembers users."""
        return {
            "standings": len(self.limiter.standings),
            "calls": len(self.intake.calls),
            "responses": len(self.responses),
            "chunks": len(self.scanner.cache),
        }
