"""The Chromium of Debian, without a window."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


CHROMIUM = Path("/usr/bin/chromium")


@contextmanager
def open_browser() -> Iterator:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()
