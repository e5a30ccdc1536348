"""What a report may be scored under instead of its own volume, and how each is called in results."""

from collections import defaultdict
from collections.abc import Iterator, Sequence

import numpy as np
from datasets import Dataset
from PIL import Image

from ct_rate_pairs.eval.rows import check_volume, volume_names
from ct_rate_pairs.random_streams import draw_rng
from ct_rate_pairs.volume_names import patient_of
from ct_rate_pairs.volumes.windows import to_uint8


# How each of the other volumes is called in a sentence.
VOLUMES = {"negative": "its negative", "noise": "noise", "shuffled": "another patient's", "blank": "air"}


def suffix_of(kind: str) -> str:
    """How the keys of one of the other `VOLUMES` end in results: `loss_gap` is the negative's, `loss_gap_noise`, ..."""
    return "" if kind == "negative" else f"_{kind}"


class TooFewScansError(ValueError):
    """The scans of other patients do not suffice for what is to be measured. All other numbers can still be had."""


def noise_slices(row: dict, seed: int = 0) -> list[Image.Image]:
    """The noise of `negative="gauss"` in the row's size and mode, drawn from (`seed`, volume) and nothing else."""
    rng = draw_rng(seed, None, row["volume"])
    shapes = [np.asarray(image).shape for image in row["images"]]
    return [Image.fromarray(to_uint8(rng.standard_normal(shape, dtype=np.float32).clip(-1, 1))) for shape in shapes]


def blank_slices(row: dict) -> list[Image.Image]:
    """Air, which is black, in the row's size and mode."""
    return [Image.new(image.mode, image.size) for image in row["images"]]


def derange_by_patient(volumes: Sequence[str], seed: int = 0) -> list[int]:
    """
    Draws a permutation that gives every volume the place of a volume of another patient.

    Args:
        volumes (`Sequence[str]`):
            CT-RATE VolumeNames; the first two parts (`train_12`) name the patient.
        seed (`int`, *optional*, defaults to `0`):
            Seed of the draw.

    Returns:
        `list[int]`: position `i` holds the index of the volume that `volumes[i]` is swapped for; each index once.

    Raises:
        `TooFewScansError`: if one patient has more than half of the volumes, since no such permutation exists then.
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
    rng = np.random.default_rng(seed)
    patients = [by_patient[patient] for patient in rng.permutation(sorted(by_patient))]
    order = [index for patient in patients for index in rng.permutation(patient).tolist()]
    # A patient's volumes lie side by side, so a turn by the largest patient's number carries each past its own.
    partner = dict(zip(order, order[shift:] + order[:shift], strict=True))
    return [partner[index] for index in range(len(volumes))]


def fit_slices(row: dict, like: dict) -> list[Image.Image]:
    """The slices of `row`, cropped or padded about their centre to the size of `like`; the padding is air, black."""
    width, height = like["images"][0].size
    fitted = []
    for image in row["images"]:
        # Rounded towards zero, as `ct_rate_pairs.volumes.fit` does for partners.
        left, top = int((image.width - width) / 2), int((image.height - height) / 2)
        fitted.append(image.crop((left, top, left + width, top + height)))
    return fitted


def shuffle_volumes(rows: Dataset | Sequence[dict], seed: int = 0) -> Iterator[dict]:
    """
    Gives every report the images of another patient of the same rows; text, labels and negative stay.

    A model that looks at the scan then describes the other patient, and its Coverage falls; one that recites the
    template loses nothing.

    Args:
        rows ([`~datasets.Dataset`] or `Sequence[dict]`):
            Rows of one split, each read twice.
        seed (`int`, *optional*, defaults to `0`):
            Seed of the draw.

    Yields:
        `dict`: the rows in their order, `images` cropped or padded with air to the row's own size.

    Raises:
        `TooFewScansError`: if one patient has more than half of the rows.
        `ValueError`: if the rows cannot be read by index.
    """
    names = volume_names(rows)
    partners = derange_by_patient(names, seed)
    for row, name, partner in zip(rows, names, partners, strict=True):
        other = check_volume(rows[partner], names[partner])
        yield row | {"images": fit_slices(other, like=check_volume(row, name))}
