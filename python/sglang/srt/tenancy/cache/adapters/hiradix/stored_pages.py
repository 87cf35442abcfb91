"""Delete pages from storage (L3), which upstream itself never does."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

from sglang.srt.mem_cache.hicache_storage import HiCacheFile


def can_delete(backend: Any) -> bool:
    """Tell whether single pages can be deleted from a storage backend."""
    return isinstance(backend, HiCacheFile) or callable(getattr(backend, "delete", None))


def delete_pages(backend: Any, names: Sequence[str]) -> int:
    """Delete pages by name. Returns how many were there, as far as the backend tells."""
    if not isinstance(backend, HiCacheFile):
        found = sum(bool(backend.exists(name)) for name in names)
        for name in names:
            backend.delete(name)
        return found
    return sum(_delete_file(backend, name) for name in names)


def _delete_file(backend: HiCacheFile, name: str) -> bool:
    key = backend._get_component_key(name)
    try:
        os.remove(backend._get_component_path(name))
        found = True
    except FileNotFoundError:  # never written, evicted, or another rank's to delete
        found = False
    if backend.metadata_cache is not None:
        backend.metadata_cache.remove(key)
    backend._evictor.abort(key)  # takes it off the account of its sizes
    return found
