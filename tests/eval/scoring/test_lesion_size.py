import pytest
from hypothesis import given
from hypothesis import strategies as st

from ct_rate_pairs import LABELS
from ct_rate_pairs.eval.metrics.label_metrics import coverage
from ct_rate_pairs.eval.scoring.labelers import label_reports
from ct_rate_pairs.eval.scoring.lesion_size import NODULE, SIZE_BINS, nodule_coverage_by_size, nodule_size, size_bin


@pytest.mark.parametrize(
    ("report", "diameter"),
    [
        ("A 4 mm nodule is observed in the right lung.", 4),
        ("A nodule measuring 12x9 mm is observed in the left lung upper lobe.", 12),
        ("There is a 9 x 12.5 x 8mm nodule in the lingular segment.", 12.5),
        ("A nodule of 1.5 cm is observed in the right lung.", 15),
        ("A nodule of 1,5 centimeters is observed in the right lung.", 15),
        ("A 7-mm nodule is observed in the right lung.", 7),
        ("Nodules of 2.3 and 3 millimeters in diameter were observed in the right lung.", 3),
        ("3 nodules of 2-3 mm in diameter are observed in the middle lobe.", 3),
        ("A nodule in series 4 image 129, 6 mm in size, is observed in the left lung.", 6),
        ("There are nodules in both lungs, the largest of which is 5 mm in diameter.", 5),
        ("A 22 mm nodule is observed in the left lung. A 3 mm nodule is observed in the right lung.", 22),
    ],
)
def test_the_largest_stated_diameter_is_read_in_mm(report, diameter):
    assert nodule_size(report) == diameter


@pytest.mark.parametrize(
    "report",
    [
        "A nodule is observed in the right lung.",
        "1-2 millimetric nodules are observed in both lungs.",
        "No nodule larger than 3 mm was observed in the lungs.",
        "A 22 mm thyroid nodule is observed.",
        "A nodule is observed in the right lung. Lymph nodes of 12 mm are observed.",
        "A nodule of 200 mm3 is observed in the right lung.",
        "A nodule is observed in the right lung 15 mm away from the pleura.",
        "",
    ],
)
def test_counts_other_lesions_volumes_and_distances_are_no_nodule_sizes(report):
    assert nodule_size(report) is None


def test_what_a_nodule_measured_earlier_does_not_count():
    assert nodule_size("A 21 mm (30 mm diameter in the previous examination) nodule is observed in the lung.") == 21
    assert nodule_size("The lung nodule, 9 mm on the prior scan, was measured as 5 mm in diameter.") == 5
    assert nodule_size("A 5 mm lung nodule is observed, which was not seen in the previous examination.") == 5


@pytest.mark.parametrize(
    ("bound", "bin_name"), [("less than 3 mm", "<3 mm"), ("smaller than 6 mm", "3-6 mm"), ("6 mm", "6-10 mm")]
)
def test_a_bound_lies_in_the_bin_below_it(bound, bin_name):
    assert size_bin(nodule_size(f"Nodules {bound} are observed in both lungs.")) == bin_name


@pytest.mark.parametrize(
    ("diameter", "bin_name"),
    [(2.9, "<3 mm"), (3, "3-6 mm"), (5.5, "3-6 mm"), (6, "6-10 mm"), (10, ">=10 mm"), (31, ">=10 mm")],
)
def test_a_diameter_on_a_bound_belongs_to_the_bin_above(diameter, bin_name):
    assert size_bin(diameter) == bin_name


def test_each_bin_has_its_own_coverage_and_an_empty_one_has_none():
    references = [
        "A 2 mm nodule is observed in the right lung.",
        "A 2.5 mm nodule is observed in the left lung.",
        "A 14 mm nodule is observed in the right lung.",
        "A nodule is observed in the right lung.",
        "No nodule was observed.",
    ]
    labels = label_reports(references)
    predictions = labels.copy()
    predictions[[0, 3], NODULE] = 0
    assert nodule_coverage_by_size(predictions, labels, references) == {
        "<3 mm": {"coverage": 0.5, "support": 2},
        "3-6 mm": {"coverage": None, "support": 0},
        "6-10 mm": {"coverage": None, "support": 0},
        ">=10 mm": {"coverage": 1.0, "support": 1},
        "no size": {"coverage": 0.0, "support": 1},
    }


@given(
    st.lists(
        st.tuples(st.sampled_from([None, 1, 3, 7.5, 10, 40]), st.booleans(), st.booleans()), min_size=1, max_size=20
    )
)
def test_the_bins_add_up_to_the_label(rows):
    references = [f"A {'' if size is None else f'{size} mm'} nodule is observed in the lung." for size, _, _ in rows]
    labels, predictions = ([[int(row[side])] * 18 for row in rows] for side in (1, 2))
    table = nodule_coverage_by_size(predictions, labels, references)
    whole = coverage(predictions, labels, LABELS)["per_label"]["Lung nodule"]
    assert list(table) == [*SIZE_BINS, "no size"]
    assert sum(row["support"] for row in table.values()) == whole["support"]
    hits = sum(row["support"] * (row["coverage"] or 0) for row in table.values())
    assert hits == pytest.approx(whole["support"] * (whole["coverage"] or 0))


def test_another_number_of_references_is_refused():
    with pytest.raises(ValueError, match="1 reference reports for 2 rows"):
        nodule_coverage_by_size([[0] * 18] * 2, [[0] * 18] * 2, ["A nodule."])
