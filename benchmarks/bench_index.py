"""
Measures the time and memory of CT-RATE's index: `python benchmarks/bench_index.py`, or `make bench-data`.

The benchmark writes tables with the size of CT-RATE's tables, without volumes: 47,149 reconstructions of 20,000
patients, all 44 metadata columns, reports of CT-RATE's median length, and labels with CT-RATE's frequencies. Then it
loads the dataset in a new process, until heter partners can be drawn, with uniform and with balanced sampling.
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd

from ct_rate_pairs import LABELS
from ct_rate_pairs.phantom.cohort import METADATA_COLUMNS
from ct_rate_pairs.phantom.prevalence import draw_labels


PATIENTS, SCANS, VOLUMES = (
    {"train": 20_000, "valid": 1_304},
    {"train": 24_128, "valid": 1_564},
    {"train": 47_149, "valid": 3_039},
)
STEMS = {"train": "train", "valid": "validation"}
REPORT_CHARACTERS = 1_300  # about 310 tokens

MEASURE = """
import json, logging, resource, sys, time
import datasets
import numpy as np
from datasets import load_dataset
import ct_rate_pairs
from ct_rate_pairs.readers import reader_of
from ct_rate_pairs.sources.tree import LocalSource

LocalSource.volumes = lambda self, folder: None  # take the volumes to be there, as on the Hub
datasets.config.HF_DATASETS_CACHE = sys.argv[2] + "/cache"
datasets.utils.logging.disable_progress_bar()
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
before, start = peak(), time.perf_counter()
dataset = load_dataset(
    "ct_rate_pairs", data_dir=sys.argv[1], negative="heter", reconstructions="all", partner_sampling=sys.argv[3],
    split="train+validation", download_mode="force_redownload",
)
sampler = reader_of(dataset).partners("train")
seconds, memory = time.perf_counter() - start, peak() - before
start = time.perf_counter()
rng = np.random.default_rng(0)
for i in range(500):
    sampler.draw(i, rng)
draw = (time.perf_counter() - start) / 500
print(json.dumps({"rows": len(dataset), "seconds": seconds, "megabytes": memory / 1e6, "draw_ms": draw * 1e3}))
"""


def write_tables(root: Path) -> None:
    """Writes invented tables with the size of CT-RATE's tables."""
    rng = np.random.default_rng(0)
    for split, stem in STEMS.items():
        patients = np.sort(
            np.concatenate(
                [np.arange(PATIENTS[split]), rng.integers(0, PATIENTS[split], SCANS[split] - PATIENTS[split])]
            )
        )
        scan_of = np.sort(
            np.concatenate([np.arange(SCANS[split]), rng.integers(0, SCANS[split], VOLUMES[split] - SCANS[split])])
        )
        number = pd.Series(patients).groupby(patients).cumcount().to_numpy()
        scans = [f"{split}_{patient + 1}_{'abcdefghijklmnop'[i]}" for patient, i in zip(patients, number, strict=True)]
        reconstruction = pd.Series(scan_of).groupby(scan_of).cumcount().to_numpy() + 1
        names = [f"{scans[scan]}_{i}.nii.gz" for scan, i in zip(scan_of, reconstruction, strict=True)]
        counts = np.bincount(patients)
        labels = np.concatenate([draw_labels(rng, count) for count in counts])[scan_of].astype(int)
        words = np.array(["the", "lungs", "nodule", "is", "observed", "normal", "effusion", "no", "heart", "aorta"])
        texts = [" ".join(rng.choice(words, REPORT_CHARACTERS // 6)) for _ in range(500)]
        folder = root / "dataset"
        for name in ("multi_abnormality_labels", "radiology_text_reports", "metadata"):
            (folder / name).mkdir(parents=True, exist_ok=True)
        table = pd.DataFrame(labels, columns=list(LABELS))
        table.insert(0, "VolumeName", names)
        table.to_csv(folder / f"multi_abnormality_labels/{split}_predicted_labels.csv", index=False)
        reports = {"VolumeName": names, "ClinicalInformation_EN": "Cough.", "Technique_EN": "Non-contrast."}
        reports |= {
            "Findings_EN": [texts[scan % 500] for scan in scan_of],
            "Impressions_EN": [texts[scan % 499][:300] for scan in scan_of],
        }
        pd.DataFrame(reports).to_csv(folder / f"radiology_text_reports/{stem}_reports.csv", index=False)
        metadata = dict.fromkeys(METADATA_COLUMNS, "value") | {"PatientAge": "063Y", "PatientSex": "F"}
        pd.DataFrame({**metadata, "VolumeName": names}).to_csv(folder / f"metadata/{stem}_metadata.csv", index=False)
        (folder / f"metadata/no_chest_{split}.txt").write_text("")


def main(out: Path) -> None:
    """Runs the measurement, and writes `bench_index.json` to `out`."""
    root = out / "tables"
    if not root.exists():
        write_tables(root)
    report = {}
    for sampling in ("uniform", "balanced"):
        run = subprocess.run(
            [sys.executable, "-c", MEASURE, str(root), str(out), sampling], check=True, capture_output=True, text=True
        )
        report[sampling] = json.loads(run.stdout.splitlines()[-1])
        print(
            f"{sampling:<10}{report[sampling]['rows']:>8} rows indexed in {report[sampling]['seconds']:.2f} s "
            "(target < 5), "
            f"peak {report[sampling]['megabytes']:.0f} MB over the imports (target < 500), "
            f"{report[sampling]['draw_ms']:.2f} ms per draw"
        )
    (out / "bench_index.json").write_text(json.dumps(report, indent=2))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.strip(), formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/bench_data"), help="folder for tables and JSON")
    main(parser.parse_args().out)
