"""The loss gap: how much less likely a true report becomes when another volume replaces its own."""

from collections.abc import Iterable, Sequence, Sized

import numpy as np
import torch
from tqdm.auto import tqdm
from transformers import PreTrainedModel

from ct_rate_pairs.eval.generate import batched
from ct_rate_pairs.eval.metrics.bootstrap import estimate
from ct_rate_pairs.eval.rows import check_readable, volume_names
from ct_rate_pairs.trainer import PairCollator
from ct_rate_pairs.trainer.generation import evaluating

from .likelihood import report_losses
from .other_volumes import VOLUMES, blank_slices, derange_by_patient, fit_slices, noise_slices, suffix_of


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
    Compares the cross-entropy of each true report given its own volume and given other volumes (paper, section 7.3).

    The gap of a report of `T` tokens is \\(\frac{1}{T} \sum_t (\ell_t^{other} - \ell_t^{own})\\), with \\(\ell_t\\)
    the loss of token `t` in nats. A model that ignores the volume has a gap of 0. Text, grid and positions are the
    same under all volumes; only the pixels differ.

    Args:
        model ([`~transformers.PreTrainedModel`]):
            Model to measure. It is in evaluation mode during the call; its former mode is restored afterwards.
        collator ([`~ct_rate_pairs.trainer.PairCollator`]):
            Turns rows into batches.
        rows (`Iterable[dict]`):
            Rows of one split, read lazily, one batch at a time. `"shuffled"` needs a list or a map-style
            [`~datasets.Dataset`], and reads each row twice.
        volumes (`Sequence[str]`, *optional*, defaults to `("negative",)`):
            The other volumes that each report is scored under:

            - `"negative"`: the negative of the row, from `negative="heter"`, `"hard"` or `"gauss"`.
            - `"noise"`: standard normal noise clipped to [-1, 1], drawn from (`seed`, volume).
            - `"shuffled"`: the volume of another patient among the rows, see [`derange_by_patient`].
            - `"blank"`: air in every voxel, -1 in the normalised space.
        seed (`int`, *optional*, defaults to `0`):
            Seed of the noise and of the shuffling. No result depends on `batch_size`.
        batch_size (`int`, *optional*, defaults to `8`):
            Reports per forward pass.
        ci (`float`, *optional*):
            Level of the bootstrap intervals of the gaps by patient. By default no intervals are computed.
        progress (`bool`, *optional*, defaults to `True`):
            Whether to show a progress bar.

    Returns:
        `dict`: `loss_pos`, the mean loss over all report tokens given the reports' own volumes, in nats; and for each
        other volume four entries. For the negative these are:

        - `loss_neg`: the mean loss over all report tokens given the negatives, not capped.
        - `loss_gap`: `loss_neg` less `loss_pos`.
        - `gap_positive_share`: the share of reports with a gap above 0.
        - `pair_gaps`: the gap of each report in nats per token, in the rows' order.

        For the noise they are `loss_noise`, `loss_gap_noise`, `gap_positive_share_noise` and `pair_gaps_noise`, and so
        on for the other volumes. With `ci` also `loss_gap_ci` and so on, and `ci_level`.

    Raises:
        `ValueError`: if there are no rows, or for an unknown name in `volumes`; for `"negative"`, if a row has no
            negative; for `"shuffled"`, if the rows cannot be read by index.
        `TooFewScansError`: for `"shuffled"`, if one patient has more than half of the rows.
    """
    if unknown := set(volumes) - set(VOLUMES):
        raise ValueError(f"volumes={tuple(volumes)}: {sorted(unknown)[0]!r} is none of {', '.join(VOLUMES)}.")
    if "shuffled" in volumes:
        names = volume_names(rows)
        partners = derange_by_patient(names, seed)
    slices = {
        "noise": lambda index, row: noise_slices(row, seed),
        "shuffled": lambda index, row: fit_slices(check_readable(rows[partners[index]]), like=check_readable(row)),
        "blank": lambda index, row: blank_slices(row),
    }
    with evaluating(model):
        counts: list[int] = []
        measured: list[str] = []  # VolumeNames
        sums: dict[str, list[float]] = {name: [] for name in ("own", *volumes)}  # nats per report
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
                    # All volumes have the geometry of the own one, so text, grid and positions are the same.
                    losses, _ = report_losses(model, batch | {collator.pixels: pixels})
                    sums[name] += losses.tolist()
                bar.update(len(pairs))
    if not counts:
        raise ValueError("There are no rows to measure the loss gap on.")
    tokens = np.array(counts)
    own = np.array(sums["own"])
    result = {"loss_pos": float(own.sum() / tokens.sum())}
    for name in volumes:
        other = np.array(sums[name])
        gaps = (other - own) / tokens
        suffix = suffix_of(name)
        result |= {
            "loss_neg" if name == "negative" else f"loss_{name}": float(other.sum() / tokens.sum()),
            f"gap_positive_share{suffix}": float((gaps > 0).mean()),
            f"pair_gaps{suffix}": gaps.tolist(),
        }
        change = {f"loss_gap{suffix}": other - own, "tokens": tokens}
        result |= estimate(change, gap_per_token, measured, ci)
    return result


def gap_per_token(sums: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The gap in nats per token, from the sums of the gap and of `tokens`."""
    return {name: nats / sums["tokens"] for name, nats in sums.items() if name != "tokens"}


def check_negatives(rows: Sequence[dict]) -> None:
    """Raises a `ValueError` that names the first row without a negative."""
    for row in rows:
        if not row["negative_images"]:
            raise ValueError(
                f"{row['volume']} has no negative, so there is no loss gap to measure. Load the dataset with "
                'negative="gauss" or negative="heter".'
            )
