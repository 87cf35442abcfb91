"""The names that requests and nodes are told apart by."""

from __future__ import annotations

import copy
import pickle
from array import array
from types import SimpleNamespace

import pytest

from sglang.srt.managers.schedule_batch import Req
from sglang.srt.sampling.sampling_params import SamplingParams
from sglang.srt.tenancy import namespace as ownership
from sglang.srt.tenancy.flags import TenantOptions
from sglang.srt.tenancy.namespace import Namespace, adopt

OPTIONS = TenantOptions(enable_tenant_cache=True)


def adopted(user: str) -> Req:
    req = Req("r", "", array("q", [1]), SamplingParams())
    adopt(req, SimpleNamespace(user_id=user, cache_scope=None), OPTIONS)  # type: ignore[arg-type]
    return req


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
