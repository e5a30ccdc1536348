"""The sentences of a report, where each stands, and what it states."""

import re
from typing import NamedTuple

from .rules import SENTENCE_END, label_sentence


HEADING = re.compile(r"\s*(?:Findings|Impression):\s*")  # as `texts.write_completion` writes them


class Sentence(NamedTuple):
    """One sentence of a report."""

    start: int  # where it stands in the report, without a heading ahead of it
    end: int  # and with its end mark
    text: str
    labels: tuple[int, ...]  # indices in `LABELS` of the findings that it states


def report_sentences(report: str) -> list[Sentence]:
    """The sentences of a report in their order, parted and labelled as the rule labeler does."""
    sentences, start = [], 0
    for end, next_start in [*(mark.span() for mark in SENTENCE_END.finditer(report)), (len(report), len(report))]:
        labels = label_sentence(report[start:end].strip())
        if heading := HEADING.match(report, start, end):
            start = heading.end()
        text = report[start : end + 1 if report[end:next_start].startswith((".", ";", "!", "?")) else end].strip()
        if len(text) > 2:
            start = report.index(text, start)
            sentences.append(Sentence(start, start + len(text), text, labels))
        start = next_start
    return sentences


def stating_sentences(report: str) -> dict[int, Sentence]:
    """The first sentence that states each finding of a report: index in `LABELS` to sentence."""
    stated: dict[int, Sentence] = {}
    for sentence in report_sentences(report):
        for label in sentence.labels:
            stated.setdefault(label, sentence)
    return stated
