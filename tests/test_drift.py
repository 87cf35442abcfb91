"""What another release breaks: hunks, names, and the command that says so."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

from upstream_copy import ROOT, SERIES, fetch_wheel

from patchqueue import hunks, names
from patchqueue.code import Code
from patchqueue.repository import Patch

HEADER = b"Description: x\n y\nForwarded: no\nDrop-When: never\n\n"
PATH = "sglang/a.py"
BASE = b"import os\n\ndef one():\n    return 1\n\ndef two():\n    return 2\n"


def patch(name: str, *diffs: bytes, path: str = PATH) -> Patch:
    head = f"--- a/python/{path}\n+++ b/python/{path}\n".encode()
    return Patch.parse("patches/0", name, HEADER + head + b"".join(diffs))


IMPORT = b"@@ -1,1 +1,2 @@\n import os\n+import sys\n"
RETURN = b"@@ -4,1 +5,1 @@\n-    return 1\n+    return 10\n"


def drift(new: bytes | None, *patches: Patch) -> list[tuple[str, int, str, str]]:
    files = {} if new is None else {PATH: new}
    found = hunks.compare(list(patches), lambda _: BASE, files.__getitem__, set(files))
    return [(each.patch, each.line, each.outcome, each.detail) for each in found]


def test_hunks_apply_where_they_did_or_at_another_line() -> None:
    one = patch("p", IMPORT, RETURN)
    assert drift(BASE, one) == [("p", 1, "applies", ""), ("p", 4, "applies", "")]
    moved = drift(BASE.replace(b"os\n", b"os\nX = 1\nY = 2\n"), one)
    assert moved == [("p", 1, "applies", ""), ("p", 4, "moved", "by +2 lines")]


def test_a_hunk_that_lands_in_another_function_says_so() -> None:
    new = b"import os\n\ndef zero():\n    return 1\n\ndef one():\n    return 3\n"
    [drifted] = drift(new, patch("p", RETURN))
    assert drifted == ("p", 4, "applies", "from one into zero: look there")


def test_a_hunk_breaks_with_its_reason() -> None:
    one = patch("p", RETURN)
    assert drift(None, one) == [("p", 4, "breaks", "the file is gone")]
    [(_, _, outcome, detail)] = drift(BASE.replace(b"return 1", b"return  1"), one)
    assert (outcome, detail) == ("breaks", "not found: `return 1`")
    twice = b"X = 0\n" + BASE + b"\ndef three():\n    return 1\n"
    assert drift(twice, one)[0][2:] == ("breaks", "fits 2 places")
    pair = patch("p", b"@@ -3,2 +3,2 @@\n def one():\n-    return 1\n+    return 10\n")
    apart = BASE.replace(b"def one():\n", b"def one():\n    x = 1\n")
    assert drift(apart, pair)[0][2:] == ("breaks", "its lines no longer stand together")


def test_a_hunk_may_rest_on_one_that_breaks() -> None:
    later = patch("q", b"@@ -2,1 +2,2 @@\n import sys\n+import re\n")
    found = drift(BASE.replace(b"import os", b"import io"), patch("p", IMPORT), later)
    assert found[1][2:] == ("breaks", "rests on a patch before it, which breaks here")
    assert drift(BASE, patch("p", IMPORT), later)[1][2] == "applies"


OURS = {
    "sglang/own/b.py": b"""
from typing import TYPE_CHECKING
import sglang.srt.tools as tools
from sglang.srt import reexported
from sglang.srt.cache import Cache, Key, helper
if TYPE_CHECKING:
    from sglang.srt.cache import Req

HOOK = "sglang.srt.cache.Cache.evict"
KEY = Key(1)

class Mixin:
    def match(self, key):
        return self.root

class Ours(Mixin, Cache):
    def insert(self, key): ...

def run(req: Req | None, other):
    tools.measure()
    return req.rows, req.ours, other.rows
"""
}
THEIRS = {
    "sglang/__init__.py": b"",
    "sglang/srt/tools.py": b"def measure(): ...\n",
    "sglang/srt/__init__.py": b"from .tools import measure as reexported\n",
    "sglang/srt/cache.py": b"""
class Above:
    def __init__(self):
        self.root = None
    def match(self, key): ...
class Cache(Above):
    def insert(self, key, value=None): ...
    def evict(self): ...
class Key:
    tokens: int
class Req:
    def __init__(self):
        self.rows = []
def helper(a, b=1, *, c): ...
""",
}


def changes(**replaced: bytes) -> dict[str, tuple[str, str]]:
    new = dict(THEIRS)
    for old, text in replaced.items():
        new["sglang/srt/cache.py"] = new["sglang/srt/cache.py"].replace(old.encode(), text)
    return compared(new)


def compared(new: dict[str, bytes]) -> dict[str, tuple[str, str]]:
    base, other = ({**files, **OURS} for files in (THEIRS, new))
    used, found = names.compare(
        OURS,
        Code(base, base.__getitem__),
        Code(other, other.__getitem__),
        lambda name: name.startswith("sglang.own"),
    )
    assert used > 8
    assert all(each.users == ("sglang/own/b.py",) for each in found)
    return {each.name.removeprefix("sglang.srt."): (each.change, each.detail) for each in found}


def test_what_is_unchanged_is_not_named() -> None:
    assert changes() == {}
    # Not what we use: another class, a new method, another default.
    assert changes(**{"b=1": b"b=2", "class Key:": b"class New: ...\nclass Key:"}) == {}


def test_a_name_or_its_module_is_gone() -> None:
    assert changes(helper=b"other")["cache.helper"][0] == "gone"
    found = compared({**THEIRS, "sglang/srt/tools.py": b"", "sglang/srt/__init__.py": b""})
    assert set(found) == {"reexported", "tools.measure"}
    assert set(changes(**{"class Cache(Above)": b"class Tree(Above)"})) == {"cache.Cache"}


def test_a_name_that_moved_and_is_imported_back_stays() -> None:
    cache = THEIRS["sglang/srt/cache.py"].replace(b"def helper(a, b=1, *, c): ...", b"")
    moved = b"from sglang.srt.tools import helper\n" + cache
    tools = THEIRS["sglang/srt/tools.py"] + b"def helper(a, b=1, *, c): ...\n"
    assert compared({**THEIRS, "sglang/srt/cache.py": moved, "sglang/srt/tools.py": tools}) == {}


def test_a_signature_changed() -> None:
    assert changes(**{"a, b=1": b"a, d, b"}) == {
        "cache.helper": ("signature", "without `b=`; with `d`, `b`")
    }
    assert changes(**{"tokens: int": b"tokens: int\n    salt: str = ''"}) == {
        "cache.Key()": ("signature", "with `salt=`")
    }
    assert changes(**{"a, b=1, *, c": b"a, c, *, b=1"}) == {
        "cache.helper": ("signature", "in another order")
    }


def test_an_overridden_or_inherited_member_changed() -> None:
    assert changes(**{"key, value=None": b"key, node"}) == {
        "cache.Cache.insert": ("signature", "without `value=`; with `node`")
    }
    # Through a mixin of ours, whose base is known only where it is combined.
    assert set(changes(**{"self.root": b"self.top"})) == {"cache.Cache.root"}
    assert set(changes(**{"def match": b"def find"})) == {"cache.Cache.match"}


def test_members_by_annotation_and_by_string_are_seen() -> None:
    assert set(changes(**{"self.rows": b"self.kv"})) == {"cache.Req.rows"}
    assert set(changes(**{"def evict": b"def drop"})) == {"cache.Cache.evict"}


def test_a_class_that_is_made_by_a_call_is_one_row() -> None:
    assert changes(**{"def helper": b"Req = make()\ndef helper"}) == {
        "cache.Req": ("unclear", "no `class` statement; look for `rows`")
    }


def test_the_command_writes_a_report(tmp_path: Path) -> None:
    """The real series against a release that lost most of its files."""
    release = tmp_path / "sglang-9.9.9-py3-none-any.whl"
    with zipfile.ZipFile(fetch_wheel()) as old, zipfile.ZipFile(release, "w") as new:
        for name in ("sglang/__init__.py", "sglang/srt/managers/io_struct.py"):
            new.writestr(name, old.read(name))
    report = tmp_path / "report.md"
    command = [sys.executable, "-S", "-E", str(SERIES), "--repo", str(ROOT), "drift", "9.9.9"]
    command += ["--release-wheel", str(release), "--wheel", str(fetch_wheel())]
    done = subprocess.run(
        [*command, "--output", str(report)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    text = report.read_text()
    assert text.startswith("# From 0.5.17 to 9.9.9\n")
    assert "not pinned" in text
    assert "io_struct.py:287` | applies" in text
    assert "| breaks | the file is gone |" in text
    assert "`sglang.srt.server_args.ServerArgs` | gone" in text
    shown = subprocess.run(command, capture_output=True, text=True, check=True)
    assert shown.stdout == text


def test_no_release_is_refused() -> None:
    command = [sys.executable, str(SERIES), "drift", "latest"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "'latest' is no version" in done.stderr
