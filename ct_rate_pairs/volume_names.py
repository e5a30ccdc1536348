"""The parts of a volume's name."""

VOLUME_NAME = r"[a-z]+_[0-9]{1,9}_[a-z]+_[0-9]{1,9}\.nii\.gz"  # split, patient, scan, reconstruction


def patient_of(volume: str) -> str:
    """The patient of a volume: `train_1_a_2.nii.gz` -> `train_1`."""
    return "_".join(volume.split("_")[:2])
