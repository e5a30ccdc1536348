"""A page in Debian's Chromium, which may load nothing, and in which nothing may go wrong."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


CHROMIUM = shutil.which("chromium")
needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium: apt-get install chromium")


@contextmanager
def started() -> Iterator:
    """The browser, without a window."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@contextmanager
def opened(browser, path: Path, width: int = 1280, height: int = 800, **options) -> Iterator:
    """
    The page of a file. At the end, the browser has asked for nothing but the file, has written nothing to its console,
    and no script has failed or opened a dialog.
    """
    context = browser.new_context(viewport={"width": width, "height": height}, offline=True, **options)
    wrong: list[str] = []
    page = context.new_page()
    page.on("console", lambda message: wrong.append(f"console: {message.text}"))
    page.on("pageerror", lambda error: wrong.append(f"error: {error}"))
    page.on("dialog", lambda dialog: (wrong.append(f"dialog: {dialog.message}"), dialog.dismiss()))
    page.on("request", lambda request: request.url.startswith(("file:", "data:")) or wrong.append(request.url))
    page.goto(path.resolve().as_uri())
    yield page
    context.close()
    assert not wrong
