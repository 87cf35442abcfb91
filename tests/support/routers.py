"""The routers that replicas are tested behind, each in an environment of its own: their programs
have the same names."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

VERSIONS = {"sglang-router": "0.3.2", "smg": "1.13.0"}


def installed(name: str) -> Path:
    """Return the router's program, installed on first use (about 15 seconds)."""
    folder = Path(sys.prefix) / "routers" / f"{name}-{VERSIONS[name]}"
    done = folder / "installed"
    python = folder / "bin" / "python"
    if not done.exists():
        make = ["-m", "venv", "--clear", "--without-pip", str(folder)]
        subprocess.run([sys.executable, *make], check=True)
        install = ["-m", "pip", "--python", str(python), "install", "--quiet"]
        subprocess.run([sys.executable, *install, f"{name}=={VERSIONS[name]}"], check=True)
        done.touch()
    return python.with_name(name)
