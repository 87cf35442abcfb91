"""Run as a module, or as a folder: ``sglang-tenant``.

``python -m`` imports upstream's package first, and with it the engine: some seconds. As a folder,
``python path/to/sglang/tenant_client``, it starts at once.
"""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType

if not __package__:
    empty = ModuleType("sglang")
    empty.__path__ = [str(Path(__file__).resolve().parent.parent)]
    sys.modules["sglang"] = empty
    __package__ = "sglang.tenant_client"

from .command import main

if __name__ == "__main__":
    sys.exit(main())
