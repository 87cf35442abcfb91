"""The command ``sglang-tenant``, at once: ``import sglang`` would import the engine first."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from types import ModuleType

PACKAGE = "sglang"


def main() -> int:
    """Run the client's command line; return its exit code."""
    leave_out_engine()
    return int(importlib.import_module(f"{PACKAGE}.tenant_client.command").main())


def leave_out_engine() -> None:
    """Put a package that is empty in the place of upstream's, with the same modules below it."""
    spec = importlib.util.find_spec(PACKAGE)
    assert spec is not None, "this file is installed together with the package"
    empty = ModuleType(PACKAGE)
    empty.__path__ = list(spec.submodule_search_locations or ())
    sys.modules[PACKAGE] = empty


if __name__ == "__main__":
    sys.exit(main())
