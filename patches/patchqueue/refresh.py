"""Turn edits made in an applied target back into the patches they belong to."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from . import diff, transaction
from .errors import Refusal
from .repository import PACKAGE, TREE_PREFIX, VERSION_FILE, Patch, Repository, Step, sha256, stack
from .target import STATE_FILE, FileState, State, Target
from .transaction import pack
from .wheel import WheelFiles

_NEW_HEADER = b"Description: \n \nForwarded: \nDrop-When: \n\n"


def refresh(
    repository: Repository,
    target: Target,
    wheel: WheelFiles,
    patch_name: str | None = None,
    only: Iterable[str] = (),
) -> list[str]:
    """Rewrite patches and own files so that applying them gives what the target holds.

    `patch_name` takes all edits, and is made when it does not exist; without it an edit goes to
    the one patch that touches its file. `only` limits the work to these package paths.
    """
    state = _require_state(repository, target)
    patches = repository.patches()
    if patch_name and patch_name not in repository.listed():
        patches.append(_new_patch(repository, patch_name))
    edits = _edits(repository, target, wheel, patches)
    own_edits = _own_edits(repository, target)
    limits = {path.removeprefix(TREE_PREFIX) for path in only}
    unknown = limits - set(edits) - set(own_edits)
    if unknown:
        raise Refusal(f"--only {sorted(unknown)[0]}: this file has no edit")
    if limits:
        edits = {path: content for path, content in edits.items() if path in limits}
        own_edits = {path: content for path, content in own_edits.items() if path in limits}
    owners = {path: _owner(path, patches, patch_name) for path in edits}
    rebuilt = _rebuild(patches, wheel, edits, owners)
    changed = _write_patches(repository, patches, rebuilt, patch_name)
    for path, content in own_edits.items():
        (repository.own_dir / path).write_bytes(content)
    repository.write_lock(wheel.read)
    _write_state(repository, target, state, wheel, {**edits, **own_edits})
    report = [f"rewrote {repository.folder}/{name}" for name in changed]
    report += [f"copied back python/{path}" for path in sorted(own_edits)]
    return report or ["nothing to refresh"]


def _require_state(repository: Repository, target: Target) -> State:
    state = target.state()
    if state is None:
        raise Refusal(f"{target.root}: no series is applied; run `apply` first, then edit")
    if state.series != repository.digest():
        raise Refusal(
            f"{target.root} holds series {state.series[:12]}, the repository has "
            f"{repository.digest()[:12]}; go back to the commit that was applied, or put the "
            "edits aside and run `apply`"
        )
    return state


def _new_patch(repository: Repository, name: str) -> Patch:
    if not name.endswith(".patch") or "/" in name:
        raise Refusal(f"--patch {name}: a patch name is a file name that ends in .patch")
    if (repository.patches_dir / name).exists():
        raise Refusal(f"--patch {name}: {repository.folder} has it, but its series lacks it")
    return Patch(repository.folder, name, _NEW_HEADER, {})


def _edits(
    repository: Repository, target: Target, wheel: WheelFiles, patches: list[Patch]
) -> dict[str, bytes]:
    """Upstream files whose content is not what the series makes of them."""
    expected = {path: steps[-1].after for path, steps in stack(patches, wheel.read).items()}
    edits: dict[str, bytes] = {}
    for path in sorted(wheel.names):
        if not path.startswith(f"{PACKAGE}/") or path == VERSION_FILE or path.endswith(".so"):
            continue
        content = target.read(path)
        if content is None:
            raise Refusal(f"{target.root / path} is gone; a patch cannot delete a file")
        if content != (expected[path] if path in expected else wheel.read(path)):
            edits[path] = content
    return edits


def _own_edits(repository: Repository, target: Target) -> dict[str, bytes]:
    edits: dict[str, bytes] = {}
    for path, file in repository.own_files().items():
        content = target.read(path)
        if content is None:
            raise Refusal(f"{target.root / path} is gone; delete python/{path} and apply again")
        if content != file.read_bytes():
            edits[path] = content
    return edits


def _owner(path: str, patches: list[Patch], patch_name: str | None) -> str:
    if patch_name:
        return patch_name
    owners = [patch.name for patch in patches if path in patch.diffs]
    if len(owners) != 1:
        choice = f"one of {', '.join(owners)}" if owners else "no patch touches it yet"
        raise Refusal(f"{path}: say whose edit this is with --patch NAME ({choice})")
    return owners[0]


def _rebuild(
    patches: list[Patch], wheel: WheelFiles, edits: dict[str, bytes], owners: dict[str, str]
) -> dict[str, Patch]:
    """The patches by name, with edits worked in and line numbers set right."""
    rebuilt = {patch.name: replace(patch, diffs=dict(patch.diffs)) for patch in patches}
    steps = stack(patches, wheel.read)
    for path in sorted({*steps, *edits}):
        chain = _chain(path, patches, steps.get(path, []), wheel.read(path))
        if path in edits:
            chain = _work_in(path, patches, chain, edits[path], owners[path])
        elif not any(step.moved for step in chain):
            continue
        for step in chain:
            diffs = rebuilt[step.patch.name].diffs
            if step.before == step.after:
                diffs.pop(path, None)
            elif step.moved or path not in diffs:
                diffs[path] = diff.make(TREE_PREFIX + path, step.before, step.after)
    final = stack([rebuilt[patch.name] for patch in patches], wheel.read)
    for path, content in edits.items():
        made = final[path][-1].after if path in final else wheel.read(path)
        assert made == content, path
    return rebuilt


def _chain(path: str, patches: list[Patch], steps: list[Step], upstream: bytes) -> list[Step]:
    """One step for every patch, also for those that leave the file alone."""
    by_name = {step.patch.name: step for step in steps}
    chain: list[Step] = []
    content = upstream
    for patch in patches:
        step = by_name.get(patch.name, Step(patch, content, content, moved=False))
        chain.append(step)
        content = step.after
    return chain


def _work_in(
    path: str, patches: list[Patch], chain: list[Step], content: bytes, owner: str
) -> list[Step]:
    """Put the edit into the owner's step; later patches are taken off first, then put back."""
    first = next(at for at, patch in enumerate(patches) if patch.name == owner)
    worked = list(chain)
    for at in range(len(patches) - 1, first - 1, -1):
        patch = patches[at]
        before = chain[at].before
        if at > first:
            before = content
            if path in patch.diffs:
                try:
                    before, _ = diff.apply(content, patch.diffs[path].reversed())
                except Refusal:
                    raise Refusal(
                        f"{path}: the edit overlaps with {patch.name}, which comes after "
                        f"{owner}; use --patch {patch.name}"
                    ) from None
        worked[at] = Step(patch, before, content, moved=True)
        content = before
    return worked


def _write_patches(
    repository: Repository,
    patches: list[Patch],
    rebuilt: dict[str, Patch],
    patch_name: str | None,
) -> list[str]:
    changed: list[str] = []
    for patch in patches:
        path = repository.patches_dir / patch.name
        if rebuilt[patch.name] == patch and path.is_file():
            continue
        _replace(path, rebuilt[patch.name].render())
        changed.append(patch.name)
    if patch_name and patch_name not in repository.listed():
        series = repository.patches_dir / "series"
        _replace(series, series.read_bytes() + f"{patch_name}\n".encode())
    return changed


def _replace(path: Path, content: bytes) -> None:
    beside = path.with_name(path.name + ".new")
    beside.write_bytes(content)
    os.replace(beside, path)


def _write_state(
    repository: Repository,
    target: Target,
    state: State,
    wheel: WheelFiles,
    edits: dict[str, bytes],
) -> None:
    files = dict(state.files)
    for path, content in edits.items():
        if path in files:
            files[path] = replace(files[path], after=sha256(content))
        else:
            original = wheel.read(path)
            files[path] = FileState(sha256(original), sha256(content), pack(original))
    files = {path: entry for path, entry in files.items() if entry.before != entry.after}
    new = replace(state, series=repository.digest(), files=files)
    if new != state:
        transaction.commit(target.root, {STATE_FILE: new.to_json()})
