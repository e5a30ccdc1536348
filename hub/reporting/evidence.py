"""The slices that a stated finding rests on: its sentence becomes less likely if noise replaces these slices."""

from collections.abc import Mapping, Sequence
from itertools import product

import numpy as np
import torch
from PIL import Image, ImageFilter
from transformers import PreTrainedModel

from ct_rate_pairs.eval.generate import batched
from ct_rate_pairs.eval.looking.likelihood import token_log_probs, tokens_of
from ct_rate_pairs.eval.looking.line_probabilities import line_logits
from ct_rate_pairs.eval.looking.other_volumes import noise_slices
from ct_rate_pairs.random_streams import random_stream
from ct_rate_pairs.reports.findings_line import form_of
from ct_rate_pairs.reports.sentences import Sentence, stating_sentences
from ct_rate_pairs.trainer import PairCollator


REACHES = (0.1, 0.3)  # shares of the slices that are replaced above and below the central slice
BLUR = 0.1  # radius as a share of a slice's shorter side, so large that no organ keeps its outline
LEAST_EVIDENCE = float(np.log(2))  # nats; with noise there, the sentence is half as likely as with noise elsewhere


def token_span(offsets: list[tuple[int, int]], first: int, after: int) -> slice:
    """The tokens of a part of a report, such as a sentence. `offsets` are the characters of each token."""
    inside = [index for index, (start, end) in enumerate(offsets) if end > first and start < after]
    return slice(inside[0], inside[-1] + 1)


def mixed_slices(row: dict) -> list[Image.Image]:
    """The row's slices with the pixels of each in random order, which is the same at every call."""
    rng = random_stream(0)
    arrays = [np.asarray(image) for image in row["images"]]
    return [
        Image.fromarray(rng.permutation(array.reshape(-1, *array.shape[2:])).reshape(array.shape)) for array in arrays
    ]


def blurred_slices(row: dict) -> list[Image.Image]:
    """The row's slices, blurred so much that neither a nodule nor a wall can be seen."""
    return [image.filter(ImageFilter.GaussianBlur(BLUR * min(image.size))) for image in row["images"]]


def reaches_of(number: int) -> list[int]:
    """Numbers of slices to replace above and below a slice, for `number` slices. At least one slice always stays."""
    return sorted({max(0, min(max(1, round(share * number)), number // 2 - 1)) for share in REACHES})


def contrast(drops: np.ndarray, reach: int) -> np.ndarray:
    """For each slice, the mean drop of replacements that include the slice, less that of the others, `[S]`."""
    place = np.arange(len(drops))
    within = np.abs(place[:, None] - place) <= reach  # slice, centre
    outside = ~within
    return (within @ drops) / within.sum(axis=1) - (outside @ drops) / outside.sum(axis=1).clip(min=1)


def slice_evidence(
    model: PreTrainedModel,
    collator: PairCollator,
    row: dict,
    report: str,
    *,
    line: str | None = None,
    batch_size: int = 4,
) -> dict[int, list[float]]:
    r"""
    Measures which slices each stated finding rests on.

    Noise replaces a slice `c` and its neighbours. With ten slices, the reach is once one and once three slices above
    and below. Neighbours are replaced too, because the model may merge slices, and because a finding that extends over
    several slices is still stated if only one of them is replaced.

    The drop is the loss of log-probability of the first sentence `s` that states the finding,
    \\(d_c = \log p(s \mid v, r_{<s}) - \log p(s \mid v^{(c)}, r_{<s})\\), with \\(r_{<s}\\) the report before the
    sentence. The evidence of slice `i` is the mean drop of replacements that include slice `i`, less the mean drop of
    all other replacements; then the mean over reaches and kinds of noise is taken. The difference matters because
    noise in any place disturbs the model: if the drop does not depend on the place, the evidence is 0.

    Each kind of noise resembles some finding, so three kinds are used. The noise of training (`negative="gauss"`) is
    about as bright as soft tissue, like an opacity or an effusion. The slice's own pixels in random order keep bright
    specks of calcium and metal. The blurred slice keeps fluid.

    Below a findings line, the sentences follow from the line, whatever the slices show. So with a `line`, the drop is
    that of the log-odds which the line gives the finding.

    The method was chosen on the validation split, by the true positives of two models of the phantom (362 and 350
    findings; chance .40 and .42). The top slice met the finding in .77 and .75 of these. With only the first two kinds
    of noise, the shares were .76 and .70; with only the drops around each slice, .68 and .68. Of 143 true positives
    of a model with yes/no lines (60 test scans; chance .41), the top slice met the finding in .80 by the line, and in
    .64 by the sentences; 113 and 44 of them named a slice. `benchmarks/bench_evidence.py` measures this.

    Args:
        model ([`~transformers.PreTrainedModel`]):
            Model in evaluation mode.
        collator ([`~ct_rate_pairs.trainer.PairCollator`]):
            Turns rows into inputs of the model.
        row (`dict`):
            The scan, with `volume`, `images`, `slice_mm` and `prompt`. The name `volume` seeds the noise.
        report (`str`):
            The report of the scan, with its findings line.
        line (`str`, *optional*):
            The findings line of the report. The evidence is not measured by a malformed one.
        batch_size (`int`, *optional*, defaults to `4`):
            Volumes per forward pass. `S` slices take `1 + 6 * S` volumes in total.

    Returns:
        `dict[int, list[float]]`: maps the index in `LABELS` of each stated finding to the evidence of the `S` slices,
        in nats.
    """
    stated = stating_sentences(report, with_line=line is not None)
    if not stated:
        return {}
    images = row["images"]
    noises, reaches = (noise_slices(row), mixed_slices(row), blurred_slices(row)), reaches_of(len(images))
    volumes = [row | {"images": images}, *noisy_volumes(row, noises, reaches)]
    score = line_scores if line and form_of(line) else sentence_scores
    scores = score(model, collator, volumes, line if score is line_scores else report, stated, batch_size)
    evidence = {}
    for label, (own, *others) in scores.items():  # 1 + noises * reaches * S
        drops = own - np.reshape(others, (len(noises), len(reaches), len(images))).mean(axis=0)  # [reaches, S]
        of_reaches = [contrast(of_reach, reach) for of_reach, reach in zip(drops, reaches, strict=True)]
        evidence[label] = np.mean(of_reaches, axis=0).tolist()
    return evidence


def noisy_volumes(row: dict, noises: Sequence[list[Image.Image]], reaches: Sequence[int]) -> list[dict]:
    """The row with each kind of noise, at each reach, around each slice."""
    volumes, images = [], row["images"]
    for noise, reach in product(noises, reaches):
        for centre in range(len(images)):
            replaced = slice(max(centre - reach, 0), centre + reach + 1)
            noisy = list(images)
            noisy[replaced] = noise[replaced]
            volumes.append(row | {"images": noisy})
    return volumes


def sentence_scores(
    model: PreTrainedModel,
    collator: PairCollator,
    volumes: list[dict],
    report: str,
    stated: Mapping[int, Sentence],
    batch_size: int,
) -> dict[int, list[float]]:
    """Log-probability of the sentence that states each finding, given each of the volumes."""
    answer = {"completion": [{"role": "assistant", "content": report}], "negative_images": []}
    batches = batched([volume | answer for volume in volumes], batch_size)
    log_probs = torch.cat([token_log_probs(model, collator, batch) for batch in batches])
    _, offsets = tokens_of(collator, report)
    spans = {label: token_span(offsets, sentence.start, sentence.end) for label, sentence in stated.items()}
    return {label: log_probs[:, span].sum(dim=1).tolist() for label, span in spans.items()}


def line_scores(
    model: PreTrainedModel,
    collator: PairCollator,
    volumes: list[dict],
    line: str,
    stated: Mapping[int, Sentence],
    batch_size: int,
) -> dict[int, list[float]]:
    """Log-odds that the findings line gives each stated finding, given each of the volumes."""
    batches = batched(volumes, batch_size)
    logits = np.concatenate([line_logits(model, collator, batch, [line] * len(batch)) for batch in batches])
    return {label: logits[:, label].tolist() for label in stated}


def top_slices(evidence: list[float]) -> list[int]:
    """
    The slices that a finding rests on, counted from 1, in descending order of evidence.

    The evidence of each is at least log 2, and at least 70 % of the highest evidence. The list is empty if no slice
    stands out: the finding is then visible on all slices, or the model does not read it from the slices.
    """
    order = sorted(range(len(evidence)), key=lambda index: -evidence[index])
    least = max(LEAST_EVIDENCE, 0.7 * max(evidence))
    return [index + 1 for index in order if evidence[index] >= least]
