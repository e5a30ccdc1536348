"""
Measures the unit costs of `ct-rate-pairs plan`: bytes and processor seconds of a row, by store and negative:
`python benchmarks/bench_unit_costs.py`, or `make bench-scale`.

The volumes have 512 x 512 x 300 voxels and come from the phantom, whose noise makes a `.nii.gz` about as long per
voxel as a real CT does. Each is written as int16 and as float64, because the data type of CT-RATE's own files is not
known here. A copy of yours is measured with `--data_dir`. Processor seconds are those of this process and of the one
that reads for it, on one thread. The Hub is a server on loopback, without TLS and without Xet.

    python benchmarks/bench_unit_costs.py --output_file trainer/plan/unit_costs.json     # what the package ships
"""

import argparse
import datetime
import json
import os
import platform
import shlex
import statistics
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path


os.environ |= {"OMP_NUM_THREADS": "1", "HF_HUB_DISABLE_XET": "1"}  # before numpy, torch and the client are imported
sys.path.append(str(Path(__file__).parents[1] / "tests"))  # the Hub on loopback
os.environ["PYTHONPATH"] = sys.path[-1]  # of its process

import nibabel as nib
import numpy as np
import psutil
import torch
from datasets import load_dataset
from datasets.utils.logging import disable_progress_bar
from helpers.loopback_hub import GRANTED, LoopbackHub
from isal import igzip

from ct_rate_pairs.phantom.cohort import write_cohort
from ct_rate_pairs.prepare import prepare
from ct_rate_pairs.prepare.shards import png
from ct_rate_pairs.sources import open_source
from ct_rate_pairs.sources.tree import LocalSource
from ct_rate_pairs.trainer import PairCollator
from ct_rate_pairs.trainer.tiny import make_tiny_qwen
from ct_rate_pairs.volumes.nifti import read_slices
from ct_rate_pairs.volumes.settings import VolumeSettings
from ct_rate_pairs.volumes.windows import to_uint8


ROOT = Path(__file__).parents[1]
SHAPE, VOXEL = (512, 512, 300), (0.703125, 0.703125, 1.0)  # 480 pixels at 0.75 mm
INTERCEPT = -1024  # of the older files, by the metadata table
NEGATIVES = ("none", "gauss", "heter")
THORAX = ROOT / ".venv/thorax/cxr.nii.gz"


def write_volume(path: Path, voxels: np.ndarray, affine: np.ndarray) -> None:
    """Writes a `.nii.gz` in the data type of its voxels, at the level of nibabel."""
    if path.exists():
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file, igzip.GzipFile("", "wb", compresslevel=1, fileobj=file, mtime=0) as packed:
        holder = nib.FileHolder(fileobj=packed)
        nib.Nifti1Image(voxels, affine).to_file_map({"header": holder, "image": holder})


def write_tree(cohort: Path, out: Path, dtype: str, volumes: int) -> None:
    """Some volumes of a cohort again, in a data type: in HU, and as the older files, whose header says nothing."""
    (out / "dataset").mkdir(parents=True, exist_ok=True)
    for table in ("metadata", "multi_abnormality_labels", "radiology_text_reports"):
        link = out / "dataset" / table
        if not link.exists():
            link.symlink_to((cohort / "dataset" / table).resolve())
    for path in sorted(cohort.rglob("train_*.nii.gz"))[:volumes]:
        image = nib.load(path)
        hu = np.asarray(image.dataobj)
        below = path.relative_to(cohort / "dataset" / "train_fixed")
        write_volume(out / "dataset/train_fixed" / below, hu.astype(dtype), image.affine)
        write_volume(out / "dataset/train" / below, (hu - INTERCEPT).astype(dtype), np.eye(4))


def processor_seconds() -> float:
    """Processor seconds of this process and of those that read for it."""
    here = psutil.Process()
    times = [one.cpu_times() for one in (here, *here.children(recursive=True))]
    return sum(time.user + time.system for time in times)


def cost(call: Callable, repeats: int) -> float:
    """Median processor seconds of a call, after one that warms up."""
    call()
    seconds = []
    for _ in range(repeats):
        before = processor_seconds()
        call()
        seconds.append(processor_seconds() - before)
    return statistics.median(seconds)


def look(row: dict) -> dict:
    """A row whose images are decoded."""
    for image in (*row["images"], *row["negative_images"]):
        image.load()
    return row


def main(out: Path, output_file: Path, data_dir: Path | None, repeats: int) -> None:
    """Runs all measurements, prints them, and writes them to `output_file`."""
    torch.set_num_threads(1)
    disable_progress_bar()
    trees = {"yours": data_dir} if data_dir else {dtype: out / dtype for dtype in ("int16", "float64")}
    if not data_dir:
        cohort = out / "cohort"
        if not (cohort / "phantom.json").exists():
            write_cohort(cohort, 2, valid_scans=1, shape=SHAPE, spacing=VOXEL, reconstructions=0, workers=2)
        for dtype, tree in trees.items():
            write_tree(cohort, tree, dtype, volumes=2 if dtype == "int16" else 1)
    first = next(iter(trees.values()))

    volumes = {}
    for dtype, tree in trees.items():
        source = open_source(tree)
        scan = source.scans("train", "raise").iloc[0]
        volumes[dtype] = {
            "bytes": (tree / scan["path"]).stat().st_size,
            "voxels": int(np.prod(nib.load(tree / scan["path"]).shape)),
            "fixed": cost(lambda source=source, scan=scan: source.read_slices(scan), repeats),
        }
        older = LocalSource(tree, VolumeSettings(files="original"))
        if older.volumes("dataset/train"):
            told = older.scans("train", "raise").iloc[0]
            volumes[dtype]["original"] = cost(lambda older=older, told=told: older.read_slices(told), repeats)
        hub = LoopbackHub(tree, out / "hub.log", chunk=2**20)  # long pieces, to serve fast
        volumes[dtype]["hub"] = hub_seconds(hub.url, out / "hf", scan.name, repeats)
        hub.stop()

    copy = out / "prepared"
    size = prepare(open_source(first), copy, workers=1)
    prepared = open_source(copy)
    scan = prepared.scans("train", "raise").iloc[0]
    rows = {
        negative: load_dataset(
            "ct_rate_pairs", data_dir=str(copy), split="train", negative=negative, validation_size=0.0
        )
        for negative in NEGATIVES
    }
    _, processor = make_tiny_qwen(["Write the findings and the impression of this chest CT."])
    collator = PairCollator(processor)
    read = {negative: look(rows[negative][0]) for negative in NEGATIVES}
    costs = {
        "command": shlex.join(["python", "benchmarks/bench_unit_costs.py", *sys.argv[1:]]),
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "machine": f"{platform.machine()}, {cpu_name()}, {os.cpu_count()} cores, torch {torch.__version__}",
        "volumes": volumes,
        "prepared": {
            "bytes": size["bytes"] / size["rows"],
            "read": cost(lambda: prepared.read_slices(scan), 5 * repeats),
        },
        "rows": {negative: cost(lambda n=negative: look(rows[n][0]), 5 * repeats) for negative in NEGATIVES},
        "collate": {
            "volume": cost(lambda: collator([read["none"]]), 5 * repeats),
            "pair": cost(lambda: collator([read["heter"]]), 5 * repeats),
        },
        "side": read["none"]["images"][0].width,
    }
    if THORAX.exists():
        planes = to_uint8(read_slices(THORAX))
        costs["prepared"]["bytes_of_a_real_ct"] = float(sum(len(png(plane)) for plane in planes))
    output_file.parent.mkdir(parents=True, exist_ok=True)
    output_file.write_text(json.dumps(costs, indent=2) + "\n")
    print(json.dumps(costs, indent=2))

    # A row is composed of its parts in a plan. Is a whole row of two volumes what the parts say?
    whole = load_dataset("ct_rate_pairs", data_dir=str(first), split="train", negative="heter", validation_size=0.0)
    measured = cost(lambda: look(whole[0]), repeats)
    dtype = next(iter(volumes))
    composed = costs["rows"]["heter"] + 2 * (volumes[dtype]["fixed"] - costs["prepared"]["read"])
    print(f"a row of .nii.gz with its partner: composed {composed:.3f} s, measured {measured:.3f} s, ratio "
          f"{composed / measured:.2f}")  # fmt: skip
    print(f"as JSON: {output_file}")


def hub_seconds(url: str, cache: Path, name: str, repeats: int) -> float:
    """Processor seconds of a volume that is downloaded and read, in a process that knows only this server."""
    code = f"""
import sys
sys.path[:0] = {[str(ROOT / "benchmarks"), str(ROOT / "tests")]!r}
from bench_unit_costs import cost
from ct_rate_pairs.sources.hub import HubSource
source = HubSource({GRANTED!r})
scan = source.scans("train", "raise").loc[{name!r}]
print(cost(lambda: source.read_slices(scan), {repeats}))
"""
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | {"HF_ENDPOINT": url, "HF_HOME": str(cache.resolve()), "HF_HUB_OFFLINE": "0"},
        check=True,
        capture_output=True,
        text=True,
    )
    return float(done.stdout.splitlines()[-1])


def cpu_name() -> str:
    """The processor's name."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return next((line.partition(": ")[2] for line in lines if line.startswith("model name")), "unknown processor")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.strip(), formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/bench_unit_costs"), help="folder for the volumes")
    parser.add_argument("--output_file", type=Path, default=Path("runs/bench_unit_costs/unit_costs.json"))
    parser.add_argument("--data_dir", type=Path, help="a copy of CT-RATE to measure (default: phantom volumes)")
    parser.add_argument("--repeats", type=int, default=5, help="times that a volume is read (default: %(default)s)")
    arguments = parser.parse_args()
    main(arguments.out, arguments.output_file, arguments.data_dir, arguments.repeats)
