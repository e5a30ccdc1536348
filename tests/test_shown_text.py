"""Text of a model, a server or a file is shown as text, in a terminal and in Markdown."""

import json
import re
import unicodedata

import pytest
from markdown_it import MarkdownIt

from ct_rate_pairs.shown_text import for_markdown, for_terminal, to_json


REPORT = "Findings: a 6 mm nodule (RUL), < 1 cm; FEV1 > 80%.\nImpression: 1. Nodule. 2. No effusion - stable & clear."
HOSTILE = {
    "screen": "\x1b[2J\x1b[1;1HNo findings.",
    "title": "\x1b]0;evil\x07",
    "link of the terminal": "\x1b]8;;http://evil.example\x1b\\here\x1b]8;;\x1b\\",
    "clipboard": "\x1b]52;c;ZXZpbA==\x07",
    "C1": "\x9b2J and \x9d0;evil\x9c",
    "back": "Nodule.\b\b\b\b\b\b\b\rNormal.",
    "order of letters": "No \u202eeludon\u202c and \u2066x\u2069",
    "no room": "nod\u200bule\u2060\ufeff \u00ad\U000e0041",
    "lines": "a\u2028b\u2029c\x85d\x0be\x0cf",
    "surrogate": "a\ud800b",
    "image": "![x](https://evil.example/x.png)",
    "image by reference": "![x][1]\n\n[1]: https://evil.example/x.png",
    "link": "[ours](javascript:alert(1)) and [x]: /y",
    "auto link": "<https://evil.example> and <me@evil.example>",
    "bare link": "see https://evil.example/a?b=c, http://evil.example, ftp://evil.example",
    "bare address": "see www.evil.example or evil.com/x and me@evil.example",
    "HTML": "<img src=x onerror=alert(1)><script>alert(1)</script><!-- --><details>",
    "HTML block": "\n\n<div>\n\n# No\n</div>",
    "entities": "&lt;b&gt; &#60;b&#62; &amp;",
    "headings": "x\n# Findings\n## Findings it states\nNone\n===\nNone\n---\n",
    "indented heading": "x\n  ## Findings it states\n\t# y\n\n    code",
    "quotes and lists": "> quoted\n- a\n+ b\n* c\n***\n___",
    "numbers": "3. a\n7. b\n1) c\n\n2024. d\n1.5 cm\n12",
    "blank lines": "a\n\n\n \n\t\n# b",
    "code": "```\ncode\n``` and `code` ``x``\n~~~\ncode\n~~~",
    "table": "| a | b |\n|---|---|\n| 1 | 2 |",
    "emphasis": "*a* **b** _c_ __d__ ~~e~~ \\*f\\*",
    "formula": "$\\frac{1}{2}$ $$x$$",
    "escapes": "\\[x\\](y) \\\\ \\<b>",
}


def is_seen(letter):
    return letter in "\n\t" or unicodedata.category(letter) not in ("Cc", "Cf", "Cs", "Co", "Zl", "Zp")


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_no_unseen_character_comes_through(text):
    for shown in (for_terminal(text), for_markdown(text), to_json({"text": text}), to_json([text], indent=2)):
        assert all(map(is_seen, shown))
        assert shown.encode()
    assert json.loads(to_json({"text": text})) == {"text": text}


def test_plain_text_of_any_language_stays_as_it_is():
    for text in (REPORT, "右肺上叶结节。\n无胸腔积液。", "Épanchement pleural à gauche, 37,5 °C ± ½ µm", ""):
        assert for_terminal(text) == text
        assert to_json(text) == json.dumps(text, ensure_ascii=False)


def test_every_single_character_is_shown_or_escaped():
    for code in [*range(0x3000), *range(0xD7FE, 0xE002), 0xFEFF, *range(0xFFF9, 0xFFFD), 0xE0001, 0x10FFFD]:
        shown = for_terminal(chr(code))
        assert all(map(is_seen, shown)) and shown.encode()
        assert is_seen(chr(code)) == (shown == chr(code))


READERS = {
    "CommonMark": MarkdownIt("commonmark"),
    "tables": MarkdownIt("commonmark").enable(["table", "strikethrough"]),
    "all": MarkdownIt("js-default", {"html": True, "typographer": False}),
}
PLAIN = {"paragraph_open", "paragraph_close", "inline", "text", "text_special", "softbreak", "hardbreak"}


@pytest.mark.parametrize("reader", READERS.values(), ids=READERS)
@pytest.mark.parametrize("text", [*HOSTILE.values(), REPORT], ids=[*HOSTILE, "report"])
def test_markdown_shows_the_letters_and_nothing_else(reader, text):
    tokens = [child for token in reader.parse(for_markdown(text)) for child in [token, *(token.children or ())]]
    assert {token.type for token in tokens} <= PLAIN
    read = "".join(token.content for token in tokens if token.type in ("text", "text_special"))
    assert re.sub(r"\s", "", read) == re.sub(r"\s", "", for_terminal(text)).replace("@", "(at)")


@pytest.mark.parametrize("text", [HOSTILE["bare link"], HOSTILE["bare address"]])
def test_no_address_is_left_that_a_reader_makes_a_link_of_without_a_sign(text):
    assert not re.search(r"\w://|www\.|\w@\w|evil\.", for_markdown(text))
