"""Run as a module, or as a folder.

``python -m`` imports upstream's package first, and with it the engine: some seconds. As a folder,
``python path/to/tenancy/fleet``, it starts at once and needs httpx only.
"""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

if not __package__:
    # Not by its folder on the path: some names in there are the standard library's.
    folder = Path(__file__).parent
    spec = importlib.util.spec_from_file_location(
        "tenant_fleet", folder / "__init__.py", submodule_search_locations=[str(folder)]
    )
    assert spec is not None
    package = importlib.util.module_from_spec(spec)
    sys.modules["tenant_fleet"] = package
    __package__ = "tenant_fleet"

from .command import main

if __name__ == "__main__":
    sys.exit(main())
