"""Take pictures of the live page, light and dark, of a real server under the load of several users.

    python scripts/page_screenshot.py [--chromium PATH] [--out docs]

Needs Chromium and the extra `test`. Writes live-page.png and live-page-dark.png.
"""

from __future__ import annotations

import argparse
import io
import random
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

import demo_model
import httpx
import server_process
from chromium import chromium_or_exit, key_typed_in, opened
from PIL import Image
from playwright.sync_api import Page

ADMIN = "sk-admin"
# What all users of an application begin with, registered; and what some of them have in common.
SYSTEM = "You are the assistant of a small library. Be brief, be polite, never guess. " * 2
BOOKS = [
    f"{shelf} shelf, its catalogue: " + "novels, plays and letters of that shelf. " * 6
    for shelf in ("North", "East", "South")
]
USERS = ("alice", "bob", "carol", "dave", "erin", "frank", "grace", "heidi", "ivan")
CONFIG = f"""
[default]
cache_share = 0.25
[users.alice]
cache_share = 0.05
[users.bob]
cache_share = 0.15
max_running = 1
max_queued = 1
[[public_prefixes]]
name = "library"
text = "{SYSTEM}"
"""
WARM_UP, SHOWN = 25.0, 8.0  # seconds of load before the first picture, and between two
SIZE = {"width": 1440, "height": 900}


def main() -> None:
    arguments = _parser().parse_args()
    program = arguments.chromium or chromium_or_exit()
    with tempfile.TemporaryDirectory() as folder:
        model, config = Path(folder) / "model", Path(folder) / "tenants.toml"
        demo_model.make_model(model)
        config.write_text(CONFIG)
        flags = ["--model-path", str(model), "--enable-tenant-cache"]
        flags += ["--enable-hierarchical-cache", "--hicache-ratio", "2"]
        flags += ["--max-total-tokens", "8192", "--schedule-policy", "dlpm"]
        flags += ["--tenant-epoch-requests", "64", "--max-running-requests", "4"]
        flags += ["--tenant-config", str(config), "--admin-api-key", ADMIN]
        environment = {"OMP_NUM_THREADS": "1"}
        with server_process.running(flags, environment) as (server, _), _load(server.url):
            _take(server.url, program, arguments.out)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--chromium", help="the browser's program, where it is not found")
    parser.add_argument("--out", type=Path, default=Path("docs"), help="folder of the pictures")
    return parser


@contextmanager
def _load(url: str) -> Iterator[None]:
    """Have all users ask, until the with statement ends."""
    end = threading.Event()
    threads = [threading.Thread(target=_ask, args=(url, user, end)) for user in USERS]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        end.set()
        for thread in threads:
            thread.join()


def _ask(url: str, user: str, end: threading.Event) -> None:
    """Talk, about a book that others read too; begin anew now and then. The same each time."""
    choose = random.Random(user)
    talk, turns = "", 0
    with httpx.Client(base_url=url, timeout=120) as http:
        while not end.is_set():
            if not turns:
                talk, turns = SYSTEM + choose.choice(BOOKS), choose.randint(1, 4)
            turns -= 1
            words = "".join(choose.choices("abcdefghij ", k=choose.randint(30, 160)))
            talk += f"{choose.choice(words)}{user}: {words}?"
            tokens = choose.randint(8, 60)
            body = {
                "text": talk,
                "user_id": user,
                "sampling_params": {"max_new_tokens": tokens, "ignore_eos": True},
            }
            http.post("/generate", json=body)
            end.wait(choose.uniform(0.1, 0.8))


def _take(url: str, program: str, folder: Path) -> None:
    schemes: tuple[tuple[Literal["light", "dark"], str], ...] = (
        ("light", "live-page.png"),
        ("dark", "live-page-dark.png"),
    )
    for scheme, name in schemes:
        with opened(url, program, color_scheme=scheme, viewport=SIZE) as page:
            key_typed_in(page, ADMIN)
            page.wait_for_timeout((WARM_UP if scheme == "light" else SHOWN) * 1000)
            _choose_a_node(page)
            _save(page.screenshot(full_page=True), folder / name)
        print(f"written: {folder / name}")


def _choose_a_node(page: Page) -> None:
    page.locator("#icicle").focus()
    for key in ("Home", "ArrowDown", "ArrowDown"):
        page.keyboard.press(key)
    page.wait_for_selector("#queue td")  # somebody waits or runs


def _save(picture: bytes, path: Path) -> None:
    with Image.open(io.BytesIO(picture)) as image:
        image.convert("RGB").save(path, optimize=True)


if __name__ == "__main__":
    main()
