"""The model card of a run: metadata, data, loss, results beside the trivial rows, and how to load it."""

import json
from pathlib import Path

from huggingface_hub import EvalResult, ModelCard, ModelCardData

from ct_rate_pairs.builder import CTRatePairsConfig
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
{reading}Coverage is the share of the reference's positive labels that the generated report states as positive.
Labels of generated reports come from the labeler `{labeler}`; BLEU and ROUGE follow the recipe `{recipe}`. The loss
gap is the mean cross-entropy of the true report given its negative volume less that given its own, in nats a token.
`results.json` holds every number, per label too.

## Use

```python
{quick_start}
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
| beta's ramp | 0 for {config.negative_start_ratio:.0%} of steps, linear over {config.negative_warmup_ratio:.0%} |
| steps, batch | {steps:,} of {batch} |
| learning rate | {config.learning_rate:g}, {lr_scheduler} |
| seed | {config.seed} |
| base model | {base} |
| hardware | {hardware} |
| training time | {minutes:.1f} minutes |
"""

QUICK_START = """\
from datasets import load_dataset
from transformers import AutoModelForImageTextToText, AutoProcessor

import ct_rate_pairs  # registers the dataset
from ct_rate_pairs.eval.generate import generate_reports
from ct_rate_pairs.trainer import PairCollator

folder = "."  # this folder, or its name on the Hub
model = AutoModelForImageTextToText.from_pretrained(folder)
collator = PairCollator(AutoProcessor.from_pretrained(folder))
rows = load_dataset("ct_rate_pairs", negative="none", split="test", streaming=True{options})
print(generate_reports(model, collator, rows.take(1))[0])"""

CONSTRAINED = "whose loss makes a report unlikely where its visual evidence is absent"
UNCONSTRAINED = "without its negative constraint (beta 0): a baseline"
SHUFFLED = "With volumes shuffled, the model reads another patient's scan: if it looks, its Coverage falls.\n"

NEGATIVES = {
    "none": "none; the model is trained on volumes with their reports alone.",
    "gauss": "standard normal noise of the volume's size, clipped to the grey window, new in each epoch.",
    "heter": "a volume of another patient with at least {min_label_distance} of 18 labels different, or the farthest\n"
    "  there is; cropped or padded with air to the volume's size.",
}

# What the card says about each cohort.
PHANTOM = {
    "name": "phantom",
    "license": "apache-2.0",
    "datasets": None,
    "dataset_type": "ct_rate_pairs",
    "data_dir": "phantom",
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
The rows come from a phantom in the folder `phantom`; write one with
`python -m ct_rate_pairs.phantom --out phantom --scans 40 --seed 0`.""",
}
REAL = {
    "name": "CT-RATE",
    "license": "cc-by-nc-sa-4.0",
    "datasets": [CT_RATE],
    "dataset_type": CT_RATE,
    "data_dir": None,
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


def results_table(results: dict[str, dict]) -> str:
    """Markdown table of the model, the shuffled and the trivial rows of `results`; `-` where a metric is missing."""
    lines = ["| | " + " | ".join(METRICS.values()) + " |", "|---|" + "---:|" * len(METRICS)]
    for row, name in ROWS.items():
        if row in results:
            values = [results[row].get(key) for key in METRICS]
            cells = ["-" if value is None else f"{value:.3f}" for value in values]
            lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


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
    Writes `README.md` of a run, a model card that the Hub reads, from numbers and settings alone.

    No report text, path or token gets into it: CT-RATE's reports may not be passed on.

    Args:
        run_dir (`str` or `Path`):
            Folder of the run, which holds the saved model and processor; its name becomes the model's.
        results (`dict[str, dict]`):
            Contents of `results.json`: metrics under `model`, under `shuffled` where measured, and under each trivial
            row.
        config ([`~ct_rate_pairs.trainer.NegativeSFTConfig`]):
            Training arguments of the run.
        phantom (`bool`):
            Whether the cohort is the phantom; CT-RATE otherwise, with its licence.
        negative (`str`):
            `"none"`, `"gauss"` or `"heter"`.
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
    # The quick start names what differs from the builder's defaults, or the model would see slices unlike its own.
    defaults = CTRatePairsConfig()
    chosen = {"data_dir": cohort["data_dir"], "num_slices": num_slices, "spacing": spacing, "window": window}
    options = "".join(
        f", {name}={json.dumps(value)}" for name, value in chosen.items() if value != getattr(defaults, name)
    )
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
        datasets=cohort["datasets"],
        metrics=["ct_coverage", "ct_label_accuracy", "bleu", "rouge"],
        tags=["chest-ct", "radiology", "report-generation", "ct-rate-pairs", "trl"] + ["phantom"] * phantom,
        eval_results=[
            EvalResult(
                task_type="image-text-to-text",
                task_name="Chest-CT report generation",
                dataset_type=cohort["dataset_type"],
                dataset_name=cohort["name"],
                dataset_split="test",
                metric_type=key,
                metric_name=name,
                metric_value=round(scores[key], 4),
            )
            for key, name in METRICS.items()
            if scores.get(key) is not None
        ],
    )
    text = CARD.format(
        metadata=data.to_yaml(),
        name=data.model_name,
        table=results_table(results),
        constraint=CONSTRAINED if config.beta > 0 else UNCONSTRAINED,
        reading=SHUFFLED * ("shuffled" in results),
        labeler=scores["labeler"],
        recipe=scores["recipe"],
        quick_start=QUICK_START.format(options=options),
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
    return run_dir / "README.md"
