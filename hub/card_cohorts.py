"""What a model card says of the cohort: of the phantom, of CT-RATE, and of a reader's own scans."""

from .templates import CT_RATE


PHANTOM = {
    "name": "phantom",
    "license": "apache-2.0",
    "datasets": None,
    "dataset_type": "ct_rate_pairs",
    "row_options": ', data_dir="phantom"',
    "cohort": "the synthetic phantom cohort of `ct-rate-pairs`",
    "warning": "The model has seen only computer-drawn phantoms, so its reports say nothing about a patient.",
    "limits": """\
- The phantom is not a patient: its anatomy is drawn from a few shapes, and its reports come from templates. A score
  here shows that a model can learn to look at the scan. It does not show that a model can read real scans.""",
    "label_source": "known exactly for the references, and read by rules from generated reports",
    "data_text": """\
Synthetic thorax volumes with up to 18 kinds of findings, and reports from templates. Prevalence and co-occurrence of
the findings follow CT-RATE's published label counts. No patient data.""",
    "data_access": """\
The rows come from a phantom cohort in the folder `phantom`, and `scan.nii.gz` stands for any volume of it. Write such
a cohort with `ct-rate-pairs phantom --output_dir phantom --scans 40 --seed 0`.""",
}
# Where the cohort has no label table
LABELS_BY_RULES = (
    "read from the references by rules, as the labels of generated reports are. An error of the rules\n"
    "  on both reports cannot be seen"
)
OWN = {
    "name": "a private cohort",
    "license": None,
    "datasets": None,
    "dataset_type": "ct_rate_pairs",
    "row_options": ', data_dir="…"',
    "cohort": "the split `test` of a private cohort",
    "warning": "No radiologist has checked the reports of this model.",
    "limits": """\
- The scans are those of the model's makers. Other scanners, populations and styles of reporting were not tested.
- The card names no licence: add the one that the owners of the data allow.""",
    "label_source": "those of the cohort's table; the labels of generated reports are read by rules, which\n"
    "  make errors",
    "data_text": """\
A private cohort of chest CT with reports, given as a table of its own. This repository holds neither its scans nor its
reports.""",
    "data_access": """\
The rows come from a private cohort. For scans of your own, pass the folder of a table as `data_dir`: see
`docs/own_data.md` of ct-rate-pairs.""",
}
REAL = {
    "name": "CT-RATE",
    "license": "cc-by-nc-sa-4.0",
    "datasets": [CT_RATE],
    "dataset_type": CT_RATE,
    "row_options": "",
    "cohort": f"[CT-RATE](https://huggingface.co/datasets/{CT_RATE})'s official validation set",
    "warning": "No radiologist has checked the reports of this model.",
    "limits": """\
- CT-RATE's scans come from one hospital. Other scanners, populations and styles of reporting were not tested.
- The licence is that of CT-RATE: no commercial use, share alike.""",
    "label_source": "those of CT-RATE, which a text classifier predicted from the references; the labels of\n"
    "  generated reports are read by rules. Both make errors",
    "data_text": f"""\
[CT-RATE](https://huggingface.co/datasets/{CT_RATE}): non-contrast chest CT with English reports and 18 predicted
labels. This repository holds neither its scans nor its reports.""",
    "data_access": """\
The rows come from CT-RATE, which is gated: accept its terms on the Hub and run `hf auth login`, or pass
`data_dir="…"` for a local copy.""",
}
