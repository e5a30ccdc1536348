"""
What it costs that each volume is read in a process of its own: the slices of a volume of 512 x 512 x 300 voxels, read
so and in the process itself, in turns, in a process without weights and in one that holds 3 GB of them.
"""

import argparse
import os
import resource
import statistics
import tempfile
import time
from pathlib import Path


os.environ["OMP_NUM_THREADS"] = "1"  # before numpy and torch are imported

import nibabel as nib
import numpy as np
import psutil
import torch

from ct_rate_pairs.volumes import apart
from ct_rate_pairs.volumes.nifti import read_slices


SHAPE, VOXEL = (512, 512, 300), (0.68, 0.68, 1.0)
GIGABYTES = 3


def write_volume(path: Path) -> None:
    """A body with noise, which gzip packs to about the size of a real scan."""
    rng = np.random.default_rng(0)
    x, y = np.ogrid[-1 : 1 : SHAPE[0] * 1j, -1 : 1 : SHAPE[1] * 1j]
    hu = np.full(SHAPE, -1000, np.int16)
    hu[(x / 0.9) ** 2 + (y / 0.7) ** 2 < 1] = 40
    hu[(abs(x) / 0.4 - 1) ** 2 + (y / 0.5) ** 2 < 0.4] = -850
    hu += rng.normal(0, 20, SHAPE).astype(np.int16)
    nib.save(nib.Nifti1Image(hu, np.diag([-VOXEL[0], -VOXEL[1], VOXEL[2], 1])), path)


def seconds() -> np.ndarray:
    """The time, and the processor time of this process and of those that it has started."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    ended = sum(one.ru_utime + one.ru_stime for one in used)
    children = [Path(f"/proc/{child.pid}/schedstat").read_text() for child in psutil.Process().children()]
    return np.array([time.perf_counter(), ended + sum(int(child.split()[0]) for child in children) / 1e9])


def measure(name: str, path: Path, rounds: int) -> None:
    """Prints a row of the table."""
    taken, slices = {True: [], False: []}, {}
    for number in range(rounds):
        for is_apart in (True, False) if number % 2 else (False, True):
            apart.IS_APART = is_apart
            start = seconds()
            slices[is_apart] = read_slices(path)
            taken[is_apart].append(seconds() - start)
    assert np.array_equal(slices[True], slices[False])
    (time_apart, cpu_apart), (time_here, cpu_here) = (np.median(taken[is_apart], axis=0) for is_apart in (True, False))
    ratios = [statistics.median(a[i] / b[i] for a, b in zip(taken[True], taken[False], strict=True)) for i in (0, 1)]
    print(
        f"| {name} | {time_here * 1e3:.0f} ms | {time_apart * 1e3:.0f} ms | {ratios[0]:.2f} | {cpu_here * 1e3:.0f} ms "
        f"| {cpu_apart * 1e3:.0f} ms | {ratios[1]:.2f} |",
        flush=True,
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=15)
    args = parser.parse_args()
    torch.set_num_threads(1)
    print("| process | here | apart | ratio | processor time here | apart | ratio |")
    print("|---|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        files = {".nii.gz": Path(folder, "v.nii.gz"), ".nii": Path(folder, "v.nii")}
        for file in files.values():
            write_volume(file)
        for ending, file in files.items():
            measure(f"{ending}, without weights", file, args.rounds)
        weights = [torch.ones(GIGABYTES * 2**30 // 4 // 100) for _ in range(100)]
        for ending, file in files.items():
            measure(f"{ending}, {sum(part.nbytes for part in weights) / 2**30:.0f} GB of weights", file, args.rounds)
