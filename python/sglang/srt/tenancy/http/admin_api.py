"""Endpoints for operators. All need the admin API key; the live page, which holds no data, not."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import orjson
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response

from sglang.srt.tenancy.control.client import control_client_of
from sglang.srt.tenancy.control.messages import (
    ClearResponses,
    Erase,
    ListPrefixes,
    Refused,
    Stats,
    Tree,
    Usage,
    Withdraw,
    refused,
)
from sglang.srt.tenancy.detect import service
from sglang.srt.tenancy.errors import error_response
from sglang.srt.tenancy.grammar import service as grammar_trials
from sglang.srt.tenancy.http import engine_hooks, public_hashes, response_caching
from sglang.srt.tenancy.http.live import live, sampler_of
from sglang.srt.tenancy.http.middleware import TenantMiddleware
from sglang.srt.tenancy.http.page import PATH as PAGE
from sglang.srt.tenancy.http.page import page
from sglang.srt.tenancy.http.response_caching import ResponseCaching
from sglang.srt.tenancy.http.selftest import SelfTestError, prove
from sglang.srt.tenancy.http.user_endpoints import UserAdministration
from sglang.srt.tenancy.http.warming import warm
from sglang.srt.tenancy.metrics.users import render
from sglang.srt.tenancy.prefix_spec import PrefixSpecError, check_name, parse_prefix_spec
from sglang.srt.tenancy.user_id import IdentityError, check_user_id, digest
from sglang.srt.tenancy.user_settings import SettingsError
from sglang.srt.utils.auth import AuthLevel, auth_level

_MAX_BODY = 8 * 2**20  # bytes; the longest prefix fits as token ids, with their commas

# Query parameters: default, smallest, largest.
_OWNERS = (10, 0, 100)
_DEPTH = (3, 1, 32)
_NODES = (100, 1, 2000)

_PROMETHEUS = "text/plain; version=0.0.4; charset=utf-8"

Endpoint = Callable[[Request], Awaitable[dict[str, Any] | Response]]


def add_routes(app: FastAPI) -> None:
    """Add each endpoint on its own: the auth level of an included router's is not found."""
    app.add_api_route("/tenant/selftest", selftest, methods=["POST"])
    app.add_api_route(PAGE, page, methods=["GET"], include_in_schema=False)
    for method, path, endpoint in (
        ("GET", "/tenant/stats", stats),
        ("GET", "/tenant/tree", tree),
        ("GET", "/tenant/live", live),
        ("GET", "/tenant/detector", detector),
        ("GET", "/tenant/metrics", metrics),
        ("GET", "/tenant/grammars", grammars),
        ("GET", "/tenant/response_cache", kept_responses),
        ("DELETE", "/tenant/response_cache", clear_responses),
        ("GET", "/tenant/public_prefixes", list_prefixes),
        ("POST", "/tenant/public_prefixes", publish),
        ("DELETE", "/tenant/public_prefixes", withdraw),
        ("GET", "/tenant/public_hashes", tell_hashes),
        ("POST", "/tenant/public_hashes", learn_hashes),
        # A user id may hold slashes.
        ("DELETE", "/tenant/users/{user_id:path}/cache", erase),
        ("GET", "/tenant/users", list_users),
        ("GET", "/tenant/users/{user_id:path}", get_user),
        ("PUT", "/tenant/users/{user_id:path}", set_user),
        ("DELETE", "/tenant/users/{user_id:path}", unset_user),
    ):
        app.add_api_route(path, _operators(endpoint), methods=[method], name=endpoint.__name__)


@auth_level(AuthLevel.ADMIN_FORCE)
async def selftest(request: Request) -> JSONResponse:
    """Repeat the start-up proof on the live server: 200 with what held, 500 with what did not."""
    try:
        return JSONResponse({"passed": True, "checks": await prove(request.app)})
    except SelfTestError as error:
        return JSONResponse({"passed": False, "error": str(error)}, status_code=500)


def _operators(endpoint: Endpoint) -> Callable[[Request], Awaitable[Response]]:
    """Put an endpoint behind the admin key; what it refuses in the shape of OpenAI's errors."""

    @auth_level(AuthLevel.ADMIN_FORCE)
    async def answer(request: Request) -> Response:
        try:
            answered = await endpoint(request)
            return answered if isinstance(answered, Response) else JSONResponse(answered)
        except Refused as error:
            refusal = error.refusal
            return error_response(refusal.status, refusal.message, refusal.param)
        except PrefixSpecError as error:
            return error_response(400, str(error), error.field)
        except SettingsError as error:
            return error_response(400, str(error), error.field)
        except IdentityError as error:
            return error_response(error.status_code, str(error), error.param)

    answer.__doc__ = endpoint.__doc__
    return answer


async def stats(request: Request) -> dict[str, Any]:
    """Show totals of each replica's tree, and what the HTTP process that answers has under way.

    ``owners``: how many of the largest owners are listed.
    """
    client = control_client_of(request.app)
    wanted = Stats(_number(request, "owners", *_OWNERS))
    process = {"open_requests": TenantMiddleware.open_requests.total, **engine_hooks.under_way()}
    sampler = sampler_of(request.app)
    watching = {"viewers": sampler.viewers, "samples": sampler.samples}
    replicas = await client.ask(wanted)
    return {"mode": client.mode, "process": process, "replicas": replicas, "live": watching}


async def tree(request: Request) -> dict[str, Any]:
    """Show the upper part of each replica's tree: ``depth`` levels, ``nodes`` nodes at most."""
    client = control_client_of(request.app)
    wanted = Tree(_number(request, "depth", *_DEPTH), _number(request, "nodes", *_NODES))
    return {"mode": client.mode, "replicas": await client.ask(wanted)}


async def detector(request: Request) -> dict[str, Any]:
    """Show what the detector of the HTTP process that answers did so far: numbers only."""
    return {"detector": service.stats()}


async def metrics(request: Request) -> Response:
    """Show, in Prometheus's format, what the users of the config file and those who take most took
    and hold, and all others together."""
    client = control_client_of(request.app)
    replicas = await client.ask(Usage())
    return Response(render(replicas, client.plain_ids), media_type=_PROMETHEUS)


async def grammars(request: Request) -> dict[str, Any]:
    """Show what the HTTP process that answers found of grammars so far: numbers only."""
    return {"grammars": grammar_trials.stats()}


async def kept_responses(request: Request) -> dict[str, Any]:
    """Show what the response cache of the HTTP process that answers did, and what its store holds;
    of one ``user``, where one is named."""
    return await _responses().report(_user_named(request))


async def clear_responses(request: Request) -> dict[str, Any]:
    """Drop all kept responses, or those of one ``user``, in every HTTP process."""
    caching, user = _responses(), _user_named(request)
    dropped = await caching.cache.clear(user)
    await control_client_of(request.app).ask(ClearResponses(user))
    return {"dropped": dropped}


def _responses() -> ResponseCaching:
    caching = response_caching.of_server()
    if caching is None:
        raise refused(
            404, "tenant_response_cache", "off; start the server with --tenant-response-cache BYTES"
        )
    return caching


def _user_named(request: Request) -> str | None:
    user = request.query_params.get("user")
    return None if user is None else check_user_id(user, "user")


async def list_prefixes(request: Request) -> dict[str, Any]:
    """List the registered public prefixes, without their content."""
    client = control_client_of(request.app)
    client.require_selective()
    return (await client.ask(ListPrefixes()))[0]


async def publish(request: Request) -> dict[str, Any]:
    """Register a public prefix, and compute it at once where it is to be ``warm``."""
    spec = parse_prefix_spec(await _object(request))
    prefix, answer = await control_client_of(request.app).publish(spec)
    if spec.warm:
        await warm(request.app, [prefix])
        answer["warm"] = True
    return answer


async def withdraw(request: Request) -> dict[str, Any]:
    """Unregister a public prefix; its name comes in the query or in the body."""
    client = control_client_of(request.app)
    client.require_selective()
    name = request.query_params.get("name")
    if name is None:
        name = (await _object(request, empty=b"{}")).get("name")
    if name is None:
        raise PrefixSpecError("name", "missing; give the name of a public prefix")
    return (await client.ask(Withdraw(check_name(name))))[0]


async def tell_hashes(request: Request) -> dict[str, Any]:
    """Show, as keyed hashes, which prefixes became public here, and which private again."""
    return await public_hashes.tell(control_client_of(request.app))


async def learn_hashes(request: Request) -> dict[str, Any]:
    """Take over what another replica showed of its prefixes."""
    return await public_hashes.learn(control_client_of(request.app), await _object(request))


async def erase(request: Request) -> dict[str, Any]:
    """Erase all that the server holds of a user. Answers with the tokens freed on each tier, the
    sessions closed, and what may be left."""
    user = check_user_id(request.path_params["user_id"], "user_id")
    client = control_client_of(request.app)
    if client.mode == "shared":
        raise refused(
            409, "tenant_mode", "in --tenant-mode shared nothing belongs to a user; /flush_cache"
        )
    replicas = await client.ask(Erase(user))
    caching = response_caching.of_server()
    if caching is not None:
        await caching.cache.clear(user)
    tiers = ("device", "host", "storage")
    left = {where: None for replica in replicas for where in replica["not_reached"]}
    return {
        "user": digest(user),
        "freed_tokens": {tier: sum(replica[tier] for replica in replicas) for tier in tiers},
        "closed_sessions": sum(replica["sessions"] for replica in replicas),
        "not_reached": list(left),
    }


async def list_users(request: Request) -> dict[str, Any]:
    """List what holds for each named user, and for all others."""
    return _users(request).list()


async def get_user(request: Request) -> dict[str, Any]:
    """Show what holds for a user, or for ``[default]``, and who set it."""
    return _users(request).get(request.path_params["user_id"])


async def set_user(request: Request) -> dict[str, Any]:
    """Set weight, limits and cache_share of a user, or those of ``[default]``, on all ranks and in
    all HTTP processes."""
    return await _users(request).put(request.path_params["user_id"], await _object(request))


async def unset_user(request: Request) -> dict[str, Any]:
    """Take back what was set at run time for a user."""
    return await _users(request).delete(request.path_params["user_id"])


def _users(request: Request) -> UserAdministration:
    users: UserAdministration = request.app.state.tenant_users
    return users


def _number(request: Request, name: str, default: int, least: int, most: int) -> int:
    text = request.query_params.get(name)
    if text is None:
        return default
    # Longer ones are out of any range, and Python refuses to read very long ones.
    if text.isascii() and text.isdigit() and len(text) < 10 and least <= int(text) <= most:
        return int(text)
    shown = text if len(text) <= 32 else f"{text[:32]}…"
    raise refused(400, name, f"{shown!r} is out of range; give an integer from {least} to {most}")


async def _object(request: Request, *, empty: bytes = b"") -> dict[str, Any]:
    """Read the JSON object in the body; ``empty`` stands for no body. Raises Refused."""
    raw = b""
    async for chunk in request.stream():
        raw += chunk
        if len(raw) > _MAX_BODY:
            raise refused(413, "body", f"more than {_MAX_BODY} bytes; give a shorter prefix")
    try:
        body = orjson.loads(raw or empty)
    except orjson.JSONDecodeError:
        body = None
    if not isinstance(body, dict):
        raise refused(400, "body", "no JSON object; send one, with Content-Type: application/json")
    return body
