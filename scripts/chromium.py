"""Find Chromium, and open the live page in it."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from playwright.sync_api import Page, sync_playwright

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
MISSING = "Chromium is not installed; on Debian: apt-get install --no-install-recommends chromium"


def chromium() -> str | None:
    """Return the path of the browser's program, None where there is none."""
    return next((path for name in NAMES if (path := shutil.which(name))), None)


def chromium_or_exit() -> str:
    """As ``chromium``; ends the program where there is none."""
    return chromium() or sys.exit(f"error: {MISSING}")


@contextmanager
def opened(url: str, program: str, **context: Any) -> Iterator[Page]:
    """Open a server's live page, inside the with statement. ``context``: as Playwright has it."""
    with sync_playwright() as playwright:
        # Without its sandbox: root has none, and the only page is our own.
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        try:
            page = browser.new_context(**context).new_page()
            page.goto(f"{url}/tenant/")
            yield page
        finally:
            browser.close()


def key_typed_in(page: Page, key: str) -> None:
    """Enter the admin key, and return when the server shows something."""
    page.fill("#key", key)
    page.click("#login button")
    page.wait_for_selector("#state[data-state=live]")
