"""One form for a text, however it is written: as Unicode, HTML, JSON in a text, an address, or for a terminal."""

import html
import re
import unicodedata
from urllib.parse import unquote


# Characters that are not seen: soft hyphens, zero-width characters, marks of direction, and the like. The last one is
# what a no-break space in UTF-8 has before it, if it is read as Latin-1.
UNSEEN = re.compile(
    "[\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u202a-\u202e\u2060-\u206f\u3164"
    "\ufe00-\ufe0f\ufeff\uffa0\ufff9-\ufffb\U000e0000-\U000e01ef]|\u00c2(?=[\u00a0-\u00bf])"
)
COLOURS = re.compile(r"\x1b\[[0-?]{0,20}[@-~]")  # of a terminal
MOST_ESCAPES = 5  # times: what was escaped for a page is escaped again in the source of that page
# Numbers in escapes of HTML: zeros before them, and those of no character. Python refuses to read long numbers.
ZEROS, NO_CHARACTER = re.compile("&#0+(?=[0-9])"), re.compile("&#[0-9]{8,};?")
SLASHES = str.maketrans({"\u2044": "/", "\u2215": "/", "\u29f8": "/", "\u2216": "\\", "\u29f5": "\\"})


def plain(text: str) -> str:
    """A text without characters that are not seen, in one Unicode form, and without escapes of HTML and addresses."""
    text = UNSEEN.sub("", COLOURS.sub("", text))
    for _ in range(MOST_ESCAPES):
        before, text = text, ZEROS.sub("&#", unicodedata.normalize("NFKC", text))
        text = unquote(html.unescape(NO_CHARACTER.sub("\ufffd", text)))
        if text == before:
            break
    return UNSEEN.sub("", unicodedata.normalize("NFKC", text)).translate(SLASHES)
