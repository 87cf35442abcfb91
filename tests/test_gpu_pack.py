"""The pack for a machine without a package index: made, bounded, unpacked, imported."""

from __future__ import annotations

import base64
import csv
import hashlib
import importlib.metadata
import io
import json
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import pack_gpu
import pytest
from gpu_pack import archive, manifest
from gpu_pack.closure import NoVersion, Rules, WrongTorch, close
from gpu_pack.download import Cache
from gpu_pack.parts import ARCHITECTURES, read_parts
from gpu_pack.repack import BUILD, NothingMatches, Trim, repack
from gpu_pack.shapes import SHAPES, write_model
from gpu_pack.target import Target, read_present
from packaging.requirements import Requirement
from packaging.version import Version
from tokenizers import Tokenizer

ROOT = Path(__file__).parent.parent
# What `make pack-gpu` fetched once; tests fetch sglang-kernel's 380 MB neither here nor in CI.
CACHE = ROOT / "build" / "gpu-wheels"
KERNEL = "sglang_kernel-0.4.5-cp310-abi3-manylinux2014_x86_64.whl"
PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"


def make_wheel(
    folder: Path, file: str, files: Mapping[str, bytes], needs: tuple[str, ...] = ()
) -> Path:
    """Write a wheel as build tools do, with hashes of all its files."""
    name, version = file.split("-")[:2]
    info = f"{name}-{version}.dist-info"
    tag = "-".join(file.removesuffix(".whl").split("-")[-3:])
    header = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\nLicense: MIT\n"
    all_files = {
        **files,
        f"{info}/METADATA": (header + "".join(f"Requires-Dist: {n}\n" for n in needs)).encode(),
        f"{info}/WHEEL": f"Wheel-Version: 1.0\nRoot-Is-Purelib: false\nTag: {tag}\n".encode(),
    }
    record = io.StringIO()
    lines = csv.writer(record, lineterminator="\n")
    for path, content in all_files.items():
        digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
        lines.writerow([path, f"sha256={digest}", len(content)])
    lines.writerow([f"{info}/RECORD", "", ""])
    with zipfile.ZipFile(folder / file, "w", zipfile.ZIP_DEFLATED) as wheel:
        for path, content in all_files.items():
            wheel.writestr(path, content)
        wheel.writestr(f"{info}/RECORD", record.getvalue())
    return folder / file


def check_record(wheel: Path) -> set[str]:
    """Compare RECORD with the files; return their names."""
    with zipfile.ZipFile(wheel) as archive_:
        names = set(archive_.namelist())
        record = next(name for name in names if name.endswith(".dist-info/RECORD"))
        rows = list(csv.reader(archive_.read(record).decode().splitlines()))
        assert {row[0] for row in rows} == names
        for path, digest, size in rows:
            if path != record:
                content = archive_.read(path)
                found = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=")
                assert digest == f"sha256={found.decode()}"
                assert int(size) == len(content)
    return names


@pytest.fixture
def kernels(tmp_path: Path) -> Path:
    """A wheel laid out as sglang-kernel's is."""
    libraries = ("sm90/common_ops", "sm100/common_ops", "flash_ops", "flashmla_ops", "spatial_ops")
    files = {f"sgl_kernel/{name}.abi3.so": name.encode() for name in libraries}
    files["sgl_kernel/infllm_ops.cpython-310-x86_64-linux-gnu.so"] = b"infllm"
    files["sgl_kernel/__init__.py"] = b"ARCHITECTURES = 2\n"
    return make_wheel(tmp_path, KERNEL, files)


def out(tmp_path: Path) -> Path:
    (tmp_path / "out").mkdir()
    return tmp_path / "out"


@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_only_one_architecture_is_kept(kernels: Path, tmp_path: Path, arch: str) -> None:
    made = repack(kernels, read_parts(arch).trims["sglang-kernel"], out(tmp_path))
    assert made.name == KERNEL.replace("0.4.5-", f"0.4.5-{BUILD}-")
    libraries = {name for name in check_record(made) if name.endswith(".so")}
    assert libraries == {f"sgl_kernel/{arch}/common_ops.abi3.so", "sgl_kernel/spatial_ops.abi3.so"}


def test_pip_installs_what_was_repacked(kernels: Path, tmp_path: Path) -> None:
    made = repack(kernels, Trim(["*/flash_ops.*"]), out(tmp_path))
    plain = made.rename(
        made.with_name(made.name.replace("cp310-abi3-manylinux2014_x86_64", "py3-none-any"))
    )
    place = tmp_path / "site"
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-index", "--no-deps"]
    subprocess.run([*command, "--target", place, plain], check=True)
    (installed,) = importlib.metadata.distributions(name="sglang-kernel", path=[str(place)])
    assert installed.version == "0.4.5"
    assert installed.files is not None
    assert all(Path(str(file.locate())).is_file() for file in installed.files)


def test_a_pattern_that_leaves_nothing_out_is_an_error(kernels: Path, tmp_path: Path) -> None:
    with pytest.raises(NothingMatches, match=r"sm80/\*.*parts\.toml"):
        repack(kernels, Trim(["sgl_kernel/sm80/*"]), out(tmp_path))


@pytest.mark.slow
@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_the_real_kernels_are_laid_out_so(tmp_path: Path, arch: str) -> None:
    if not (CACHE / KERNEL).is_file():
        pytest.skip(f"{KERNEL} is not in {CACHE}: make pack-gpu fetches it")
    made = repack(CACHE / KERNEL, read_parts(arch).trims["sglang-kernel"], out(tmp_path))
    names = check_record(made)
    assert f"sgl_kernel/{arch}/common_ops.abi3.so" in names
    assert "sgl_kernel/load_utils.py" in names
    assert made.stat().st_size < 25_000_000


def test_debug_information_goes(tmp_path: Path) -> None:
    source = tmp_path / "library.c"
    source.write_text("int answer(void) { return 42; }\n")
    library = tmp_path / "library.so"
    subprocess.run(["gcc", "-g3", "-shared", "-fPIC", "-o", library, source], check=True)
    files = {"package/library.so": library.read_bytes(), "package/__init__.py": b""}
    wheel = make_wheel(tmp_path, "package-1.0-py3-none-any.whl", files)
    made = repack(wheel, Trim(strip=["package/library.so"]), out(tmp_path))
    check_record(made)
    with zipfile.ZipFile(made) as stripped:
        content = stripped.read("package/library.so")
    assert b".debug_info" not in content
    assert len(content) < len(files["package/library.so"])


def target(present: Mapping[str, Version | None] | None = None) -> Target:
    return Target("3.12", "2.34", dict(present or {}))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('[{"name": "Torch_X", "version": "2.11.0+cu130"}]', {"torch-x": Version("2.11.0+cu130")}),
        ("torch==2.11.0\n# a comment\nNumPy  # any\n", {"torch": Version("2.11"), "numpy": None}),
    ],
    ids=["json", "lines"],
)
def test_what_is_there_is_read(
    tmp_path: Path, text: str, expected: dict[str, Version | None]
) -> None:
    (tmp_path / "present").write_text(text)
    assert read_present(tmp_path / "present") == expected


def test_a_line_that_says_nothing_is_refused(tmp_path: Path) -> None:
    (tmp_path / "present").write_text("torch @ file:///somewhere\n")
    with pytest.raises(ValueError, match=r"torch @ file.*pip list --format json"):
        read_present(tmp_path / "present")


def test_a_version_that_nobody_knows_satisfies_no_bound() -> None:
    there = target({"numpy": None, "torch": Version("2.11.0+cu130")})
    assert there.has(Requirement("numpy"))
    assert not there.has(Requirement("numpy>=2"))
    assert there.has(Requirement("torch==2.11.0"))
    assert not there.has(Requirement("torch==2.13.0"))


def test_the_closure_leaves_out_what_is_there_or_not_needed(tmp_path: Path) -> None:
    cache = Cache(tmp_path / "cache", target())
    fork = make_wheel(
        tmp_path,
        "sglang-0.5.17-cp312-cp312-manylinux_2_34_x86_64.whl",
        {},
        (
            "one",
            "there",
            "old==2",
            "huge",
            "any==1",
            'kernel==4; extra == "cuda"',
            "a; os_name=='nt'",
        ),
    )
    for name, needs in {"one": ("two>1",), "two": (), "old": (), "kernel": ("one",)}.items():
        version = "4" if name == "kernel" else "2"
        make_wheel(cache.folder, f"{name}-{version}-py3-none-any.whl", {}, needs)
    # For another Python: not to be taken.
    make_wheel(cache.folder, "one-2-cp310-cp310-manylinux_2_34_x86_64.whl", {})
    lock = tmp_path / "lock.txt"
    lock.write_text("one==2\ntwo==1 ; python_version < '3.12'\ntwo==2 ; python_version >= '3.12'\n")
    there = target({"there": None, "old": Version("1"), "any": Version("7")})
    rules = Rules({"huge": "nobody needs it"}, {"any": "it will do"})
    found = close(fork, (), there, rules, cache, lock)
    assert {name: wheel.name for name, wheel in found.wheels.items()} == {
        "one": "one-2-py3-none-any.whl",
        "two": "two-2-py3-none-any.whl",
        "old": "old-2-py3-none-any.whl",
        "kernel": "kernel-4-py3-none-any.whl",
    }
    assert found.wanted_by["two"] == "one"
    assert list(found.trusted) == ["any"]
    with pytest.raises(NoVersion, match="NAME==VERSION"):
        close(fork, ["unheard-of"], there, rules, cache, lock)


@pytest.mark.parametrize("version", ["2.13.0", None])
def test_a_machine_with_another_pytorch_is_refused(tmp_path: Path, version: str | None) -> None:
    cache = Cache(tmp_path / "cache", target())
    name = "sglang-0.5.17-cp312-cp312-manylinux_2_34_x86_64.whl"
    fork = make_wheel(tmp_path, name, {}, ("torch==2.11.0",))
    (tmp_path / "lock.txt").write_text("torch==2.11.0\n")
    there = target({"torch": Version(version)} if version else {})
    with pytest.raises(WrongTorch, match=f"torch==2.11.0, and --present has {version}"):
        close(fork, (), there, Rules({}, {}), cache, tmp_path / "lock.txt")


def test_a_pack_over_its_limit_names_its_largest_parts(tmp_path: Path) -> None:
    sizes = {"small.whl": 10, "large.whl": 9_000}
    folder = out(tmp_path)
    parts = []
    for name, size in sizes.items():
        (folder / name).write_bytes(bytes(size))
        parts.append(manifest.describe(folder, name, size, "", ""))
    assert manifest.check_size(folder, parts, 9_010) == 9_010
    with pytest.raises(manifest.TooLarge, match=r"(?s)0\.0 MB.*large\.whl.*small\.whl.*--present"):
        manifest.check_size(folder, parts, 9_009)


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(SHAPES))
def test_every_id_of_a_shape_has_a_text_of_its_own(tmp_path: Path, name: str) -> None:
    write_model(tmp_path / name, SHAPES[name])
    tokenizer = Tokenizer.from_file(str(tmp_path / name / "tokenizer.json"))
    config = json.loads((tmp_path / name / "config.json").read_text())
    assert tokenizer.get_vocab_size() == config["vocab_size"]
    plain = range(262, config["vocab_size"], 97)
    texts = [tokenizer.decode([number]) for number in plain]
    assert len(set(texts)) == len(plain)
    assert all(text.strip() for text in texts)
    assert tokenizer.encode("häßlich<|end|>").ids[-1] == config["eos_token_id"]


def test_the_same_files_make_the_same_archive(tmp_path: Path) -> None:
    paths = [tmp_path / "a", tmp_path / "b"]
    for path in paths:
        path.write_bytes(path.name.encode() * 100_000)
    sizes = archive.write(tmp_path / "one.xz", tmp_path, paths, 0)
    assert set(sizes) == {"a", "b"}
    shutil.copystat(tmp_path / "one.xz", paths[0])
    archive.write(tmp_path / "two.xz", tmp_path, paths, 0)
    assert (tmp_path / "one.xz").read_bytes() == (tmp_path / "two.xz").read_bytes()


@pytest.fixture(scope="module")
def pack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A pack for this environment, which lacks no more than what CUDA alone needs."""
    folder = tmp_path_factory.mktemp("pack")
    present = subprocess.run(
        [sys.executable, "-m", "pip", "list", "--format", "json", "--exclude", "sglang"],
        capture_output=True,
        text=True,
        check=True,
    )
    # PyTorch for CPUs stands in for that for CUDA.
    standing_in = [
        entry | ({"version": "2.11.0"} if entry["name"] == "torch" else {})
        for entry in json.loads(present.stdout)
    ]
    (folder / "present.json").write_text(json.dumps(standing_in))
    arguments = ["--present", folder / "present.json", "--out", folder / "pack", "--preset", "0"]
    arguments += ["--python-version", PYTHON, "--cache", CACHE]
    if not (CACHE / KERNEL).is_file():
        arguments += ["--leave-out", "sglang-kernel"]
    assert pack_gpu.main([str(argument) for argument in arguments]) == 0
    yield folder / "pack"
    shutil.rmtree(folder)


def unpack(pack: Path, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = ["bash", pack / "unpack_gpu.sh", "--python", sys.executable, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.mark.build
def test_a_pack_is_unpacked_and_imported(pack: Path, tmp_path: Path) -> None:
    done = unpack(pack, "--venv", tmp_path / "venv", "--without-gpu")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "import sglang.launch_server: works" in done.stdout
    assert "import flashinfer.sampling: works" in done.stdout
    python = tmp_path / "venv" / "bin" / "python"
    assert f"{python} -m sglang.launch_server" in done.stdout
    told = subprocess.run(
        [python, "-c", "import sglang; print(sglang.__file__)"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert told.stdout.startswith(str(tmp_path / "venv"))
    content = json.loads((pack / "manifest.json").read_text())
    assert content["python"] == PYTHON
    for part in content["parts"]:
        assert part["why"]
        assert part["license"]
    again = unpack(pack, "--venv", tmp_path / "venv")
    assert again.returncode == 1
    assert "is there already" in again.stderr


@pytest.mark.build
def test_a_damaged_pack_is_refused(pack: Path, tmp_path: Path) -> None:
    copy = tmp_path / "pack"
    shutil.copytree(pack, copy)
    with (copy / "pack.tar.xz").open("r+b") as damaged:
        damaged.seek(1_000)
        damaged.write(b"not what was there")
    done = unpack(copy, "--target", tmp_path / "site")
    assert done.returncode == 1
    assert "pack.tar.xz: FAILED" in done.stdout + done.stderr
    assert not (tmp_path / "site").exists()


@pytest.mark.build
def test_a_pack_for_another_python_is_refused(pack: Path, tmp_path: Path) -> None:
    content = json.loads((pack / "manifest.json").read_text()) | {"python": "3.9"}
    (tmp_path / "manifest.json").write_text(json.dumps(content | {"parts": []}))
    check = ROOT / "scripts" / "check_gpu.py"
    done = subprocess.run(
        [sys.executable, check, "--files", tmp_path / "manifest.json", tmp_path],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert f"--python-version {PYTHON}" in done.stderr
