"""Prompts and completions."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ct_rate_pairs.reports.texts import LANGUAGES, TARGETS, write_completion, write_prompt


@given(
    st.sampled_from(["Not given.", "NOT GIVEN", " Not given.. ", "", " ", "-", ".", "Yok", "N/A", None, float("nan")]),
    st.sampled_from(TARGETS),
)
def test_an_absent_section_is_never_taught(absent, target):
    assert write_completion(absent, absent, target) == ""
    other = write_completion(None, "Nodule.", target), write_completion("Nodule.", None, target)
    assert (write_completion(absent, "Nodule.", target), write_completion("Nodule.", absent, target)) == other


def test_each_target_holds_its_sections():
    assert write_completion(" Nodule. ", "Check it.") == "Findings: Nodule.\nImpression: Check it."
    assert write_completion("Nodule.", None) == "Findings: Nodule."
    assert write_completion("Nodule.", "Check it.", "findings") == "Nodule."
    assert write_completion("Nodule.", "Check it.", "impression") == "Check it."


@pytest.mark.parametrize("language", LANGUAGES)
def test_prompts_differ_by_target(language):
    assert len({write_prompt(target, language) for target in TARGETS}) == len(TARGETS)
