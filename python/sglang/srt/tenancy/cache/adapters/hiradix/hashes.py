"""Page hashes: the names of pages in storage (L3) and in KV events.

Upstream chains them over tokens alone, so equal prompts of two users have equal names, and
whoever can ask for a name learns of the prompt (sglang issue 37160). Here the chain of a
private path starts from a tag that only the server can compute, and that of a LoRA adapter
or salt from another. All other public pages keep upstream's names.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Any

from sglang.srt.mem_cache.radix_cache import RadixKey
from sglang.srt.mem_cache.utils import get_hash_str
from sglang.srt.tenancy.cache.core.node import Node
from sglang.srt.tenancy.user_id import process_key


def tag(owner: str, extra_key: Any, above: str | None) -> str | None:
    """Return what replaces the hash above (hex, 32 bytes) where an owner's pages begin, or
    at the root those of a public namespace."""
    if not owner and extra_key is None:
        return above
    state = hashlib.blake2b(key=bytes.fromhex(process_key()), digest_size=32)
    state.update(repr((owner, extra_key, above)).encode())
    return state.hexdigest()


def page_hashes(key: RadixKey, above: str | None, page_size: int) -> list[str]:
    hashes = get_hash_str(key, above, page_size=page_size)
    assert isinstance(hashes, list)
    return hashes


def ensure_hashes(node: Node, page_size: int) -> None:
    """Compute the page hashes of a node, and of those above it, where they are missing."""
    missing = []
    walker: Node | None = node
    while walker is not None and walker.hash_value is None:
        missing.append(walker)
        walker = walker.parent
    for one in reversed(missing):
        parent = one.parent
        assert parent is not None
        above = parent.get_last_hash_value()
        if one.owner and not parent.owner:
            above = tag(one.owner, one.key.extra_key.extra_key, above)
        elif parent.parent is None:
            above = tag("", one.key.extra_key, above)
        one.hash_value = page_hashes(one.key, above, page_size)


def names_before_publication(nodes: Iterable[Node], page_size: int) -> list[str]:
    """Name an owner's pages, and the public ones above, as when all were private."""
    names: list[str] = []
    last: dict[Node, str] = {}  # hash of a node's last page
    for node in nodes:
        path = []
        walker = node
        while walker.parent is not None and walker not in last:
            path.append(walker)
            walker = walker.parent
        if walker.parent is None and path[-1].owner:
            continue  # nothing above is public: these are the names it has
        above = last.get(walker)
        if above is None:
            above = tag(node.owner, node.key.extra_key.extra_key, None)
        for one in reversed(path):
            hashes = page_hashes(one.key, above, page_size)
            names += hashes
            last[one] = above = hashes[-1]
    return names
