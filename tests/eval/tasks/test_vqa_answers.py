"""Answers are read as they were meant, in the dataset's words and in a model's."""

import pytest

from ct_rate_pairs.eval.tasks.vqa_answers import parse_answer
from ct_rate_pairs.tasks.vqa_wording import LOBE_NAMES, NAMES, NONE, SEPARATORS, SIDE_NAMES, YES_NO


@pytest.mark.parametrize("language", ["en", "zh"])
def test_every_answer_of_the_dataset_is_read_as_itself(language):
    for word in YES_NO[language]:
        assert parse_answer(word, "presence", language) == {word}
    for word in SIDE_NAMES[language].values():
        assert parse_answer(word, "side", language) == {word}
    for kind, named in (("location", LOBE_NAMES), ("abnormalities", NAMES)):
        names = list(named[language].values())
        for number in range(1, len(names) + 1):
            chosen = names[:number]
            assert parse_answer(SEPARATORS[language].join(chosen), kind, language) == set(chosen)
            assert parse_answer(names[number - 1], kind, language) == {names[number - 1]}
        assert parse_answer(NONE[language], kind, language) == set()
    for kind in ("presence", "side", "location", "abnormalities"):
        assert parse_answer("", kind, language) is None
        assert parse_answer("?!", kind, language) is None


@pytest.mark.parametrize(
    ("text", "kind", "language", "answer"),
    [
        ("Yes, there is no doubt.", "presence", "en", {"Yes"}),
        ("**No**, it is normal", "presence", "en", {"No"}),
        ("A nodule is not seen.", "presence", "en", {"No"}),
        ("Normal lungs, a nodule.", "presence", "en", None),  # "no" within a word is none
        ("不是。", "presence", "zh", {"否"}),
        ("没有发现", "presence", "zh", {"否"}),
        ("有。", "presence", "zh", {"是"}),
        ("It is on the LEFT side", "side", "en", {"Left"}),
        ("right and left", "side", "en", {"Both"}),
        ("Bilateral", "side", "en", {"Both"}),
        ("左右两侧", "side", "zh", {"双侧"}),
        ("The right upper lobe and the lingula.", "location", "en", {"right upper lobe", "lingula"}),
        ("There are lung nodules and pleural effusions", "abnormalities", "en", {"Lung nodule", "Pleural effusion"}),
        ("calcification of the arterial walls", "abnormalities", "en", {"Arterial wall calcification"}),
        ("冠状动脉壁钙化", "abnormalities", "zh", {"冠状动脉壁钙化"}),  # not that of the arteries, which it contains
        ("Nothing that I can name", "abnormalities", "en", None),
        ("No pleural effusion. Lung nodule.", "abnormalities", "en", {"Lung nodule"}),
        ("There is no lung nodule or pleural effusion.", "abnormalities", "en", set()),
        ("未见胸腔积液，肺结节", "abnormalities", "zh", {"肺结节"}),
        ("The finding is absent.", "presence", "en", {"No"}),
        ("It is present", "presence", "en", {"Yes"}),
        ("未发现有胸腔积液", "presence", "zh", {"否"}),
        ("不存在", "presence", "zh", {"否"}),
    ],
)
def test_answers_in_sentences(text, kind, language, answer):
    assert parse_answer(text, kind, language) == answer


@pytest.mark.parametrize(
    ("text", "lobes"),
    [
        ("In the right and left upper lobes.", {"right upper lobe", "left upper lobe"}),
        ("left and the right lower lobe", {"left lower lobe", "right lower lobe"}),
        ("Both lower lobes", {"right lower lobe", "left lower lobe"}),
        ("right upper and left lower lobes", {"right upper lobe", "left lower lobe"}),
        ("the right upper and middle lobes and the lingula", {"right upper lobe", "right middle lobe", "lingula"}),
        ("The right upper, middle and lower lobes.", {"right upper lobe", "right middle lobe", "right lower lobe"}),
        ("The upper lobes of both lungs", {"right upper lobe", "left upper lobe"}),
        ("Bilateral lower lobes", {"right lower lobe", "left lower lobe"}),
        ("Neither the right nor the left upper lobe.", set()),
        ("no lesion in the right and left upper lobes, one in the left lower lobe", {"left lower lobe"}),
    ],
)
def test_lobes_that_share_a_word_are_all_read(text, lobes):
    assert parse_answer(text, "location") == lobes


@pytest.mark.parametrize(
    ("text", "kind", "language", "answer"),
    [
        ("6 mm", "size", "en", "6 mm"),
        ("The nodule measures 1.2 cm.", "size", "en", "12 mm"),
        ("7", "size", "en", "7 mm"),
        ("约 0.8 厘米", "size", "zh", "8 mm"),
        ("Several nodules.", "count", "en", "Several"),
        ("单发。", "count", "zh", "单发"),
        ("It is above 8 mm.", "grade", "en", "Above 8 mm"),
        ("6 至 8 mm", "grade", "zh", "6 至 8 mm"),
        ("moderate emphysema", "severity", "en", "Moderate"),
        ("It is stable.", "change", "en", "Unchanged"),
        ("无变化", "change", "zh", "无变化"),
    ],
)
def test_sizes_and_choices(text, kind, language, answer):
    assert parse_answer(text, kind, language) == frozenset({answer})


@pytest.mark.parametrize("kind", ["size", "count", "grade", "severity", "change"])
def test_what_answers_another_question_is_not_read(kind):
    assert parse_answer("I cannot tell.", kind) is None
