"""Code of the tests in every process of a server, as upstream loads an installed plugin."""

from __future__ import annotations

import os
from pathlib import Path

TESTS = Path(__file__).parent.parent


def install(folder: Path, function: str) -> str:
    """Make the folder an installed plugin: each process calls ``module:function`` once.

    The module lies in the folder or below tests/. Returns the PYTHONPATH to start with.
    """
    info = folder / "plugin_of_a_test-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: plugin-of-a-test\nVersion: 1\n")
    (info / "entry_points.txt").write_text(f"[sglang.srt.plugins]\nplugin_of_a_test = {function}\n")
    path = [str(folder), str(TESTS), os.environ.get("PYTHONPATH", "")]
    return os.pathsep.join(filter(None, path))
