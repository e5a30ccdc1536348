"""`label_reports`: named labelers, one row of 18 a report."""

import numpy as np
import pandas as pd
import pytest

from ct_rate_pairs.eval import label_reports
from ct_rate_pairs.eval.scoring.labelers import label_predictions
from ct_rate_pairs.reports.rules import label_report


def test_rules_give_one_row_of_eighteen_a_report():
    reports = ["There is bilateral pleural effusion.", "", "A nodule is observed in the right lung."]
    with pytest.warns(UserWarning, match="1 of the 3 texts are no reports, the first in row 1"):
        labels = label_reports(reports)
    assert labels.dtype == np.int8
    np.testing.assert_array_equal(labels, [label_report(report) for report in reports])
    assert labels.sum(axis=1).tolist() == [1, 0, 1]
    assert label_reports([]).shape == (0, 18)


@pytest.mark.parametrize("labeler", ["chexbert", "radbert", "radbert:", "Rules", ""])
def test_an_unknown_labeler_is_an_error_that_names_the_choices(labeler):
    with pytest.raises(ValueError, match="'rules', or 'radbert:CHECKPOINT'"):
        label_reports(["Normal."], labeler)


@pytest.mark.parametrize("labeler", ["rules", "radbert:folder"])
def test_one_string_is_not_taken_for_a_list_of_letters(labeler):
    with pytest.raises(ValueError, match="pass a list of reports"):
        label_reports("There is bilateral pleural effusion.", labeler)


@pytest.mark.parametrize("missing", [None, float("nan")])
def test_what_is_no_text_is_refused_by_its_row(missing):
    with pytest.raises(ValueError, match="row 1 is no report: .*Leave the row out, or pass ''"):
        label_reports(["Normal.", missing])


def test_a_column_of_a_table_is_a_list_of_reports():
    column = pd.Series(["Emphysema.", "-"], index=[7, 9])
    with pytest.warns(UserWarning, match="the first in row 1: '-'"):
        assert label_reports(column).sum(axis=1).tolist() == [1, 0]


def test_a_report_in_another_language_is_refused_by_its_row_and_a_model_s_is_counted():
    reports = ["Emphysema.", "Sol akciğerde konsolidasyon mevcut.", "N/A"]
    with pytest.raises(ValueError, match=r"`texts` row 1 seems to be in Turkish.*labeler="):
        label_reports(reports)
    labels, told = label_predictions(reports)
    assert labels.sum(axis=1).tolist() == [1, 0, 0]
    assert told == {"empty_predictions": 1, "foreign_predictions": 1}
