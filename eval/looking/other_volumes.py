"""The volumes that a report may be scored under instead of its own, and their names in results."""

from collections import defaultdict
from collections.abc import Iterator, Sequence

import numpy as np
from datasets import Dataset
from PIL import Image

from ct_rate_pairs.eval.rows import check_readable, volume_names
from ct_rate_pairs.random_streams import draw_rng, random_stream
from ct_rate_pairs.volume_names import patient_of
from ct_rate_pairs.volumes.windows import to_uint8


# Names of the other volumes in a sentence.
VOLUMES = {"negative": "its negative", "noise": "noise", "shuffled": "another patient's", "blank": "air"}


def suffix_of(kind: str) -> str:
    """Ending of result keys for a kind of `VOLUMES`: `loss_gap` for the negative, `loss_gap_noise` for noise, ..."""
    return "" if kind == "negative" else f"_{kind}"


class TooFewScansError(ValueError):
    """There are too few scans of different patients for one measurement. Other measurements may still be possible."""


def noise_slices(row: dict, seed: int = 0) -> list[Image.Image]:
    """The noise of `negative="gauss"`, in the row's size and mode; it depends only on `seed` and the volume's name."""
    rng = draw_rng(seed, None, row["volume"])
    shapes = [np.asarray(image).shape for image in row["images"]]
    return [Image.fromarray(to_uint8(rng.standard_normal(shape, dtype=np.float32).clip(-1, 1))) for shape in shapes]


def blank_slices(row: dict) -> list[Image.Image]:
    """Black slices, like air, in the row's size and mode."""
    return [Image.new(image.mode, image.size) for image in row["images"]]


def derange_by_patient(volumes: Sequence[str], seed: int = 0) -> list[int]:
    """
    Draws a permutation that replaces every volume by a volume of another patient.

    Args:
        volumes (`Sequence[str]`):
            CT-RATE VolumeNames. The first two parts (`train_12`) name the patient.
        seed (`int`, *optional*, defaults to `0`):
            Seed of the draw.

    Returns:
        `list[int]`: position `i` holds the index of the volume that replaces `volumes[i]`. Each index occurs once.

    Raises:
        `TooFewScansError`: if one patient has more than half of the volumes, so that no such permutation exists.
    """
    by_patient = defaultdict(list)
    for index, volume in enumerate(volumes):
        by_patient[patient_of(volume)].append(index)
    largest = max(by_patient, key=lambda patient: len(by_patient[patient]))
    shift = len(by_patient[largest])
    if 2 * shift > len(volumes):
        raise TooFewScansError(
            f"{shift} of {len(volumes)} volumes belong to patient {largest}: they cannot all be swapped for volumes "
            "of other patients. Use a larger held-out split."
        )
    rng = random_stream(seed)
    patients = [by_patient[patient] for patient in rng.permutation(sorted(by_patient))]
    order = [index for patient in patients for index in rng.permutation(patient).tolist()]
    # The volumes of a patient are adjacent in `order`, so a rotation by the largest number of volumes per patient
    # maps each volume to another patient.
    partner = dict(zip(order, order[shift:] + order[:shift], strict=True))
    return [partner[index] for index in range(len(volumes))]


def fit_slices(row: dict, like: dict) -> list[Image.Image]:
    """The slices of `row`, cropped or padded with air (black) about their centre to the size of `like`."""
    width, height = like["images"][0].size
    fitted = []
    for image in row["images"]:
        # Rounded towards zero, as `ct_rate_pairs.volumes.fit` does for partners.
        left, top = int((image.width - width) / 2), int((image.height - height) / 2)
        fitted.append(image.crop((left, top, left + width, top + height)))
    return fitted


def shuffle_volumes(rows: Dataset | Sequence[dict], seed: int = 0) -> Iterator[dict]:
    """
    Gives every row the images of another patient among the rows. Text, labels and negative stay.

    A model that looks at the scan then describes the other patient, so its Coverage falls. The Coverage of a model
    that recites a template does not change.

    Args:
        rows ([`~datasets.Dataset`] or `Sequence[dict]`):
            Rows of one split. Each row is read twice.
        seed (`int`, *optional*, defaults to `0`):
            Seed of the draw.

    Yields:
        `dict`: the rows in their order, with other `images`, cropped or padded with air to the row's own size.

    Raises:
        `TooFewScansError`: if one patient has more than half of the rows.
        `ValueError`: if the rows cannot be read by index.
    """
    names = volume_names(rows)
    partners = derange_by_patient(names, seed)
    for row, partner in zip(rows, partners, strict=True):
        yield row | {"images": fit_slices(check_readable(rows[partner]), like=check_readable(row))}
