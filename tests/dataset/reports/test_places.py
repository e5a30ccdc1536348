"""Sides and lobes of a finding are read as a report says them, and are unknown where the report is not clear."""

import pytest

from ct_rate_pairs.reports.labels import LABELS
from ct_rate_pairs.reports.places import places


ALL_RIGHT = {"right upper", "right middle", "right lower"}


def read(text):
    """Label -> (side, lobes)."""
    return {LABELS[label]: (place.side, set(place.lobes)) for label, place in places(text).items()}


@pytest.mark.parametrize(
    ("text", "place"),
    [
        # One side, in the words of several readers
        ("Nodule in the right hemithorax.", ("right", set())),
        ("A left-sided nodule.", ("left", set())),
        ("Right sided nodule.", ("right", set())),
        ("A nodule in the left apex.", ("left", set())),
        ("A nodule is seen in the LLL.", ("left", {"left lower"})),
        ("RUL nodule.", ("right", {"right upper"})),
        ("A nodule in the right-middle lobe.", ("right", {"right middle"})),
        ("A nodule in the left lung upper lobe lingular segment.", ("left", {"left upper", "lingula"})),
        # Both sides
        ("Nodules in both lungs.", ("both", set())),
        ("Bilateral nodules.", ("both", set())),
        ("Bibasilar nodules.", ("both", set())),
        ("Nodules in the right and left upper lobes.", ("both", {"right upper", "left upper"})),
        ("A nodule in the left and the right lung.", ("both", set())),
        ("Nodules in the bilateral lower lobes.", ("both", {"right lower", "left lower"})),
        ("Nodules in the upper lobes bilaterally.", ("both", {"right upper", "left upper"})),
        ("Nodules in both upper lobes, more of them in the left lung.", ("both", {"right upper", "left upper"})),
        # Several lobes, of which the last names the side, or the first
        ("Nodules in the upper lobe and lower lobe of the right lung.", ("right", {"right upper", "right lower"})),
        ("Nodules in the upper lobe apex and lower lobe of the left lung.", ("left", {"left upper", "left lower"})),
        ("Nodules in the right lung upper lobe and lower lobe.", ("right", {"right upper", "right lower"})),
        ("Nodules in the right upper lobe, middle lobe and lower lobe.", ("right", ALL_RIGHT)),
        ("Nodules in the right upper lobe, the upper lobe of the left lung.", ("both", {"right upper", "left upper"})),
        # Words for the side of something else
        ("A nodule in the left upper lobe adjacent to the right hemidiaphragm.", ("left", {"left upper"})),
        ("After right upper lobectomy, a nodule in the left lower lobe.", ("left", {"left lower"})),
        ("A nodule in the left lower lobe with shift of the mediastinum to the right.", ("left", {"left lower"})),
        ("Two nodules, both in the left lung.", ("left", set())),
        ("A nodule in the left lung without right effusion.", ("left", set())),
        ("A nodule in the right lung, narrowing the upper lobe bronchus.", ("right", set())),
        # A finding that is mostly on one side may be on the other side too.
        ("Nodules, more prominent on the right.", None),
        ("Nodules in both lungs, more prominent on the right.", ("both", set())),
        ("Nodules in the right lung, more prominent in the lower lobe.", ("right", set())),
        # What is unclear or contradicts itself
        ("Nodules in the lower lobe. A nodule in the right lung.", None),
        ("A nodule in the right lung lingula.", None),
        ("A nodule at the right hilum.", None),
        # Where both sides are known, an unclear sentence adds none.
        ("A nodule on the right. A nodule on the left. A nodule in the lower lobe.", ("both", set())),
    ],
)
def test_the_place_of_one_finding_is_read(text, place):
    assert read(text).get("Lung nodule") == place


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        # A place belongs to the findings before it.
        ("Effusion on the right and a nodule in the left lung.", ("right", "left")),
        ("Right-sided effusion and a left-sided nodule.", ("right", "left")),
        ("An effusion and nodules in both lungs.", ("both", "both")),
        ("A right effusion, nodules in both lungs.", ("right", "both")),
        # A place before all findings belongs to all.
        ("In the left lung, a nodule and an effusion are seen.", ("left", "left")),
        ("In both lungs, nodules and effusion.", ("both", "both")),
        # What is adjacent is on the same side.
        ("An effusion on the left and an adjacent nodule.", ("left", "left")),
        # Unclear
        ("An effusion and a nodule on the right and on the left.", (None, None)),
        ("In the left lung, an effusion, in the right lung, a nodule.", (None, None)),
        ("Bilateral effusion and a nodule.", ("both", None)),
        ("An effusion and a nodule in the right and left lung, respectively.", (None, None)),
        ("A nodule at the right hilum and an effusion on the left.", ("left", None)),
        # The place of a catheter or of a lymph node is not that of the effusion.
        ("A port catheter on the right, left effusion.", ("left", None)),
        ("Enlarged right lymph nodes, effusion on the left.", ("left", None)),
    ],
)
def test_of_several_findings_each_has_its_own_place(text, expected):
    sides = read(text)
    assert tuple((sides.get(label) or (None,))[0] for label in ("Pleural effusion", "Lung nodule")) == expected


def test_lobes_are_those_of_their_own_finding():
    text = "Atelectasis in the right lung upper lobe and a nodule in the right lung lower lobe."
    assert read(text) == {"Atelectasis": ("right", {"right upper"}), "Lung nodule": ("right", {"right lower"})}
