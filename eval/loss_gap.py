"""How much a report's likelihood depends on its scan: the loss gap to the negative, and volumes shuffled."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence, Sized

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from tqdm.auto import tqdm
from transformers import PreTrainedModel

from ct_rate_pairs.csv_tables import patient_of
from ct_rate_pairs.eval.generate import batched
from ct_rate_pairs.trainer import PairCollator


def report_losses(model: PreTrainedModel, batch: dict[str, torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
    """
    Cross-entropy of every report of a batch, given its volume.

    Args:
        model ([`~transformers.PreTrainedModel`]):
            Model in evaluation mode.
        batch (`dict[str, torch.Tensor]`):
            Model inputs with right-padded `input_ids` and with `labels`, both `[B, T]`; labels are -100 outside the
            reports.

    Returns:
        `tuple[torch.Tensor, torch.Tensor]`: float32 `[B]`, the sum over the report's tokens in nats, and `[B]`, the
        number of these tokens.
    """
    inputs = dict(batch)
    labels = inputs.pop("labels")
    # A real model's logits over prompt and visual tokens take gigabytes; only those that predict a report are needed.
    first = int((labels != -100).any(dim=0).nonzero()[0])
    labels = labels[:, first:]  # [B, K]
    logits = model(**inputs, logits_to_keep=labels.shape[1] + 1).logits[:, :-1]  # [B, K, V]
    losses = F.cross_entropy(logits.transpose(1, 2).float(), labels, reduction="none")  # [B, K], 0 where ignored
    return losses.sum(dim=1), (labels != -100).sum(dim=1)


@torch.no_grad()
def loss_gap(
    model: PreTrainedModel,
    collator: PairCollator,
    rows: Iterable[dict],
    *,
    batch_size: int = 8,
    progress: bool = True,
) -> dict:
    """
    Compares the cross-entropy of each true report given its volume and given its negative (paper, section 7.3).

    A model that reads the report off the text shortcut finds it equally likely either way: its gap is 0.

    Args:
        model ([`~transformers.PreTrainedModel`]):
            Model to measure. It is put into evaluation mode and back.
        collator ([`~ct_rate_pairs.trainer.PairCollator`]):
            Turns rows into batches that carry `negative_pixel_values_videos`.
        rows (`Iterable[dict]`):
            Rows with negatives, from `negative="gauss"` or `negative="heter"`; read lazily.
        batch_size (`int`, *optional*, defaults to `8`):
            Pairs a forward pass.
        progress (`bool`, *optional*, defaults to `True`):
            Whether to show a progress bar.

    Returns:
        `dict`: `loss_pos` and `loss_neg`, mean over all report tokens in nats, neither capped; `loss_gap`, the
        second less the first; `gap_positive_share`, the share of pairs whose own volume makes the report likelier;
        `pair_gaps`, each pair's gap in nats a token, in the rows' order.

    Raises:
        `ValueError`: if a row has no negative, or there is no row at all.
    """
    was_training = model.training
    model.eval()
    sums_pos, sums_neg, counts = [], [], []
    total = len(rows) if isinstance(rows, Sized) else None
    with tqdm(total=total, desc="Loss gap", unit="pair", disable=not progress) as bar:
        for pairs in batched(rows, batch_size):
            for row in pairs:
                if not row["negative_images"]:
                    raise ValueError(
                        f"{row['volume']} has no negative, so there is no loss gap to measure. Load the dataset with "
                        'negative="gauss" or negative="heter".'
                    )
            batch = collator(pairs)
            del batch["volumes"]
            batch = {name: tensor.to(model.device) for name, tensor in batch.items()}
            negative_pixels = batch.pop(f"negative_{collator.pixels}")
            sum_pos, count = report_losses(model, batch)
            # Both volumes have one geometry, so text, grid and positions of the pair are the same.
            sum_neg, _ = report_losses(model, batch | {collator.pixels: negative_pixels})
            sums_pos += sum_pos.tolist()
            sums_neg += sum_neg.tolist()
            counts += count.tolist()
            bar.update(len(pairs))
    model.train(was_training)
    if not counts:
        raise ValueError("There are no rows to measure the loss gap on.")
    gaps = [(neg - pos) / count for pos, neg, count in zip(sums_pos, sums_neg, counts, strict=True)]
    loss_pos, loss_neg = sum(sums_pos) / sum(counts), sum(sums_neg) / sum(counts)
    return {
        "loss_pos": loss_pos,
        "loss_neg": loss_neg,
        "loss_gap": loss_neg - loss_pos,
        "gap_positive_share": sum(gap > 0 for gap in gaps) / len(gaps),
        "pair_gaps": gaps,
    }


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
        `ValueError`: if one patient has more than half of the volumes, since no such permutation exists then.
    """
    by_patient = defaultdict(list)
    for index, volume in enumerate(volumes):
        by_patient[patient_of(volume)].append(index)
    largest = max(by_patient, key=lambda patient: len(by_patient[patient]))
    shift = len(by_patient[largest])
    if 2 * shift > len(volumes):
        raise ValueError(
            f"{shift} of {len(volumes)} volumes belong to patient {largest}: they cannot all be swapped for volumes "
            "of other patients. Use a larger held-out split."
        )
    rng = np.random.default_rng(seed)
    patients = [by_patient[patient] for patient in rng.permutation(sorted(by_patient))]
    order = [index for patient in patients for index in rng.permutation(patient).tolist()]
    # A patient's volumes lie side by side, so a turn by the largest patient's number carries each past its own.
    partner = dict(zip(order, order[shift:] + order[:shift], strict=True))
    return [partner[index] for index in range(len(volumes))]


def fit_slice(image: Image.Image, size: tuple[int, int]) -> Image.Image:
    """Crops or pads a slice about its centre to `size`, `(width, height)` in pixels; the padding is air, black."""
    # Rounded towards zero, as `ct_rate_pairs.volume.fit` does for partners.
    left, top = int((image.width - size[0]) / 2), int((image.height - size[1]) / 2)
    return image.crop((left, top, left + size[0], top + size[1]))


def shuffle_volumes(rows: Sequence[dict], seed: int = 0) -> Iterator[dict]:
    """
    Gives every report the images of another patient of the same rows; text, labels and negative stay.

    A model that looks at the scan then describes the other patient, and its Coverage falls; one that recites the
    template loses nothing.

    Args:
        rows (`Sequence[dict]`):
            Rows of one split.
        seed (`int`, *optional*, defaults to `0`):
            Seed of the draw.

    Yields:
        `dict`: the rows in their order, `images` cropped or padded with air to the row's own size.

    Raises:
        `ValueError`: if one patient has more than half of the rows.
    """
    partners = derange_by_patient([row["volume"] for row in rows], seed)
    for row, partner in zip(rows, partners, strict=True):
        size = row["images"][0].size
        yield row | {"images": [fit_slice(image, size) for image in rows[partner]["images"]]}
