"""Programs are found on PATH or fetched from packages, and a failure says what is missing.

apt-get is a script here that writes down how it was called; packages are real, made on the spot.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import debian_tools
import pytest
from debian_tools import FetchFailed, NoApt, Tool, find

USUAL_PATH = os.environ.get("PATH", os.defpath)


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The only folder of PATH, empty; what is fetched goes below ``tmp_path`` too."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    monkeypatch.setattr(debian_tools, "FOLDER", tmp_path / "debian")
    monkeypatch.setitem(debian_tools.TOOLS, "hello-tool", Tool(("hello-package",)))
    monkeypatch.setitem(debian_tools.TOOLS, "big-tool", Tool(("big-package",), with_libraries=True))
    small = Tool(("hello-package",), unpack_libraries=True)
    monkeypatch.setitem(debian_tools.TOOLS, "library-tool", small)
    return folder


def script(path: Path, text: str) -> Path:
    path.write_text(f"#!/bin/sh\nPATH={USUAL_PATH}\n{text}\n")
    path.chmod(0o755)
    return path


def apt(programs: Path, text: str) -> Path:
    """Make an apt-get; return the file in which its calls will be."""
    calls = programs.parent / "calls"
    script(programs / "apt-get", f'echo "$@" >> {calls}\n{text}')
    dpkg_deb = shutil.which("dpkg-deb", path=USUAL_PATH)
    if dpkg_deb is None:
        pytest.skip("no dpkg-deb to unpack packages with")
    (programs / "dpkg-deb").symlink_to(dpkg_deb)
    # What dpkg-deb starts.
    for name in ("tar", "rm"):
        (programs / name).symlink_to(str(shutil.which(name, path=USUAL_PATH)))
    return calls


def package(folder: Path, program: str, text: str = "echo hello") -> Path:
    """Make a package that holds one program, and an empty folder of libraries."""
    files = folder / "package"
    (files / "usr" / "bin").mkdir(parents=True)
    (files / "usr" / "lib" / "x-linux-gnu").mkdir(parents=True)
    script(files / "usr" / "bin" / program, text)
    (files / "DEBIAN").mkdir()
    (files / "DEBIAN" / "control").write_text(
        "Package: hello-package\nVersion: 1\nArchitecture: all\n"
        "Maintainer: nobody <nobody@example.com>\nDescription: says hello\n"
    )
    made = folder / "hello.deb"
    dpkg_deb = shutil.which("dpkg-deb", path=USUAL_PATH)
    subprocess.run(
        [str(dpkg_deb), "--build", files, made],
        check=True,
        capture_output=True,
        env={"PATH": USUAL_PATH},
    )
    return made


def test_what_is_on_the_path_is_not_fetched(programs: Path) -> None:
    there = script(programs / "hello-tool", "echo hello")
    assert find("hello-tool") == there


def test_without_apt_it_says_what_is_missing(programs: Path) -> None:
    with pytest.raises(NoApt, match="hello-tool is not on PATH"):
        find("hello-tool")


def test_a_package_is_unpacked_once(programs: Path, tmp_path: Path) -> None:
    calls = apt(programs, f"cp {tmp_path}/hello.deb .")
    package(tmp_path, "hello-tool")
    found = find("hello-tool")
    assert subprocess.run([found], capture_output=True, text=True).stdout == "hello\n"
    assert find("hello-tool") == found
    assert calls.read_text() == "download hello-package\n"
    assert sorted(path.name for path in (tmp_path / "debian").iterdir()) == [
        "hello-package",
        "lock",
    ]


def test_libraries_are_unpacked_beside_a_program(programs: Path, tmp_path: Path) -> None:
    """Without root: into a folder that apt is told."""
    copy = f"cp {tmp_path}/hello.deb ${{word#*archives=}}"
    calls = apt(programs, f"for word; do case $word in *archives=*) {copy};; esac; done")
    package(tmp_path, "library-tool", 'echo "$LD_LIBRARY_PATH and $1"')
    found = find("library-tool")
    done = subprocess.run([found, "more"], capture_output=True, text=True, env={"PATH": USUAL_PATH})
    folder = found.parent.parent / "usr" / "lib"
    assert done.stdout == f"{folder}/x-linux-gnu and more\n", done
    assert find("library-tool") == found
    [call] = calls.read_text().splitlines()
    assert call.startswith("install --yes --no-install-recommends --download-only ")
    assert call.endswith(" hello-package")


def test_lists_are_read_again_where_that_may_help(
    programs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    updated = tmp_path / "updated"
    text = f"[ $1 = update ] && touch {updated}\n[ -e {updated} ] || exit 100\n"
    calls = apt(programs, f"{text}[ $1 = update ] || cp {tmp_path}/hello.deb .")
    package(tmp_path, "hello-tool")
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(FetchFailed):
        find("hello-tool")
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert find("hello-tool").is_file()
    names = [line.split()[0] for line in calls.read_text().splitlines()]
    assert names == ["download", "download", "update", "download"]


def test_a_failure_ends_with_what_apt_said(programs: Path) -> None:
    apt(programs, "echo 'E: Unable to locate package hello-package'; exit 100")
    with pytest.raises(FetchFailed, match="exit code 100\nE: Unable to locate package"):
        find("hello-tool")


def test_a_package_without_the_program_is_no_success(programs: Path, tmp_path: Path) -> None:
    apt(programs, f"cp {tmp_path}/hello.deb .")
    package(tmp_path, "other-tool")
    for _ in range(2):
        with pytest.raises(FetchFailed, match="hello-tool: not in the packages hello-package"):
            find("hello-tool")


def test_only_root_installs(programs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    big = programs / "big-tool"
    calls = apt(programs, f"echo '#!/bin/sh' > {big}; chmod +x {big}")
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(FetchFailed, match="only root can do it: apt-get install big-package"):
        find("big-tool")
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert find("big-tool") == big
    assert calls.read_text() == "install --yes --no-install-recommends big-package\n"
