"""
Compares `mask_scores` with MONAI on random masks, and the costs: `python benchmarks/bench_dice.py` (extra `bench`).

MONAI's panoptic quality pairs each lesion with at most one other, by their IoU. So it finds at most as many lesions as
[`ct_rate_pairs.eval.metrics.dice`], which asks whether a lesion is met. Times are those of the processor.
"""

import resource
import sys
import time

import numpy as np


def peak() -> float:
    """Peak memory of this process in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3


def boxes(rng: np.random.Generator, shape: tuple[int, int, int], number: int) -> np.ndarray:
    """A mask of some boxes."""
    mask = np.zeros(shape, bool)
    for _ in range(number):
        starts, sizes = rng.integers(shape), rng.integers(1, 2 + np.array(shape) // 3)
        mask[tuple(map(slice, starts, starts + sizes))] = True
    return mask


def main() -> None:
    """Prints the differences and the costs."""
    start = time.process_time()
    from ct_rate_pairs.eval.metrics.dice import mask_scores  # noqa: PLC0415

    print(f"ct_rate_pairs.eval.metrics.dice: imported in {time.process_time() - start:.1f} s, peak {peak():.0f} MB")
    start = time.process_time()
    import torch  # noqa: PLC0415

    print(f"torch: imported in {time.process_time() - start:.1f} s, peak {peak():.0f} MB")
    start = time.process_time()
    try:
        from monai.metrics import compute_dice, compute_panoptic_quality  # noqa: PLC0415
    except ImportError:
        sys.exit("pip install '.[bench]'")
    print(f"MONAI, after torch: imported in {time.process_time() - start:.1f} s, peak {peak():.0f} MB")
    from scipy import ndimage  # noqa: PLC0415

    rng = np.random.default_rng(0)
    pairs = [[boxes(rng, (10, 64, 64), int(rng.integers(0, 6))) for _ in range(2)] for _ in range(200)]
    start = time.process_time()
    ours = [mask_scores([prediction], [reference]) for prediction, reference in pairs]
    own_seconds = time.process_time() - start
    start = time.process_time()
    as_tensors = [[torch.from_numpy(mask)[None, None].float() for mask in pair] for pair in pairs]
    theirs = [float(compute_dice(*pair)) for pair in as_tensors]
    their_seconds = time.process_time() - start
    known = [(own["dice"], other) for own, other in zip(ours, theirs, strict=True) if own["dice"] is not None]
    undefined = sum(np.isnan(other) for other in theirs)
    print(f"Dice of {len(known)} pairs: largest difference {max(abs(own - other) for own, other in known):.1e}")
    print(f"undefined: {len(pairs) - len(known)} here, {undefined} in MONAI")
    found = paired = lesions = 0
    for own, pair in zip(ours, pairs, strict=True):
        parts = [torch.from_numpy(ndimage.label(mask, np.ones((3, 3, 3)))[0]) for mask in pair]
        counts = compute_panoptic_quality(*parts, match_iou_threshold=1e-6, output_confusion_matrix=True)
        found += round((own["lesion_recall"] or 0) * own["lesions"])
        paired, lesions = paired + int(counts[0]), lesions + own["lesions"]
    print(f"lesions: {lesions}; met {found}; paired by MONAI's panoptic quality {paired}")
    print(f"seconds: {own_seconds:.2f} with lesions here, {their_seconds:.2f} for Dice in MONAI")


if __name__ == "__main__":
    main()
