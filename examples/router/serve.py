"""Serve a model by two workers behind a router; each user stays with one of them.

    python examples/router/serve.py [--router smg] [--model PATH] [--port PORT] [-- FLAGS]

--router: smg or sglang-router, where it is not on the PATH with its folder. Without --model a small
demo model is made. FLAGS go to the workers and win over the ones chosen here.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import httpx

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

HERE = Path(__file__).resolve().parent
sys.path.append(str(HERE.parents[1] / "scripts"))

import demo_model  # noqa: E402
from server_process import ServerEnded, ServerProcess, free_port  # noqa: E402

# Both routers hand it on, and both can send equal ones to the same worker.
HEADER = "X-SMG-Routing-Key"
TENANTS = HERE / "tenants.toml"

WORKER_FLAGS = (
    *("--enable-tenant-cache", "--tenant-config", str(TENANTS), "--tenant-header", HEADER),
    # A request whose user was lost on the way is refused, not served as nobody's.
    *("--tenant-anonymous", "reject", "--enable-cache-report", "--enable-hierarchical-cache"),
    # What memory evicts stays, for all workers: a user who is moved finds their pages again.
    *("--hicache-storage-backend", "file", "--hicache-storage-prefetch-policy", "wait_complete"),
)
DEMO_MODEL = Path(".models/tiny")
DEMO_FLAGS = ("--served-model-name", "demo", "--max-total-tokens", "65536")
ROUTER_FLAGS = (
    # A new user goes where the fewest requests are, and stays.
    *("--policy", "manual", "--assignment-mode", "min_load", "--log-level", "warn"),
    # A 429 is for one user, and no fault of the worker's: neither to be tried again at once, nor to
    # be held against the worker, from all users.
    *("--disable-retries", "--disable-circuit-breaker"),
)

WORKER_SECONDS = 1800.0
ROUTER_SECONDS = 60.0

READY = """
The router is at {url}, the workers at {workers}; logs in {folder}. Ask as user alice:

curl {url}/v1/chat/completions -H 'Content-Type: application/json' \\
  -H 'Authorization: Bearer {key}' -H '{header}: alice' -d '{{
  "model": "{model}", "max_tokens": 60,
  "messages": [{{"role": "user", "content": "What do you remember of bob?"}}]}}'

Operators: python -m sglang.srt.tenancy.fleet --workers {workers} stats
Ctrl-C ends all of it.
"""


def main() -> int:
    """Serve until Ctrl-C; return the exit code."""
    arguments = _parser().parse_args()
    for each in (signal.SIGINT, signal.SIGTERM):
        signal.signal(each, _interrupt)
    folder = Path(arguments.folder).resolve()
    try:
        with (
            workers(_flags(arguments, folder), folder) as urls,
            router(arguments.router, urls, arguments.port) as (url, process),
        ):
            print(
                READY.format(
                    url=url,
                    workers=",".join(urls),
                    folder=folder,
                    key=gateway_key(),
                    header=HEADER,
                    model=arguments.model or "demo",
                ),
                flush=True,
            )
            return process.wait() or 1
    except KeyboardInterrupt:
        print("\nEnding router and workers.", flush=True)
        return 0
    except (OSError, RuntimeError) as problem:
        print(f"\n{problem}\nThe logs in {folder} say why.", file=sys.stderr)
        return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--router", default="smg", help="smg or sglang-router, or a path to it")
    parser.add_argument("--model", help="path or hub name; a demo model if left out")
    parser.add_argument("--port", type=int, default=30_000, help="of the router")
    parser.add_argument("--folder", default=".models/router", help="for logs and stored pages")
    parser.add_argument("flags", nargs="*", metavar="FLAGS", help="for the workers")
    return parser


def _flags(arguments: argparse.Namespace, folder: Path) -> list[str]:
    key = os.environ.get("SGLANG_TENANT_ADMIN_KEY")
    operators = ["--config", str(_write_key(key, folder))] if key else []
    if arguments.model:
        return ["--model-path", arguments.model, *operators, *arguments.flags]
    demo_model.make_model(DEMO_MODEL)
    return ["--model-path", str(DEMO_MODEL), *DEMO_FLAGS, *operators, *arguments.flags]


def _interrupt(_signal: int, _frame: object) -> None:
    # A second one would leave half of the processes.
    for each in (signal.SIGINT, signal.SIGTERM):
        signal.signal(each, signal.SIG_IGN)
    raise KeyboardInterrupt


def _write_key(key: str, folder: Path) -> Path:
    """Write the operators' key where only this user can read it, as on no command line."""
    file = folder / "operators.yaml"
    folder.mkdir(parents=True, exist_ok=True)
    file.unlink(missing_ok=True)
    file.touch(mode=0o600)
    file.write_text(f"admin-api-key: {json.dumps(key)}\n")
    return file


@contextlib.contextmanager
def workers(flags: Sequence[str], folder: Path, number: int = 2) -> Iterator[list[str]]:
    """Run workers that share one key and one storage, inside the with statement; their URLs.

    ``flags``: the model's, and others; ``folder``: for logs and stored pages. Raises RuntimeError
    where a worker ends, TimeoutError.
    """
    pages = folder / "pages"
    pages.mkdir(parents=True, exist_ok=True)
    environment = {
        # Names of private pages are made with it: other workers must find them.
        "SGLANG_TENANT_PROCESS_KEY": process_key(),
        "SGLANG_HICACHE_FILE_BACKEND_STORAGE_DIR": str(pages),
    }
    started: list[ServerProcess] = []
    try:
        for each in range(number):
            with (folder / f"worker-{each}.log").open("wb") as log:
                started.append(
                    ServerProcess([*WORKER_FLAGS, *flags], output=log.fileno(), env=environment)
                )
        for worker in started:
            worker.wait_until_ready(WORKER_SECONDS)
        yield [worker.url for worker in started]
    except ServerEnded as ended:
        raise RuntimeError(f"A worker did not start: {ended}.") from None
    finally:
        for worker in started:
            worker.kill()


@contextlib.contextmanager
def router(
    command: str, worker_urls: Sequence[str], port: int
) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """Run a router on the loopback, inside the with statement; its URL and its process.

    Raises OSError where there is no such command, RuntimeError where it does not find the workers.
    """
    listen = ["--host", "127.0.0.1", "--port", str(port), "--prometheus-port", str(free_port())]
    # It asks the workers what they serve, and takes no request without the key.
    key = ["--api-key", gateway_key()]
    process = subprocess.Popen(
        [command, "launch", "--worker-urls", *worker_urls, *listen, *key, *ROUTER_FLAGS],
        start_new_session=True,
    )
    url = f"http://127.0.0.1:{port}"
    try:
        _wait_for_workers(url, len(worker_urls), process)
        yield url, process
    finally:
        process.kill()
        process.wait()


def _wait_for_workers(url: str, number: int, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + ROUTER_SECONDS
    headers = {"Authorization": f"Bearer {gateway_key()}"}
    while time.monotonic() < deadline and process.poll() is None:
        with contextlib.suppress(httpx.TransportError, ValueError):
            known = httpx.get(f"{url}/workers", headers=headers).json().get("workers", [])
            if sum(worker["is_healthy"] for worker in known) == number:
                return
        time.sleep(0.1)
    raise RuntimeError(f"The router at {url} did not find its {number} workers.")


def gateway_key() -> str:
    """Read the key of the file's gateway."""
    return str(tomllib.loads(TENANTS.read_text())["gateway"]["keys"][0])


def process_key() -> str:
    """Return the workers' common key: the environment's, or a new one. With a new one stored
    pages of private prefixes are not found again."""
    return os.environ.get("SGLANG_TENANT_PROCESS_KEY") or secrets.token_hex(32)


if __name__ == "__main__":
    sys.exit(main())
