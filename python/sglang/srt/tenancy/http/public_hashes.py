"""Tell other replicas what became public here, and learn it from them: keyed hashes, no text."""

from __future__ import annotations

import hashlib
from typing import Any

from sglang.srt.tenancy.control.client import ControlClient
from sglang.srt.tenancy.control.messages import LearnHashes, ListHashes, refused
from sglang.srt.tenancy.user_id import process_key

MOST_TOLD = 1024  # prefixes of a kind, by each data-parallel rank
MOST_LEARNT = 2048
_DIGITS = 32  # of a hash
_KINDS = ("public", "demoted")
_LONGEST = 2**31  # tokens


async def tell(client: ControlClient) -> dict[str, Any]:
    """Return hashes and lengths of what became public, and of what was made private again.
    Raises Refused."""
    client.require_selective()
    answers = await client.ask(ListHashes(MOST_TOLD))
    told: dict[str, Any] = {"key_check": key_check(client.model)}
    for kind in _KINDS:
        prefixes = dict.fromkeys(
            (tokens, hashed.hex()) for answer in answers for tokens, hashed in answer[kind]
        )
        told[kind] = [{"tokens": tokens, "hash": hashed} for tokens, hashed in prefixes]
    return told


async def learn(client: ControlClient, body: dict[str, Any]) -> dict[str, Any]:
    """Take over what another replica told. Returns how much of it was new; raises Refused."""
    client.require_selective()
    check = body.get("key_check")
    if check != key_check(client.model):
        raise refused(
            409 if isinstance(check, str) else 400,
            "key_check",
            "it is not this server's: hashes are made with SGLANG_TENANT_PROCESS_KEY for a served "
            "model name; give all replicas the same of both, and send what one of them told",
        )
    public, demoted = (_prefixes(body, kind) for kind in _KINDS)
    answers = await client.ask(LearnHashes(public, demoted))
    return {kind: max(answer[kind] for answer in answers) for kind in _KINDS}


def key_check(model: str) -> str:
    """Return what shows whether two servers' hashes mean the same, and nothing of the key."""
    key = bytes.fromhex(process_key())
    content = repr(("public hashes", model)).encode()
    return hashlib.blake2b(content, key=key, digest_size=8).hexdigest()


def _prefixes(body: dict[str, Any], kind: str) -> list[tuple[int, bytes]]:
    entries = body.get(kind, [])
    if not isinstance(entries, list) or len(entries) > MOST_LEARNT:
        raise refused(400, kind, f"no list of at most {MOST_LEARNT} prefixes; send fewer at a time")
    return [_prefix(entry, f"{kind}[{number}]") for number, entry in enumerate(entries)]


def _prefix(entry: Any, where: str) -> tuple[int, bytes]:
    fields = entry if isinstance(entry, dict) else {}
    tokens, hashed = fields.get("tokens"), fields.get("hash")
    if type(tokens) is not int or not 0 < tokens < _LONGEST:
        raise refused(400, f"{where}.tokens", "no number of tokens; send what a replica told")
    if isinstance(hashed, str) and len(hashed) == _DIGITS:
        try:
            return tokens, bytes.fromhex(hashed)
        except ValueError:
            pass
    raise refused(400, f"{where}.hash", f"no {_DIGITS} hex digits; send what a replica told")
