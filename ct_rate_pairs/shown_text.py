"""
Shows text of a model, a server or a file in a terminal or in Markdown as what it is: text, whatever it holds.

Raw, it could move the cursor and write over what stands there, turn the order of letters around, load an image from a
server, which then knows who has read the report, or look like a heading of the report.
"""

import json
import re
import unicodedata
from typing import Any


# Control and format characters (ESC, what reverses the order of letters, what takes no room), lone surrogates, private
# characters, and other ends of lines than a line break.
_UNSEEN = ("Cc", "Cf", "Cs", "Co", "Zl", "Zp")
# Entities, which each dialect of Markdown shows as the character, also in a table.
_ENTITIES = {"&": "&amp;", "<": "&lt;", ">": "&gt;", "|": "&#124;", "$": "&#36;", "~": "&#126;"}
_SIGN_AT_LINE_START = re.compile(r"^[^\S\n]*([#=+-])", re.MULTILINE)
_NUMBER_AT_LINE_START = re.compile(r"^[^\S\n]*(\d{1,9})(?=[.)](?:\s|$))", re.MULTILINE)  # of a list, which counts anew


def for_terminal(text: str) -> str:
    """
    The text with each unseen character as its escape.

    >>> for_terminal("A nodule.\\x1b[2J")
    'A nodule.\\\\x1b[2J'
    """
    if text.isprintable():
        return text
    return "".join(letter if letter in "\n\t" or _is_seen(letter) else _escape(letter) for letter in text)


def for_markdown(text: str) -> str:
    """
    The text in Markdown that shows just its letters: no image, link, HTML, formula, table, list or heading.

    An "@" becomes "(at)", because some readers make a link of every address.

    >>> for_markdown("# <b>A nodule")
    '\\\\# &lt;b&gt;A nodule'
    """
    text = "".join(_ENTITIES.get(letter, letter) for letter in for_terminal(text))
    text = re.sub(r"([\\`*_\[\]])", r"\\\1", text).replace("@", "(at)")
    # What readers make links of without any sign: an address with or without its scheme.
    text = re.sub(r":(?=//)", "&#58;", text)
    text = re.sub(r"(?<=[^\W\d])\.(?=\w)", "&#46;", text)
    text = re.sub(r"^[ \t]+", "", text, flags=re.MULTILINE)
    return _NUMBER_AT_LINE_START.sub(r"\1\\", _SIGN_AT_LINE_START.sub(r"\\\1", text))


def to_json(content: Any, **options: Any) -> str:
    """JSON in which letters of all languages can be read, and unseen characters are escapes. Nothing is lost."""
    text = json.dumps(content, ensure_ascii=False, **options)
    # Only within strings, where an escape means the same: JSON itself has no other unseen character than line breaks.
    return text if text.isprintable() else "".join(map(_escape_json, text))


def _is_seen(letter: str) -> bool:
    return unicodedata.category(letter) not in _UNSEEN


def _escape(letter: str) -> str:
    return letter.encode("unicode_escape").decode("ascii")


def _escape_json(letter: str) -> str:
    return letter if letter == "\n" or _is_seen(letter) else json.dumps(letter)[1:-1]
