"""Runs what a document says: its blocks of Python, as one program, and of Bash."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_SECONDS = 120.0


@dataclass(frozen=True)
class Block:
    """``line``: where it begins in the document."""

    language: str
    text: str
    line: int


def blocks_of(document: Path) -> list[Block]:
    """Return all blocks that name a language, in their order."""
    text = document.read_text()
    return [
        Block(match[1], match[2], text.count("\n", 0, match.start()) + 2)
        for match in _BLOCK.finditer(text)
    ]


class Runner:
    """Runs blocks in their order: those of Python share their names, those of Bash a folder.

    ``instead``: what is replaced in each, such as the address of the server.
    """

    def __init__(self, folder: Path, instead: Mapping[str, str], env: Mapping[str, str]) -> None:
        self._folder = folder
        self._instead = instead
        self._env = env
        self._names: dict[str, Any] = {"__name__": "__document__"}

    def run(self, document: Path) -> dict[str, int]:
        """Run a document; return how many blocks of each language it had.

        Raises what a block raises, with its line in the document.
        """
        ran = dict.fromkeys(("python", "bash"), 0)
        for block in blocks_of(document):
            if block.language in ran:
                ran[block.language] += 1
                self._one(document, block)
        return ran

    def _one(self, document: Path, block: Block) -> None:
        text = block.text
        for old, new in self._instead.items():
            text = text.replace(old, new)
        if block.language == "python":
            # Lines of a traceback are the document's.
            code = compile("\n" * (block.line - 1) + text, str(document), "exec")
            exec(code, self._names)
            return
        scripts = str(Path(sys.executable).parent)
        env = {**os.environ, **self._env, "PATH": f"{scripts}{os.pathsep}{os.environ['PATH']}"}
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", text],
            cwd=self._folder,
            env=env,
            capture_output=True,
            text=True,
            check=False,
            timeout=_SECONDS,
        )
        where = f"{document.name}, line {block.line}"
        assert done.returncode == 0, f"{where}:\n{done.stdout}{done.stderr}"
        print(f"{where}:\n{done.stdout}")
