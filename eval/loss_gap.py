"""How much a report's likelihood depends on its scan: the loss gap to other volumes, and volumes shuffled."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence, Sized

import numpy as np
import torch
import torch.nn.functional as F
from datasets import Dataset
from PIL import Image
from tqdm.auto import tqdm
from transformers import PreTrainedModel

from ct_rate_pairs.csv_tables import patient_of
from ct_rate_pairs.eval.bootstrap import estimate
from ct_rate_pairs.eval.generate import batched
from ct_rate_pairs.trainer import PairCollator
from ct_rate_pairs.volume import to_uint8


# What a report may be scored under instead of its own volume.
OTHER_VOLUMES = ("negative", "noise", "shuffled", "blank")


class TooFewScansError(ValueError):
    """The scans of other patients do not suffice for what is to be measured. All other numbers can still be had."""


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
    volumes: Sequence[str] = ("negative",),
    seed: int = 0,
    batch_size: int = 8,
    ci: float | None = None,
    progress: bool = True,
) -> dict:
    r"""
    Compares the cross-entropy of each true report given its volume and given other volumes (paper, section 7.3).

    A model that reads the report off the text shortcut finds it equally likely either way: its gap is 0. The gap of a
    report of `T` tokens is \\(\frac{1}{T} \sum_t (\ell_t^{other} - \ell_t^{own})\\), with \\(\ell_t\\) the loss of its
    token `t` in nats. Text, grid and positions are the same under all volumes; only the pixels differ.

    Args:
        model ([`~transformers.PreTrainedModel`]):
            Model to measure. It is put into evaluation mode and back.
        collator ([`~ct_rate_pairs.trainer.PairCollator`]):
            Turns rows into batches.
        rows (`Iterable[dict]`):
            Rows of one split; read lazily, a batch at a time. For `"shuffled"` a list or a map-style
            [`~datasets.Dataset`], of which each row is then read twice.
        volumes (`Sequence[str]`, *optional*, defaults to `("negative",)`):
            Which other volumes each report is scored under:

            - `"negative"`: the row's own negative, from `negative="heter"`, `"hard"` or `"gauss"`.
            - `"noise"`: standard normal noise clipped to [-1, 1], drawn from (`seed`, volume).
            - `"shuffled"`: another patient's volume of the same rows, after [`derange_by_patient`].
            - `"blank"`: air in every voxel, -1 in the normalised space.
        seed (`int`, *optional*, defaults to `0`):
            Seed of the noise and of the shuffling. No result depends on `batch_size`.
        batch_size (`int`, *optional*, defaults to `8`):
            Reports a forward pass.
        ci (`float`, *optional*):
            Level of bootstrap intervals of the gaps, by patient; without it there are none.
        progress (`bool`, *optional*, defaults to `True`):
            Whether to show a progress bar.

    Returns:
        `dict`: `loss_pos`, the mean over all report tokens in nats given the reports' own volumes, and for each other
        volume its own four. For the negative: `loss_neg`, the same mean given it, not capped; `loss_gap`, this less
        `loss_pos`; `gap_positive_share`, the share of reports that their own volume makes likelier; `pair_gaps`, each
        report's gap in nats a token, in the rows' order. For the noise: `loss_noise`, `loss_gap_noise`,
        `gap_positive_share_noise` and `pair_gaps_noise`, and so on. With `ci` also `loss_gap_ci`, and so on.

    Raises:
        `ValueError`: if there is no row at all, or an unknown name in `volumes`; for `"negative"`, if a row has none;
            for `"shuffled"`, if the rows cannot be read by index.
        `TooFewScansError`: for `"shuffled"`, if one patient has more than half of the rows.
    """
    if unknown := set(volumes) - set(OTHER_VOLUMES):
        raise ValueError(f"volumes={tuple(volumes)}: {sorted(unknown)[0]!r} is none of {', '.join(OTHER_VOLUMES)}.")
    if "shuffled" in volumes:
        names = volume_names(rows)
        partners = derange_by_patient(names, seed)
    slices = {
        "noise": lambda index, row: noise_slices(row, seed),
        "shuffled": lambda index, row: fit_slices(
            check_volume(rows[partners[index]], names[partners[index]]), like=check_volume(row, names[index])
        ),
        "blank": lambda index, row: blank_slices(row),
    }
    was_training = model.training
    model.eval()
    counts: list[int] = []
    measured: list[str] = []  # VolumeNames
    sums: dict[str, list[float]] = {name: [] for name in ("own", *volumes)}  # nats a report
    total = len(rows) if isinstance(rows, Sized) else None
    with tqdm(total=total, desc="Loss gap", unit="report", disable=not progress) as bar:
        for numbered in batched(enumerate(rows), batch_size):
            pairs = [row for _, row in numbered]
            if "negative" in volumes:
                check_negatives(pairs)
            else:
                pairs = [row | {"negative_images": []} for row in pairs]
            batch = collator(pairs)
            del batch["volumes"]
            batch = {name: tensor.to(model.device) for name, tensor in batch.items()}
            negative_pixels = batch.pop(f"negative_{collator.pixels}", None)
            losses, count = report_losses(model, batch)
            sums["own"] += losses.tolist()
            counts += count.tolist()
            measured += [row["volume"] for row in pairs]
            for name in volumes:
                if name == "negative":
                    pixels = negative_pixels
                else:
                    swapped = [row | {"images": slices[name](index, row)} for index, row in numbered]
                    pixels = collator.prompts(swapped)[collator.pixels].to(model.device)
                # All volumes of a report have one geometry, so its text, grid and positions are the same.
                losses, _ = report_losses(model, batch | {collator.pixels: pixels})
                sums[name] += losses.tolist()
            bar.update(len(pairs))
    model.train(was_training)
    if not counts:
        raise ValueError("There are no rows to measure the loss gap on.")
    tokens = np.array(counts)
    own = np.array(sums["own"])
    result = {"loss_pos": float(own.sum() / tokens.sum())}
    for name in volumes:
        other = np.array(sums[name])
        gaps = (other - own) / tokens
        suffix = "" if name == "negative" else f"_{name}"
        result |= {
            "loss_neg" if name == "negative" else f"loss_{name}": float(other.sum() / tokens.sum()),
            f"gap_positive_share{suffix}": float((gaps > 0).mean()),
            f"pair_gaps{suffix}": gaps.tolist(),
        }
        change = {f"loss_gap{suffix}": other - own, "tokens": tokens}
        result |= estimate(change, gap_per_token, measured, ci)
    return result


def gap_per_token(sums: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """From the sums of `tokens` and of one gap, to that gap in nats a token."""
    return {name: nats / sums["tokens"] for name, nats in sums.items() if name != "tokens"}


def check_negatives(rows: Sequence[dict]) -> None:
    """Raises a `ValueError` that names the first row without a negative."""
    for row in rows:
        if not row["negative_images"]:
            raise ValueError(
                f"{row['volume']} has no negative, so there is no loss gap to measure. Load the dataset with "
                'negative="gauss" or negative="heter".'
            )


def noise_slices(row: dict, seed: int = 0) -> list[Image.Image]:
    """The noise of `negative="gauss"` in the row's size and mode, drawn from (`seed`, volume) and nothing else."""
    rng = np.random.default_rng([seed, int.from_bytes(row["volume"].encode(), "big")])
    shapes = [np.asarray(image).shape for image in row["images"]]
    return [Image.fromarray(to_uint8(rng.standard_normal(shape, dtype=np.float32).clip(-1, 1))) for shape in shapes]


def blank_slices(row: dict) -> list[Image.Image]:
    """Air, which is black, in the row's size and mode."""
    return [Image.new(image.mode, image.size) for image in row["images"]]


def volume_names(rows: Dataset | Sequence[dict]) -> list[str]:
    """
    The names of the rows' volumes, none of which is read.

    Raises:
        `ValueError`: if the rows cannot be read by index.
    """
    if isinstance(rows, Dataset):
        return list(rows.with_format(None)["volume"])  # the index: a format's transform would read the slices
    if not isinstance(rows, Sequence):
        raise ValueError(
            f"{type(rows).__name__} cannot be read by index, but every row needs one of another patient: pass a list "
            "of rows, or a dataset loaded with streaming=False."
        )
    return [row["volume"] for row in rows]


def check_volume(row: dict, name: str) -> dict:
    """Returns the row, or raises a `ValueError` if it is not of the volume `name`."""
    if row["volume"] != name:
        raise ValueError(
            f"{row['volume']} stands in the place of {name}, which cannot be read (on_error='skip'). Leave such rows "
            "out with `select`, or pass a list of the rows that were read, each once."
        )
    return row


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
        # Rounded towards zero, as `ct_rate_pairs.volume.fit` does for partners.
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
