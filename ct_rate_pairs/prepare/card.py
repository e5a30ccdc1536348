"""The dataset card of a prepared copy, which says what the copy was made from and how."""

import json


CARD = """---
pretty_name: {name} {what}, prepared by ct-rate-pairs
license: {license}
task_categories:
- image-to-text
tags:
- medical
- chest-ct
- ct-rate-pairs
configs:
- config_name: default
  data_files:
{data_files}
---
# Prepared copy for ct-rate-pairs

{kind}

{scans}, {megabytes:.2f} MB per scan, {gigabytes:.2f} GB in
all. {bad} bad volumes were left out and are listed in `bad_volumes.csv`; {told} were read with a warning, listed in
`told_volumes.csv`{missing}.

```python
import ct_rate_pairs
from datasets import load_dataset

dataset = load_dataset("ct_rate_pairs", negative="heter", data_dir="...")  # this folder
```
`load_dataset` on the folder itself gives the {what_it_gives}, without negatives and without a validation
split.

## How it was made
`ct-rate-pairs prepare`, ct-rate-pairs {package}, from `{source}`:

```json
{settings}
```
{kept} `labels` are CT-RATE's 18 labels,
in CT-RATE's order{read_by}.
"""
KEPT = {
    "slices": """\
Slices are 8-bit PNG images, superior first, anterior up, the patient's right on the image's left. `slice_mm` is the
depth of each slice below the first slice, in mm. HU outside the window are clipped.""",
    "preprocessed": """\
`volumes/SHARD/NAME.nii` holds a whole volume as NIfTI: int16 with a slope, so that a reader gets values in [-1, 1], to
which the window was mapped. The affine gives the place of each voxel in the scanner. HU outside the window are
clipped.
`num_slices`, `z_range` and `slices` have no effect on it.""",
    "preprocessed_numpy": """\
`volumes/SHARD/NAME.npy` holds a whole volume in HU: an int16 array of shape (z, x, y), superior first, the patient's
right first, anterior first. `numpy.load(file, mmap_mode="r")` reads only what is looked at. `voxel_mm` is the size of
a voxel as x, y, z. `num_slices`, `z_range`, `slices` and `window` have no effect on it.""",
}

PATIENTS = (
    "**Do not upload this folder.** CT-RATE is gated and licensed cc-by-nc-sa-4.0. Its volumes and reports, and the\n"
    "slices made from them here, may not be redistributed. Everyone who needs a prepared copy makes their own."
)
OWN = (
    "**Do not upload this folder.** It holds slices and reports of patients, from a table of own scans. The owner of\n"
    "the data decides who may have them."
)
PHANTOM = "The scans are synthetic (`ct-rate-pairs phantom`): a phantom is not a patient."


def dataset_card(provenance: dict, rows: dict[str, int], summary: dict) -> str:
    """The README of a prepared copy, from its `prepared.json`, its rows per split, and the summary of [`prepare`]."""
    own = provenance.get("own", False)
    listed = " + ".join(map(str, rows.values()))
    named = ", ".join(rows) if own else "CT-RATE's training and validation split"
    form = provenance.get("form", "slices")
    return CARD.format(
        name="Private" if own else "CT-RATE",
        what="slices" if form == "slices" else "volumes",
        what_it_gives="slices, reports and labels" if form == "slices" else "reports and labels",
        kept=KEPT[form],
        license="apache-2.0" if provenance["phantom"] else "other" if own else "cc-by-nc-sa-4.0",
        kind=PHANTOM if provenance["phantom"] else OWN if own else PATIENTS,
        data_files="\n".join(f"  - split: {split}\n    path: data/{split}-*.parquet" for split in rows),
        scans=f"{listed} scans ({named})",
        megabytes=summary["bytes"] / 1e6 / max(1, summary["rows"]),
        gigabytes=summary["bytes"] / 1e9,
        bad=summary["bad"],
        told=summary["told"],
        missing=f"; {summary['missing']} files are still to be written" if summary["missing"] else "",
        read_by=", which the rule labeler read from the reports" if provenance.get("labels_from") == "rules" else "",
        package=provenance["ct_rate_pairs"],
        source=provenance["source"],
        settings=json.dumps(provenance["settings"], indent=2),
    )
