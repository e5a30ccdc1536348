"""The lines of a prompt ahead of its question: what they tell, in which order, and which are left out in training."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ct_rate_pairs.reports.prompt_lines import (
    FINDINGS,
    METADATA,
    drop_lines,
    join_lines,
    metadata_lines,
    metadata_names,
    plain_metadata,
    put_before,
)


KNOWN = {
    "age": 67,
    "sex": "M",
    "clinical_information": "Operated lung cancer,\n control?",
    "technique": "After IV contrast",
    "device": "Maker Model 3",
}
LINES = dict.fromkeys((*METADATA, FINDINGS), "a line")


def test_each_line_tells_one_thing_and_age_and_sex_share_one():
    assert put_before("Ask.", metadata_lines(KNOWN, METADATA)).splitlines() == [
        "Age: 67, Sex: M.",
        "Clinical information: Operated lung cancer, control?",
        "Technique: After IV contrast.",
        "Contrast: given.",
        "Earlier surgery: mentioned.",
        "Device: Maker Model 3.",
        "Ask.",
    ]
    assert put_before("问。", metadata_lines(KNOWN, METADATA, "zh"), "zh").splitlines() == [
        "年龄：67 岁，性别：男。",
        "临床信息：Operated lung cancer, control?",
        "检查技术：After IV contrast。",
        "对比剂：已用。",
        "手术史：提及。",
        "设备：Maker Model 3。",
        "问。",
    ]


def test_what_is_not_known_has_no_line():
    missing = {"age": None, "sex": None, "clinical_information": "Not given.", "technique": None, "device": "N/A"}
    for known in ({}, missing):
        assert metadata_lines(known, METADATA) == {} and put_before("Ask.", metadata_lines(known, METADATA)) == "Ask."
    assert join_lines(metadata_lines({"sex": "F"}, METADATA)) == "Sex: F."


def test_a_column_of_the_name_is_taken_before_what_a_text_tells():
    known = KNOWN | {"contrast": "arterial, 90 ml", "surgery": "lobectomy 2019"}
    told = metadata_lines(known, ("contrast", "surgery"))
    assert told == {"contrast": "Contrast: arterial, 90 ml", "surgery": "Earlier surgery: lobectomy 2019"}


@pytest.mark.parametrize(
    ("given_option", "plain"),
    [
        (True, True),
        (False, False),
        ([], False),
        (("sex", "age"), True),
        (["age"], ("age",)),
        (["device", "age", "device"], ("age", "device")),
    ],
)
def test_equal_options_compare_equal(given_option, plain):
    assert plain_metadata(given_option) == plain and type(plain_metadata(given_option)) is type(plain)
    assert metadata_names(plain_metadata(given_option)) == tuple(
        name for name in METADATA if name in metadata_names(given_option)
    )


@pytest.mark.parametrize(
    ("option", "told"),
    [
        ("age", "prompt_metadata='age': give True"),
        (1, "prompt_metadata=1: give True"),
        (["age", "race"], "prompt_metadata has 'race': give True .age and sex., False, or a list of names among age"),
    ],
)
def test_other_options_are_refused(option, told):
    with pytest.raises(ValueError, match=told):
        plain_metadata(option)


@given(share=st.floats(0, 0.99), seed=st.integers(0, 2**32), names=st.sets(st.sampled_from(sorted(LINES))))
def test_which_line_is_left_out_does_not_depend_on_the_others(share, seed, names):
    kept = drop_lines(LINES, share, np.random.default_rng(seed))
    few = {name: LINES[name] for name in LINES if name in names}
    assert drop_lines(few, share, np.random.default_rng(seed)) == {n: few[n] for n in few if n in kept}


def test_all_lines_are_left_out_at_times_and_each_at_others():
    rng, share, number = np.random.default_rng(0), 0.3, 4000
    kept = [drop_lines(LINES, share, rng) for _ in range(number)]
    some = [lines for lines in kept if lines]
    assert abs(1 - len(some) / number - share) < 0.03
    for name in LINES:
        assert abs(sum(name in lines for lines in some) / len(some) - (1 - share)) < 0.04
    assert list(some[0]) == [name for name in LINES if name in some[0]]
    assert drop_lines(LINES, 0.0, rng) == LINES
