"""One form for a text, however it is written: as Unicode, HTML, JSON in a text, or an address."""

import html
import re
import unicodedata
from urllib.parse import unquote


# Characters that are not seen: soft hyphens, zero-width characters, marks of direction, and the like.
UNSEEN = re.compile(
    "[\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u202a-\u202e\u2060-\u206f\u3164"
    "\ufe00-\ufe0f\ufeff\uffa0\ufff9-\ufffb\U000e0000-\U000e01ef]"
)
# Numbers in escapes of HTML: zeros before them, and those of no character. Python refuses to read long numbers.
ZEROS, NO_CHARACTER = re.compile("&#0+(?=[0-9])"), re.compile("&#[0-9]{8,};?")
SLASHES = str.maketrans({"\u2044": "/", "\u2215": "/", "\u29f8": "/", "\u2216": "\\", "\u29f5": "\\"})


def plain(text: str) -> str:
    """A text without characters that are not seen, in one Unicode form, and without escapes of HTML and addresses."""
    text = UNSEEN.sub("", text)
    for _ in range(2):  # what was escaped for a page is escaped again in the source of that page
        text = ZEROS.sub("&#", unicodedata.normalize("NFKC", text))
        text = html.unescape(NO_CHARACTER.sub("\ufffd", text))
    return UNSEEN.sub("", unicodedata.normalize("NFKC", unquote(text))).translate(SLASHES)
