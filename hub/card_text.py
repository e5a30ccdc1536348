"""The words of a model card: its frame, its code, and what it says of each cohort, negative and measure."""

CT_RATE = "ibrahimhamamci/CT-RATE"

CARD = """\
---
{metadata}
---

# {name}

Writes a chest-CT report from {num_slices} axial slices of a scan. Trained with `ct-rate-pairs`,
{constraint}.

**Not a medical device.** {warning}

## Results

On {num_test:,} held-out scans of {cohort}, of patients that were not trained on; reports generated at temperature 0.

{table}

The last three rows never look at a scan: numbers near theirs mean nothing.
{reading}{intervals}
Coverage is the share of the reference's positive labels that the generated report states as positive.
Labels of generated reports come from the labeler `{labeler}`; BLEU and ROUGE follow the recipe `{recipe}`. The loss
gap is the mean cross-entropy of the true report given its negative volume less that given its own, in nats a token.
`results.json` holds every number, per label too.
{looking}{confidence}
## Use

With `ct-rate-pairs` installed. From a scan (`.nii.gz`, `.nii` or `.mha` in HU, a folder or `.zip` of DICOM files):

```python
{scan_start}
```

By transformers alone, model or pipeline, from a row of the dataset; both print the same report:

```python
{row_start}
```

{data_access}

## Intended use and limits

- For research on report generation; not for diagnosis, triage or any use on a patient.
- Generated reports hallucinate: they state findings that are not there, with side and size, and leave out findings
  that are. Nothing in the text tells right from wrong.
- The model sees {num_slices} slices of a scan; what lies between them it cannot see, small nodules above all.
- The labels that it is measured by are {label_source}.
{limits}

## Data

{data_text}

- Slices: resampled to {spacing} mm (x, y, z), {num_slices} axial planes{planes}, superior first, patient
  right on the image's left; {window}, 8-bit. The planes are the frames of a video, timed by their distance in mm.
- Text: {target} of the report, asked for with the prompt in `{prompt}`{prompt_metadata}.
- Negative (`{negative}`): {negative_text}
- Scans: {num_train:,} for training, {num_test:,} held out as above; split by patient, one reconstruction a scan.

## Training

Loss `alpha * CE(volume, report) - beta * min(CE(negative volume, report), cap)`, per pair and token:

| | |
|---|---|
| alpha, beta | {config.alpha:g}, {config.beta:g} |
| cap | {config.max_negative_loss:g} nats a token |
| form of the negative's term | {config.negative_loss} |
| beta's ramp | 0 for {config.negative_start_ratio:.0%} of steps, linear over {config.negative_warmup_ratio:.0%} |
| steps, batch | {steps:,} of {batch} |
| learning rate | {config.learning_rate:g}, {lr_scheduler} |
| seed | {config.seed} |
| base model | {base} |
| hardware | {hardware} |
| training time | {minutes:.1f} minutes{resumed} |
"""

THIS_FOLDER = 'model_id, revision = ".", None  # this folder'  # publishing puts the name on the Hub in its place
SCAN_START = f"""\
from ct_rate_pairs.hub import load_reporter

{THIS_FOLDER}
report = load_reporter(model_id, revision).report("scan.nii.gz")
print(report.text)
for finding in report.findings:
    if finding.stated:
        print(finding.label, finding.confidence, "slices", finding.slices)"""
ROW_START = f"""\
from datasets import load_dataset
from transformers import AutoModelForImageTextToText, AutoProcessor, pipeline

import ct_rate_pairs  # registers the dataset
from ct_rate_pairs.eval.generate import generate_reports
from ct_rate_pairs.hub.pipeline_inputs import pipeline_inputs
from ct_rate_pairs.trainer import PairCollator, read_row_settings

{THIS_FOLDER}
slices = read_row_settings(model_id, revision)  # those that it was trained on
row = next(iter(load_dataset("ct_rate_pairs", split="test", streaming=True{{options}}, **slices)))

{{model}}
processor = AutoProcessor.from_pretrained(model_id, revision=revision)
print(generate_reports(model, PairCollator(processor), [row], max_new_tokens=1200)[0])

{{pipe}}
print(pipe(**pipeline_inputs(row, pipe.processor))[0]["generated_text"])"""
WHOLE = {
    "model": "model = AutoModelForImageTextToText.from_pretrained(model_id, revision=revision)",
    "pipe": 'pipe = pipeline("image-text-to-text", model_id, revision=revision)',
}
ADAPTER = {
    "model": """\
on = {"revision": revision}  # of the adapter; given as such it would be looked for in the base, too
model = AutoModelForImageTextToText.from_pretrained(model_id, adapter_kwargs=on)""",
    "pipe": 'pipe = pipeline("image-text-to-text", model=model, processor=processor)',
}

LOOKING = """
## Does it look?

How much dearer the true report becomes, in nats a token, when another volume takes the place of the scan's own. A
model that does not look shows gaps of 0.

{gaps}
"""
MATCHING = """
Picking a scan's own report among others by its probability; `hard`: among reports of nearly the same labels. By mutual
information: less what the text alone would get. Numbers near chance or the text alone mean that it does not look.

{matching}
"""
CONFIDENCE = """
## Confidence

How probable each of the 18 labels is: the probability of the finding's sentences, calibrated on {n} scans of the
validation split by a temperature and a bias a label. Measured there, on patients that the calibration had not seen:

{table}

Prevalence is each label's share, told of every scan: it is calibrated, and says nothing of the scan.
"""
CONSTRAINED = "whose loss makes a report unlikely where its visual evidence is absent"
UNCONSTRAINED = "without its negative constraint (beta 0): a baseline"
SHUFFLED = "With volumes shuffled, the model reads another patient's scan: if it looks, its Coverage falls.\n"

NEGATIVES = {
    "none": "none; the model is trained on volumes with their reports alone.",
    "gauss": "standard normal noise of the volume's size, clipped to the grey window, new in each epoch.",
    "heter": "a volume of another patient with at least {min_label_distance} of 18 labels different, or the farthest\n"
    "  there is, drawn `{partner_sampling}`; cropped or padded with air to the volume's size.",
    "hard": "a volume of another patient with at most {max_label_distance} of 18 labels different that lacks a\n"
    "  finding of the report, drawn `{partner_sampling}`; cropped or padded with air to the volume's size.",
}
CHANNELS = {1: "as grey", 3: "as the three channels of an image"}

# What the card says about each cohort.
PHANTOM = {
    "name": "phantom",
    "license": "apache-2.0",
    "datasets": None,
    "dataset_type": "ct_rate_pairs",
    "row_options": ', data_dir="phantom"',
    "cohort": "the synthetic phantom cohort of `ct-rate-pairs`",
    "warning": "It has only ever seen computer-drawn phantoms, and says nothing about a patient.",
    "limits": """\
- The phantom is not a patient: its anatomy is drawn from a few shapes, its reports from templates. A score here shows
  that the code learns to look, not that a model would read real scans.""",
    "label_source": "known exactly for the references and read by rules from generated reports",
    "data_text": """\
Synthetic: thorax volumes drawn with up to 18 kinds of findings, their prevalence and co-occurrence after CT-RATE's
published label counts, with templated reports. No patient data.""",
    "data_access": """\
The rows come from a phantom in the folder `phantom`, and a scan may be any `.nii.gz` of it; write one with
`python -m ct_rate_pairs.phantom --out phantom --scans 40 --seed 0`.""",
}
REAL = {
    "name": "CT-RATE",
    "license": "cc-by-nc-sa-4.0",
    "datasets": [CT_RATE],
    "dataset_type": CT_RATE,
    "row_options": "",
    "cohort": f"[CT-RATE](https://huggingface.co/datasets/{CT_RATE})'s official validation set",
    "warning": "Its reports have not been checked by a radiologist.",
    "limits": """\
- CT-RATE's scans come from one hospital; other scanners, populations and ways of reporting were not tried.
- The licence is CT-RATE's own: no commercial use, share alike.""",
    "label_source": "CT-RATE's, predicted from the references by a text classifier, and read by rules from generated\n"
    "  reports; both err",
    "data_text": f"""\
[CT-RATE](https://huggingface.co/datasets/{CT_RATE}): non-contrast chest CT with English reports and 18 predicted
labels. This repository holds neither its scans nor its reports.""",
    "data_access": """\
The rows come from CT-RATE, which is gated: accept its terms on the Hub and run `hf auth login`, or add
`data_dir="…"` for a local copy.""",
}
