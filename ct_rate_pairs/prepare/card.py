"""The dataset card of a prepared copy, which says what the copy was made from and how."""

import json


CARD = """---
pretty_name: {name} slices, prepared by ct-rate-pairs
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
`load_dataset` on the folder itself gives the slices, reports and labels, without negatives and without a validation
split.

## How it was made
`ct-rate-pairs prepare`, ct-rate-pairs {package}, from `{source}`:

```json
{settings}
```
Slices are 8-bit PNG images, superior first, anterior up, the patient's right on the image's left. `slice_mm` is the
depth of each slice below the first slice, in mm. HU outside the window are clipped. `labels` are CT-RATE's 18 labels,
in CT-RATE's order{read_by}.
"""

PATIENTS = (
    "**Do not upload this folder.** CT-RATE is gated and licensed cc-by-nc-sa-4.0. Its volumes and reports, and the\n"
    "slices made from them here, may not be redistributed. Everyone who needs a prepared copy makes their own."
)
OWN = (
    "**Do not upload this folder.** It holds slices and reports of patients, from a table of own scans. Who may\n"
    "have them is for the owner of the data to say."
)
PHANTOM = "The scans are synthetic (`ct-rate-pairs phantom`): a phantom is not a patient."


def dataset_card(provenance: dict, rows: dict[str, int], summary: dict) -> str:
    """The README of a prepared copy, from its `prepared.json`, its rows per split, and the summary of [`prepare`]."""
    own = provenance.get("own", False)
    listed = " + ".join(map(str, rows.values()))
    named = ", ".join(rows) if own else "CT-RATE's training and validation split"
    return CARD.format(
        name="Private" if own else "CT-RATE",
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
