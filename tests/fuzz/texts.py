"""Texts as a model or a table gives them, as the labeler reads them."""

from pathlib import Path

import numpy as np
from helpers.phantom_reports import cohort

from ct_rate_pairs.eval.scoring.labelers import label_reports
from ct_rate_pairs.reports.readable import foreign_language
from ct_rate_pairs.reports.sentences import stating_sentences
from ct_rate_pairs.shown_text import for_terminal

from .harness import Kind, mutated


_LONGEST = 16_384  # letters
_PIECES = (
    ".", ". ", "..", ",", ";", ":", "-", "--", "/", "(", ")", "[", "]", '"', "\n", "\n\n", "\t", "\r\n", "\x0b", "\0",
    "\x1b[2J", "\u202e", "\u200b", "\ud800", "\ufeff", "é", "e\u0301", "İ", "ß", "ﬁ", "٣", "½", "١٢", "¬", "→", "😀",
    "no ", "not ", "without ", "no evidence of ", "and ", "or ", "but ", "however ", "other than ", "except ",
    "right ", "left ", "bilateral ", "in the ", "lobe ", "3 mm ", "3x4 cm ", "1. ", "a) ", "* ", "Findings: ",
    "Impression: ", "effusion ", "pleural ", "pericardial ", "nodule ", "emphysema ", "consolidation ",
    "cardiomegaly ",
    "hernia ", "calcification ", "atelectasis ", "resolved ", "previously ", "compared to ", "is seen ", "are present",
    "normal ",
    "not given.", "&nbsp;", "<br>", "**", "| ", "_" * 40, "a" * 300,
    "No pleural or pericardial effusion was detected. ",
    "Pas d'épanchement pleural. ", "Kein Pleuraerguss. ", "Plevral efüzyon izlenmedi. ", "胸腔积液。", "Нет выпота. ",
)  # fmt: skip


def _text(rng: np.random.Generator) -> str:
    report = cohort(64).reports[rng.integers(64)]
    match rng.integers(8):
        case 0:  # of one piece, or of two in turn
            pieces = [_PIECES[i] for i in rng.integers(len(_PIECES), size=rng.integers(1, 3))]
            text = "".join(pieces) * int(rng.integers(1, 400))
        case 1:  # of many pieces
            text = "".join(_PIECES[i] for i in rng.integers(len(_PIECES), size=rng.integers(1, 300)))
        case 2:  # a report with bytes that are wrong
            text = mutated(rng, report.encode(), 20).decode("utf-8", "replace")
        case 3:  # a report with pieces in it
            words = report.split(" ")
            for place in rng.integers(len(words), size=rng.integers(1, 40)):
                words[place] = _PIECES[rng.integers(len(_PIECES))] * int(rng.integers(1, 4))
            text = " ".join(words)
        case 4:  # its words in another order
            text = " ".join(rng.permutation(report.split(" ")))
        case 5:  # without a stop, or with nothing else
            text = report.replace(".", "") if rng.integers(2) else report.replace(" ", ". ")
        case 6:  # its letters as others
            text = "".join(chr(rng.integers(0x3000)) if rng.integers(9) == 0 else letter for letter in report)
        case _:  # a word that a model repeats until its limit
            word = report.split(" ")[rng.integers(5)]
            text = f"{report} {f'{word} ' * int(rng.integers(1, 2000))}"
    return text[:_LONGEST]


def _make(rng: np.random.Generator, folder: Path) -> None:
    texts = [_text(rng) for _ in range(rng.integers(1, 4))]
    for number, text in enumerate(texts):
        (folder / f"{number}.txt").write_bytes(text.encode("utf-8", "surrogatepass"))


class _Refused(Exception):
    """The product refuses a text, and the message names its row."""


def _use(folder: Path) -> None:
    texts = [path.read_bytes().decode("utf-8", "surrogatepass") for path in sorted(folder.iterdir())]
    for text in texts:
        foreign_language(text)
        stating_sentences(text)
        assert "\x1b" not in for_terminal(text)
    try:
        label_reports(texts)
    except ValueError as error:
        assert "row" in str(error), "the message names no row"
        raise _Refused from None


KINDS = {"labeler": Kind(_make, _use, _Refused)}
