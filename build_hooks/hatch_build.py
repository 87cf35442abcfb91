"""Build the distribution from upstream's pinned wheel, the patches and the fork's own files."""

from __future__ import annotations

import configparser
import shutil
import sys
import tempfile
from email import message_from_bytes
from email.message import Message
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface
from hatchling.metadata.plugin.interface import MetadataHookInterface
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "patches"))

from patchqueue import wheel
from patchqueue.repository import PACKAGE, VERSION_FILE, Repository, stack

LICENSE = "LICENSE"
FINDER = "_sglang_editable"
# Beside the package: it must not be imported by the command that this starts.
LAUNCHER = "sglang_tenant.py"


def open_upstream(root: Path) -> wheel.WheelFiles:
    repository = Repository(root)
    return wheel.WheelFiles(wheel.fetch(repository, wheel.native_name(repository)))


class MetadataHook(MetadataHookInterface):
    """Version, dependencies, extras and entry points: upstream's, then the fork's."""

    PLUGIN_NAME = "custom"

    def update(self, metadata: dict[str, Any]) -> None:
        root = Path(self.root)
        settings = tomllib.loads((root / "pyproject.toml").read_text())["tool"]["sglang-tenant"]
        upstream = open_upstream(root)
        (Repository(root).cache / LICENSE).write_bytes(upstream.dist_info(f"licenses/{LICENSE}"))
        theirs = message_from_bytes(upstream.dist_info("METADATA"))
        base, extras = split_requirements(theirs)
        entry_points = read_entry_points(upstream)
        metadata["version"] = Repository(root).version
        mine = without_cuda(base, settings["cuda-only"], settings["loosened"])
        metadata["dependencies"] = [*mine, *settings["added"]]
        metadata["optional-dependencies"] = {**extras, "cuda": base, **settings["extras"]}
        metadata["scripts"] = entry_points.pop("console_scripts") | settings["scripts"]
        metadata["entry-points"] = {**entry_points, **settings["entry-points"]}


def split_requirements(metadata: Message) -> tuple[list[str], dict[str, list[str]]]:
    """Upstream's requirements: (base, extra -> list), each with its own marker only."""
    base: list[str] = []
    extras: dict[str, list[str]] = {name: [] for name in metadata.get_all("Provides-Extra", [])}
    for line in metadata.get_all("Requires-Dist", []):
        head, found, extra = line.partition("extra == ")
        if not found:
            base.append(line)
            continue
        head = head.strip().removesuffix("and").strip().removesuffix(";").strip()
        extras[extra.strip("\"' ")].append(head)  # KeyError: the marker goes on, read it better
    return base, extras


def without_cuda(base: list[str], cuda_only: list[str], loosened: list[str]) -> list[str]:
    """Raises ValueError for a name that upstream does not list: the list here is stale."""
    by_name = {canonicalize_name(Requirement(line).name): line for line in base}
    changes = {canonicalize_name(Requirement(line).name): line for line in loosened}
    unknown = ({canonicalize_name(name) for name in cuda_only} | set(changes)) - set(by_name)
    if unknown:
        raise ValueError(
            f"pyproject.toml, tool.sglang-tenant: upstream does not require {sorted(unknown)}; "
            "take the names out"
        )
    gone = {canonicalize_name(name) for name in cuda_only}
    return [
        changes.get(canonicalize_name(Requirement(line).name), line)
        for line in base
        if canonicalize_name(Requirement(line).name) not in gone
    ]


def read_entry_points(upstream: wheel.WheelFiles) -> dict[str, dict[str, str]]:
    parser = configparser.ConfigParser(delimiters=("=",), interpolation=None)
    parser.optionxform = str  # type: ignore[assignment, method-assign]
    parser.read_string(upstream.dist_info("entry_points.txt").decode())
    return {group: dict(parser[group]) for group in parser.sections()}


class BuildHook(BuildHookInterface[Any]):
    """Stages the package under build/ and tells hatchling where each part goes."""

    PLUGIN_NAME = "custom"

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Called before the wheel is written; `version` is "standard" or "editable"."""
        root = Path(self.root)
        # Kept until this object goes: hatchling reads the files after this call.
        self.scratch = tempfile.TemporaryDirectory(dir=root / "build", prefix="stage-")
        stage = Path(self.scratch.name)
        repository = Repository(root)
        upstream = open_upstream(root)
        stage_patched(repository, upstream, stage)
        include = {
            str(stage / PACKAGE): PACKAGE,
            str(repository.own_dir / LAUNCHER): LAUNCHER,
        }
        if version == "editable":
            include.update(stage_finder(repository, stage))
            build_data["force_include_editable"] = include
        else:
            stage_own(repository, stage)
            build_data["force_include"] = include
        build_data["pure_python"] = False
        build_data["tag"] = str(message_from_bytes(upstream.dist_info("WHEEL"))["Tag"])


def stage_patched(repository: Repository, upstream: wheel.WheelFiles, stage: Path) -> None:
    """Upstream's package with the series applied and the fork's version in it."""
    upstream.extract(stage)
    for path, steps in stack(repository.patches(), upstream.read).items():
        (stage / path).write_bytes(steps[-1].after)
    (stage / VERSION_FILE).write_bytes(repository.version_file())


def stage_own(repository: Repository, stage: Path) -> None:
    """Raises ValueError where upstream has the file already."""
    for path, file in repository.own_files().items():
        if (stage / path).exists():
            raise ValueError(f"python/{path} is upstream's; change it by a patch")
        (stage / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, stage / path)


def stage_finder(repository: Repository, stage: Path) -> dict[str, str]:
    """The module that finds own files in the repository, and the .pth line that starts it."""
    source = Path(__file__).resolve().parent / f"{FINDER}.py"
    pth = stage / f"{FINDER}.pth"
    pth.write_text(f"import {FINDER}; {FINDER}.install({str(repository.own_dir.resolve())!r})\n")
    return {str(source): source.name, str(pth): pth.name}
