"""Draw cases: requests with something in them, or around them, that is not as it should be."""

from __future__ import annotations

import copy
import dataclasses
import random
from collections.abc import Callable
from string import ascii_lowercase
from typing import Any
from urllib.parse import quote

from cases import MALLORY, MORGAN, NAMED, Case
from endpoints import ENDPOINTS, FEW, MESSAGES, MODEL, Endpoint
from features import featured
from typed import fields_of, object_of, value_of
from values import HER_ID, NAMES, PAGE, POOL, PROMPT, SECRET, STRINGS, draw
from wire import respelled, upload

_TYPED = tuple(endpoint for endpoint in ENDPOINTS if endpoint.kind is not None)
_PLAIN = tuple(endpoint for endpoint in ENDPOINTS if endpoint.kind is None)
# Most go where the engine is asked.
_OFTEN = (*_TYPED, *[_TYPED[0]] * 8, *_TYPED[1:6] * 2)
_LONGEST_STAY = 0.4  # seconds until a client hangs up
_LONG = 200  # tokens of an answer that somebody does not wait for
# How each front end calls the length of an answer.
_LENGTHS = {
    "/generate": ("sampling_params", "max_new_tokens"),
    "/v1/completions": ("max_tokens",),
    "/v1/chat/completions": ("max_tokens",),
    "/invocations": ("max_tokens",),
    "/v1/messages": ("max_tokens",),
    "/v1/responses": ("max_output_tokens",),
    "/api/generate": ("options", "num_predict"),
    "/api/chat": ("options", "num_predict"),
}
_GENERATING = tuple(endpoint for endpoint in _TYPED if endpoint.path in _LENGTHS)
_ID_FIELDS = ("rid", "request_id")
_IDS = (HER_ID, HER_ID[:1], HER_ID[:-1], f"{HER_ID}_0", "mine", "m", "", "_", "resp_", "0")


def drawn(random: random.Random) -> Case:
    """Draw one case of any kind."""
    make = random.choices([kind for kind, _ in _KINDS], [often for _, often in _KINDS])[0]
    case = make(random)
    if random.random() < 0.25:
        case = dataclasses.replace(case, user=MORGAN)
    return case


def _typed(random: random.Random) -> Case:
    """Draw values of the right types, at their borders, in some fields or in all."""
    endpoint = random.choice(_OFTEN)
    assert endpoint.kind is not None
    if random.random() < 0.2:
        body = object_of(endpoint.kind, random)
        body |= {name: value for name, value in endpoint.request.items() if random.random() < 0.8}
        return _sent(endpoint, body, random)
    return _sent(endpoint, _changed(endpoint, random, value_of), random)


def _hostile(random: random.Random) -> Case:
    """Draw values of any type in a few fields."""
    endpoint = random.choice(_OFTEN)
    return _sent(endpoint, _changed(endpoint, random, lambda _, random: draw(random)), random)


def _respelled(random: random.Random) -> Case:
    """Draw a request that is fine but for its bytes."""
    endpoint = random.choice((*_OFTEN, *_PLAIN))
    return respelled(endpoint.case(), random)


def _left(random: random.Random) -> Case:
    """Draw a client that hangs up on a long answer, or before there is one."""
    endpoint = random.choice(_GENERATING)
    body = _with_length(endpoint, random.choice((_LONG, 2000)))
    body["stream"] = random.random() < 0.7
    if random.random() < 0.3:
        body |= _several_of(endpoint, random)
    stay = round(random.random() * _LONGEST_STAY, 3)
    return dataclasses.replace(_sent(endpoint, body, random), leaves=stay)


def _named(random: random.Random) -> Case:
    """Draw a request by an id that is another's, or the beginning of one."""
    endpoint = random.choice([e for e in _GENERATING if _id_field(e)])
    body = _with_length(endpoint, random.choice((2, 40, _LONG)))
    body[_id_field(endpoint)] = _an_id(random)
    if random.random() < 0.3:
        body |= _several_of(endpoint, random)
        body[_id_field(endpoint)] = [_an_id(random) for _ in range(random.choice((1, 2, 3)))]
    body["stream"] = random.random() < 0.4
    case = _sent(endpoint, body, random)
    if random.random() < 0.4:
        case = dataclasses.replace(case, leaves=round(random.random() * _LONGEST_STAY, 3))
    return case


def _batch(random: random.Random) -> Case:
    """Draw several prompts, several answers, and lists that do not fit one another."""
    endpoint = random.choice(_OFTEN)
    body = copy.deepcopy(endpoint.request) | _several_of(endpoint, random)
    assert endpoint.kind is not None
    names = list(fields_of(endpoint.kind))
    for _ in range(random.choice((0, 1, 2))):
        name = random.choice(names)
        value = value_of(fields_of(endpoint.kind)[name][0], random)
        body[name] = [value] * random.choice((0, 1, 2, 3, 5))
    if random.random() < 0.5:
        body["stream"] = True
    return _sent(endpoint, body, random)


def _filling(random: random.Random) -> Case:
    """Draw a prompt, or several, that the device just holds, or just does not."""
    room = POOL // random.choice((1, 1, 1, 2, 3))
    lengths = [room - random.randrange(-8, 3 * PAGE) for _ in range(random.choice((1, 1, 2, 3)))]
    body: dict[str, Any] = {"text": [_text(random, length) for length in lengths]}
    body["sampling_params"] = {"max_new_tokens": random.choice((0, 1, 16, _LONG))}
    stay = round(random.random() * _LONGEST_STAY, 3) if random.random() < 0.3 else None
    return Case("/generate", body, leaves=stay)


def _text(random: random.Random, length: int) -> str:
    """Return letters that nobody has asked for; a token is a letter."""
    return SECRET + "".join(random.choices(ascii_lowercase, k=length - len(SECRET)))


def _in_session(random: random.Random) -> Case:
    """Draw a session: opened, appended to out of order, closed or not."""
    opened: dict[str, Any] = {
        "capacity_of_str_len": random.choice((0, 1, 100, 10_000)),
        "streaming": random.random() < 0.5,
    }
    if random.random() < 0.3:
        opened["timeout"] = random.choice((-1.0, 0.0, 0.1, 1e300))
    steps = [_session_step(random) for _ in range(random.choice((1, 2, 3, 5)))]
    if random.random() < 0.6:
        at = random.randrange(len(steps) + 1)
        steps.insert(at, Case("/close_session", {"session_id": NAMED}))
    return Case("/open_session", opened, then=tuple(steps))


def _session_step(random: random.Random) -> Case:
    params: dict[str, Any] = {"id": NAMED}
    choices: dict[str, tuple[Any, ...]] = {
        "rid": (*_IDS, None),
        "offset": (0, 1, 5, 10**6, -1),
        "replace": (True, False),
        "drop_previous_output": (True, False),
    }
    for name, values in choices.items():
        if random.random() < 0.35:
            params[name] = random.choice(values)
    body: dict[str, Any] = {"session_params": params, "sampling_params": dict(FEW)}
    body |= random.choice(({"text": PROMPT}, {"input_ids": [1, 2, 3]}, {"input_ids": []}))
    if random.random() < 0.4:
        body["rid"] = random.choice(_IDS)
    if random.random() < 0.2:
        name = random.choice(list(fields_of(type_of("/generate"))))
        body[name] = value_of(fields_of(type_of("/generate"))[name][0], random)
    stay = round(random.random() * _LONGEST_STAY, 3) if random.random() < 0.2 else None
    if stay is not None:
        body["sampling_params"] = {"max_new_tokens": _LONG, "ignore_eos": True}
    return Case("/generate", body, leaves=stay)


def type_of(path: str) -> type:
    """Return the class that an endpoint's requests are read into."""
    return next(point.kind for point in ENDPOINTS if point.path == path and point.kind)


def _responses(random: random.Random) -> Case:
    """Draw a response that is stored: asked for again, cancelled, gone on with."""
    body: dict[str, Any] = {"model": MODEL, "store": True}
    body["input"] = random.choice((PROMPT, MESSAGES))
    body |= {"max_output_tokens": random.choice((2, _LONG)), "background": random.random() < 0.6}
    if random.random() < 0.3:
        body["request_id"] = random.choice(_IDS)
    steps = []
    for _ in range(random.choice((1, 2, 3))):
        steps.append(
            random.choice(
                (
                    Case(f"/v1/responses/{NAMED}", method="GET"),
                    Case(f"/v1/responses/{NAMED}/cancel"),
                    Case("/v1/responses", {**body, "previous_response_id": NAMED}),
                    Case("/v1/responses/resp_", method="GET"),
                )
            )
        )
    steps = [dataclasses.replace(s, user=random.choice((MALLORY, MALLORY, MORGAN))) for s in steps]
    return Case("/v1/responses", body, then=tuple(steps))


def _asked(random: random.Random) -> Case:
    """Draw a request without a body: another name in its path, a query that means nothing."""
    endpoint = random.choice(_PLAIN)
    path = endpoint.path
    for parameter in ("{response_id}", "{model:path}"):
        text = random.choice((*NAMES, *STRINGS)).encode("utf-8", "surrogatepass")
        path = path.replace(parameter, quote(text, safe=random.choice(("", "/", "/:?"))))
    if random.random() < 0.5:
        value = random.choice((*NAMES, *STRINGS)).encode("utf-8", "surrogatepass")
        path += f"?{random.choice(('user_id', 'user', 'stream', 'x', 'level'))}={quote(value)}"
    body = draw(random) if random.random() < 0.2 else None
    return Case(path, body, random.choice(endpoint.methods))


_KINDS: tuple[tuple[Callable[[random.Random], Case], int], ...] = (
    (_typed, 26),
    (featured, 16),
    (_hostile, 16),
    (_respelled, 14),
    (_left, 6),
    (_named, 6),
    (_batch, 7),
    (_filling, 3),
    (_in_session, 3),
    (_responses, 3),
    (_asked, 4),
    (upload, 1),
)


def _changed(
    endpoint: Endpoint, random: random.Random, value: Callable[[Any, random.Random], Any]
) -> dict[str, Any]:
    """Return the endpoint's request with one to three fields of other values."""
    body: dict[str, Any] = copy.deepcopy(endpoint.request)
    assert endpoint.kind is not None
    for _ in range(random.choice((1, 1, 1, 2, 3))):
        into, kind = body, endpoint.kind
        if endpoint.inner and random.random() < 0.5:
            name, kind = random.choice(list(endpoint.inner.items()))
            if not isinstance(body.get(name), dict):
                body[name] = {}
            into = body[name]
        name, (hint, _) = random.choice(list(fields_of(kind).items()))
        known = endpoint.inner.get(name) if into is body else None
        into[name] = value(hint if known is None else known, random)
    if random.random() < 0.2:
        body["stream"] = True
    return body


def _sent(endpoint: Endpoint, body: dict[str, Any], random: random.Random) -> Case:
    return Case(endpoint.path, body, random.choice(endpoint.methods))


def _with_length(endpoint: Endpoint, tokens: int) -> dict[str, Any]:
    body: dict[str, Any] = copy.deepcopy(endpoint.request)
    *outer, last = _LENGTHS[endpoint.path]
    into = body[outer[0]] if outer else body
    into[last] = tokens
    into["ignore_eos"] = True
    return body


def _several_of(endpoint: Endpoint, random: random.Random) -> dict[str, Any]:
    """Return fields that ask for several answers, or to several prompts."""
    count = random.choice((1, 2, 3, 8))
    field = next((name for name in ("text", "prompt", "input") if name in endpoint.request), None)
    several: dict[str, Any] = {}
    if field is not None and random.random() < 0.7:
        several[field] = [f"{PROMPT} {number}" for number in range(count)]
    if "sampling_params" in endpoint.inner:
        params = FEW | {"n": random.choice((1, 2, 8))}
        listed = random.random() < 0.3
        several["sampling_params"] = [params] * random.choice((1, count)) if listed else params
    else:
        several["n"] = random.choice((1, 2, 8))
        several["best_of"] = random.choice((None, 1, 8))
    return several


def _id_field(endpoint: Endpoint) -> str:
    assert endpoint.kind is not None
    return next((name for name in _ID_FIELDS if name in fields_of(endpoint.kind)), "")


def _an_id(random: random.Random) -> str:
    return random.choice(_IDS)
