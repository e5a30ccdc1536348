"""What is told of splits that have too little for a run."""

import pytest

from ct_rate_pairs.trainer.splits import check_patients


@pytest.mark.parametrize(("patients", "scans"), [(5, 150), (5, 0), (20, 150), (6, 5)])
def test_five_patients_are_enough_for_confidences(patients, scans):
    check_patients([f"train_{number}_a_1.nii.gz" for number in range(patients)], scans or patients)


def test_a_number_of_scans_that_is_too_low_is_to_be_raised():
    with pytest.raises(ValueError, match=r"confidence_scans=4 gives 4 of the 20 of the split.*Raise the number"):
        check_patients([f"train_{number}_a_1.nii.gz" for number in range(20)], 4)


def test_a_split_of_too_few_patients_is_told_as_such_with_the_remedies_that_work():
    volumes = [f"train_{number}_{letter}_1.nii.gz" for number in range(4) for letter in "abc"]
    with pytest.raises(ValueError, match="cannot give more than the 4 of the split .*A larger cohort") as of:
        check_patients(volumes, 150)
    told = str(of.value)
    assert "Raise the number" not in told and "--confidence_scans 0 --operating_point none" in told
