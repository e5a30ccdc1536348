"""
Whether the patches that are named as evidence lie in the finding: `python benchmarks/bench_patch_evidence.py MODEL
PHANTOM`, for a phantom with masks (`ct-rate-pairs phantom --masks`).

Reports are written at the operating point f1, if the model has one. Measured are the true positives that a slice
shows: findings which the report states and the masks have. The second table has those for which the evidence of slices
names a slice, so that the reporter shows patches of them. Each way gives a map of all patches of the slices, and the
same is measured of each map:
- pointing: whether the patch with the most evidence touches the mask (of equal patches, the share that does);
- merged: the same for the model's merged patches, by their highest patch; for Qwen2.5-VL, these have 28 x 28 pixels of
  two slices;
- slice: the same for slices;
- AP: average precision of the patches, each with its share of the mask.

A finding that the mask head has not learnt gets the same share everywhere, so it counts as chance. The benchmark takes
slices whose shorter side is two merged patches, as those of a phantom are for Qwen2.5-VL: then four patches make up a
merged one, and no slice is padded.

The trivial ways need no model: all patches alike (chance), those near the centre first, and the mean mask of the
finding in the training scans (atlas). Intervals are bootstrapped by patient.

`--figure FILE.png` draws what is measured: for the first true positives for which a slice is named, one per finding,
the slice with the largest part of the mask, and on it the maps of each way of `DRAWN`.
"""

import argparse
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from datasets import Dataset, load_dataset
from matplotlib.figure import Figure
from tqdm.auto import tqdm

from ct_rate_pairs import LABELS
from ct_rate_pairs.eval.figures.style import NEUTRAL, save_figure
from ct_rate_pairs.eval.generate import batched
from ct_rate_pairs.eval.looking.likelihood import answer_losses, on_device
from ct_rate_pairs.eval.metrics.bootstrap import estimate
from ct_rate_pairs.eval.predictions.predict import predict
from ct_rate_pairs.eval.rows import first_rows
from ct_rate_pairs.eval.scoring.masks import drawn_masks, make_atlas
from ct_rate_pairs.eval.tables import format_markdown
from ct_rate_pairs.hub.reporting.evidence import blurred_slices, slice_evidence, top_slices
from ct_rate_pairs.hub.reporting.load import load_reporter
from ct_rate_pairs.hub.reporting.patch_evidence import PATCHES, log_odds, patch_evidence, stated_spans
from ct_rate_pairs.hub.reporting.reporter import Reporter
from ct_rate_pairs.trainer import PairCollator, read_row_settings
from ct_rate_pairs.trainer.generation import Written
from ct_rate_pairs.trainer.vision_features import ENCODED
from ct_rate_pairs.whole_files import write_whole


MOST_TOKENS = 480  # of a report of the phantom
ATLAS_SCANS = 400
CI = 0.95
SLICES = "evidence of slices"  # which tells whether a slice is named
NAMED = "with a slice named"
SCORES = ("pointing", "merged", "slice", "AP")
INTEGRATED, ATTENTION, HEAD = "integrated gradients", "attention", "mask head"
DRAWN = (INTEGRATED, ATTENTION, HEAD)  # in the figure
MOST_DRAWN = 4  # findings in the figure
Maps = dict[int, np.ndarray]  # index in `LABELS` -> evidence [S, R, C]


def write(reporter: Reporter, row: dict) -> Written:
    """The report of a row, at the operating point f1 if the model has one."""
    options = {"max_new_tokens": MOST_TOKENS, "with_line": reporter.has_line}
    has_points = reporter.confidence and reporter.confidence.line
    point = reporter.confidence.operating_point("f1") if has_points else None
    (prediction,) = predict(reporter.model, reporter.collator, [row], **options, operating_point=point)
    return prediction.written


def to_patches(planes: np.ndarray) -> np.ndarray:
    """Means of planes [..., H, W] over the patches: [..., R, C]."""
    *lead, height, width = planes.shape
    shorter = min(height, width)
    size = round(PATCHES * height / shorter), round(PATCHES * width / shorter)
    flat = torch.from_numpy(np.ascontiguousarray(planes, np.float32)).view(-1, 1, height, width)
    return F.adaptive_avg_pool2d(flat, size).view(*lead, *size).numpy()


@dataclass(frozen=True)
class Example:
    """A true positive for the figure: the slice with the largest part of its mask, and the maps of this slice."""

    finding: str
    volume: str
    number: int  # of the slice, from 1 at the top
    image: np.ndarray  # [H, W]
    mask: np.ndarray  # bool [H, W]
    maps: dict[str, np.ndarray]  # way -> shares [R, C] of the highest value on all slices


class Scored:
    """A row with its report: the log-odds of each stated finding, given any pixels or features."""

    def __init__(self, reporter: Reporter, row: dict, written: Written):
        """Collates the row once."""
        self.model, self.collator, self.row = reporter.model, reporter.collator, row
        video = self.collator.processor.video_processor
        self.merge, self.depth = video.merge_size, video.temporal_patch_size
        answer, self.spans = stated_spans(self.collator, written.text, written.line)
        turn = {"completion": [{"role": "assistant", "content": answer}], "negative_images": []}
        self.batch = on_device(self.collator([row | turn]), self.model)
        self.pixels = self.batch.pop("pixel_values_videos")
        self.grid = self.batch["video_grid_thw"]
        self.first = int((self.batch["labels"][0] != -100).nonzero()[0])

    def log_odds(self, number: int, **visual) -> dict[int, torch.Tensor]:
        """Log-odds [B] of each finding for `number` volumes."""
        inputs = {name: value.repeat(number, *[1] * (value.dim() - 1)) for name, value in self.batch.items()}
        losses, _ = answer_losses(self.model, inputs | visual)
        return {label: log_odds(-losses[:, span].sum(dim=1)) for label, span in self.spans.items()}

    def merged(self, values: torch.Tensor) -> np.ndarray:
        """Values of the merged patches as a map, [S, rows, columns]."""
        frames, rows, columns = self.grid[0].tolist()
        return self.on_slices(values.detach().float().view(frames, rows // self.merge, columns // self.merge).numpy())

    def on_slices(self, values: np.ndarray) -> np.ndarray:
        """Values of pairs of slices on each slice, [S, ...]. The last slice of an odd number was repeated."""
        return np.repeat(values, self.depth, axis=0)[: len(self.row["images"])]


@torch.no_grad()
def noise_in_blocks(scored: Scored) -> Maps:
    """The drop of the log-odds if one of the tower's own patches is blurred, for each patch."""
    blurred = scored.row | {"images": blurred_slices(scored.row)}
    noise = scored.collator.prompts([blurred])["pixel_values_videos"]
    blocks, own = range(len(scored.pixels)), scored.log_odds(1, pixel_values_videos=scored.pixels)
    drops: dict[int, list] = {label: [] for label in scored.spans}
    for chosen in batched(blocks, 16):
        volumes = scored.pixels.repeat(len(chosen), 1, 1)
        volumes[range(len(chosen)), chosen] = noise[chosen]
        for label, odds in scored.log_odds(len(chosen), pixel_values_videos=volumes.flatten(0, 1)).items():
            drops[label] += (own[label] - odds).tolist()
    (frames, rows, columns), merge = scored.grid[0].tolist(), scored.merge
    maps = {}
    for label, values in drops.items():
        merged = np.array(values).reshape(frames, rows // merge, columns // merge, merge, merge)
        planes = merged.transpose(0, 1, 3, 2, 4).reshape(frames, rows, columns)
        maps[label] = to_patches(scored.on_slices(planes))
    return maps


def gradient_of_features(scored: Scored) -> Maps:
    """Gradient x input on the vision tower's merged patches: one backward pass per finding."""
    with torch.no_grad():
        encoded = scored.model.get_video_features(scored.pixels, scored.grid, return_dict=True)
    features = torch.cat(tuple(encoded.pooler_output)).requires_grad_()
    encoded.pooler_output = (features,)
    maps = {}
    for label, odds in scored.log_odds(1, **{ENCODED: {"video": encoded}}).items():
        (gradient,) = torch.autograd.grad(odds.sum(), features, retain_graph=True)
        maps[label] = to_patches(scored.merged((gradient * features).sum(dim=-1)))
    return maps


@torch.no_grad()
def attention(scored: Scored) -> Maps:
    """Mean attention, over layers and heads, of the tokens that write a finding on the merged patches."""
    inputs = {name: value for name, value in scored.batch.items() if name != "labels"}
    scored.model.set_attn_implementation("eager")
    layers = scored.model(**inputs, pixel_values_videos=scored.pixels, output_attentions=True).attentions
    scored.model.set_attn_implementation("sdpa")
    mean = torch.stack([layer[0].mean(dim=0) for layer in layers]).mean(dim=0)  # [T, T]
    patches = scored.batch["input_ids"][0] == scored.model.config.video_token_id
    maps = {}
    for label, span in scored.spans.items():
        begin = scored.first - 1  # a token is written at the place before it
        writing = mean[begin + span.start : begin + span.stop, patches].mean(dim=0)
        maps[label] = to_patches(scored.merged(writing))
    return maps


def ways_of(reporter: Reporter, atlas: np.ndarray) -> dict[str, Callable[[Scored, Written, tuple], Maps]]:
    """Each way with its name. A way takes a row with its report, and the shape of a map."""

    def integrated(scored: Scored, written: Written, shape: tuple) -> Maps:
        found = patch_evidence(reporter.model, reporter.collator, scored.row, written.text, line=written.line)
        return {label: patches.values for label, patches in found.items()}

    def head_map(scored: Scored, written: Written, shape: tuple) -> Maps:
        masker = reporter.masker
        known = [LABELS[label] for label in scored.spans if LABELS[label] in masker.channels]
        shares = masker.shares(reporter.model, reporter.collator, scored.row, known) if known else {}
        maps = {LABELS.index(name): to_patches(share) for name, share in shares.items()}
        return {label: maps[label] if label in maps else np.zeros(shape) for label in scored.spans}

    def centre(scored: Scored, written: Written, shape: tuple) -> Maps:
        axes = np.meshgrid(*((np.arange(count) + 0.5) / count - 0.5 for count in shape), indexing="ij")
        return dict.fromkeys(scored.spans, -sum(axis**2 for axis in axes))

    def mean_mask(scored: Scored, written: Written, shape: tuple) -> Maps:
        maps = F.interpolate(torch.from_numpy(atlas), size=shape[1:], mode="area").numpy()
        return {label: maps[label] for label in scored.spans}

    return {
        INTEGRATED: integrated,
        "noise in blocks": lambda scored, written, shape: noise_in_blocks(scored),
        "gradient x merged patches": lambda scored, written, shape: gradient_of_features(scored),
        ATTENTION: lambda scored, written, shape: attention(scored),
        **({HEAD: head_map} if reporter.masker else {}),
        "atlas": mean_mask,
        "centre": centre,
        "chance": lambda scored, written, shape: dict.fromkeys(scored.spans, np.zeros(shape)),
    }


def average_precision(evidence: np.ndarray, shares: np.ndarray) -> float:
    """Average precision of patches, each of which counts as inside by its share, and as outside by the rest."""
    _, place = np.unique(-evidence, return_inverse=True)  # patches of equal evidence come together
    inside, all_of = np.bincount(place.ravel(), shares.ravel()), np.bincount(place.ravel())
    precision = inside.cumsum() / all_of.cumsum()
    return float((inside * precision).sum() / inside.sum())


def measure(evidence: np.ndarray, shares: np.ndarray) -> dict[str, float]:
    """The scores of one map, `[S, R, C]`, against the shares of the mask in its patches."""
    slices, rows, columns = shares.shape

    def pointing(evidence: np.ndarray, touches: np.ndarray) -> float:
        return float(touches[evidence == evidence.max()].mean())

    def merge(values: np.ndarray) -> np.ndarray:
        # Four patches along each side of a merged patch: see `check_size`.
        padded = np.concatenate([values, values[-1:]]) if slices % 2 else values
        return padded.reshape(-1, 2, rows // 4, 4, columns // 4, 4).max(axis=(1, 3, 5))

    return {
        "pointing": pointing(evidence, shares > 0),
        "merged": pointing(merge(evidence), merge(shares) > 0),
        "slice": pointing(evidence.max(axis=(1, 2)), shares.any(axis=(1, 2))),
        "AP": average_precision(evidence, shares),
    }


def check_size(collator: PairCollator, row: dict) -> None:
    """Raises a `ValueError` if the shorter side of the slices is not two merged patches, or if slices are padded."""
    video, sides = collator.processor.video_processor, row["images"][0].size
    merged = video.patch_size * video.merge_size
    if min(sides) != 2 * merged or max(sides) % merged:
        raise ValueError(
            f"The slices have {sides[0]} x {sides[1]} pixels. This benchmark needs multiples of {merged}, the side of "
            f"this model's merged patches, and two of them along the shorter side."
        )


def score(records: list[dict]) -> dict:
    """Means of the scores over true positives, with intervals by patient."""
    values = {name: np.array([record[name] for record in records], float) for name in SCORES}
    statistics = values | {"n": np.ones(len(records))}
    volumes = [record["volume"] for record in records]
    means = estimate(statistics, lambda sums: {name: sums[name] / sums["n"] for name in SCORES}, volumes, CI)
    return means | {"n": len(records)}


def format_scores(results: dict[str, dict], seconds: dict[str, float]) -> str:
    """A Markdown table: a row per way."""
    lines = [["", "true positives", *SCORES, "s per scan"]]
    for way, own in results.items():
        cells = []
        for name in SCORES:
            low, high = own[f"{name}_ci"] or (own[name], own[name])
            cells.append(f"{own[name]:.2f} [{low:.2f}, {high:.2f}]")
        lines.append([way, str(own["n"]), *cells, f"{seconds[way]:.2f}"])
    return format_markdown(lines)


def collect(
    reporter: Reporter, rows: Dataset, ways: dict
) -> tuple[list[dict], dict[str, float], dict[str, list], list[Example]]:
    """
    The scores of each true positive by each way, processor seconds per scan, for each planted finding whether a slice
    shows it, and the examples of the figure.
    """
    records, seconds, seen = [], dict.fromkeys((SLICES, *ways), 0.0), {}
    examples: dict[str, Example] = {}
    for row in tqdm(rows, desc="Evidence", unit="scan"):
        drawn = drawn_masks(row, LABELS)
        shares = to_patches(drawn)
        for label in np.flatnonzero(row["labels"]):
            seen.setdefault(LABELS[label], []).append(bool(shares[label].any()))
        written = write(reporter, row)
        scored = Scored(reporter, row, written)
        start = time.process_time()
        named = slice_evidence(reporter.model, reporter.collator, row, written.text, line=written.line)
        named = {label for label, evidence in named.items() if top_slices(evidence)}
        seconds[SLICES] += time.process_time() - start
        maps: dict[str, Maps] = {}
        for way, run in ways.items():
            start = time.process_time()
            maps[way] = run(scored, written, shares.shape[1:])
            seconds[way] += time.process_time() - start
        for label in scored.spans:
            if shares[label].any():
                told = {"volume": row["volume"], "finding": LABELS[label], "named": label in named}
                records += [{"way": way, **told, **measure(maps[way][label], shares[label])} for way in ways]
                if label in named and LABELS[label] not in examples and len(examples) < MOST_DRAWN:
                    of_label = {way: maps[way][label] for way in DRAWN if way in maps}
                    examples[LABELS[label]] = example(row, LABELS[label], drawn[label], of_label)
    return records, {way: value / len(rows) for way, value in seconds.items()}, seen, list(examples.values())


def example(row: dict, finding: str, drawn: np.ndarray, maps: dict[str, np.ndarray]) -> Example:
    """The example of a finding with the mask `drawn`, `[S, H, W]`, and maps `[S, R, C]`."""
    place = int(drawn.sum(axis=(1, 2)).argmax())
    shares = {way: np.maximum(values[place], 0) / max(values.max(), 1e-12) for way, values in maps.items()}
    image = np.asarray(row["images"][place].convert("L"))
    return Example(finding, row["volume"], place + 1, image, drawn[place], shares)


def draw_examples(examples: list[Example], scores: dict[str, dict], path: Path) -> None:
    """
    Draws a row per finding: the slice alone, and under the map of each way. A column tells how often its way pointed
    right, by the `scores` of all true positives with a slice named.
    """
    ways = list(examples[0].maps)
    flat = max(one.image.shape[0] / one.image.shape[1] for one in examples)
    figure = Figure(figsize=(2.6 * (len(ways) + 1), (2.6 * flat + 0.2) * len(examples) + 0.9), layout="constrained")
    grid = figure.subplots(len(examples), len(ways) + 1, squeeze=False)
    for axes, one in zip(grid, examples, strict=True):
        height, width = one.image.shape
        for place, way in zip(axes, ["", *ways], strict=True):
            place.imshow(one.image, cmap="gray", vmin=0, vmax=255)
            if way:
                # Not smoothed: a way can point no finer than its patches.
                extent = (-0.5, width - 0.5, height - 0.5, -0.5)
                shares = np.kron(one.maps[way], np.ones((16, 16)))
                place.imshow(shares, cmap="inferno", vmin=0, vmax=1, alpha=0.75 * shares, extent=extent)
            place.contour(one.mask, levels=[0.5], colors="#56c8ff", linewidths=1.2)
            place.set(xticks=[], yticks=[])
        axes[0].set_ylabel(f"{one.finding}\n{one.volume.split('.')[0]}, slice {one.number}", fontsize=8)
    grid[0][0].set_title("the slice, and the drawn mask", fontsize=9)
    for place, way in zip(grid[0][1:], ways, strict=True):
        place.set_title(f"{way}\npoints right: {scores[way]['pointing']:.2f}", fontsize=9)
    told = "Each map as shares of its highest value on all slices. Outlined: the drawn mask."
    figure.supxlabel(told, fontsize=8, color=NEUTRAL)
    save_figure(figure, path)


def main() -> None:
    """Measures the ways, prints the tables, and writes the records."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="model trained on the phantom: a folder, such as runs/phantom")
    parser.add_argument("data_dir", help="a phantom cohort with masks")
    parser.add_argument("--split", default="test", help="split to measure (default: %(default)s)")
    parser.add_argument("--scans", type=int, default=0, help="scans to measure; 0, the default, is all")
    parser.add_argument("--output_file", type=Path, help="JSON file for all scores, in the end")
    parser.add_argument("--figure", type=Path, help="PNG file for the maps of some true positives, beside their masks")
    args = parser.parse_args()
    torch.set_num_threads(1)
    reporter = load_reporter(args.model, device="cpu")
    options = {"masks": str(Path(args.data_dir, "masks")), "negative": "none", **read_row_settings(args.model)}
    splits = load_dataset("ct_rate_pairs", data_dir=args.data_dir, **options)
    atlas = make_atlas(first_rows(splits["train"], ATLAS_SCANS), LABELS)
    check_size(reporter.collator, splits[args.split][0])
    ways = ways_of(reporter, atlas)
    records, seconds, seen, examples = collect(reporter, first_rows(splits[args.split], args.scans), ways)
    results = {}
    groups = {"all findings": records, NAMED: [record for record in records if record["named"]]}
    groups |= {label: [record for record in records if record["finding"] == label] for label in LABELS}
    for group, of_group in groups.items():
        if of_group:
            results[group] = {way: score([record for record in of_group if record["way"] == way]) for way in ways}
            print(f"\n{group}\n\n{format_scores(results[group], seconds)}", end="")
    hidden = [f"{name} {seen[name].count(False)} of {len(seen[name])}" for name in seen if not all(seen[name])]
    print(f"\n{SLICES}: {seconds[SLICES]:.2f} s per scan; findings that no slice shows: {', '.join(hidden) or 'none'}")
    if args.figure and examples:
        draw_examples(examples, results[NAMED], args.figure)
    if args.output_file:
        told = {"results": results, "seconds": seconds, "seen": seen, "records": records}
        write_whole(args.output_file, json.dumps(told))


if __name__ == "__main__":
    main()
