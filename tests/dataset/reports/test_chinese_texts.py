"""Chinese reports in all that reads a report: which texts are read, their sentences, places, sizes and headings."""

import pytest
from helpers.phantom_reports import chinese_cohort, cohort

from ct_rate_pairs.eval.scoring.baselines import trivial_reports
from ct_rate_pairs.eval.scoring.labelers import label_predictions, label_reports
from ct_rate_pairs.eval.scoring.lesion_size import nodule_size
from ct_rate_pairs.reports.labels import LABELS, NAMES
from ct_rate_pairs.reports.places import places
from ct_rate_pairs.reports.readable import is_missing, unread_language
from ct_rate_pairs.reports.rules import label_report, label_sentence
from ct_rate_pairs.reports.sentences import report_sentences
from ct_rate_pairs.reports.texts import write_completion


READ = [
    *(
        "右肺上叶结节。",
        "双肺见GGO，约5mm。",
        "磨玻璃影（ground glass opacity, GGO）",
        "COVID-19肺炎，CT 值约 30 HU。",
    ),
    *(
        "LU-RADS 2类结节",
        "There is a 5 mm nodule. 双肺气肿。",
        "Findings: 双肺气肿。",
        "Emphysema (肺气肿).",
        "未见异常",
    ),
]
UNREAD = {
    "右肺 nodule 5 mm": "words of another language in one sentence",
    "No effusion, 肺气肿 is seen in both upper lobes of the lungs": "words of another language in one sentence",
    "双肺结节（resolved）": "words of another language in one sentence",
    "右肺上叶结节。Kein Pleuraerguss.": "German",
    "肺氣腫，右肺結節": "Chinese in traditional letters",
    "両側胸水": "Chinese in traditional letters",
    "両側胸水を認める。": "Japanese",
}
PLACES = {
    "右肺上叶结节": ("Lung nodule", "right", {"right upper"}),
    "左上肺见一结节": ("Lung nodule", "left", {"left upper"}),
    "双肺下叶磨玻璃影": ("Lung opacity", "both", {"right lower", "left lower"}),
    "右肺上、中叶实变": ("Consolidation", "right", {"right upper", "right middle"}),
    "左肺上叶舌段支气管扩张": ("Bronchiectasis", "left", {"lingula"}),
    "右肺中叶及左肺舌段索条影": ("Pulmonary fibrotic sequela", "both", {"right middle", "lingula"}),
    "双侧胸腔积液": ("Pleural effusion", "both", set()),
    "右侧胸腔，可见积液": ("Pleural effusion", "right", set()),
    "右肺上叶结节，左侧胸腔未见积液": ("Lung nodule", "right", {"right upper"}),
    "左侧胸腔积液，以左侧为著": ("Pleural effusion", "left", set()),
}


@pytest.mark.parametrize("text", READ)
def test_chinese_alone_or_in_sentences_of_its_own_is_read(text):
    assert unread_language(text) is None


@pytest.mark.parametrize(("text", "language"), UNREAD.items())
def test_what_the_rules_cannot_read_is_refused_by_its_row_and_counted_in_predictions(text, language):
    with pytest.raises(ValueError, match=f"`texts` row 1 seems to be in .*{language}"):
        label_reports(["双肺气肿。", text])
    labels, told = label_predictions(["双肺气肿。", text])
    assert told["foreign_predictions"] == 1
    assert not labels[1].any()


def test_sentences_of_two_languages_are_each_read_in_their_own():
    labels = label_report("There is a nodule. 双肺气肿。No effusion. 双侧胸腔未见积液。")
    assert [LABELS[index] for index, value in enumerate(labels) if value] == ["Emphysema", "Lung nodule"]


@pytest.mark.parametrize("label", LABELS)
def test_the_chinese_name_of_a_label_states_it(label):
    assert label_sentence(f"可见{NAMES['zh'][label]}") == (LABELS.index(label),)


@pytest.mark.parametrize(("sentence", "place"), PLACES.items())
def test_sides_and_lobes_are_those_before_the_finding(sentence, place):
    label, side, lobes = place
    assert places(sentence) == {LABELS.index(label): (side, frozenset(lobes))}


def test_a_lobe_without_a_side_has_no_place():
    assert places("上叶结节") == {}


@pytest.mark.parametrize(
    ("sentence", "size"),
    {
        "右肺上叶结节，大小约6mm": 6,
        "右肺上叶结节，大小约12mm×9mm": 12,
        "左肺结节，直径约0.8cm": 8,
        "左肺结节，直径约5毫米": 5,
        "左肺结节，约 6 mm": 6,
        "距胸膜约5mm处见结节，约7mm": 7,
    }.items(),
)
def test_the_size_of_a_nodule(sentence, size):
    assert nodule_size(sentence) == size


@pytest.mark.parametrize(
    "mark", ["未写", "略", "见原报告", "报告待审", "未提供。", "影像所见：无。\n诊断印象：无。", "无记录", "未出报告"]
)
def test_a_mark_of_a_missing_chinese_text_is_no_report(mark):
    assert is_missing(mark)


@pytest.mark.parametrize("text", ["未见异常", "影像所见：未见异常", "结节", "实变", "正常"])
def test_a_short_chinese_report_is_not_missing(text):
    assert not is_missing(text)


def test_headings_have_the_language_of_their_section_and_are_no_part_of_a_sentence():
    report = write_completion("右肺上叶结节。双侧胸腔积液。", "Nodule.")
    assert report == "影像所见：右肺上叶结节。双侧胸腔积液。\nImpression: Nodule."
    sentences = report_sentences(report)
    assert [sentence.text for sentence in sentences] == ["右肺上叶结节。", "双侧胸腔积液。", "Nodule."]
    assert all(report[sentence.start : sentence.end] == sentence.text for sentence in sentences)


def test_the_phantom_s_chinese_reports_state_their_labels_and_places_exactly():
    english, chinese = cohort(120), chinese_cohort(120)
    for text, original, labels in zip(chinese.reports, english.reports, english.labels, strict=True):
        assert unread_language(text) is None
        assert label_report(text) == labels.tolist(), text
        assert places(text) == places(original), text


def test_trivial_reports_of_chinese_reports_are_chinese():
    chinese = chinese_cohort(120)
    trivial = trivial_reports(chinese.reports, chinese.labels)
    assert label_report(trivial["all_positive"]) == [1] * len(LABELS)
    assert label_report(trivial["all_negative"]) == [0] * len(LABELS)
    few = trivial_reports(["双肺气肿。"], chinese.labels[:1])
    assert label_report(few["all_positive"]) == [1] * len(LABELS)
