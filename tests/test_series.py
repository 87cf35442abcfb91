"""The patch tool, on copies of the real upstream package."""

from __future__ import annotations

import difflib
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from upstream_copy import ROOT, SERIES, fetch_wheel, link_copy, tree_digest, unpack

from patchqueue import commands, diff, transaction
from patchqueue.errors import Refusal
from patchqueue.repository import Repository
from patchqueue.target import Target

ARGS = "sglang/srt/server_args.py"
BATCH = "sglang/srt/managers/schedule_batch.py"
OWN = "sglang/srt/probe/rules.py"
ALONE = "sglang/srt/managers/io_struct.py"
SMALL = (ARGS, BATCH, ALONE, "sglang/__init__.py", "sglang/_version.py")
QUEUE = f"patches/{Repository(ROOT).upstream_version}"
FIRST, SECOND = "first-word.patch", "second-word.patch"
HEADER = (
    "Description: add words\n The test needs them.\nForwarded: not-needed\nDrop-When: never\n\n"
)

Edit = Callable[[list[str]], list[str]]


def insert(at: int, *words: str) -> Edit:
    return lambda lines: [*lines[:at], *(f"{word}\n" for word in words), *lines[at:]]


def make_patch(old: dict[str, str], edits: dict[str, Edit], header: str = HEADER) -> str:
    """A patch text by the standard library, and `old` brought up to date."""
    text = header
    for path, edit in edits.items():
        before = old[path].splitlines(keepends=True)
        after = edit(before)
        names = (f"a/python/{path}", f"b/python/{path}")
        text += "".join(difflib.unified_diff(before, after, *names, n=1))
        old[path] = "".join(after)
    return text


@pytest.fixture(scope="session")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    root = unpack(tmp_path_factory.mktemp("upstream"))
    before = tree_digest(root)
    yield root
    # The targets are hard links to these files: the tool must never have written through one.
    assert tree_digest(root) == before


@pytest.fixture(params=["wheel", "checkout"])
def layout(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def target(pristine: Path, tmp_path: Path) -> Path:
    return link_copy(pristine, tmp_path / "target")


@pytest.fixture
def small(pristine: Path, tmp_path: Path) -> Path:
    """Only a few of upstream's files, for tests that need many copies."""
    for path in SMALL:
        copy = tmp_path / "small" / path
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(pristine / path, copy)
    return tmp_path / "small"


def checkout(pristine: Path, into: Path) -> Path:
    """Upstream's git layout: the package under python/, no generated version file."""
    link_copy(pristine / "sglang", into / "python" / "sglang")
    (into / "python/sglang/_version.py").unlink()
    return into


@pytest.fixture
def repo(pristine: Path, tmp_path: Path) -> Path:
    """A fork with two patches that share a file, and one own file."""
    root = tmp_path / "repo"
    (root / QUEUE).mkdir(parents=True)
    shutil.copy(ROOT / "upstream.json", root)
    old = {path: (pristine / path).read_text() for path in (ARGS, BATCH, ALONE)}
    first = make_patch(old, {ARGS: insert(40, "# one", "# uno"), BATCH: insert(90, "# batch")})
    second = make_patch(old, {ARGS: insert(300, "# two"), ALONE: insert(20, "# alone")})
    (root / QUEUE / FIRST).write_text(first)
    (root / QUEUE / SECOND).write_text(second)
    (root / QUEUE / "series").write_text(f"# order\n{FIRST}\n{SECOND}  # last\n")
    (root / "python" / OWN).parent.mkdir(parents=True)
    (root / "python" / OWN).write_text("RULES = 1\n")
    series(root, "lock", "--wheel", str(fetch_wheel()))
    return root


def call(repo: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    # -S: nothing installed is on the path, as on a bare machine.
    command = [sys.executable, "-S", "-E", str(SERIES), "--repo", str(repo), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


def series(repo: Path, *arguments: str) -> str:
    done = call(repo, *arguments)
    assert done.returncode == 0, done.stderr
    return done.stdout


def refused(repo: Path, *arguments: str) -> str:
    done = call(repo, *arguments)
    assert done.returncode == 1, done.stdout
    assert "Traceback" not in done.stderr
    return done.stderr


def verify(repo: Path) -> tuple[str, ...]:
    return ("verify", "--wheel", str(fetch_wheel()))


# --- apply and revert


@pytest.mark.slow
def test_apply_and_revert(repo: Path, pristine: Path, tmp_path: Path, layout: str) -> None:
    target = tmp_path / "target"
    if layout == "wheel":
        root = link_copy(pristine, target)
    else:
        root = checkout(pristine, target) / "python"
    before = tree_digest(target)

    assert "applied series" in series(repo, "apply", str(target))
    applied = tree_digest(target)
    assert (root / ARGS).read_text().splitlines()[40:42] == ["# one", "# uno"]
    assert (root / ARGS).read_text().splitlines()[300] == "# two"
    assert (root / OWN).read_text() == "RULES = 1\n"
    assert (root / BATCH).stat().st_mode & 0o777 == 0o755
    assert "0.5.17+tenant" in (root / "sglang/_version.py").read_text()
    assert "applied: this series" in series(repo, "status", str(target))

    assert "already applied" in series(repo, "apply", str(target))
    assert tree_digest(target) == applied

    assert "reverted" in series(repo, "revert", str(target))
    assert tree_digest(target) == before
    assert "nothing to revert" in series(repo, "revert", str(target))
    assert series(repo, "status", str(target)) == "not applied\n"
    assert tree_digest(target) == before


def test_revert_removes_directories_with_bytecode(repo: Path, small: Path) -> None:
    series(repo, "apply", str(small))
    cache = (small / OWN).parent / "__pycache__"
    cache.mkdir()
    (cache / "rules.cpython-311.pyc").write_bytes(b"x")
    series(repo, "revert", str(small))
    assert not (small / OWN).parent.exists()


def test_revert_keeps_a_users_file_beside_own_files(repo: Path, small: Path) -> None:
    series(repo, "apply", str(small))
    notes = (small / OWN).parent / "notes.txt"
    notes.write_text("mine")
    series(repo, "revert", str(small))
    assert [path.name for path in notes.parent.iterdir()] == ["notes.txt"]


def test_apply_replaces_an_older_series(repo: Path, small: Path, pristine: Path) -> None:
    before = tree_digest(small)
    series(repo, "apply", str(small))
    # The new series drops a patch, and moves the own file.
    (repo / QUEUE / "series").write_text(f"{FIRST}\n")
    (repo / QUEUE / SECOND).unlink()
    (repo / "python" / OWN).rename((repo / "python" / OWN).with_name("moved.py"))
    series(repo, "lock", "--wheel", str(fetch_wheel()))
    assert "applied: another series" in series(repo, "status", str(small))
    assert "older series" in series(repo, "apply", str(small))
    assert (small / ALONE).read_bytes() == (pristine / ALONE).read_bytes()
    assert "# two\n" not in (small / ARGS).read_text()
    assert not (small / OWN).exists()
    assert (small / OWN).with_name("moved.py").exists()
    series(repo, "revert", str(small))
    assert tree_digest(small) == before


# --- refusals change nothing


def test_refuses_another_version_of_a_wheel(repo: Path, target: Path) -> None:
    metadata = next(target.glob("sglang-*.dist-info")) / "METADATA"
    text = metadata.read_text().replace("Version: 0.5.17", "Version: 0.5.18", 1)
    metadata.unlink()
    metadata.write_text(text)
    before = tree_digest(target)
    message = refused(repo, "apply", str(target))
    assert "0.5.18" in message
    assert "0.5.17" in message
    assert tree_digest(target) == before


def test_refuses_another_version_of_a_checkout(repo: Path, pristine: Path, tmp_path: Path) -> None:
    """Even a series that touches nothing notices."""
    target = checkout(pristine, tmp_path / "target")
    path = target / "python" / ARGS
    text = path.read_text()
    path.unlink()
    path.write_text(text + "# a later release\n")
    (repo / QUEUE / "series").write_text("")
    before = tree_digest(target)
    assert ARGS in refused(repo, "apply", str(target))
    assert tree_digest(target) == before


@pytest.mark.parametrize("path", [ARGS, ALONE])
def test_refuses_local_edits(repo: Path, small: Path, path: str) -> None:
    text = (small / path).read_text()
    (small / path).unlink()
    (small / path).write_text(text + "# mine\n")
    before = tree_digest(small)
    assert path in refused(repo, "apply", str(small))
    assert tree_digest(small) == before


@pytest.mark.parametrize("path", [ARGS, OWN])
@pytest.mark.parametrize("command", ["apply", "revert"])
def test_refuses_edits_after_apply(repo: Path, small: Path, path: str, command: str) -> None:
    series(repo, "apply", str(small))
    (small / path).write_text((small / path).read_text() + "# mine\n")
    before = tree_digest(small)
    assert path in refused(repo, command, str(small))
    assert tree_digest(small) == before
    assert f"modified: {path}" in series(repo, "status", str(small))


def test_refuses_a_foreign_file_in_the_way(repo: Path, small: Path) -> None:
    (small / OWN).parent.mkdir()
    (small / OWN).write_text("theirs\n")
    before = tree_digest(small)
    assert OWN in refused(repo, "apply", str(small))
    assert tree_digest(small) == before


def test_refuses_a_link(repo: Path, small: Path, pristine: Path) -> None:
    (small / ALONE).unlink()
    (small / ALONE).symlink_to(pristine / ALONE)
    before = tree_digest(small)
    assert ALONE in refused(repo, "apply", str(small))
    assert tree_digest(small) == before


def test_refuses_a_package_built_from_the_fork(repo: Path, small: Path) -> None:
    version = small / "sglang/_version.py"
    version.unlink()
    version.write_bytes(Repository(repo).version_file())
    assert "built from this fork" in refused(repo, "apply", str(small))
    assert "built from this fork" in series(repo, "status", str(small))


def test_refuses_what_is_no_package(repo: Path, tmp_path: Path) -> None:
    assert str(tmp_path) in refused(repo, "apply", str(tmp_path))


def test_refuses_a_second_run_at_the_same_time(repo: Path, small: Path) -> None:
    with transaction.locked(small):
        assert "another run" in refused(repo, "apply", str(small))
    series(repo, "apply", str(small))


# --- interruption

# Stops the tool right before its N-th change of the disk, with no help from the tool.
STOPPER = """
import os, runpy, signal, sys
count, number = int(sys.argv[1]), int(sys.argv[2])
tree = sys.argv[3]
def stop(event, args):
    global count
    if event == "open":
        if not isinstance(args[0], (str, os.PathLike)) or not args[2] & os.O_CREAT: return
    elif event not in ("os.rename", "os.remove", "os.mkdir", "os.chmod", "os.rmdir"): return
    if tree not in str(args[0]): return
    count -= 1
    if count == 0: os.kill(os.getpid(), number)
# As in a terminal; a shell's background job, and so some CI, has it ignored.
signal.signal(signal.SIGINT, signal.default_int_handler)
sys.addaudithook(stop)
sys.argv = sys.argv[4:]
sys.path.insert(0, os.path.dirname(sys.argv[0]))
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def stopped(repo: Path, target: Path, command: str, step: int, number: int) -> int:
    arguments = [str(step), str(int(number)), str(target), str(SERIES)]
    arguments += ["--repo", str(repo), command, str(target)]
    run = [sys.executable, "-S", "-E", "-c", STOPPER, *arguments]
    return subprocess.run(run, capture_output=True, check=False, timeout=60).returncode


@pytest.mark.slow
@pytest.mark.parametrize("command", ["apply", "revert"])
def test_killed_at_every_step(repo: Path, small: Path, tmp_path: Path, command: str) -> None:
    pristine = tree_digest(small)
    applied_copy = tmp_path / "applied"
    shutil.copytree(small, applied_copy)
    series(repo, "apply", str(applied_copy))
    applied = tree_digest(applied_copy)
    start = small if command == "apply" else applied_copy
    before, after = (pristine, applied) if command == "apply" else (applied, pristine)
    unfinished = 0
    for step in range(1, 100):
        victim = tmp_path / f"victim-{step}"
        shutil.copytree(start, victim)
        code = stopped(repo, victim, command, step, signal.SIGKILL)
        unfinished += tree_digest(victim) not in (before, after)
        if code == 0:
            assert tree_digest(victim) == after
            break
        assert code == -signal.SIGKILL
        commands.recover(Target(victim, Repository(repo)))
        assert tree_digest(victim) in (before, after), step
    assert code == 0
    assert unfinished > 10


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_undoes_at_once(repo: Path, small: Path, tmp_path: Path, number: int) -> None:
    before = tree_digest(small)
    for step in (1, 5, 12, 18):
        victim = tmp_path / f"victim-{step}"
        shutil.copytree(small, victim)
        assert stopped(repo, victim, "apply", step, number) != 0
        assert tree_digest(victim) == before, step


def test_a_failing_disk_undoes_at_once(
    repo: Path, small: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = tree_digest(small)
    real, calls = os.fsync, 0

    def full_disk(handle: int) -> None:
        nonlocal calls
        calls += 1
        if calls == 4:
            raise OSError(28, "No space left on device")
        real(handle)

    monkeypatch.setattr(os, "fsync", full_disk)
    with pytest.raises(OSError, match="No space"):
        transaction.commit(small, dict.fromkeys(SMALL, b"new"))
    assert calls >= 4
    assert tree_digest(small) == before


@pytest.mark.slow
def test_an_edit_after_a_kill_is_not_lost(repo: Path, small: Path) -> None:
    # The step at which the first files are renamed and others are not.
    for step in range(10, 40):
        stopped(repo, small, "apply", step, signal.SIGKILL)
        if "# one" in (small / ARGS).read_text():
            break
        commands.recover(Target(small, Repository(repo)))
    (small / ARGS).write_text("mine\n")
    assert ARGS in refused(repo, "status", str(small))
    assert (small / ARGS).read_text() == "mine\n"


# --- verify


def test_the_real_series() -> None:
    done = subprocess.run(
        [sys.executable, str(SERIES), *verify(ROOT)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_the_real_series_applies_and_reverts(target: Path) -> None:
    repository = Repository(ROOT)
    before = tree_digest(target)
    series(ROOT, "apply", str(target))
    for patch in repository.patches():
        for path in patch.diffs:
            compile((target / path).read_text(), path, "exec")
    for path, file in repository.own_files().items():
        assert (target / path).read_bytes() == file.read_bytes()
    series(ROOT, "revert", str(target))
    assert tree_digest(target) == before


def test_verify_reports_lines(repo: Path) -> None:
    lines = series(repo, *verify(repo)).splitlines()
    assert lines[0].split() == ["3", "lines", "2", "files", FIRST]
    assert lines[1].split() == ["2", "lines", "2", "files", SECOND]
    assert lines[2].split()[:4] == ["5", "lines", "3", "files"]


def test_verify_refuses_more_lines_than_the_budget(repo: Path, pristine: Path) -> None:
    path = repo / QUEUE / SECOND
    old = {ALONE: (pristine / ALONE).read_text()}
    words = [f"# {number}" for number in range(297)]
    path.write_text(make_patch(old, {ALONE: insert(20, *words)}))
    assert "300" in series(repo, *verify(repo)).splitlines()[-1]
    old = {ALONE: (pristine / ALONE).read_text()}
    path.write_text(make_patch(old, {ALONE: insert(20, *words, "# over")}))
    assert "301 lines of upstream touched; the budget is 300" in refused(repo, *verify(repo))


@pytest.mark.parametrize(
    ("old", "new", "complaint"),
    [
        ("Forwarded: not-needed\n", "", "has no Forwarded:"),
        ("Drop-When: never\n", "", "has no Drop-When:"),
        ("Drop-When: never\n", "Drop-When:\n", "has no Drop-When:"),
        (" The test needs them.\n", "", "say why"),
        ("not-needed", "perhaps", "'perhaps'"),
        ("+# one\n", "", "the hunk holds"),
        (f"b/python/{ARGS}", "b/python/other.py", "in place"),
        (f"python/{ARGS}", "docs/readme.md", "not under python/sglang/"),
        (f"a/python/{ARGS}", "/dev/null", "new files belong under python/sglang/"),
    ],
)
def test_verify_names_a_fault(repo: Path, old: str, new: str, complaint: str) -> None:
    path = repo / QUEUE / FIRST
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))
    message = refused(repo, *verify(repo))
    assert complaint in message
    assert FIRST in message


def test_verify_names_files_out_of_place(repo: Path) -> None:
    (repo / QUEUE / "forgotten.patch").write_text(HEADER)
    (repo / "python" / ALONE).parent.mkdir(parents=True)
    (repo / "python" / ALONE).write_text("")
    (repo / QUEUE / "upstream.lock").write_text("{}")
    message = refused(repo, *verify(repo))
    assert f"{QUEUE}/forgotten.patch is not in {QUEUE}/series" in message
    assert f"python/{ALONE} is upstream's" in message
    assert "upstream.lock is out of date" in message
    (repo / QUEUE / SECOND).unlink()
    assert f"{QUEUE}/{SECOND} is not there" in refused(repo, *verify(repo))


def test_a_second_base_stands_beside_the_first(repo: Path) -> None:
    upstream = json.loads((repo / "upstream.json").read_text())
    base = upstream["base"]
    upstream["versions"]["9.9.9"] = {"local": "tenant.7", "wheels": {}}
    (repo / "upstream.json").write_text(json.dumps(upstream))
    (repo / "patches/9.9.9").mkdir()
    (repo / "patches/9.9.9" / FIRST).write_text((repo / QUEUE / FIRST).read_text())
    (repo / "patches/9.9.9/series").write_text(f"{FIRST}\n")
    assert Repository(repo).listed() == [FIRST, SECOND]
    assert Repository(repo).version == f"{base}+{upstream['versions'][base]['local']}"
    other = Repository(repo, "9.9.9")
    assert other.listed() == [FIRST]
    assert other.version == "9.9.9+tenant.7"
    assert [patch.path for patch in other.patches()] == [f"patches/9.9.9/{FIRST}"]
    series(repo, *verify(repo))


def test_a_base_that_is_not_pinned_is_refused(repo: Path, small: Path) -> None:
    message = refused(repo, "--base", "1.2.3", "apply", str(small))
    assert "upstream.json pins no 1.2.3; use one of: 0.5.17" in message


@pytest.mark.slow
def test_verify_notes_shifted_lines_and_refresh_renumbers(repo: Path, target: Path) -> None:
    path = repo / QUEUE / SECOND
    text = path.read_text()
    path.write_text(text.replace("@@ -300,2 +300,3 @@", "@@ -290,2 +290,3 @@"))
    assert f"note: {SECOND}: {ARGS}" in series(repo, *verify(repo))
    series(repo, "apply", str(target))
    series(repo, "refresh", str(target), "--wheel", str(fetch_wheel()))
    assert sorted(diff_of(path.read_text())) == sorted(diff_of(text))


def test_wheel_with_another_hash_is_refused(repo: Path, tmp_path: Path) -> None:
    forged = tmp_path / fetch_wheel().name
    forged.write_bytes(b"PK")
    message = refused(repo, "verify", "--wheel", str(forged))
    assert "SHA-256" in message
    assert forged.name in message


# --- refresh


def diff_of(patch: str) -> list[str]:
    return [line for line in patch.splitlines() if line[:1] in "+-@ "]


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert text.count(old) == 1
    path.write_text(text.replace(old, new))


def round_trip(repo: Path, target: Path, fresh: Path, *options: str) -> str:
    """Refresh, then check that a fresh copy gets exactly what the target holds."""
    out = series(repo, "refresh", str(target), "--wheel", str(fetch_wheel()), *options)
    assert "modified" not in series(repo, "status", str(target))
    series(repo, *verify(repo))
    series(repo, "apply", str(fresh))
    assert tree_digest(fresh) == tree_digest(target)
    return out


@pytest.fixture
def fresh(pristine: Path, tmp_path: Path) -> Path:
    return link_copy(pristine, tmp_path / "fresh")


def test_refresh_without_edits_changes_nothing(repo: Path, target: Path) -> None:
    series(repo, "apply", str(target))
    before = tree_digest(repo)
    out = series(repo, "refresh", str(target), "--wheel", str(fetch_wheel()))
    assert out == "nothing to refresh\n"
    assert tree_digest(repo) == before


@pytest.mark.slow
def test_refresh_finds_the_only_owner(repo: Path, target: Path, fresh: Path) -> None:
    series(repo, "apply", str(target))
    edit(target / BATCH, "# batch\n", "# better\n")
    edit(target / OWN, "1", "2")
    out = round_trip(repo, target, fresh)
    assert out.splitlines() == [f"rewrote {QUEUE}/{FIRST}", f"copied back python/{OWN}"]
    text = (repo / QUEUE / FIRST).read_text()
    assert text.startswith(HEADER)
    assert "+# better" in text
    assert "+# batch" not in text
    assert (repo / "python" / OWN).read_text() == "RULES = 2\n"


@pytest.mark.slow
@pytest.mark.parametrize("owner", [FIRST, SECOND])
def test_refresh_of_a_shared_file(repo: Path, target: Path, fresh: Path, owner: str) -> None:
    series(repo, "apply", str(target))
    edit(target / ARGS, "# uno\n", "# uno\n# more\n# more\n")
    message = refused(repo, "refresh", str(target), "--wheel", str(fetch_wheel()))
    assert "--patch NAME" in message
    assert f"{FIRST}, {SECOND}" in message
    if owner == SECOND:
        # One patch may change what an earlier one added.
        edit(target / ARGS, "# one\n", "# two\n# one\n")
    round_trip(repo, target, fresh, "--patch", owner)
    assert "+# more" in (repo / QUEUE / owner).read_text()
    other = ({FIRST, SECOND} - {owner}).pop()
    assert "more" not in (repo / QUEUE / other).read_text()


def test_refresh_refuses_an_edit_of_a_later_patch(repo: Path, target: Path) -> None:
    series(repo, "apply", str(target))
    edit(target / ARGS, "# two\n", "# three\n")
    before = tree_digest(repo)
    options = ("--wheel", str(fetch_wheel()), "--patch", FIRST)
    message = refused(repo, "refresh", str(target), *options)
    assert f"use --patch {SECOND}" in message
    assert tree_digest(repo) == before


@pytest.mark.slow
def test_refresh_makes_a_new_patch(repo: Path, target: Path, fresh: Path) -> None:
    series(repo, "apply", str(target))
    init = target / "sglang/__init__.py"
    text = init.read_text()
    init.unlink()
    init.write_text("# new\n" + text)
    edit(target / BATCH, "# batch\n", "# better\n")
    options = ("--wheel", str(fetch_wheel()), "--patch", "new-word.patch")
    series(repo, "refresh", str(target), *options, "--only", "sglang/__init__.py")
    assert f"modified: {BATCH}" in series(repo, "status", str(target))
    assert Repository(repo).listed() == [FIRST, SECOND, "new-word.patch"]
    message = refused(repo, *verify(repo))
    assert f"{QUEUE}/new-word.patch: the header has no Description:" in message
    patch = repo / QUEUE / "new-word.patch"
    patch.write_text(HEADER + patch.read_text()[patch.read_text().index("---") :])
    series(repo, *verify(repo))
    edit(target / BATCH, "# better\n", "# batch\n")
    series(repo, "apply", str(target))
    series(repo, "apply", str(fresh))
    assert tree_digest(fresh) == tree_digest(target)


@pytest.mark.slow
def test_refresh_drops_what_was_edited_away(repo: Path, target: Path, fresh: Path) -> None:
    series(repo, "apply", str(target))
    edit(target / ALONE, "# alone\n", "")
    round_trip(repo, target, fresh)
    assert ALONE not in (repo / QUEUE / SECOND).read_text()
    assert ALONE not in json.loads((repo / QUEUE / "upstream.lock").read_text())


# --- diffs

lines_of_bytes = st.lists(
    st.sampled_from([b"a\n", b"b\n", b"\n", b"c\r\n", b"d\x0ce\n"]), min_size=1, max_size=30
).map(b"".join)
maybe_unfinished = st.tuples(lines_of_bytes, st.booleans()).map(
    lambda pair: pair[0] + b"end" if pair[1] else pair[0]
)


@given(old=maybe_unfinished, new=maybe_unfinished)
def test_diff_round_trip(old: bytes, new: bytes) -> None:
    if old == new:
        return
    made = diff.make("python/sglang/x.py", old, new)
    assert diff.parse(made.raw) == [made]
    try:
        assert diff.apply(old, made) == (new, False)
        assert diff.apply(new, made.reversed()) == (old, False)
    except Refusal:
        # Without any line in common there is no context to hold on to.
        assert not set(diff.split_lines(old)) & set(diff.split_lines(new))


def read_hunk(start: int, *body: str) -> diff.FileDiff:
    old = sum(line[0] in " -" for line in body)
    new = sum(line[0] in " +" for line in body)
    text = f"--- a/f\n+++ b/f\n@@ -{start},{old} +{start},{new} @@\n"
    return diff.parse((text + "".join(f"{line}\n" for line in body)).encode())[0]


def test_apply_is_strict() -> None:
    content = b"a\nb\nc\nd\na\nb\n"
    exact = read_hunk(1, " a", "+x", " b")
    assert diff.apply(content, exact) == (b"a\nx\nb\nc\nd\na\nb\n", False)
    moved = read_hunk(1, " c", "+x", " d")
    assert diff.apply(content, moved) == (b"a\nb\nc\nx\nd\na\nb\n", True)
    with pytest.raises(Refusal, match="fits 2 places"):
        diff.apply(content, read_hunk(3, " a", "+x", " b"))
    with pytest.raises(Refusal, match="nowhere"):
        diff.apply(content, read_hunk(1, " a", "+x", " B"))
    with pytest.raises(Refusal, match="nowhere"):
        diff.apply(content, read_hunk(1, " a ", "+x", " b"))
    with pytest.raises(Refusal, match="no context"):
        read_hunk(1, "+x")
