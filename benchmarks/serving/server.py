"""A server in one of the modes that are compared, on the same settings in all of them."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Protocol

# The scripts are programs, not a package; the benchmarks use what they are made of.
sys.path.append(str(Path(__file__).resolve().parents[2] / "scripts"))

import demo_model
import server_process

VOCABULARY = 16_384  # so many that each prompt can begin with a token of its own
START_SECONDS = 300.0


@dataclass(frozen=True)
class Mode:
    """``private``: what one user wrote must not serve another one who guesses it.

    ``promotes``: content that nobody registered can become public. ``detects``: unless
    something sensitive is found in it. ``window``: requests after which votes for it are counted;
    0 where users are counted at once.
    """

    name: str
    flags: tuple[str, ...]
    private: bool
    about: str
    promotes: bool = False
    detects: bool = False
    window: int = 0

    @property
    def has_owners(self) -> bool:
        return "--enable-tenant-cache" in self.flags


def _tenant(mode: str, *flags: str) -> tuple[str, ...]:
    return ("--enable-tenant-cache", "--tenant-mode", mode, *flags)


UPSTREAM = Mode("upstream", (), False, "tenant cache off")
SHARED = Mode("shared", _tenant("shared"), False, "users known, every prefix serves everybody")
ISOLATED = Mode("isolated", _tenant("isolated"), True, "each user matches only their own")
SELECTIVE = Mode(
    "selective",
    _tenant("selective", "--tenant-detector", "off-trust-all"),
    True,
    "everything counts as harmless; public from three users up",
    promotes=True,
)
RULES = Mode(
    "selective-rules",
    _tenant("selective"),
    True,
    "as it is by default: public from three users up, unless the rules find something sensitive",
    promotes=True,
    detects=True,
)
WINDOW = 2_048
VOTES = Mode(
    "selective-dp",
    _tenant(
        "selective",
        *("--tenant-detector", "off-trust-all"),
        *("--tenant-promotion", "dp", "--tenant-dp-window", str(WINDOW)),
    ),
    True,
    "everything counts as harmless; public by private votes",
    promotes=True,
    window=WINDOW,
)
MODES = {mode.name: mode for mode in (UPSTREAM, SHARED, ISOLATED, SELECTIVE, RULES, VOTES)}


class Served(Protocol):
    """A model that servers are started with."""

    def flags(self) -> list[str]:
        """Of the server; its files are there by then."""


_MAKING = Lock()  # one model at a time, whoever starts servers side by side


@dataclass(frozen=True)
class Model:
    """A demo model of random weights; ``size`` as in scripts/demo_model.py.

    Its embedding is enlarged to ``VOCABULARY`` tokens, beyond those of its tokenizer: prompts
    are sent as numbers. ``stored``: the weights of its files, and no more tokens than they have.
    """

    directory: Path
    size: str = "bench"
    stored: bool = False

    def make(self) -> None:
        """Make its files where they are not there yet."""
        with _MAKING:
            demo_model.make_model(self.directory, self.size)

    def flags(self) -> list[str]:
        self.make()
        if self.stored:
            return ["--model-path", str(self.directory), "--dtype", "float32"]
        override = json.dumps({"vocab_size": VOCABULARY})
        flags = ["--model-path", str(self.directory), "--load-format", "dummy"]
        return [*flags, "--json-model-override-args", override, "--random-seed", "0"]


class OtherPackage(server_process.ServerProcess):
    """A server of an `sglang` that is not the installed one: a new interpreter, also in tests."""

    start = staticmethod(server_process.start_interpreter)


@contextmanager
def running(
    model: Served,
    mode: Mode,
    settings: Sequence[str] = (),
    *,
    threads: int | None = 1,
    seconds: float = START_SECONDS,
) -> Iterator[str]:
    """The URL of a server that runs inside the with statement; as ``started``."""
    with started(model, mode, settings, threads=threads, seconds=seconds) as process:
        yield process.url


@contextmanager
def started(
    model: Served,
    mode: Mode,
    settings: Sequence[str] = (),
    *,
    threads: int | None = 1,
    seconds: float = START_SECONDS,
    package: Path | None = None,
) -> Iterator[server_process.ServerProcess]:
    """A server that runs inside the with statement.

    ``threads``: of the model. With one, the other cores are left to the front end and the
    client, and what is measured depends less on what else the machine does. None: as the
    server chooses. ``seconds``: in which it must be ready. ``package``: the folder of another
    `sglang` than the installed one. Raises ServerFailed.
    """
    env = {} if threads is None else {"OMP_NUM_THREADS": str(threads)}
    kind = server_process.ServerProcess
    if package is not None:
        env["PYTHONPATH"], kind = str(package), OtherPackage
    flags = [*model.flags(), "--enable-cache-report", *settings, *mode.flags]
    with server_process.running(flags, env, seconds=seconds, kind=kind) as (process, _):
        yield process
