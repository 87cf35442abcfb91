"""A server in one of the modes that are compared, on the same settings in all of them."""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Lock

# The scripts are programs, not a package; the benchmarks use what they are made of.
sys.path.append(str(Path(__file__).resolve().parents[2] / "scripts"))

import demo_model
from server_process import ServerProcess

VOCABULARY = 16_384  # so many that each prompt can begin with a token of its own
START_SECONDS = 300.0


@dataclass(frozen=True)
class Mode:
    """``private``: what one user wrote must not serve another one who guesses it.

    ``promotes``: content that nobody registered can become public. ``detects``: unless
    something sensitive is found in it.
    """

    name: str
    flags: tuple[str, ...]
    private: bool
    about: str
    promotes: bool = False
    detects: bool = False

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
MODES = {mode.name: mode for mode in (UPSTREAM, SHARED, ISOLATED, SELECTIVE, RULES)}


_MAKING = Lock()  # one model at a time, whoever starts servers side by side


@dataclass(frozen=True)
class Model:
    """A demo model of random weights; ``size`` as in scripts/demo_model.py.

    Its embedding is enlarged to ``VOCABULARY`` tokens, beyond those of its tokenizer: prompts
    are sent as numbers.
    """

    directory: Path
    size: str = "bench"

    def flags(self) -> list[str]:
        with _MAKING:
            demo_model.make_model(self.directory, self.size)
        override = json.dumps({"vocab_size": VOCABULARY})
        flags = ["--model-path", str(self.directory), "--load-format", "dummy"]
        return [*flags, "--json-model-override-args", override, "--random-seed", "0"]


class ServerFailed(RuntimeError):
    """The server did not come up; the message ends with the end of its log."""


@contextmanager
def running(
    model: Model, mode: Mode, settings: Sequence[str] = (), *, threads: int | None = 1
) -> Iterator[str]:
    """The URL of a server that runs inside the with statement.

    ``threads``: of the model. With one, the other cores are left to the front end and the
    client, and what is measured depends less on what else the machine does. None: as the
    server chooses. Raises ServerFailed.
    """
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        log = Path(folder) / "log"
        env = {"TMPDIR": folder}
        if threads is not None:
            env["OMP_NUM_THREADS"] = str(threads)
        flags = [*model.flags(), "--enable-cache-report", *settings, *mode.flags]
        with log.open("wb") as output:
            process = ServerProcess(flags, output=output.fileno(), env=env)
        try:
            try:
                process.wait_until_ready(START_SECONDS)
            except (RuntimeError, TimeoutError) as problem:
                tail = "\n".join(log.read_text(errors="replace").splitlines()[-40:])
                raise ServerFailed(f"{mode.name}: {problem}\n{tail}") from problem
            yield process.url
        finally:
            process.kill()
