"""Reading a text takes a time that grows with its length and no faster, whatever the text holds."""

from time import process_time

import pytest
from helpers.reading_time import grows_with_length

from ct_rate_pairs.eval.metrics import text_metrics
from ct_rate_pairs.eval.metrics.diversity import report_diversity
from ct_rate_pairs.eval.scoring.labelers import label_predictions, label_reports
from ct_rate_pairs.eval.scoring.lesion_size import nodule_size
from ct_rate_pairs.eval.tasks.vqa_answers import parse_answer
from ct_rate_pairs.reports import flips, places, readable, rules
from ct_rate_pairs.reports.readable import LONGEST_REPORT, foreign_language, is_missing
from ct_rate_pairs.reports.rules import label_report
from ct_rate_pairs.reports.sentence_spans import LONGEST_SENTENCE, sentence_spans, split_sentences
from ct_rate_pairs.reports.sentences import report_sentences
from ct_rate_pairs.shown_text import for_markdown, for_terminal, to_json


# What is repeated. The first ones hold nothing that the labeler knows; the others lead its patterns far astray.
REPEATED = [
    *(
        ".",
        "!?",
        "a",
        "a ",
        "1",
        "1 ",
        ",",
        ", ",
        "(",
        ") ",
        " ",
        "\n",
        " \n\t",
        "\xa0",
        "e\u0301",
        "\u0301",
        "无",
        "_",
    ),
    *('"', "<a ", "<", "&a", "*", "-", "= ", "\x1b", "\ud800", "😀", "no ", "not ", "without ", "and ", "is "),
    *(
        "A.Aa",
        "nodule ",
        "no nodule ",
        "nodule is ",
        "no nodule, ",
        "nodule, a ",
        "port, a ",
        "(-) nodule ",
    ),
    *(
        "no nodule unlike in ",
        "no nodule now there ",
        "no nodule after ",
        "no nodule with a ",
        "none nodes ",
        "or no, ",
    ),
    *("calcification aortic no ", "calcif", "aorta coronary ", "peribronch", "herni", "bronch", "thick", "interlob"),
    *("pericardial ", "effusion pericardial ", "cannot be excluded because ", "is removed ", "growth of ", "risk of "),
    *("wedge resection of ", "enlargement of the ", "favor a ", "one of the two ", "there was ", "thyroid nodule "),
    *(
        "none nodes ",
        "nodule: no ",
        "right upper, middle and ",
        "lower lobe, right ",
        "1 x ",
        "1-",
        "5 mm nodule ",
        "1.1x",
        "Findings: ",
        "n't ",
    ),
]
READERS = {
    "labels": label_report,
    "labels of answers": lambda text: label_predictions([text]),
    "sentences": report_sentences,
    "places": places.places,
    "flips": lambda text: [flips.labels_of(sentence.text) for sentence in report_sentences(text)],
    "sizes": nodule_size,
    "language": foreign_language,
    "missing": is_missing,
    "answer of findings": lambda text: parse_answer(text, "abnormalities"),
    "answer of lobes": lambda text: parse_answer(text, "location"),
    "Chinese answer": lambda text: parse_answer(text, "abnormalities", "zh"),
    "tokens": text_metrics.tokenize_lower,
    "VLM3D": lambda text: text_metrics.clean_vlm3d(text, generated=True),
    "overlap": lambda text: text_metrics.overlap_statistics([text], ["no nodule is seen , a effusion"]),
    "diversity": lambda text: report_diversity([text, "A nodule."]),
    "terminal": for_terminal,
    "Markdown": for_markdown,
    "JSON": to_json,
}
CACHES = (rules.label_sentence, rules.hinted_by, readable._kinds, places._read_sentence, flips.labels_of)


@pytest.mark.slow
@pytest.mark.parametrize("name", READERS)
def test_the_time_to_read_a_text_grows_with_its_length_and_no_faster(name):
    def read(text):
        for cached in CACHES:
            cached.cache_clear()
        READERS[name](text)

    for repeated in REPEATED:
        short, long = (
            f"No nodule. Nodule not {repeated * (size // len(repeated))} x" for size in (6_000, 24_000)
        )  # squared, the time would be 16 times as long
        assert grows_with_length(read, short, long), f"{repeated!r}"


@pytest.mark.parametrize("mark", ["raporsuz", "none", "no data", "name", "nan n/a none no neant ", "x", "0", "<a>"])
def test_marks_of_a_missing_report_are_read_in_time(mark):
    """Where one mark begins with another, their number of readings doubles with each."""
    text = (mark * 200)[:198]
    start = process_time()
    assert not is_missing(text + "qq")
    assert process_time() - start < 10  # it took hours


@pytest.mark.parametrize(
    ("text", "missing"),
    [("N/A N/A", True), ("nat nat", True), ("raporsuzdur none", True), ("raporsuz nodule", False), ("xx nan", True)],
)
def test_several_marks_in_a_row_are_no_report(text, missing):
    assert is_missing(text) == missing


def test_a_sentence_without_end_is_read_in_parts_that_lose_nothing():
    words = " ".join(f"word{number}" for number in range(2000))
    text = f"A nodule. {words} and an effusion"
    spans = list(sentence_spans(text))
    assert all(end - start <= LONGEST_SENTENCE for start, end, _ in spans)
    assert "".join(text[start:following] for start, _, following in spans) == text
    assert [text[start:end].strip() for start, end, _ in spans] == split_sentences(text)
    assert " ".join(split_sentences(text)[1:]) == f"{words} and an effusion"
    assert label_report(text) == label_report("A nodule. An effusion.")
    assert "".join(split_sentences("a" * 2500)) == "a" * 2500


def test_a_text_that_is_too_long_for_a_report_is_refused_by_its_row():
    long = "A nodule. " * (LONGEST_REPORT // 10)
    assert label_report(long) == label_report("A nodule.")
    for read in (label_report, split_sentences, report_sentences, places.places, nodule_size):
        with pytest.raises(ValueError, match=r"100,002 letters, and is no report: .*up to 100,000 are read"):
            read(long + "ab")
    for read in (label_reports, label_predictions):
        with pytest.raises(ValueError, match=r"row 1` has|row 1 has 100,002 letters"):
            read(["A nodule.", long + "ab"])
    for side in ("predictions", "references"):
        texts = {"predictions": ["A nodule."] * 2, "references": ["A nodule."] * 2} | {
            side: ["A nodule.", long + "ab"]
        }
        with pytest.raises(ValueError, match=f"`{side}` row 1 has 100,002 letters"):
            text_metrics.text_scores(**texts)
