"""The names that requests and nodes are told apart by."""

from __future__ import annotations

import copy
import logging
import pickle
from array import array
from types import SimpleNamespace

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from sglang.srt.managers.schedule_batch import Req
from sglang.srt.mem_cache.radix_cache import RadixKey
from sglang.srt.sampling.sampling_params import SamplingParams
from sglang.srt.tenancy import namespace as ownership
from sglang.srt.tenancy.extra_keys import joined, qualified
from sglang.srt.tenancy.flags import TenantOptions
from sglang.srt.tenancy.namespace import Namespace, adopt

# Few letters, so that collisions are near: those of the framed text itself among them.
LETTERS = "a1:+\x1d\x1e\x1f"
owners = st.text(alphabet=LETTERS, min_size=1, max_size=8)
extra_keys = st.none() | st.text(alphabet=LETTERS, max_size=8)
sent = st.text(alphabet=LETTERS, min_size=1, max_size=8)
OPTIONS = TenantOptions(enable_tenant_cache=True)


def adopted(user: str) -> Req:
    req = Req("r", "", array("q", [1]), SamplingParams())
    adopt(req, SimpleNamespace(user_id=user, cache_scope=None), OPTIONS)  # type: ignore[arg-type]
    return req


def plain(namespace: Namespace) -> str:
    """The text alone, as it is after a process that knows no ``Namespace``."""
    return "".join(namespace)


def test_an_owner_has_one_object() -> None:
    first, second = adopted("alice"), adopted("alice")
    assert first.extra_key is second.extra_key is Namespace("alice", None)
    assert Namespace("alice", "lora") != first.extra_key != Namespace("bob", None)
    assert copy.deepcopy(first.extra_key) is first.extra_key
    assert pickle.loads(pickle.dumps(first.extra_key)) is first.extra_key


def test_a_namespace_does_not_change() -> None:
    with pytest.raises(AttributeError, match="owner"):
        Namespace("alice", None).owner = "bob"


def test_no_name_outlives_what_its_user_has() -> None:
    kept = adopted("stays")
    for number in range(200_000):
        Namespace(f"once-{number}", None)
        if number % 1000 == 0:
            adopted(f"asks-{number}")
    held = {namespace.owner for namespace in ownership._held.values()}
    assert not [owner for owner in held if owner.startswith(("once-", "asks-"))]
    assert Namespace("stays", None) is kept.extra_key


@given(owners, extra_keys, owners, extra_keys)
@example("a", "b", "a+b", None)
@example("a", None, "a", "")
@example("a", "1:a", "a1", ":a")
def test_texts_are_equal_only_where_owner_and_extra_key_are(
    owner: str, key: str | None, other_owner: str, other_key: str | None
) -> None:
    one, other = Namespace(owner, key), Namespace(other_owner, other_key)
    same = (owner, key) == (other_owner, other_key)
    assert (one == other) == (plain(one) == plain(other)) == same
    assert (one.owner, one.extra_key) == (owner, key)


@given(owners, extra_keys, st.lists(sent, max_size=2), st.none() | sent)
def test_no_string_of_a_client_is_a_namespace(
    owner: str, key: str | None, parts: list[str], adapter: str | None
) -> None:
    assert qualified(adapter, joined(*parts)) != Namespace(owner, key)


@given(owners, extra_keys, extra_keys, st.none() | sent)
def test_who_spells_a_namespace_does_not_get_it(
    owner: str, key: str | None, request_key: str | None, adapter: str | None
) -> None:
    spelt = plain(Namespace(owner, key))
    assert qualified(adapter, spelt) != spelt
    if spelt != request_key:
        assert qualified(adapter, spelt) != qualified(adapter, request_key)
    req = Req("r", "", array("q", [1]), SamplingParams(), extra_key=spelt)
    assert req.extra_key != spelt


def test_a_copy_that_is_a_plain_string_is_equal() -> None:
    namespace = Namespace("alice", "lora")
    copied = plain(namespace)
    assert type(copied) is str
    assert copied == namespace
    assert hash(copied) == hash(namespace)
    assert copied in {namespace}


def test_no_line_shows_the_owner(caplog: pytest.LogCaptureFixture) -> None:
    namespace = Namespace("alice", "lora")
    key = RadixKey(array("q", [1]), namespace)
    logging.getLogger("t").warning("%s %r %s %s", namespace, namespace, key, {"key": namespace})
    shown = [
        caplog.text,
        f"{namespace} {namespace!s} {namespace!r} {namespace:>80}",
        str(namespace),
    ]
    shown += [str(namespace), "{}".format(namespace), "%s" % namespace]  # noqa: UP031, UP032
    assert not [line for line in shown if "alice" in line]
    assert all("Namespace(owner=#" in line for line in shown)
