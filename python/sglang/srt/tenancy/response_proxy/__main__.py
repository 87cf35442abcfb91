"""Run as a module: ``python -m sglang.srt.tenancy.response_proxy --upstream URL``."""

from __future__ import annotations

import sys

from sglang.srt.tenancy.response_proxy.command import main

if __name__ == "__main__":
    sys.exit(main())
