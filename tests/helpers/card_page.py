"""A model card as a browser shows it, with the rules of GitHub's and the Hub's pages that decide about widths."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from markdown_it import MarkdownIt


WIDTH = 760  # pixels of the column with the text, without its margins
STYLE = """
body { margin: 0; font: 16px/1.5 -apple-system, "Segoe UI", "Noto Sans", Helvetica, Arial, sans-serif; }
article { width: WIDTHpx; box-sizing: border-box; overflow-wrap: break-word; }
table { display: block; width: max-content; max-width: 100%; overflow: auto; border-collapse: collapse; }
th, td { padding: 6px 13px; border: 1px solid #d0d7de; }
pre { padding: 16px; overflow: auto; font-size: 85%; background: #f6f8fa; }
code { font-family: "Liberation Mono", monospace; font-size: 85%; }
img { max-width: 100%; }
""".replace("WIDTH", str(WIDTH))


def write_page(card: Path) -> Path:
    """Writes the card as HTML beside it, where its figures are found."""
    text = card.read_text().split("\n---\n", 1)[1]
    body = MarkdownIt("commonmark", {"html": True}).enable("table").render(text)
    body = body.replace("<details>", "<details open>")
    page = card.with_name("card.html")
    page.write_text(f"<!DOCTYPE html><meta charset='utf-8'><style>{STYLE}</style><article>{body}</article>")
    return page


@contextmanager
def opened(page: Path) -> Iterator:
    """The page in Chromium. The test is skipped where there is none."""
    from playwright.sync_api import sync_playwright

    program = shutil.which("chromium")
    if program is None:
        pytest.skip("needs Debian's chromium")
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=program, args=["--no-sandbox"])
        try:
            shown = browser.new_page(viewport={"width": WIDTH, "height": 1000})
            shown.goto(page.as_uri())
            yield shown
        finally:
            browser.close()


def wide_elements(shown) -> list[str]:
    """The tables, figures and paragraphs that are cut off, or can only be read by scrolling, by their first words."""
    return shown.evaluate(
        """() => [...document.querySelectorAll('table, img, p, li, summary')]
            .filter(one => one.scrollWidth > one.clientWidth + 1 && one.clientWidth > 0
                        || one.getBoundingClientRect().right > document.querySelector('article').clientWidth + 1)
            .map(one => one.tagName + ' ' + (one.innerText || one.src || '').slice(0, 60))"""
    )
