"""
Finds reference reports in other texts, without keeping the reports: fingerprints of stretches of their letters.

**Letters alone.** A text is compared by its letters: without case, accents, digits, punctuation, white space, HTML
tags, commands and escapes, and without the headings of a report. So line breaks, tables, Markdown, soft hyphens,
another Unicode form, colours of a terminal, numbered lines and changed sizes make no difference. A Chinese character
counts as `CHINESE` letters, because it says as much as these do in English.

**Fingerprints.** Each stretch of `STRETCH` letters has a hash. Of each `WINDOW` neighbouring hashes the smallest is
kept ("winnowing": Schleimer, Wilkerson and Aiken, SIGMOD 2003). So two texts that share `STRETCH + WINDOW - 1` letters
share a fingerprint, wherever the letters stand, and only one stretch in nine is kept.

**What the file of a run can reveal.** `reference_hashes.json` holds keyed hashes and their key, so it answers one
question: whether a text that somebody already has is in a reference report. Sentences of reports follow templates, so
sentences can be guessed and tried, one after another. The file must be kept as the reports are, and is not published.
"""

import base64
import hashlib
import json
import re
import secrets
import sys
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

import numpy as np
from datasets import Dataset

from ct_rate_pairs.json_files import JSONFileError, read_json
from ct_rate_pairs.json_schemas.run import ReferenceHashes
from ct_rate_pairs.readers import reader_of
from ct_rate_pairs.reports.readable import is_missing
from ct_rate_pairs.whole_files import write_whole

from .plain_text import plain


REFERENCES = "reference_hashes.json"
STRETCH = 64  # letters, about 12 words; a power of two
WINDOW = 16  # neighbouring stretches, of which one is kept; a power of two
CHINESE = 4  # letters that a Chinese character counts for: the phantom's reports have 4.3 times as many in English
AT_ONCE = 2**20  # letters that are hashed at once
HEADING = re.compile(r"\b(?:findings|impressions?)\s*:|(?:影像所见|诊断印象)：", re.IGNORECASE)
# Characters in escapes of JSON and Python. Spaces and ends of lines as tokenizers of bytes write them.
ESCAPE = re.compile(r"\\(?:x([0-9a-fA-F]{2})|u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8}))")
TOKENIZED = str.maketrans("\u0120\u010a\u0109", "   ")
# Commands of LaTeX and RTF, and the escapes of ends of lines and tabs. Tags of HTML.
COMMANDS = re.compile(r"\\(?:[a-zA-Z]{1,20}(?=[{*\[])|[a-z]{1,9}\d{1,5}\b|(?:pard?|line|b|i|ul)\b|[nrt])")
TAGS = re.compile(r"</?[a-zA-Z][^<>]{0,2000}>")
CHARACTER = re.compile("[\u3400-\u4dbf\u4e00-\u9fff\U00020000-\U0003ffff]")
NOT_LETTERS = re.compile(r"[\W\d_]+")
# A level of the hash has an odd factor of its own, so that the order of the letters counts.
FACTORS = [np.uint64(0x9E3779B97F4A7C15 * (2 * level + 1) % 2**64) for level in range(STRETCH.bit_length())]
_NONE = np.empty(0, np.uint64)


@dataclass(frozen=True)
class References:
    """
    The reference reports of a run, as hashes.

    Args:
        phantom (`bool`):
            Whether the reports are the phantom's, which may be published. There are then no hashes.
        key (`bytes`):
            Key of the hashes.
        whole (`frozenset[int]`):
            Hashes of all letters of a report, or of one of its sections.
        fingerprints (`frozenset[int]`):
            Fingerprints of all reports.
        rare (`frozenset[int]`):
            Fingerprints that only one report has. Sentences of templates are in many reports.
    """

    phantom: bool
    key: bytes
    whole: frozenset[int]
    fingerprints: frozenset[int]
    rare: frozenset[int]

    @classmethod
    def of(cls, reports: Iterable[Sequence[str]], *, phantom: bool = False, key: bytes | None = None) -> "References":
        """The hashes of reports, each of which is a list of sections."""
        key = key or secrets.token_bytes(16)
        sections = {tuple(filter(None, map(letters_of, report))) for report in reports} - {()} if not phantom else ()
        whole = frozenset(_hash(text.encode(), key) for of_one in sections for text in (*of_one, "".join(of_one)))
        texts = {"".join(of_one) for of_one in sections}
        found, times = np.unique(
            np.concatenate([_NONE, *(np.unique(_smallest(text)) for text in texts)]), return_counts=True
        )
        keyed = np.array(_keyed(found, key), np.uint64)
        return cls(phantom, key, whole, frozenset(keyed.tolist()), frozenset(keyed[times == 1].tolist()))

    def quoted_in(self, text: str) -> bool:
        """
        Whether a text shares a stretch of `STRETCH` letters with a reference report. Tags of HTML may stand between
        the letters, and the letters may stand in a tag.
        """
        readings = {letters_of(text), letters_of(text, with_tags=True)} if self.fingerprints else ()
        return any(not self.fingerprints.isdisjoint(_in_order(letters, self.key)) for letters in readings)

    def shared_with(self, text: str) -> tuple[int, int, int]:
        """
        How many fingerprints of a text only one reference report has, how many fingerprints the text has, and how many
        of the former stand in one stretch of the text that references have without a gap.
        """
        in_order = _in_order(letters_of(text), self.key)
        own = set(in_order)
        runs = (set(run) for known, run in groupby(in_order, self.fingerprints.__contains__) if known)
        return len(own & self.rare), len(own), max((len(run & self.rare) for run in runs), default=0)

    def has(self, text: str) -> bool:
        """Whether a text has the letters of a whole reference report, or of one of its sections."""
        return _hash(letters_of(text).encode(), self.key) in self.whole

    def __or__(self, more: "References") -> "References":
        """These reports and more, whose hashes have the same key."""
        rare = self.rare | (more.rare - self.fingerprints)  # what is rare in a few reports may be a template here
        return References(self.phantom, self.key, self.whole | more.whole, self.fingerprints | more.fingerprints, rare)


def keep_references(run_dir: str | Path, dataset: Dataset) -> None:
    """
    Writes hashes of all reference reports of a cohort to a run's folder, and of the clinical information, which
    prompts may tell, so that [`~ct_rate_pairs.hub.guard.publishable_files`] can find quotes. The texts are not
    written.

    Args:
        run_dir (`str` or `Path`):
            Folder of the run. It is made if it does not exist.
        dataset ([`~datasets.Dataset`]):
            Any map-style split of `load_dataset("ct_rate_pairs", ...)`, such as that of the training. The reports of
            all splits of its cohort are hashed. No volume is read.

    Example:

    ```python
    from datasets import load_dataset

    from ct_rate_pairs.hub.references import keep_references

    keep_references("runs/heter", load_dataset("ct_rate_pairs", split="test", data_dir="runs/phantom_cohort"))
    ```
    """
    reader = reader_of(dataset)
    tables = reader.tables.values()
    reports = [report for table in tables for report in zip(table["findings"], table["impression"], strict=True)]
    reports += [(text,) for table in tables for text in table.get("clinical_information", ())]
    keep_reference_hashes(run_dir, reports, phantom=reader.source.is_phantom)


def keep_reference_hashes(
    run_dir: str | Path, references: Iterable[str | Sequence[str | None]], *, phantom: bool = False
) -> None:
    """
    Like [`keep_references`], for reports that are given as texts.

    Args:
        run_dir (`str` or `Path`):
            Folder of the run. It is made if it does not exist.
        references (`Iterable`):
            Reference reports of all scans that the model was trained on, or writes reports for: texts, or lists of the
            sections of a report.
        phantom (`bool`, *optional*, defaults to `False`):
            Whether the reports are the phantom's, which may be published. They are then not hashed.

    Raises:
        `ValueError`: if there is no reference report.
    """
    reports = [[report] if isinstance(report, str) else report for report in references]
    given = [[section for section in report if not is_missing(section)] for report in reports]
    if not any(given):
        raise ValueError("There is no reference report: give those of the scans that the model was trained on.")
    kept = References.of(given, phantom=phantom)
    content = {"phantom": kept.phantom, "stretch": STRETCH, "window": WINDOW, "chinese": CHINESE}
    content |= {"key": kept.key.hex()}
    parts = {"whole": kept.whole, "rare": kept.rare, "other": kept.fingerprints - kept.rare}
    Path(run_dir).mkdir(parents=True, exist_ok=True)
    write_whole(Path(run_dir, REFERENCES), json.dumps(content | {name: _packed(part) for name, part in parts.items()}))


def read_references(run_dir: str | Path) -> References:
    """
    Reads what [`keep_references`] wrote to a run's folder, and adds the reports in `samples/`, which
    [`~ct_rate_pairs.trainer.WriteReportSamples`] writes.

    Raises:
        `FileNotFoundError`: if the folder has no such file.
        [`~ct_rate_pairs.json_files.JSONFileError`]: if the file is damaged, or of another version.
    """
    run_dir = Path(run_dir)
    path = run_dir / REFERENCES
    content = read_json(path, ReferenceHashes)
    if (content["stretch"], content["window"], content.get("chinese", 1)) != (STRETCH, WINDOW, CHINESE):
        raise JSONFileError(f"{path} is of another version of ct-rate-pairs: write it anew.")
    phantom, key = content["phantom"], bytes.fromhex(content["key"])
    whole, rare, other = (_unpacked(content[name], name, path) for name in ("whole", "rare", "other"))
    if not phantom and not whole:
        raise JSONFileError(f"{path} knows no reference report: write it anew.")
    samples = [
        re.findall(
            r"^### Reference\n\n(.*?)\n\n### Generated", file.read_text("utf-8", "replace"), re.DOTALL | re.MULTILINE
        )
        for file in sorted(run_dir.glob("samples/*.md"))
        if file.is_file()
    ]
    known = References(phantom, key, whole, rare | other, rare)
    return known | References.of([[text] for texts in samples for text in texts], phantom=phantom, key=key)


def letters_of(text: str, with_tags: bool = False) -> str:
    """
    The letters of a text, as the module describes them: in lower case, without accents, digits and all else. A Chinese
    character stands there `CHINESE` times.
    """
    text = COMMANDS.sub(" ", plain(ESCAPE.sub(_escaped, plain(text))).translate(TOKENIZED))
    text = unicodedata.normalize("NFKD", text if with_tags else TAGS.sub(" ", text)).casefold()
    return CHARACTER.sub(r"\g<0>" * CHINESE, NOT_LETTERS.sub("", HEADING.sub(" ", text)))


def _escaped(escape: re.Match) -> str:
    """The character of an escape; a space for half of one, and for a number that is none."""
    number = int(next(filter(None, escape.groups())), 16)
    return " " if 0xD800 <= number < 0xE000 or number > sys.maxunicode else chr(number)


def _in_order(letters: str, key: bytes) -> list[int]:
    """The fingerprints of a text, from its letters. A text with fewer than `STRETCH` letters has none."""
    windows = len(letters) - STRETCH - WINDOW + 2
    parts = range(0, max(windows, 1), AT_ONCE)
    # The parts overlap, so that each window is in one of them.
    found = [_smallest(letters[start : start + AT_ONCE + STRETCH + WINDOW - 2]) for start in parts]
    return _keyed(np.concatenate([_NONE, *found]), key)


def _smallest(letters: str) -> np.ndarray:
    """The smallest hash of each window of stretches, uint64 of shape `[N]`; if neighbours have the same, only once."""
    if len(letters) < STRETCH:
        return _NONE
    hashes, step = _stretches(letters), 1
    while step < min(WINDOW, len(hashes)):
        hashes, step = np.minimum(hashes[:-step], hashes[step:]), 2 * step
    return hashes[np.diff(hashes, prepend=hashes[:1] + np.uint64(1)) != 0]


def _stretches(letters: str) -> np.ndarray:
    """A hash of each stretch of `STRETCH` letters, uint64 of shape `[len(letters) - STRETCH + 1]`."""
    hashes = _mixed(np.frombuffer(letters.encode("utf-32-le", "surrogatepass"), "<u4").astype(np.uint64))
    for level in range(STRETCH.bit_length() - 1):
        hashes = hashes[: -(2**level)] * FACTORS[level] + hashes[2**level :]
    return _mixed(hashes)


def _mixed(hashes: np.ndarray) -> np.ndarray:
    hashes = (hashes ^ (hashes >> np.uint64(31))) * FACTORS[-1]
    return hashes ^ (hashes >> np.uint64(29))


def _keyed(hashes: np.ndarray, key: bytes) -> list[int]:
    """Keyed hashes of hashes. Without them, letters could be computed from a hash, which is a sum."""
    content = hashes.tobytes()
    return [_hash(content[place : place + 8], key) for place in range(0, len(content), 8)]


def _hash(content: bytes, key: bytes) -> int:
    return int.from_bytes(hashlib.blake2b(content, digest_size=8, key=key).digest(), "little")


def _packed(hashes: Iterable[int]) -> str:
    return base64.b64encode(np.array(sorted(hashes), "<u8").tobytes()).decode()


def _unpacked(packed: str, name: str, path: Path) -> frozenset[int]:
    try:
        return frozenset(np.frombuffer(base64.b64decode(packed, validate=True), "<u8").tolist())
    except ValueError as error:  # not base64, or not whole numbers
        raise JSONFileError(f"{path}: the field {name} is damaged ({error}). Write the file anew.") from error
