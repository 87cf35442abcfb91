"""Endpoints for operators. All need the admin API key."""

from __future__ import annotations

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse

from sglang.srt.tenancy.selftest import SelfTestError, prove
from sglang.srt.utils.auth import AuthLevel, auth_level


def add_routes(app: FastAPI) -> None:
    """Add each endpoint on its own: the auth level of an included router's is not found."""
    app.add_api_route("/tenant/selftest", selftest, methods=["POST"])


@auth_level(AuthLevel.ADMIN_FORCE)
async def selftest(request: Request) -> JSONResponse:
    """Repeat the start-up proof on the live server: 200 with what held, 500 with what did not."""
    try:
        return JSONResponse({"passed": True, "checks": await prove(request.app)})
    except SelfTestError as error:
        return JSONResponse({"passed": False, "error": str(error)}, status_code=500)
