"""Texts that a table, a model or a server may hold, through all that reads and shows a report."""

import re
from pathlib import Path

import numpy as np

from ct_rate_pairs.eval.metrics.text_metrics import text_scores
from ct_rate_pairs.eval.scoring.labelers import label_reports
from ct_rate_pairs.eval.scoring.lesion_size import nodule_size
from ct_rate_pairs.eval.tasks.vqa_answers import parse_answer
from ct_rate_pairs.reports import LABELER
from ct_rate_pairs.reports.flips import labels_of
from ct_rate_pairs.reports.places import places
from ct_rate_pairs.reports.sentences import report_sentences
from ct_rate_pairs.shown_text import for_markdown, for_terminal, to_json

from .harness import Kind


_SENTENCES = (
    "The heart is enlarged. No pleural effusion is seen, but a 5 mm nodule in the right upper lobe is unchanged.",
    "Coronary calcification; no lymphadenopathy, consolidation or pericardial effusion was detected?",
    "Impression: 1. Emphysema (+). 2. Effusion - none. “Catheter removed.” • Atelectasis cannot be excluded.",
)
# All words of the rules, whatever they mean there.
_RULES = [file for file in LABELER if file.stem in ("clauses", "negations", "rules", "terms")]
_WORDS = sorted({*re.findall(r"[a-z]{2,}", "".join(file.read_text() for file in _RULES))})
_MARKS = (
    ".",
    ",",
    ";",
    "?",
    "!",
    ":",
    "-",
    "(",
    ")",
    "[",
    "]",
    "+",
    "=",
    "/",
    "\n",
    " ",
    "\t",
    '"',
    "•",
    "<",
    "&",
    "|",
)
_ODD = (
    "\x1b[2J",
    "\u202e",
    "\ud800",
    "\u0301",
    "\x00",
    "\xa0",
    "\u2028",
    "😀",
    "无",
    "ß",
    "İ",
    "ﬁ",
    "²",
    "\U000e0041",
)


def _word(rng: np.random.Generator) -> str:
    pool = (_WORDS, _WORDS, _MARKS, _ODD, ("no", "not", "is", "a", "1", "5 mm", "nodule"))[rng.integers(5)]
    return str(pool[rng.integers(len(pool))])


def _make(rng: np.random.Generator, folder: Path) -> None:
    """Sound sentences with words changed, or a few words repeated for up to 110,000 letters."""
    words = " ".join(rng.permutation(_SENTENCES)).split(" ")
    for _ in range(rng.integers(0, 30)):
        words[rng.integers(len(words))] = _word(rng)
    text = " ".join(words)
    if rng.random() < 0.5:
        unit = "".join(_word(rng) + " " * rng.integers(0, 2) for _ in range(rng.integers(1, 5)))
        length = int(10 ** rng.uniform(2, 5.05))
        text += (unit * (length // len(unit) + 1))[:length] + _word(rng)
    (folder / "report.txt").write_bytes(text.encode("utf-8", "surrogatepass"))


def _use(folder: Path) -> None:
    text = (folder / "report.txt").read_bytes().decode("utf-8", "surrogatepass")
    for show in (for_terminal, for_markdown, to_json):
        show(text).encode()
    for kind in ("presence", "side", "location", "abnormalities"):
        for language in ("en", "zh"):
            parse_answer(text, kind, language)
    places(text)
    nodule_size(text)
    for sentence in report_sentences(text):
        labels_of(sentence.text)
    text_scores([text], ["No pleural effusion."])
    label_reports([text])  # the last, because it refuses other languages


KINDS = {"long texts": Kind(_make, _use, ValueError)}
