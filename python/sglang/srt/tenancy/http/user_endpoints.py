"""Show and set, while the server runs, what holds for one user or for all others."""

from __future__ import annotations

import asyncio
from typing import Any

from sglang.srt.tenancy.config import TenantConfig
from sglang.srt.tenancy.control.client import ControlClient
from sglang.srt.tenancy.control.messages import Refused, SetUser, UserSet, refused
from sglang.srt.tenancy.http.identity import Resolver
from sglang.srt.tenancy.state_file import StateError, StateFile
from sglang.srt.tenancy.user_id import check_user_id
from sglang.srt.tenancy.user_settings import DEFAULT, FIELDS, SettingsError, UserSettings

# Paths of other endpoints end so.
_NO_END = "/cache"
_NOTHING = UserSettings()


class UserAdministration:
    """One HTTP process's. The schedulers hold what was set, and tell every HTTP process.

    ``state``: where it is kept over restarts, if anywhere.
    """

    def __init__(self, resolver: Resolver, client: ControlClient, state: StateFile | None):
        self._resolver = resolver
        self._client = client
        self._state = state
        self._one_at_a_time = asyncio.Lock()
        client.on(UserSet, self.user_set)

    @property
    def config(self) -> TenantConfig:
        return self._resolver.config

    def user_set(self, notice: UserSet) -> None:
        """Take over what some HTTP process had set."""
        self._resolver.config = self.config.overridden(notice.user, notice.settings)

    def list(self) -> dict[str, Any]:
        """Return all who are named, and what holds for the others."""
        config = self.config
        names = [user for user in {**config.users, **config.overrides} if user != DEFAULT]
        return {
            "default": self._describe(DEFAULT),
            "users": [self._describe(user) for user in sorted(names)],
        }

    def get(self, user: str) -> dict[str, Any]:
        """Return what holds for a user. Raises Refused, IdentityError."""
        check_name(user)
        if user != DEFAULT and user not in self.config.users and user not in self.config.overrides:
            raise refused(404, "user_id", f"{user!r} has no settings; {DEFAULT} hold")
        return self._describe(user)

    async def put(self, user: str, body: dict[str, Any]) -> dict[str, Any]:
        """Set exactly these; what is left out is as for everybody. Raises Refused, SettingsError,
        IdentityError; then nothing has changed."""
        check_name(user)
        if user.endswith(_NO_END):
            raise refused(400, "user_id", f"ends in {_NO_END}, as another endpoint; use the file")
        settings = UserSettings.read({name: v for name, v in body.items() if v is not None})
        given = settings.given()
        if not given:
            raise refused(400, "body", f"sets nothing; give some of {', '.join(FIELDS)}, or DELETE")
        if user == DEFAULT and settings.weight is not None:
            raise SettingsError("weight", "it is 1 for everybody who is not named; leave it out")
        for name in given:
            if getattr(self.config.in_file(user), name) is not None:
                where = "default" if user == DEFAULT else f"users.{user}"
                raise refused(
                    409, name, f"--tenant-config sets {where}.{name}; change the file, send SIGHUP"
                )
        if settings.cache_share is not None and self._client.mode == "shared":
            raise refused(
                409, "cache_share", "in --tenant-mode shared nothing is anybody's own; leave it out"
            )
        self.config.overridden(user, settings).settings_of(user).check()
        await self._change(user, settings)
        return self._describe(user)

    async def delete(self, user: str) -> dict[str, Any]:
        """Take back what was set at run time. Raises Refused, IdentityError."""
        check_name(user)
        if user not in self.config.overrides:
            raise refused(404, "user_id", f"nothing was set at run time for {user!r}")
        await self._change(user, None)
        return {"user": user, "deleted": True}

    async def _change(self, user: str, settings: UserSettings | None) -> None:
        """Write it down, have the schedulers do it, and keep what was written only if they did.

        Each step that fails leaves all as it was.
        """
        async with self._one_at_a_time:
            state = self._state
            try:
                if state is not None:
                    await asyncio.to_thread(state.begin, user, settings)
                try:
                    await self._client.ask(SetUser(user, settings))
                except BaseException:
                    if state is not None:
                        await asyncio.to_thread(state.rollback)
                    raise
                if state is not None:
                    await asyncio.to_thread(state.commit)
            except StateError as error:
                raise Refused(_of_state(error)) from None

    def _describe(self, user: str) -> dict[str, Any]:
        config = self.config
        holds = config.settings_of(user)
        weight = holds.weight if user == DEFAULT else config.weights.get(user, 1.0)
        values = {name: getattr(holds, name) for name in FIELDS} | {"weight": weight or 1.0}
        layers = {
            "file": config.in_file(user),
            "request": config.overrides.get(user, _NOTHING),
        }
        set_by = {name: _set_by(name, layers) for name in FIELDS}
        return {"user": user, **values, "set_by": set_by}


def check_name(user: str) -> str:
    """Return it, if it names a user, or all others. Raises IdentityError."""
    return user if user == DEFAULT else check_user_id(user, "user_id")


def _set_by(name: str, layers: dict[str, UserSettings]) -> str:
    """Say whose word counts: the file's, a request's, or nobody's for this user."""
    for layer, settings in layers.items():
        if getattr(settings, name) is not None:
            return layer
    return "default"


def _of_state(error: StateError) -> Any:
    return refused(503, "tenant_state", f"{error}; nothing was changed").refusal
