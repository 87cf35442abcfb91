"""Collect what a machine with CUDA and PyTorch, but no package index, lacks to serve the fork.

    python scripts/pack_gpu.py [--present FILE] [--python-version 3.12] [--arch sm90] [--out DIR]

Makes a folder of at most 60 MB; bring it there and run its unpack_gpu.sh. FILE is what
`pip list --format json` prints on that machine; without it little is taken for granted.
docs/gpu.md says what is in it, and what was tried.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from gpu_pack import archive, manifest
from gpu_pack.closure import Closure, NoVersion, close
from gpu_pack.download import ROOT, Cache, DownloadFailed, build_fork, metadata
from gpu_pack.parts import ARCHITECTURES, Parts, read_parts
from gpu_pack.repack import NoStrip, NothingMatches, Trim, repack
from gpu_pack.shapes import SHAPES, write_model
from gpu_pack.target import Target, read_present

HERE = Path(__file__).resolve().parent
ARCHIVE = "pack.tar.xz"
# What the pack's own unpacking needs beside the archive.
PROGRAMS = {
    "unpack_gpu.sh": "sets it up",
    "check_gpu.py": "checks the hashes, says what was found, imports it all",
}
OURS = "Apache-2.0"
FAILURES = (
    DownloadFailed,
    FileExistsError,
    NoStrip,
    NoVersion,
    NothingMatches,
    ValueError,
    manifest.TooLarge,
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Make the pack; return the exit code."""
    options = _parser().parse_args(arguments)
    try:
        total, parts = make(options)
    except FAILURES as problem:
        print(f"error: {problem}", file=sys.stderr)
        return 1
    if options.table:
        options.table.write_text(manifest.as_table(parts))
    print(f"{options.out}: {total / 1e6:.1f} MB in {len(parts)} parts. Bring it there, then:")
    print(f"    bash {options.out.name}/unpack_gpu.sh")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    default = HERE / "gpu_pack" / "present.txt"
    parser.add_argument("--present", type=Path, default=default, metavar="FILE")
    parser.add_argument("--python-version", default="3.12", metavar="X.Y", help="of that machine")
    parser.add_argument("--glibc", default="2.34", metavar="2.N", help="of that machine, or older")
    parser.add_argument("--arch", choices=ARCHITECTURES, default="sm90", help="sm90: Hopper")
    parser.add_argument("--also", action="append", default=[], metavar="REQUIREMENT")
    parser.add_argument("--leave-out", action="append", default=[], metavar="NAME")
    parser.add_argument("--out", type=Path, default=Path("build/gpu-pack"), metavar="DIR")
    parser.add_argument("--cache", type=Path, default=Path("build/gpu-wheels"), metavar="DIR")
    parser.add_argument("--limit-mb", type=float, default=60.0, metavar="N")
    parser.add_argument("--preset", type=int, choices=range(10), default=6, help="of xz")
    parser.add_argument("--table", type=Path, metavar="FILE", help="write what is in it there")
    return parser


def make(options: argparse.Namespace) -> tuple[int, list[manifest.Part]]:
    """Make the pack; return its bytes and its parts."""
    if options.out.exists() and not (options.out / manifest.MANIFEST).exists():
        raise FileExistsError(f"--out {options.out} is there and is no pack; name another folder")
    target = Target(options.python_version, options.glibc, read_present(options.present))
    parts = read_parts(options.arch, options.leave_out)
    cache = Cache(options.cache, target)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=options.out.parent, prefix=".packing-") as name:
        scratch = Path(name)
        fork = build_fork(target, scratch)
        lock = ROOT / "constraints" / "cuda.txt"
        also = [*parts.added, *options.also]
        found = close(fork, also, target, parts.rules, cache, lock)
        found.wheels["sglang"] = fork
        made, total, described = _write(scratch, found, parts, options)
        shutil.rmtree(options.out, ignore_errors=True)
        made.rename(options.out)
    return total, described


def _write(
    scratch: Path, found: Closure, parts: Parts, options: argparse.Namespace
) -> tuple[Path, int, list[manifest.Part]]:
    content, made = scratch / "content", scratch / "made"
    (content / "wheels").mkdir(parents=True)
    made.mkdir()
    wheels = {
        name: repack(wheel, parts.trims.get(name, Trim()), content / "wheels")
        for name, wheel in sorted(found.wheels.items())
    }
    for name, shape in SHAPES.items():
        write_model(content / "models" / name, shape)
    models = sorted(path for path in (content / "models").rglob("*") if path.is_file())
    paths = [*wheels.values(), *models]
    packed = archive.write(made / ARCHIVE, content, paths, options.preset)
    described = [
        _wheel_part(content, name, wheel, packed, found, parts) for name, wheel in wheels.items()
    ]
    for path in models:
        file = path.relative_to(content).as_posix()
        why = "a model's shape and a tokenizer, without weights"
        described.append(manifest.describe(content, file, packed[file], why, OURS))
    for name, why in PROGRAMS.items():
        shutil.copy(HERE / name, made / name)
        size = (made / name).stat().st_size
        described.append(manifest.describe(made, name, size, why, OURS))
    facts = {
        "python": options.python_version,
        "arch": options.arch,
        "trusted": found.trusted,
        "left_out": dict(parts.rules.left_out),
    }
    manifest.write(made, facts, described)
    total = manifest.check_size(made, described, int(options.limit_mb * 1e6))
    return made, total, described


def _wheel_part(
    content: Path, name: str, wheel: Path, packed: dict[str, int], found: Closure, parts: Parts
) -> manifest.Part:
    file = wheel.relative_to(content).as_posix()
    why = parts.why.get(name) or f"{found.wanted_by[name]} asks for it"
    license_name = manifest.license_of(metadata(wheel))
    less = parts.trims[name].why if name in parts.trims else ""
    return manifest.describe(content, file, packed[file], why, license_name, less)


if __name__ == "__main__":
    sys.exit(main())
