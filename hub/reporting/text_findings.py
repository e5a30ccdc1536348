"""What is read from the text of a report: its findings, its sentences, and whether it follows its findings line."""

from collections.abc import Mapping, Sequence

from ct_rate_pairs.reports.findings_line import open_text, sides_of
from ct_rate_pairs.reports.labels import LABELS
from ct_rate_pairs.reports.places import places
from ct_rate_pairs.reports.readable import is_missing, unread_language
from ct_rate_pairs.reports.sentences import report_sentences, stating_sentences
from ct_rate_pairs.trainer.generation import Written

from .evidence import top_slices
from .patches import PatchEvidence
from .scan_report import DOUBTFUL_BELOW, Finding, ReportSentence


def findings_of(
    report: str,
    probabilities: Sequence[float | None],
    evidence: Mapping[int, list[float]],
    patches: Mapping[int, PatchEvidence],
) -> list[Finding]:
    """The 18 findings, from a report, their probabilities, and the evidence of those it states."""
    stated = stating_sentences(report)
    return [
        Finding(
            label,
            stated=index in stated,
            confidence=probability,
            sentence=stated[index].text if index in stated else None,
            evidence=evidence.get(index),
            slices=top_slices(evidence[index]) if index in stated else [],
            patches=patches.get(index),
            doubtful=None if probability is None else index in stated and probability < DOUBTFUL_BELOW,
        )
        for index, (label, probability) in enumerate(zip(LABELS, probabilities, strict=True))
    ]


def sentences_of(report: str, doubtful: Sequence[str]) -> list[ReportSentence]:
    """The sentences of a report, and which of the `doubtful` findings they state."""
    sentences = []
    for sentence in report_sentences(report):
        states = [LABELS[index] for index in sentence.labels]
        doubts = [label for label in states if label in doubtful]
        sentences.append(ReportSentence(sentence.start, sentence.end, states, doubts))
    return sentences


def disagreements(line: str, written: Written) -> list[str]:
    """How the text of a report differs from the findings line that was set before it, in words."""
    labels, stated = open_text(line).labels, stating_sentences(written.report)
    missing = [label for index, label in enumerate(LABELS) if labels[index] and index not in stated]
    more = [label for index, label in enumerate(LABELS) if not labels[index] and index in stated]
    told = [f"The text does not state what its findings line does: {', '.join(missing)}."] if missing else []
    told += [f"The text states what its findings line does not: {', '.join(more)}."] if more else []
    placed, sides = places(written.report), sides_of(line)
    other = [LABELS[index] for index in sides if index in placed and placed[index].side != sides[index]]
    return told + ([f"The text has another side than its findings line: {', '.join(other)}."] if other else [])


def why_unread(text: str) -> str | None:
    """Why the rule labeler cannot read a report; `None` if it can."""
    if is_missing(text):
        return "The model wrote no report."
    language = unread_language(text)
    return (
        f"The report seems to be in {language}: findings are read from English and Chinese only." if language else None
    )
