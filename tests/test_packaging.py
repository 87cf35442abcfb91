"""The distribution: built, installed, edited and uninstalled for real."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
import sysconfig
import venv
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from email import message_from_bytes
from email.message import Message
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from upstream_copy import ROOT, fetch_wheel, link_copy

from patchqueue.repository import Repository, stack
from patchqueue.wheel import WheelFiles

pytestmark = pytest.mark.build

PROBE = "sglang/srt/packaging_probe.py"
LAUNCHER = "sglang_tenant.py"  # beside the package
VERSION = Repository(ROOT).version
BUILD_REQUIREMENTS = ("hatchling", "editables", "pip")


def run(*command: str | Path, cwd: Path = ROOT) -> str:
    # Some machines set this; installing must byte-compile all the same.
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}
    environment.pop("PYTHONPATH", None)
    done = subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=250,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="session")
def fork(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the repository with one more own file, so that tests may edit it."""
    root = tmp_path_factory.mktemp("fork")
    for name in ("pyproject.toml", "README.md", "upstream.json"):
        shutil.copy(ROOT / name, root)
    for name in ("build_hooks", "patches"):
        shutil.copytree(ROOT / name, root / name)
    for path, file in Repository(ROOT).own_files().items():
        (root / "python" / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(file, root / "python" / path)
    shutil.copy(ROOT / "python" / LAUNCHER, root / "python")
    (root / "python" / PROBE).parent.mkdir(parents=True, exist_ok=True)
    (root / "python" / PROBE).write_text("WORD = 'first'\n")
    wheel = fetch_wheel()
    # With the wheel in its cache a build asks no package index for it.
    link_copy(wheel.parent, root / "build" / "upstream")
    return root


def isolation() -> list[str]:
    """Build in this environment where it can, else let the front end fetch what it needs."""
    present = all(importlib.util.find_spec(name) for name in BUILD_REQUIREMENTS)
    return ["--no-isolation"] if present else []


@pytest.fixture(scope="session")
def built(fork: Path) -> Path:
    run(sys.executable, "-m", "build", "--wheel", *isolation(), fork)
    return next((fork / "dist").glob("*.whl"))


class Environment:
    """A virtual environment without pip; dependencies come from the one that runs the tests."""

    def __init__(self, root: Path) -> None:
        venv.create(root, with_pip=False)
        self.python = root / "bin" / "python"
        schemes = {"base": str(root), "platbase": str(root)}
        self.site = Path(sysconfig.get_path("purelib", "posix_prefix", schemes))

    def pip(self, command: str, *arguments: str | Path) -> None:
        run(sys.executable, "-m", "pip", "--python", self.python, command, "--quiet", *arguments)

    @contextmanager
    def dependencies(self) -> Iterator[None]:
        """Let the environment see the packages of the one that runs the tests."""
        link = self.site / "dependencies.pth"
        lines = [path for path in sys.path if path.endswith(("site-packages", "dist-packages"))]
        link.write_text("".join(f"{line}\n" for line in lines))
        try:
            yield
        finally:
            link.unlink()

    def call(self, code: str) -> str:
        with self.dependencies():
            return run(self.python, "-c", code, cwd=self.site.parent)

    def client(self) -> str:
        """What the client's command says, which imports nothing of the engine."""
        with self.dependencies():
            return run(self.python.with_name("sglang-tenant"), "--help")

    def names(self) -> set[str]:
        return {path.relative_to(self.site).as_posix() for path in self.site.rglob("*")}


@pytest.fixture
def environment(tmp_path: Path) -> Environment:
    return Environment(tmp_path / "venv")


def dist_info(wheel: Path, file: str) -> bytes:
    with zipfile.ZipFile(wheel) as archive:
        return archive.read(f"sglang-{VERSION}.dist-info/{file}")


def requirements(metadata: Message, extra: str = "") -> dict[str, Requirement]:
    """What pip would take for this extra only ("" is the base), on this machine."""
    found: dict[str, Requirement] = {}
    for line in metadata.get_all("Requires-Dist", []):
        requirement = Requirement(line)
        marker = requirement.marker
        names_extra = marker is not None and "extra ==" in str(marker)
        if names_extra == bool(extra) and (not marker or marker.evaluate({"extra": extra})):
            found[canonicalize_name(requirement.name)] = requirement
    return found


def test_wheel_is_upstream_plus_patches_plus_own_files(built: Path, fork: Path) -> None:
    upstream = WheelFiles(fetch_wheel())
    patched = stack(Repository(fork).patches(), upstream.read)
    own = Repository(fork).own_files()
    with zipfile.ZipFile(built) as archive:
        content = {name: archive.read(name) for name in archive.namelist()}
    package = {name for name in content if not name.startswith(f"sglang-{VERSION}.dist-info/")}
    theirs = {name for name in upstream.names if name.startswith("sglang/")}
    assert package == theirs | set(own) | {LAUNCHER}
    assert PROBE in own
    for name in theirs - set(patched) - {"sglang/_version.py"}:
        assert content[name] == upstream.read(name)
    for path, steps in patched.items():
        assert content[path] == steps[-1].after
    for path, file in own.items():
        assert content[path] == file.read_bytes()
    assert f'"{VERSION}"' in content["sglang/_version.py"].decode()


def test_wheel_metadata(built: Path) -> None:
    upstream = WheelFiles(fetch_wheel())
    assert built.name == fetch_wheel().name.replace("0.5.17", VERSION, 1)
    tags = message_from_bytes(dist_info(built, "WHEEL")).get_all("Tag")
    assert tags == message_from_bytes(upstream.dist_info("WHEEL")).get_all("Tag")
    license_text = dist_info(built, "licenses/build/upstream/LICENSE")
    assert license_text == upstream.dist_info("licenses/LICENSE")
    entry_points = dist_info(built, "entry_points.txt").decode()
    for line in upstream.dist_info("entry_points.txt").decode().splitlines():
        assert line in entry_points
    assert "[sglang.srt.platforms]\ntorch_cpu = sglang.srt.platforms.torch_cpu:activate" in (
        entry_points
    )


def test_dependencies(built: Path) -> None:
    ours = message_from_bytes(dist_info(built, "METADATA"))
    theirs = message_from_bytes(WheelFiles(fetch_wheel()).dist_info("METADATA"))
    base, everything = requirements(ours), requirements(theirs)
    cuda = requirements(ours, "cuda")
    assert {name: (r.specifier, r.extras) for name, r in cuda.items()} == {
        name: (r.specifier, r.extras) for name, r in everything.items()
    }
    # The base is upstream's list without CUDA packages, with any newer torch, and what the
    # fork's own files use.
    own = {"httpcore", "httpx", "phonenumberslite", "python-stdnum"} | (
        {"tomli"} if sys.version_info < (3, 11) else set()
    )
    assert set(base) - set(everything) == own
    assert set(everything) - set(base)
    assert str(base["torch"].specifier) == ">=2.11.0"
    for name in base:
        if name != "torch" and name not in own:
            assert base[name].specifier == everything[name].specifier
    words = ("cuda", "nvidia", "flash", "kernel", "deep-gemm", "tilelang")
    assert not [name for name in base if any(word in name for word in words)]
    cpu = requirements(ours, "cpu")
    assert str(cpu["torch"].specifier) == "==2.13.0"
    assert str(cpu["torchvision"].specifier) == "==0.28.0"
    assert {"pytest", "ruff", "mypy"} <= set(requirements(ours, "test"))
    assert "lm-eval" not in requirements(ours, "test")
    assert set(requirements(theirs, "tracing")) == set(requirements(ours, "tracing"))


def test_install_and_uninstall(built: Path, environment: Environment) -> None:
    before = environment.names()
    environment.pip("install", "--no-deps", built)
    sources = set(environment.site.joinpath("sglang").rglob("*.py"))
    assert len(sources) > 3000
    bytecode = {importlib.util.cache_from_source(str(path)) for path in sources}
    uncompiled = [path for path in bytecode if not Path(path).is_file()]
    assert uncompiled == []
    code = (
        "import importlib.metadata, sglang, sglang.srt.packaging_probe as probe;"
        "print(importlib.metadata.version('sglang'), sglang.__version__, probe.WORD)"
    )
    assert environment.call(code).split()[-3:] == [VERSION, VERSION, "first"]
    assert environment.client().startswith("usage: sglang-tenant")
    environment.pip("uninstall", "-y", "sglang")
    assert environment.names() == before


def test_editable_install(fork: Path, environment: Environment) -> None:
    before = environment.names()
    no_isolation = ["--no-build-isolation"] if isolation() else []
    with environment.dependencies():
        environment.pip("install", "--no-deps", *no_isolation, "--editable", fork)
    assert not (environment.site / PROBE).exists()
    probe = fork / "python" / PROBE
    probe.write_text("WORD = 'second'\n")
    new = probe.parent / "packaging_new" / "deep.py"
    new.parent.mkdir()
    new.with_name("__init__.py").write_text("")
    new.write_text("WORD = 'new'\n")
    try:
        code = (
            "import sglang, sglang.srt.packaging_probe as probe;"
            "import sglang.srt.packaging_new.deep as deep;"
            "print(sglang.__version__, probe.WORD, deep.WORD, deep.__file__)"
        )
        answer = environment.call(code).split()[-4:]
        assert environment.client().startswith("usage: sglang-tenant")
    finally:
        probe.write_text("WORD = 'first'\n")
        shutil.rmtree(new.parent)
    assert answer == [VERSION, "second", "new", str(new)]
    environment.pip("uninstall", "-y", "sglang")
    assert environment.names() == before


@pytest.mark.parametrize(
    ("module", "origin"),
    [
        ("sglang.ours", "repository"),
        ("sglang.theirs", "site"),
        ("sglang.both", "repository"),
        ("sglang.shared.ours", "repository"),
        ("sglang.shared.theirs", "site"),
        ("sglang.bare.ours", "repository"),
        ("sglang.bare.theirs", "site"),
        ("sglang.new.deep.ours", "repository"),
        ("sglang.full.ours", "repository"),
        ("sglang.full.theirs", "site"),
    ],
)
def test_editable_finder(tmp_path: Path, module: str, origin: str) -> None:
    """Every way in which a directory can be upstream's, ours or both."""
    files = {
        "site": "__init__ theirs both shared/__init__ shared/theirs bare/theirs full/theirs",
        "repository": "ours both shared/ours bare/ours new/deep/ours full/__init__ full/ours",
    }
    for side, names in files.items():
        for name in names.split():
            path = tmp_path / side / "sglang" / f"{name}.py"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(f"SIDE = {side!r}\n")
    code = (
        f"import sys; sys.path[:0] = [{str(ROOT / 'build_hooks')!r}, {str(tmp_path / 'site')!r}];"
        f"import _sglang_editable; _sglang_editable.install({str(tmp_path / 'repository')!r});"
        f"import {module} as module; print(module.SIDE)"
    )
    assert run(sys.executable, "-S", "-c", code).strip() == origin
