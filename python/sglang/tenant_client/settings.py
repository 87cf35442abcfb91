"""What both clients are made of: whom they ask, how patiently, and what they learnt of whom."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import httpx

from .endpoint import NO_KEY, Endpoint, Retries, Timeouts
from .errors import BadArgument
from .steps import Call, Reply

# The first wait of a retry, and the longest where the server asks for none; seconds.
FIRST_WAIT, MOST_WAIT, JITTER = 0.25, 5.0, 0.5
_LIMITS = httpx.Limits(max_connections=None, max_keepalive_connections=64)


@dataclass(frozen=True)
class Settings:
    """``endpoints``: the first, and then those that are asked where it cannot answer."""

    endpoints: Sequence[Endpoint]
    admin_key: str | None = field(default=None, repr=False)
    timeouts: Timeouts = field(default_factory=Timeouts)
    retries: Retries = field(default_factory=Retries)

    @property
    def first(self) -> Endpoint:
        """The endpoint that all but answers comes from."""
        return self.endpoints[0]

    def http(self) -> dict[str, Any]:
        """Return the arguments of an httpx client. No redirect is followed: it might lead keys and
        prompts elsewhere."""
        return {"timeout": self.timeouts.httpx(), "limits": _LIMITS, "follow_redirects": False}

    def openai(self, endpoint: Endpoint) -> dict[str, Any]:
        """Return the arguments of an openai client for an endpoint, but for its httpx client."""
        return {
            "base_url": f"{endpoint.url}/v1",
            "api_key": endpoint.api_key or NO_KEY,
            "default_headers": dict(endpoint.headers),
            "max_retries": 0,
            "timeout": self.timeouts.httpx(),
        }

    def retrying(self) -> dict[str, Any]:
        """Return the arguments of stamina, but for what is retried."""
        return {
            "attempts": self.retries.attempts,
            "timeout": self.retries.seconds,
            "wait_initial": FIRST_WAIT,
            "wait_max": MOST_WAIT,
            "wait_jitter": JITTER,
        }

    def request(self, call: Call) -> dict[str, Any]:
        """Return a call to the first endpoint as arguments of httpx."""
        headers = dict(self.first.headers)
        key = (self.admin_key if call.as_operator else None) or self.first.api_key
        if key is not None:
            headers["Authorization"] = f"Bearer {key}"
        body = None if call.body is None else {**call.body, **self.first.identity()}
        url = self.first.url + call.path
        timeout = self.timeouts.httpx() if call.seconds is None else httpx.Timeout(call.seconds)
        return {
            "method": call.method,
            "url": url,
            "json": body,
            "headers": headers,
            "timeout": timeout,
        }


def settings_of(
    url: str | Endpoint,
    *,
    fallbacks: Sequence[str | Endpoint] = (),
    admin_key: str | None = None,
    timeouts: Timeouts | None = None,
    retries: Retries | None = None,
    **identity: Any,
) -> Settings:
    """Read the arguments of a client. Raises BadArgument.

    ``identity``: fields of the endpoint, where that is given as an address.
    """
    given = {name: value for name, value in identity.items() if value is not None}
    if isinstance(url, Endpoint) and given:
        raise BadArgument(next(iter(given)), "belongs into the Endpoint")
    first = url if isinstance(url, Endpoint) else Endpoint(url, **given)
    others = [other if isinstance(other, Endpoint) else Endpoint(other) for other in fallbacks]
    return Settings((first, *others), admin_key, timeouts or Timeouts(), retries or Retries())


def reply_of(response: httpx.Response, seconds: float) -> Reply:
    """Return what a response says."""
    try:
        content = response.json()
    except ValueError:
        content = None
    return Reply(response.status_code, content, seconds)


def no_reply(error: httpx.HTTPError, seconds: float) -> Reply:
    """Return what a request says that came to nothing."""
    return Reply(None, None, seconds, f"not reached: {error or type(error).__name__}")


@dataclass
class Learnt:
    """What an endpoint told earlier: the name of its model, and that it reports cached tokens."""

    models: dict[str, str] = field(default_factory=dict)
    reporting: set[str] = field(default_factory=set)

    def model(self, endpoint: Endpoint) -> str | None:
        """Return the model to ask for, where it is known."""
        return endpoint.model or self.models.get(endpoint.url)

    def take_model(self, endpoint: Endpoint, models: Sequence[Any]) -> str:
        """Note and return the first of an endpoint's models. Raises BadArgument for none."""
        if not models:
            raise BadArgument("model", f"{endpoint.url} serves none; name one in the Endpoint")
        name = str(models[0].id)
        self.models[endpoint.url] = name
        return name
