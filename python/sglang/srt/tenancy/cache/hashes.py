"""Page hashes: the names of pages in storage (L3) and in KV events.

Upstream chains them over tokens alone, so equal prompts of two users have equal names, and
whoever can ask for a name learns of the prompt (sglang issue 37160). Here the chain of a
private path starts from a tag that only the server can compute. Public pages keep upstream's
names.
"""

from __future__ import annotations

import hashlib

from sglang.srt.mem_cache.utils import get_hash_str
from sglang.srt.tenancy.cache.node import Node
from sglang.srt.tenancy.user_id import process_key


def owner_tag(owner: str, above: str | None) -> str:
    """What takes the place of the hash above (hex, 32 bytes) where an owner's pages begin."""
    state = hashlib.blake2b(key=bytes.fromhex(process_key()), digest_size=32)
    state.update(owner.encode() + b"\0" + (above or "").encode())
    return state.hexdigest()


def ensure_hashes(node: Node, page_size: int) -> None:
    """Compute the page hashes of a node, and of those above it, where they are missing."""
    missing = []
    walker: Node | None = node
    while walker is not None and walker.hash_value is None:
        missing.append(walker)
        walker = walker.parent
    for one in reversed(missing):
        assert one.parent is not None
        above = one.parent.get_last_hash_value()
        if one.owner and not one.parent.owner:
            above = owner_tag(one.owner, above)
        hashes = get_hash_str(one.key, above, page_size=page_size)
        assert isinstance(hashes, list)
        one.hash_value = hashes
