"""
Measures the time and memory of a row: `python benchmarks/bench_data.py`, or `make bench-data`.

Everything runs on one thread and in one process, and the tasks take turns. The volumes have 512 x 512 x 300 voxels and
come from the phantom. Compare the ratios, not the times. The results are printed as a table and written as JSON.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import time
import zlib
from collections.abc import Callable
from pathlib import Path


os.environ["OMP_NUM_THREADS"] = "1"  # before numpy and torch are imported

import deflate
import nibabel as nib
import numpy as np
import torch
import torch.nn.functional as F
from datasets import load_dataset
from datasets.utils.logging import disable_progress_bar
from isal import igzip
from torch.utils.data import DataLoader

from ct_rate_pairs.phantom.cohort import write_cohort
from ct_rate_pairs.prepare import prepare
from ct_rate_pairs.prepare.shards import png
from ct_rate_pairs.sources import open_source
from ct_rate_pairs.volumes.nifti import read_slices, read_volume
from ct_rate_pairs.volumes.settings import FORMS
from ct_rate_pairs.volumes.windows import to_uint8


SHAPE, VOXEL = (512, 512, 300), (0.68, 0.68, 1.0)
SPACING = (0.75, 0.75, 1.5)
CT_RATE_SCANS = 24_128 + 1_564
THORAX = Path(".venv/thorax/cxr.nii.gz")


def naive_slices(path: Path) -> np.ndarray:
    """
    The steps of CT-RATE's published preprocessing (CT-CLIP's `nii_img_to_tensor`): all voxels are read as float64 and
    rescaled, and the whole volume is resampled and clipped. Only then the ten planes are taken.
    """
    slope, intercept = 1.0, 0.0
    hu = slope * nib.load(path).get_fdata() + intercept
    volume = torch.tensor(hu.transpose(2, 0, 1))[None, None]
    size = [int(n * own / new) for n, own, new in zip(volume.shape[2:], VOXEL[::-1], SPACING[::-1], strict=True)]
    volume = F.interpolate(volume, size=size, mode="trilinear", align_corners=False).numpy()[0, 0]
    volume = (np.clip(volume, -1000, 1000) / 1000).astype(np.float32)
    return volume[[int((i + 0.5) * size[0] / 10) for i in range(10)]]


def monai_slices() -> Callable[[Path], np.ndarray] | None:
    """MONAI's usual chain of transforms; `None` if MONAI is not installed."""
    try:
        from monai import transforms  # noqa: PLC0415
    except ImportError:
        return None
    chain = transforms.Compose(
        [
            transforms.LoadImaged("image", ensure_channel_first=True),
            transforms.Orientationd("image", axcodes="LPS", labels=None),
            transforms.Spacingd("image", pixdim=SPACING, mode="bilinear"),
            transforms.ScaleIntensityRanged("image", -1000, 1000, -1, 1, clip=True),
        ]
    )
    return lambda path: chain({"image": str(path)})["image"][0]


def peak_memory(path: Path) -> float:
    """
    Peak memory of reading one volume in a new process, without the memory of the imports. The unit is the size of the
    volume as an int16 array.
    """
    code = """
import re, sys
from pathlib import Path
from ct_rate_pairs.volumes import read_slices
kilobytes = lambda name: int(re.search(name + r":\\s+(\\d+)", Path("/proc/self/status").read_text())[1])
read_slices(sys.argv[2])
Path("/proc/self/clear_refs").write_text("5")  # the imports' own peak is not the volume's
before = kilobytes("VmRSS")
read_slices(sys.argv[1])
print(1024 * (kilobytes("VmHWM") - before))
"""
    small = path.parents[5] / "small.nii.gz"  # read first, because the first call also loads libraries
    hu = np.random.default_rng(0).integers(-1000, 400, (60, 60, 60), dtype=np.int16)
    nib.save(nib.Nifti1Image(hu, np.diag([-2, -2, 2, 1])), small)
    run = subprocess.run(
        [sys.executable, "-c", code, str(path), str(small)], check=True, capture_output=True, text=True
    )
    return int(run.stdout) / (2 * np.prod(SHAPE))


def real_megabytes() -> dict[str, float]:
    """
    Size of a real thorax CT in a prepared copy of each form, in MB, if `make bench-data` has downloaded the CT. A
    whole volume takes two bytes per voxel, whatever it shows.
    """
    if not THORAX.exists():
        return {}
    slices = sum(len(png(plane)) for plane in to_uint8(read_slices(THORAX)))
    voxels = int(np.prod(read_volume(THORAX).resampled(SPACING).stored.shape))
    return {f"{form}, real thorax CT": (slices if form == "slices" else 2 * voxels) / 1e6 for form in FORMS}


def time_in_turns(tasks: dict[str, tuple[Callable, int]], rounds: int) -> dict[str, float]:
    """
    Median time of each task, in seconds per unit. A task is (function, units per call). Each round runs every task
    once.
    """
    times = {name: [] for name in tasks}
    for i in range(rounds):
        for name, (task, units) in tasks.items():
            start = time.perf_counter()
            task()
            times[name].append((time.perf_counter() - start) / units)
            print(f"round {i + 1}: {name} {times[name][-1] * 1e3:.1f} ms", file=sys.stderr)
    return {name: statistics.median(values) for name, values in times.items()}


def read_all(dataset) -> None:
    """Read every row of a dataset, and decode its images."""
    for row in dataset:
        for image in (*row["images"], *row["negative_images"]):
            image.load()


def read_volumes(dataset) -> None:
    """Read the whole volume of every row of a dataset."""
    for row in dataset:
        assert row["images"].ndim == 3


def main(out: Path, scans: int, rounds: int) -> None:
    """Runs all measurements, and writes `bench_data.json` to `out`."""
    torch.set_num_threads(1)
    disable_progress_bar()
    cohort, copies = out / "cohort", {form: out / form for form in FORMS}
    copy = copies["slices"]
    write_cohort(
        out=cohort, scans=scans, valid_scans=2, shape=SHAPE, spacing=VOXEL, reconstructions=0, seed=0, workers=2
    )
    sizes = {form: prepare(open_source(cohort), folder, form=form, workers=2) for form, folder in copies.items()}
    files = sorted(cohort.rglob("train_*.nii.gz"))
    path = files[0]
    data = path.read_bytes()
    inflated = 2 * int(np.prod(SHAPE)) + 352
    options = {"split": "train", "validation_size": 0.0}

    def stream(source, negative):
        return load_dataset("ct_rate_pairs", data_dir=str(source), negative=negative, streaming=True, **options)

    def rows(source, negative, **further):
        return load_dataset("ct_rate_pairs", data_dir=str(source), negative=negative, **options, **further)

    def workers(count):
        loader = DataLoader(stream(cohort, "none").repeat(5), batch_size=None, num_workers=count)
        return lambda: sum(1 for _ in loader)

    streams = {name: stream(cohort, name) for name in ("none", "heter")}
    prepared = {name: rows(copy, name) for name in ("none", "heter")}
    prepared["mutual"] = rows(copy, "heter", partner_sampling="mutual")
    prepared_streams = {name: stream(copy, name) for name in ("none", "heter")}
    tasks = {
        "inflate: zlib": (lambda: zlib.decompress(data, 31, inflated), 1),
        "inflate: isal": (lambda: igzip.decompress(data), 1),
        "inflate: libdeflate": (lambda: deflate.gzip_decompress(data, inflated), 1),
        "slices: ours": (lambda: [read_slices(file) for file in files], scans),
        "slices: naive": (lambda: naive_slices(path), 1),
        "streamed row: none": (lambda: read_all(streams["none"]), scans),
        "streamed row: heter": (lambda: read_all(streams["heter"]), scans),
        "prepared row: none": (lambda: [read_all(prepared["none"]) for _ in range(3)], 3 * scans),
        "prepared row: heter": (lambda: [read_all(prepared["heter"]) for _ in range(3)], 3 * scans),
        "prepared row: mutual": (lambda: [read_all(prepared["mutual"]) for _ in range(3)], 3 * scans),
        "prepared streamed row: none": (lambda: [read_all(prepared_streams["none"]) for _ in range(3)], 3 * scans),
        "prepared streamed row: heter": (lambda: [read_all(prepared_streams["heter"]) for _ in range(3)], 3 * scans),
        "1 worker": (workers(1), 5 * scans),
        "2 workers": (workers(2), 5 * scans),
    }
    for form in FORMS[1:]:
        of_form = {rule: rows(copies[form], "none", slices=rule) for rule in ("uniform", "lung", "mip")}
        for rule, dataset in of_form.items():
            tasks[f"{form} row: {rule}"] = (lambda dataset=dataset: read_all(dataset), scans)
        whole = rows(copies[form], "none", images="volume")
        tasks[f"{form}: whole volume"] = (lambda whole=whole: read_volumes(whole), scans)
    if monai := monai_slices():
        tasks["slices: MONAI"] = (lambda: monai(path), 1)
    seconds = time_in_turns(tasks, rounds)

    fastest = min(value for name, value in seconds.items() if name.startswith("inflate"))
    ratio = lambda a, b: seconds[a] / seconds[b]  # noqa: E731
    figures = [
        ("naive / our slices", ratio("slices: naive", "slices: ours"), ">=", 12),
        ("our slices / inflating by the fastest inflater", seconds["slices: ours"] / fastest, "<=", 1.25),
        ("peak memory of one volume, in its int16 array", peak_memory(path), "<=", 2.2),
        ("streamed row / our slices", ratio("streamed row: none", "slices: ours"), "<=", 1.25),
        ("streamed row, heter / none", ratio("streamed row: heter", "streamed row: none"), "<=", 2.1),
        ("naive slices / prepared row", ratio("slices: naive", "prepared row: none"), ">=", 60),
        ("prepared row, heter / none", ratio("prepared row: heter", "prepared row: none"), "<=", 1.3),
        ("prepared row, mutual / none", ratio("prepared row: mutual", "prepared row: none"), "<=", 1.1),
        (
            "prepared, streamed, heter / none",
            ratio("prepared streamed row: heter", "prepared streamed row: none"),
            "<=",
            1.3,
        ),
        ("rows of 2 workers / 1 worker", ratio("1 worker", "2 workers"), ">=", 1.8),
    ]
    if monai:
        figures.append(("MONAI / our slices", ratio("slices: MONAI", "slices: ours"), ">=", None))
    report = {
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, torch {torch.__version__}",
        "milliseconds": {name: value * 1e3 for name, value in seconds.items()},
        "megabytes_per_prepared_scan": {
            **{f"{form}, phantom": size["bytes"] / 1e6 / size["rows"] for form, size in sizes.items()},
            **real_megabytes(),
        },
        "figures": [
            {"figure": name, "value": float(value), "target": target and f"{sign} {target}",
             "met": target and bool(value >= target if sign == ">=" else value <= target)}
            for name, value, sign, target in figures
        ],
    }  # fmt: skip
    (out / "bench_data.json").write_text(json.dumps(report, indent=2))

    print(f"\n{SHAPE[0]} x {SHAPE[1]} x {SHAPE[2]}, one thread, median of {rounds} rounds; {report['machine']}")
    for name, value in seconds.items():
        print(f"{name:<50}{value * 1e3:>10.1f} ms{1 / value:>10.1f} per second")
    print()
    for line in report["figures"]:
        verdict = {True: "met", False: "MISSED", None: ""}[line["met"]]
        print(f"{line['figure']:<50}{line['value']:>10.2f}   {line['target'] or '':<8}{verdict}")
    for kind, megabytes in report["megabytes_per_prepared_scan"].items():
        print(
            f"prepared copy ({kind}): {megabytes:.2f} MB per scan, so {megabytes * CT_RATE_SCANS / 1e3:,.0f} GB for "
            f"{CT_RATE_SCANS:,} scans (computed)"
        )
    print(f"as JSON: {out}/bench_data.json")
    missed = {line["figure"] for line in report["figures"] if line["met"] is False}
    if "naive / our slices" in missed:
        print(
            f"naive / our slices: on this machine, inflating alone is {seconds['slices: naive'] / fastest:.1f} times "
            "faster than the naive\nway. A reader that reads and checks the whole file cannot be faster than that."
        )
    if any("heter / none" in figure and "prepared" in figure for figure in missed):
        print(
            "prepared, heter / none: a heter row holds twice the pixels, and decoding pixels takes nearly all of the\n"
            "time. A ratio near 1.3 would need rows with pixels that are decoded later, which only moves the cost.\n"
            "With mutual partners, a row holds no second pixels."
        )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.strip(), formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/bench_data"), help="folder for cohort, copy and JSON")
    parser.add_argument("--scans", type=int, default=4, help="volumes to read (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=3, help="times that each task is run (default: %(default)s)")
    arguments = parser.parse_args()
    main(arguments.out, arguments.scans, arguments.rounds)
