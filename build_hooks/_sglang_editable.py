"""Editable installation: the fork's own modules come from the repository.

The rest of the package, with the patches in it, is installed as usual. A line in a .pth file
installs the finder when Python starts.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType

PACKAGE = "sglang"


class RepositoryFinder:
    """Prefers the repository's file for every module below the package."""

    def __init__(self, root: str) -> None:
        self.root = root

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        parent, _, leaf = name.rpartition(".")
        if path is None or not name.startswith(f"{PACKAGE}."):
            return None
        spec = PathFinder.find_spec(name, [os.path.join(self.root, *parent.split("."))])
        if spec is None or spec.submodule_search_locations is None:
            return spec
        if spec.loader is None or spec.origin is None:
            installed = PathFinder.find_spec(name, path)
            if installed is not None:
                return installed
        # A directory may hold upstream's modules too.
        beside = [os.path.join(entry, leaf) for entry in path]
        spec.submodule_search_locations = [
            *spec.submodule_search_locations,
            *(entry for entry in beside if os.path.isdir(entry)),
        ]
        return spec


def install(root: str) -> None:
    """Let the modules under `root`/sglang win over the installed ones."""
    sys.meta_path.insert(0, RepositoryFinder(root))
