"""The sentences of a report: where each sentence stands in the text, and which labels it states."""

import re
from typing import NamedTuple

from .findings_line import open_text
from .rules import label_sentence
from .sentence_spans import sentence_spans


HEADING = re.compile(
    r"\s*(?:(?:Findings|Impression):|影像所见：|诊断印象：)\s*"
)  # as `texts.write_completion` writes them

END_MARKS = tuple(".;!?。；！？")


class Sentence(NamedTuple):
    """One sentence of a report."""

    start: int  # position of the first character in the report, after a heading such as "Findings:"
    end: int  # position after the last character, which is the end mark
    text: str
    labels: tuple[int, ...]  # indices in `LABELS` of the labels that the sentence states


def report_sentences(report: str, with_line: bool = False) -> list[Sentence]:
    """
    The sentences of a report in their order, split and labelled as in the rule labeler, without a findings line. For
    `with_line` see [`~ct_rate_pairs.reports.findings_line.open_text`].
    """
    sentences = []
    for begin, end, next_start in sentence_spans(report, len(report) - len(open_text(report, with_line).report)):
        labels = label_sentence(report[begin:end].strip())
        heading = HEADING.match(report, begin, end)
        start = heading.end() if heading else begin
        text = report[start : end + 1 if report[end:next_start].startswith(END_MARKS) else end].strip()
        if len(text) > (2 if text.isascii() else 1):
            start = report.index(text, start)
            sentences.append(Sentence(start, start + len(text), text, labels))
    return sentences


def stating_sentences(report: str, with_line: bool = False) -> dict[int, Sentence]:
    """Index of a label in `LABELS` -> the first of the [`report_sentences`] that states the label."""
    stated: dict[int, Sentence] = {}
    for sentence in report_sentences(report, with_line):
        for label in sentence.labels:
            stated.setdefault(label, sentence)
    return stated
