import pytest
from hypothesis import given
from hypothesis import strategies as st

from ct_rate_pairs.eval.metrics.diversity import report_diversity


def test_reports_that_differ_in_case_or_layout_alone_are_the_same():
    reports = ["Normal  heart.\n", "normal heart.", "Normal heart", "A nodule."]
    assert report_diversity(reports) == {"unique_report_ratio": 3 / 4, "most_common_report_share": 1 / 2, "n": 4}


def test_an_empty_report_counts():
    assert report_diversity(["", " ", "A nodule."])["unique_report_ratio"] == 2 / 3


@given(st.lists(st.sampled_from(["a", "b", "c d"]), min_size=1))
def test_a_recited_template_and_no_repetition_are_the_two_ends(reports):
    diversity = report_diversity(reports)
    assert 1 / len(reports) <= diversity["unique_report_ratio"] <= 1
    assert (diversity["unique_report_ratio"] == 1) == (diversity["most_common_report_share"] == 1 / len(reports))
    assert (diversity["most_common_report_share"] == 1) == (len(set(reports)) == 1)


@pytest.mark.parametrize("reports", [[], "Normal heart."])
def test_no_list_of_reports_is_refused(reports):
    with pytest.raises(ValueError, match="list of at least one report"):
        report_diversity(reports)
