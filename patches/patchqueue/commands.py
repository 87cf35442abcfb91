"""apply, revert, status and verify. Each returns the lines to print."""

from __future__ import annotations

from pathlib import Path

from . import transaction
from .errors import Refusal
from .repository import VERSION_FILE, WITNESS, Repository, Step, sha256, stack
from .target import STATE_FILE, FileState, State, Target
from .transaction import hash_or_none, pack
from .wheel import WheelFiles

BUDGET = 300


def recover(target: Target) -> list[str]:
    """Undo what an interrupted run left."""
    if transaction.roll_back(target.root):
        return ["undid a change that was interrupted"]
    return []


def apply(repository: Repository, target: Target) -> list[str]:
    """Lay the series and the own files into the target, over an older series if one is there."""
    state = target.state()
    digest = repository.digest()
    if state:
        require_unedited(target, state)
        if state.series == digest:
            return [f"already applied: series {digest[:12]}"]
    wanted = _wanted(repository, target, state)
    changes: dict[str, bytes | None] = {
        path: target.original(path, state) for path in (state.files if state else ())
    }
    changes.update(wanted)
    changes = {path: new for path, new in changes.items() if new != target.read(path)}
    new_state = _state_of(repository, target, state, wanted, digest)
    changes[STATE_FILE] = new_state.to_json()
    target.require_plain(changes)
    transaction.commit(target.root, changes, state.directories if state else ())
    verb = "replaced an older series with" if state else "applied"
    return [f"{verb} series {digest[:12]} ({repository.version}): {len(wanted)} files"]


def revert(target: Target) -> list[str]:
    """Give every touched file its former content and take the own files out."""
    state = target.state()
    if state is None:
        return ["nothing to revert: no series is applied"]
    require_unedited(target, state)
    changes: dict[str, bytes | None] = {path: target.original(path, state) for path in state.files}
    changes[STATE_FILE] = None
    target.require_plain(changes)
    transaction.commit(target.root, changes, state.directories)
    return [f"reverted series {state.series[:12]}: {len(state.files)} files"]


def status(repository: Repository, target: Target) -> list[str]:
    state = target.state()
    if state is None:
        if repository.version in target.versions():
            return [f"built from this fork ({repository.version}), not a copy of upstream"]
        return ["not applied"]
    current = "this" if state.series == repository.digest() else "another"
    lines = [f"applied: {current} series, {state.series[:12]} ({state.version})"]
    return lines + [f"modified: {path}" for path in target.edited(state)]


def verify(repository: Repository, wheel: WheelFiles) -> tuple[list[str], list[str]]:
    """Check the series against upstream's wheel. Returns (report, complaints)."""
    patches = repository.patches()
    complaints = [line for patch in patches for line in patch.complaints()]
    complaints += [
        f"{repository.folder}/{name} is not in {repository.folder}/series; list it or delete it"
        for name in repository.unlisted()
    ]
    complaints += [
        f"python/{path} is upstream's; change it by a patch"
        for path in repository.own_files()
        if path in wheel.names
    ]
    steps = stack(patches, wheel.read)
    expected = {path: sha256(wheel.read(path)) for path in sorted({*steps, WITNESS})}
    if repository.lock() != expected:
        complaints.append(f"{repository.folder}/upstream.lock is out of date; run: series.py lock")
    total = sum(patch.touched for patch in patches)
    if total > BUDGET:
        complaints.append(f"{total} lines of upstream touched; the budget is {BUDGET}")
    report = [
        f"{patch.touched:5} lines  {len(patch.diffs):3} files  {patch.name}" for patch in patches
    ]
    report += _moved(steps)
    report.append(
        f"{total:5} lines  {len(steps):3} files  {len(patches)} patches, "
        f"{len(repository.own_files())} own files (budget {BUDGET} lines)"
    )
    return report, complaints


def lock(repository: Repository, wheel: WheelFiles) -> list[str]:
    repository.write_lock(wheel.read)
    return [f"wrote {repository.folder}/upstream.lock: {len(repository.lock())} files"]


def _moved(steps: dict[str, list[Step]]) -> list[str]:
    return [
        f"note: {step.patch.name}: {path}: line numbers are off; `refresh` renumbers them"
        for path, file_steps in sorted(steps.items())
        for step in file_steps
        if step.moved
    ]


def _wanted(repository: Repository, target: Target, state: State | None) -> dict[str, bytes]:
    """Content of every file the fork changes or adds, after checking what is there now."""
    if state is None:
        target.require_version(repository)
    patches = repository.patches()
    touched = {path for patch in patches for path in patch.diffs}
    for path in sorted(touched | {WITNESS}):
        _require_upstream(repository, target, path, state)

    def read(path: str) -> bytes:
        content = target.original(path, state)
        assert content is not None  # its hash was just compared
        return content

    wanted = {path: steps[-1].after for path, steps in stack(patches, read).items()}
    for path, file in repository.own_files().items():
        if target.original(path, state) is not None:
            raise Refusal(
                f"{target.root / path} is in the way of the fork's own file; move it away"
            )
        wanted[path] = file.read_bytes()
    wanted[VERSION_FILE] = repository.version_file()
    return wanted


def _require_upstream(
    repository: Repository, target: Target, path: str, state: State | None
) -> None:
    lock = repository.lock()
    if path not in lock:
        raise Refusal(
            f"{repository.folder}/upstream.lock does not know {path}; run: series.py lock"
        )
    if hash_or_none(target.original(path, state)) != lock[path]:
        raise Refusal(
            f"{target.root / path} is not upstream's: it has local edits or is of another "
            "version; restore it (git checkout, or install the pinned version again)"
        )


def require_unedited(target: Target, state: State) -> None:
    edited = target.edited(state)
    if edited:
        names = ", ".join(str(target.root / path) for path in edited)
        raise Refusal(
            f"edited since the series was applied: {names}; `refresh` turns edits into patches, "
            "or restore the files"
        )


def _state_of(
    repository: Repository,
    target: Target,
    state: State | None,
    wanted: dict[str, bytes],
    digest: str,
) -> State:
    files: dict[str, FileState] = {}
    directories = set(state.directories if state else ())
    for path, content in wanted.items():
        original = target.original(path, state)
        packed = None if original is None else pack(original)
        files[path] = FileState(hash_or_none(original), sha256(content), packed)
        parent = Path(path).parent
        while not (target.root / parent).is_dir():
            directories.add(parent.as_posix())
            parent = parent.parent
    return State(digest, repository.version, files, sorted(directories))
