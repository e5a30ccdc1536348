r"""
The patches that a stated finding rests on, by integrated gradients (Sundararajan et al., 2017, ICML).

On a straight way from noise to the scan, the gradient of the finding's log-odds tells at each step how much a change
of each pixel adds. Summed up over the way, this is the evidence of the pixel. The evidence of all pixels together is
the log-odds given the scan, less the log-odds given noise.
"""

from collections.abc import Collection, Mapping
from itertools import product

import numpy as np
import torch
import torch.nn.functional as F
from transformers import PreTrainedModel

from ct_rate_pairs.eval.generate import batched
from ct_rate_pairs.eval.looking.likelihood import answer_losses, on_device, tokens_of
from ct_rate_pairs.reports.findings_line import stating_entries
from ct_rate_pairs.reports.sentences import stating_sentences
from ct_rate_pairs.trainer import PairCollator

from .evidence import blurred_slices, mixed_slices, token_span
from .patches import PatchEvidence


STEPS = 4  # places on the way from noise to the scan
PATCHES = 8  # along the shorter side of a slice
SURE = -1e-6  # log-probability above which the log-odds grow no more


def patch_evidence(
    model: PreTrainedModel,
    collator: PairCollator,
    row: dict,
    report: str,
    *,
    line: str | None = None,
    labels: Collection[int] | None = None,
    batch_size: int = 4,
) -> dict[int, PatchEvidence]:
    r"""
    Measures which patches of the slices each stated finding rests on.

    The evidence of a pixel is \\((x_i - n_i) \frac{1}{K} \sum_k \partial f(n + \alpha_k (x - n)) / \partial x_i\\). In
    it, \\(n\\) is the noise, \\(\alpha_k = (k - 1/2) / K\\), and \\(f\\) are the log-odds of the first sentence that
    states the finding. With a `line`, they are those of the entry of the line. The mean is taken over two kinds of
    noise of [`~ct_rate_pairs.hub.reporting.evidence.slice_evidence`]: the slice's own pixels in random order, and the
    blurred slice. The evidence of a patch is the sum of its pixels, without those that speak against the finding.

    The way was chosen on the validation split, see `docs/grounding.md`; `benchmarks/bench_patch_evidence.py` measures
    it. With the noise of training as a third kind, the top patch met the finding less often (.58 of 225 true
    positives, against .63), and as often if patches were smoothed.

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
        labels (`Collection[int]`, *optional*):
            Indices in `LABELS` of the findings to measure. By default, all that the report states.
        batch_size (`int`, *optional*, defaults to `4`):
            Volumes per pass. There are `2 * STEPS` volumes; each takes one forward pass, and a backward pass per
            finding.

    Returns:
        `dict[int, PatchEvidence]`: maps the index in `LABELS` of each stated finding to the evidence of its patches.
        With a `line`, findings that the line does not state have none. It is empty for a model that takes slices as
        images, because its processor may crop them.
    """
    answer, spans = stated_spans(collator, report, line)
    spans = {label: span for label, span in spans.items() if labels is None or label in labels}
    if not spans or not collator.takes_video:
        return {}
    turn = {"completion": [{"role": "assistant", "content": answer}], "negative_images": []}
    batch = on_device(collator([row | turn]), model)
    pixels = batch.pop(collator.pixels)
    noises = [
        collator.prompts([row | {"images": images}])[collator.pixels].to(pixels)
        for images in (mixed_slices(row), blurred_slices(row))
    ]
    points = list(product(noises, (np.arange(STEPS) + 0.5) / STEPS))
    total = {label: torch.zeros_like(pixels) for label in spans}
    for chosen in batched(points, batch_size):
        with torch.enable_grad():
            between = torch.cat([noise + share * (pixels - noise) for noise, share in chosen]).requires_grad_()
            inputs = {name: tensor.repeat(len(chosen), *[1] * (tensor.dim() - 1)) for name, tensor in batch.items()}
            losses, _ = answer_losses(model, inputs | {collator.pixels: between})  # [B, K]
            odds = {label: log_odds(-losses[:, span].sum(dim=1)).sum() for label, span in spans.items()}
        for label, value in odds.items():
            (gradient,) = torch.autograd.grad(value, between, retain_graph=True)
            for (noise, _), own in zip(chosen, gradient.chunk(len(chosen)), strict=True):
                total[label] += own * (pixels - noise) / len(points)
    grid = batch["video_grid_thw"][0].tolist()
    return {label: patches_of(collator, row, own.float().cpu(), grid) for label, own in total.items()}


def stated_spans(collator: PairCollator, report: str, line: str | None) -> tuple[str, Mapping[int, slice]]:
    """
    The text to score, which is the line if it is sound; and for each finding that the report states, the tokens of the
    text that state the finding.
    """
    stated = stating_sentences(report, with_line=line is not None)
    places = {label: (sentence.start, sentence.end) for label, sentence in stated.items()}
    if line and (entries := stating_entries(line)):
        report, places = line, {label: entries[label] for label in stated if label in entries}
    _, offsets = tokens_of(collator, report)
    return report, {label: token_span(offsets, *place) for label, place in places.items()}


def log_odds(log_prob: torch.Tensor) -> torch.Tensor:
    """Log-odds of log-probabilities. Unlike these, log-odds still have a gradient where a model is sure."""
    log_prob = log_prob.double()
    return log_prob - torch.log(-torch.expm1(log_prob.clamp(max=SURE)))


def patches_of(collator: PairCollator, row: dict, pixels: torch.Tensor, grid: list[int]) -> PatchEvidence:
    """
    The evidence of patches, from that of the pixels as the video processor orders them.

    Args:
        collator ([`~ct_rate_pairs.trainer.PairCollator`]):
            The collator that gave the pixels of the row.
        row (`dict`):
            The scan, of which `images` are read.
        pixels (`torch.Tensor` of shape `[frames * rows * columns, values]`):
            Evidence of the pixels in the patches of the vision tower.
        grid (`list[int]`):
            Pairs of slices, and rows and columns of these patches.
    """
    video = collator.processor.video_processor
    side, merge, depth = video.patch_size, video.merge_size, video.temporal_patch_size
    frames, rows, columns = grid  # of the tower's own patches
    split = pixels.reshape(frames, rows // merge, columns // merge, merge, merge, -1, depth, side, side).sum(dim=5)
    slices = split.permute(0, 5, 1, 3, 6, 2, 4, 7).reshape(frames * depth, rows * side, columns * side)
    slices = slices[: len(row["images"])].clamp(min=0)  # the last one of an odd number was repeated
    height, width = slices.shape[1:]
    shorter = min(height, width)
    size = round(PATCHES * height / shorter), round(PATCHES * width / shorter)
    values = F.adaptive_avg_pool2d(slices, size) * (height * width / (size[0] * size[1]))
    own_width, own_height = row["images"][0].size
    return PatchEvidence(values.numpy(), _edges(size[0], height, own_height), _edges(size[1], width, own_width))


def _edges(count: int, padded: int, length: int) -> np.ndarray:
    """The edges of patches as shares of a side, which [`PairCollator`] has padded around its centre."""
    before = -((length - padded) // 2)
    return ((np.linspace(0, padded, count + 1) - before) / length).clip(0, 1)
