"""One compressed file of all wheels and models; what each adds to it is measured on the way."""

from __future__ import annotations

import lzma
import tarfile
from collections.abc import Iterable
from pathlib import Path

_EPOCH = 315_532_800  # 1980, as in the wheels: the same input gives the same bytes


def write(archive: Path, folder: Path, paths: Iterable[Path], preset: int) -> dict[str, int]:
    """Pack the files; return how many bytes each takes, by its path in the folder.

    Compressed together: sources are much alike. So a size is right to some ten kilobytes.
    """
    sizes: dict[str, int] = {}
    with (
        archive.open("wb") as raw,
        lzma.open(raw, "wb", preset=preset) as packed,
        tarfile.open(fileobj=packed, mode="w|") as tar,
    ):
        before = 0
        for path in paths:
            name = path.relative_to(folder).as_posix()
            tar.add(path, name, recursive=False, filter=_plain)
            sizes[name], before = raw.tell() - before, raw.tell()
    return sizes


def _plain(entry: tarfile.TarInfo) -> tarfile.TarInfo:
    entry.uid = entry.gid = 0
    entry.uname = entry.gname = ""
    entry.mtime = _EPOCH
    return entry
