"""Which slices a stated finding rests on: how much less likely its sentence is where they are replaced by noise."""

from itertools import product

import numpy as np
import torch
from PIL import Image, ImageFilter
from transformers import PreTrainedModel

from ct_rate_pairs.eval.generate import batched
from ct_rate_pairs.eval.looking.likelihood import token_log_probs, tokens_of
from ct_rate_pairs.eval.looking.other_volumes import noise_slices
from ct_rate_pairs.reports.sentences import Sentence, stating_sentences
from ct_rate_pairs.trainer import PairCollator


REACHES = (0.1, 0.3)  # share of the slices that is replaced as well, above and below
BLUR = 0.1  # of a slice's shorter side: no organ keeps its outline
LEAST_EVIDENCE = float(np.log(2))  # nats: noise there makes the sentence half as likely as noise elsewhere does


def token_span(offsets: list[tuple[int, int]], sentence: Sentence) -> slice:
    """The tokens of a sentence, by the `offsets` of the report's tokens."""
    inside = [index for index, (start, end) in enumerate(offsets) if end > sentence.start and start < sentence.end]
    return slice(inside[0], inside[-1] + 1)


def mixed_slices(row: dict) -> list[Image.Image]:
    """The row's slices, the pixels of each in random order, the same at every call: noise as bright as the slice."""
    rng = np.random.default_rng(0)
    arrays = [np.asarray(image) for image in row["images"]]
    return [
        Image.fromarray(rng.permutation(array.reshape(-1, *array.shape[2:])).reshape(array.shape)) for array in arrays
    ]


def blurred_slices(row: dict) -> list[Image.Image]:
    """The row's slices without anything small: what is left tells neither a nodule nor a wall."""
    return [image.filter(ImageFilter.GaussianBlur(BLUR * min(image.size))) for image in row["images"]]


def reaches_of(number: int) -> list[int]:
    """How many slices above and below are replaced with one of `number` slices: never so many that none is left."""
    return sorted({max(0, min(max(1, round(share * number)), number // 2 - 1)) for share in REACHES})


def contrast(drops: np.ndarray, reach: int) -> np.ndarray:
    """Of each slice: the mean of the drops of the replacements that take it in, less that of the others, `[S]`."""
    place = np.arange(len(drops))
    within = np.abs(place[:, None] - place) <= reach  # slice, centre
    outside = ~within
    return (within @ drops) / within.sum(axis=1) - (outside @ drops) / outside.sum(axis=1).clip(min=1)


def slice_evidence(
    model: PreTrainedModel, collator: PairCollator, row: dict, report: str, *, batch_size: int = 4
) -> dict[int, list[float]]:
    r"""
    Measures which slices each stated finding rests on.

    Noise replaces a slice `c` and its neighbours, of ten slices once one and once three above and below: the model may
    merge slices, a finding rarely ends between two, and one that is seen on its other slices still is stated. What the
    log-probability of the first sentence that states the finding loses by that is the drop
    \\(d_c = \log p(s \mid v, r_{<s}) - \log p(s \mid v^{(c)}, r_{<s})\\), with \\(r_{<s}\\) the report ahead of the
    sentence. The evidence of slice `i` is the mean drop of the replacements that take it in, less the mean of those
    that leave it as it is, in the mean over reaches and noises. Noise anywhere disturbs the model; a sentence that
    does not depend on where it is has evidence 0.

    There are three kinds of noise, as each looks like something. The negative of training (`negative="gauss"`) is
    about as bright as soft tissue, and so like an opacity or an effusion; the slice's own pixels, mixed, have its
    specks of calcium and metal; and the slice, blurred, keeps its fluid.

    Chosen on the true positives of the validation split, of two models of the phantom (362 and 350 of them; chance
    .40 and .42): the top slice met the finding in .77 and .75. With the first two noises alone it did in .76 and .70,
    by the drops around each slice alone, in .68 and .68. `benchmarks/bench_evidence.py` measures it.

    Args:
        model ([`~transformers.PreTrainedModel`]):
            Model in evaluation mode.
        collator ([`~ct_rate_pairs.trainer.PairCollator`]):
            Turns rows into its inputs.
        row (`dict`):
            The scan: `volume`, from which the noise is drawn, `images`, `slice_mm` and `prompt`.
        report (`str`):
            Its report.
        batch_size (`int`, *optional*, defaults to `4`):
            Volumes a forward pass. The `S` slices make `1 + 6 * S` volumes in all.

    Returns:
        `dict[int, list[float]]`: index in `LABELS` of each stated finding to the evidence of the `S` slices, in nats.
    """
    stated = stating_sentences(report)
    if not stated:
        return {}
    row = row | {"completion": [{"role": "assistant", "content": report}], "negative_images": []}
    images = row["images"]
    noises, reaches = (noise_slices(row), mixed_slices(row), blurred_slices(row)), reaches_of(len(images))
    volumes = [row]
    for noise, reach in product(noises, reaches):
        for centre in range(len(images)):
            replaced = slice(max(centre - reach, 0), centre + reach + 1)
            noisy = list(images)
            noisy[replaced] = noise[replaced]
            volumes.append(row | {"images": noisy})
    log_probs = torch.cat([token_log_probs(model, collator, batch) for batch in batched(volumes, batch_size)])
    _, offsets = tokens_of(collator, report)
    evidence = {}
    for label, sentence in stated.items():
        own, *others = log_probs[:, token_span(offsets, sentence)].sum(dim=1).tolist()  # 1 + noises * reaches * S
        drops = own - np.reshape(others, (len(noises), len(reaches), len(images))).mean(axis=0)  # [reaches, S]
        of_reaches = [contrast(of_reach, reach) for of_reach, reach in zip(drops, reaches, strict=True)]
        evidence[label] = np.mean(of_reaches, axis=0).tolist()
    return evidence


def top_slices(evidence: list[float]) -> list[int]:
    """
    The slices that a finding rests on, the best first, counted from 1: those whose evidence is at least log 2, and at
    least 70 % of the best one's. None where no slice stands out: the finding is seen all over, or is not read off the
    slices at all.
    """
    order = sorted(range(len(evidence)), key=lambda index: -evidence[index])
    least = max(LEAST_EVIDENCE, 0.7 * max(evidence))
    return [index + 1 for index in order if evidence[index] >= least]
