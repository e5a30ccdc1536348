"""
The model card of a run: metadata, data, loss, results beside the trivial rows, whether it looks, and how to load it.
Beside it, for machines: the training's settings, and the results in the Hub's own form.
"""

import json
from pathlib import Path

from huggingface_hub import EvalResult, EvalResultEntry, ModelCard, ModelCardData, eval_result_entries_to_yaml
from huggingface_hub.utils import yaml_dump

from ct_rate_pairs.trainer import NegativeSFTConfig


CT_RATE = "ibrahimhamamci/CT-RATE"

# Row of the table -> how it is called there.
ROWS = {
    "model": "**this model**",
    "shuffled": "this model, volumes shuffled between patients",
    "all_negative": "all-negative report",
    "most_common": "most common training report",
    "all_positive": "all-positive report",
}
# Metric key -> column of the table and name in the metadata.
METRICS = {
    "coverage": "Coverage",
    "precision_micro": "Precision (micro)",
    "f1_micro": "F1 (micro)",
    "accuracy": "Accuracy",
    "crg": "CRG",
    "bleu1": "BLEU-1",
    "bleu4": "BLEU-4",
    "rouge_l": "ROUGE-L",
    "loss_gap": "Loss gap",
}

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

- Slices: resampled to {spacing} mm (x, y, z), {num_slices} axial planes at equal distances, superior first, patient
  right on the image's left; HU clipped to [{window[0]}, {window[1]}], 8-bit grey. The planes are the frames of a
  video, timed by their distance in mm.
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
| training time | {minutes:.1f} minutes |
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

model = AutoModelForImageTextToText.from_pretrained(model_id, revision=revision)
collator = PairCollator(AutoProcessor.from_pretrained(model_id, revision=revision))
print(generate_reports(model, collator, [row], max_new_tokens=1200)[0])

pipe = pipeline("image-text-to-text", model_id, revision=revision)
print(pipe(**pipeline_inputs(row, pipe.processor))[0]["generated_text"])"""

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
CONFIDENCE_ROWS = {
    "calibrated": "**calibrated**",
    "uncalibrated": "the model's own probabilities",
    "prevalence": "prevalence",
}
CONFIDENCE_COLUMNS = {
    "ece": "Calibration error",
    "brier": "Brier score",
    "nll": "Log-likelihood, negative (nats)",
}
# Suffix of the keys of a loss gap -> what the model saw.
VOLUMES = {"": "its negative", "_noise": "noise", "_shuffled": "another patient's", "_blank": "air"}

CONSTRAINED = "whose loss makes a report unlikely where its visual evidence is absent"
UNCONSTRAINED = "without its negative constraint (beta 0): a baseline"
SHUFFLED = "With volumes shuffled, the model reads another patient's scan: if it looks, its Coverage falls.\n"

NEGATIVES = {
    "none": "none; the model is trained on volumes with their reports alone.",
    "gauss": "standard normal noise of the volume's size, clipped to the grey window, new in each epoch.",
    "heter": "a volume of another patient with at least {min_label_distance} of 18 labels different, or the farthest\n"
    "  there is; cropped or padded with air to the volume's size.",
    "hard": "a volume of another patient with nearly the same labels that lacks a finding of the report; cropped or\n"
    "  padded with air to the volume's size.",
}

MATCHING_COLUMNS = {
    "top1": "Top-1",
    "top1_pmi": "by mutual information",
    "top1_chance": "chance",
    "top1_text_only": "text alone",
}

NOT_TOLD = (
    "hub_token",
    "output_dir",
    "logging_dir",
    "run_name",
    "resume_from_checkpoint",
    "chat_template_path",
    "deepspeed",
    "fsdp_config",
    "local_rank",
    "trackio_space_id",
)

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


def _table(columns: list[str], rows: list[list[str]]) -> str:
    """Markdown; the first column is to the left, numbers to the right."""
    lines = ["| " + " | ".join(columns) + " |", "|---|" + "---:|" * (len(columns) - 1)]
    return "\n".join(lines + ["| " + " | ".join(row) + " |" for row in rows])


def results_table(results: dict[str, dict]) -> str:
    """The model, the shuffled and the trivial rows of `results`; `-` where a metric is missing."""
    rows = []
    for row, name in ROWS.items():
        if row in results:
            values = [results[row].get(key) for key in METRICS]
            rows.append([name, *("-" if value is None else f"{value:.3f}" for value in values)])
    return _table(["", *METRICS.values()], rows)


def intervals_text(model: dict) -> str:
    """The bootstrap intervals of the row `model`; empty where there are none."""
    told = [
        f"{name} {bounds[0]:.3f} to {bounds[1]:.3f}"
        for key, name in METRICS.items()
        if (bounds := model.get(f"{key}_ci"))
    ]
    return f"\n{model['ci_level']:.0%} intervals of this model, by patient: {', '.join(told)}.\n" if told else ""


def looking_text(model: dict) -> str:
    """Loss gaps and report matching of the row `model`; empty where nothing was measured."""
    gaps = [
        [name, f"{model[f'loss_gap{suffix}']:.3f}", f"{model[f'gap_positive_share{suffix}']:.0%}"]
        for suffix, name in VOLUMES.items()
        if f"gap_positive_share{suffix}" in model
    ]
    matching = [
        [f"{difficulty}, 1 of {scores['num_options']}", *(f"{scores[key]:.2f}" for key in MATCHING_COLUMNS)]
        for difficulty, scores in model.get("matching", {}).items()
    ]
    text = ""
    if gaps:
        text += LOOKING.format(gaps=_table(["volume", "loss gap", "scans with a gap above 0"], gaps))
    if matching:
        text += MATCHING.format(matching=_table(["", *MATCHING_COLUMNS.values()], matching))
    return text


def confidence_text(run_dir: Path) -> str:
    """What the confidences of `confidence.json` are worth; empty where there is none."""
    if not (run_dir / "confidence.json").is_file():
        return ""
    measured = json.loads((run_dir / "confidence.json").read_text())["measured"]
    rows = [
        [name, *(f"{measured[row][key]:.3f}" for key in CONFIDENCE_COLUMNS)] for row, name in CONFIDENCE_ROWS.items()
    ]
    return CONFIDENCE.format(n=measured["n"], table=_table(["", *CONFIDENCE_COLUMNS.values()], rows))


def training_settings(config: NegativeSFTConfig) -> dict:
    """All training arguments but tokens, and what names places on this machine."""
    return {name: value for name, value in config.to_dict().items() if name not in NOT_TOLD}


def write_model_card(
    run_dir: str | Path,
    results: dict[str, dict],
    config: NegativeSFTConfig,
    *,
    phantom: bool,
    negative: str,
    num_train: int,
    num_test: int,
    steps: int,
    hardware: str,
    minutes: float,
    base_model: str | None = None,
    num_slices: int = 10,
    spacing: tuple[float, float, float] = (0.75, 0.75, 1.5),
    window: tuple[int, int] = (-1000, 1000),
    min_label_distance: int = 10,
) -> Path:
    """
    Writes `README.md` of a run, a model card that the Hub reads, from numbers and settings alone; beside it
    `training_config.json`, and for CT-RATE `.eval_results/ct_rate.yaml`.

    No report text, path or token gets into them: CT-RATE's reports may not be passed on.

    Args:
        run_dir (`str` or `Path`):
            Folder of the run, which holds the saved model and processor, and `confidence.json` where confidences were
            fitted; its name becomes the model's.
        results (`dict[str, dict]`):
            Contents of `results.json`: metrics under `model`, with intervals and what was measured of looking, under
            `shuffled` where measured, and under each trivial row.
        config ([`~ct_rate_pairs.trainer.NegativeSFTConfig`]):
            Training arguments of the run.
        phantom (`bool`):
            Whether the cohort is the phantom; CT-RATE otherwise, with its licence.
        negative (`str`):
            `"none"`, `"gauss"`, `"heter"` or `"hard"`.
        num_train (`int`), num_test (`int`):
            Scans trained on, and scans that the results are from.
        steps (`int`):
            Optimiser steps.
        hardware (`str`):
            Machine in words, such as `"2 CPU cores"`.
        minutes (`float`):
            Training time.
        base_model (`str`, *optional*):
            Model that training started from; without one the card says "from scratch". Only a Hub id is named, a local
            folder is not.
        num_slices (`int`, *optional*, defaults to `10`):
            Slices a scan.
        spacing (`tuple[float, float, float]`, *optional*, defaults to `(0.75, 0.75, 1.5)`):
            Spacing in mm (x, y, z) that the volumes were resampled to.
        window (`tuple[int, int]`, *optional*, defaults to `(-1000, 1000)`):
            Grey window in HU.
        min_label_distance (`int`, *optional*, defaults to `10`):
            Labels in which a `"heter"` partner differs at least.

    Returns:
        `Path`: the card's path.
    """
    run_dir = Path(run_dir)
    cohort = PHANTOM if phantom else REAL
    scores = results["model"]
    measured = {key: round(scores[key], 4) for key in METRICS if scores.get(key) is not None}
    if base_model is None:
        base = "none, trained from scratch"
    elif Path(base_model).is_dir():
        base, base_model = "a local checkpoint", None  # the Hub would take a local path for a repository
    else:
        base = f"[{base_model}](https://huggingface.co/{base_model})"
    data = ModelCardData(
        model_name=run_dir.resolve().name,
        library_name="transformers",
        pipeline_tag="image-text-to-text",
        language="en",
        license=cohort["license"],
        base_model=base_model,
        base_model_relation=base_model and ("adapter" if (run_dir / "adapter_config.json").exists() else "finetune"),
        datasets=cohort["datasets"],
        metrics=["ct_coverage", "ct_label_accuracy", "ct_crg", "ct_report_text"],
        tags=["chest-ct", "radiology", "report-generation", "ct-rate-pairs", "trl"] + ["phantom"] * phantom,
        eval_results=[
            EvalResult(
                task_type="image-text-to-text",
                task_name="Chest-CT report generation",
                dataset_type=cohort["dataset_type"],
                dataset_name=cohort["name"],
                dataset_split="test",
                metric_type=key,
                metric_name=METRICS[key],
                metric_value=value,
            )
            for key, value in measured.items()
        ],
    )
    text = CARD.format(
        metadata=data.to_yaml(),
        name=data.model_name,
        table=results_table(results),
        constraint=CONSTRAINED if config.beta > 0 else UNCONSTRAINED,
        reading=SHUFFLED * ("shuffled" in results),
        intervals=intervals_text(scores),
        looking=looking_text(scores),
        confidence=confidence_text(run_dir),
        labeler=scores["labeler"],
        recipe=scores["recipe"],
        scan_start=SCAN_START,
        row_start=ROW_START.format(options=cohort["row_options"]),
        negative=negative,
        negative_text=NEGATIVES[negative].format(min_label_distance=min_label_distance),
        num_train=num_train,
        num_test=num_test,
        num_slices=num_slices,
        spacing=" x ".join(f"{side:g}" for side in spacing),
        window=window,
        config=config,
        steps=steps,
        batch=config.per_device_train_batch_size * config.gradient_accumulation_steps * config.world_size,
        base=base,
        lr_scheduler=config.lr_scheduler_type.value,
        hardware=hardware,
        minutes=minutes,
        **{key: cohort[key] for key in ("cohort", "warning", "limits", "label_source", "data_text", "data_access")},
    )
    card = ModelCard(text)
    card.save(run_dir / "README.md")
    settings = json.dumps(training_settings(config), indent=2)
    (run_dir / "training_config.json").write_text(settings + "\n")
    if not phantom:  # the Hub's form needs a dataset on the Hub
        notes = f"labeler {scores['labeler']}, recipe {scores['recipe']}, {num_test} scans"
        entries = [EvalResultEntry(CT_RATE, key, value, notes=notes) for key, value in measured.items()]
        (run_dir / ".eval_results").mkdir(exist_ok=True)
        (run_dir / ".eval_results" / "ct_rate.yaml").write_text(yaml_dump(eval_result_entries_to_yaml(entries)))
    return run_dir / "README.md"
