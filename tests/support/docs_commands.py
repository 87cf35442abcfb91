"""What README and docs/ tell people to type: servers' command lines, and flags."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

from serve import CACHE_FLAGS, TENANT_FLAGS

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
SERVERS = re.compile(r"(?:\S*python\S* -m sglang\.launch_server|sglang serve) (.+)")
MAKE_SERVE = re.compile(r"make serve\b(.*)")
FLAG = re.compile(r"(?<![\w-])--[a-z][a-z0-9-]*")
# A span of code that holds one of these is a pattern, not something to type.
PLACEHOLDER = re.compile(r"[A-Z|…<]|\.\.\.")


def code(page: Path) -> Iterator[str]:
    """Yield what the page sets as code: blocks, with lines put together again, and spans."""
    text = re.sub(r"\\\n\s*", "", page.read_text())
    fenced = re.compile(r"^```.*?^```", re.DOTALL | re.MULTILINE)
    for block in fenced.findall(text):
        yield from block.splitlines()[1:-1]
    rest = fenced.sub("", text)
    yield from re.findall(r"^ {4,}(\S.*)$", rest, re.MULTILINE)
    for span in re.findall(r"`([^`]+)`", rest):
        yield " ".join(span.replace("\\|", "|").split())


def commands(model: str, folder: Path) -> dict[str, list[str]]:
    """Return the arguments of each server that the docs start, by the line they have for it.

    ``model`` takes the place of every model; files are looked for, or made, in ``folder``.
    """
    found: dict[str, list[str]] = {}
    for line in (line for page in PAGES for line in code(page)):
        if server := SERVERS.search(line):
            found[line] = _arguments(server[1], model, folder)
        elif make := MAKE_SERVE.match(line):
            found[line] = [*CACHE_FLAGS, *TENANT_FLAGS, *_of_make(make[1], model, folder)]
    return found


def spans() -> set[str]:
    """Return every piece of code in the docs that is flags with their values, and no pattern."""
    pieces = (piece.strip() for page in PAGES for piece in code(page))
    return {p for p in pieces if p.startswith("--") and not PLACEHOLDER.search(p)}


def flags() -> dict[str, str]:
    """Return the flags that the docs name, each with a page that does."""
    return {
        flag: page.name for page in PAGES for piece in code(page) for flag in FLAG.findall(piece)
    }


def _arguments(text: str, model: str, folder: Path) -> list[str]:
    words = [word for word in shlex.split(text, comments=True) if word != "..."]
    words = [str(folder / word) if re.search(r"\.(toml|sqlite)$", word) else word for word in words]
    words = [re.sub(r"^\$\w+$", "secret", word) for word in words]
    if "--model-path" in words:
        place = words.index("--model-path")
        # Behind an ellipsis nothing is left of its value.
        gone = 1 if words[place + 1 : place + 2] and not words[place + 1].startswith("-") else 0
        del words[place : place + 1 + gone]
    return ["--model-path", model, *words]


def _of_make(text: str, model: str, folder: Path) -> list[str]:
    variables = dict(word.split("=", 1) for word in shlex.split(text, comments=True) if "=" in word)
    if "--any-flag" in variables.get("ARGS", ""):
        del variables["ARGS"]
    return _arguments(variables.get("ARGS", ""), model, folder)
