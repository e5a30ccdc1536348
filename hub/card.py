"""
The model card of a run: metadata, data, loss, results beside the trivial rows, whether it looks, and how to load it.
Beside it, for machines: the training's settings, and the results in the Hub's own form.
"""

import json
from pathlib import Path

from huggingface_hub import EvalResult, EvalResultEntry, ModelCard, ModelCardData, eval_result_entries_to_yaml
from huggingface_hub.utils import yaml_dump

from ct_rate_pairs.eval.looking.other_volumes import VOLUMES, suffix_of
from ct_rate_pairs.eval.tables import format_markdown, format_value
from ct_rate_pairs.trainer import NegativeSFTConfig
from ct_rate_pairs.volumes.windows import windows_of

from .templates import CT_RATE, THIS_FOLDER, read_template


# How the card's code loads the model and makes a pipeline of it: a whole one, and an adapter.
WHOLE = {
    "load_model": "model = AutoModelForImageTextToText.from_pretrained(model_id, revision=revision)",
    "make_pipeline": 'pipe = pipeline("image-text-to-text", model_id, revision=revision)',
}
ADAPTER = {
    "load_model": """\
on = {"revision": revision}  # of the adapter; given as such it would be looked for in the base, too
model = AutoModelForImageTextToText.from_pretrained(model_id, adapter_kwargs=on)""",
    "make_pipeline": 'pipe = pipeline("image-text-to-text", model=model, processor=processor)',
}

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


def results_table(results: dict[str, dict]) -> str:
    """The model, the shuffled and the trivial rows of `results`; `-` where a metric is missing."""
    rows = []
    for row, name in ROWS.items():
        if row in results:
            rows.append([name, *(format_value(results[row].get(key)) for key in METRICS)])
    return format_markdown([["", *METRICS.values()], *rows]).rstrip()


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
        for kind, name in VOLUMES.items()
        if f"gap_positive_share{(suffix := suffix_of(kind))}" in model
    ]
    matching = [
        [f"{difficulty}, 1 of {scores['num_options']}", *(f"{scores[key]:.2f}" for key in MATCHING_COLUMNS)]
        for difficulty, scores in model.get("matching", {}).items()
    ]
    text = ""
    if gaps:
        text += read_template("model_card_looking").format(
            gaps=format_markdown([["volume", "loss gap", "scans with a gap above 0"], *gaps]).rstrip()
        )
    if matching:
        text += read_template("model_card_matching").format(
            matching=format_markdown([["", *MATCHING_COLUMNS.values()], *matching]).rstrip()
        )
    return text


def confidence_text(run_dir: Path) -> str:
    """What the confidences of `confidence.json` are worth; empty where there is none."""
    if not (run_dir / "confidence.json").is_file():
        return ""
    measured = json.loads((run_dir / "confidence.json").read_text())["measured"]
    rows = [
        [name, *(f"{measured[row][key]:.3f}" for key in CONFIDENCE_COLUMNS)] for row, name in CONFIDENCE_ROWS.items()
    ]
    return read_template("model_card_confidence").format(
        n=measured["n"], table=format_markdown([["", *CONFIDENCE_COLUMNS.values()], *rows]).rstrip()
    )


def shown_text(settings: dict, slices: str) -> dict[str, str | int]:
    """What the model was shown and asked for, in words, from the contents of `row_settings.json`."""
    ranges = [f"[{low:g}, {high:g}]" for low, high in windows_of(settings["window"])]
    top, bottom = settings["z_range"]
    return {
        "num_slices": settings["num_slices"],
        "spacing": " x ".join(f"{side:g}" for side in settings["spacing"]),
        "planes": (" at equal distances" if slices == "uniform" else " at random, one of each of as many equal parts")
        + (f" from {top:.0%} to {bottom:.0%} of the depth" if (top, bottom) != (0, 1) else ""),
        "window": f"HU clipped to {', '.join(ranges)} {CHANNELS[len(ranges)]}",
        "target": settings["target"].replace("+", " and "),
        "prompt": settings["prompt"],
        "prompt_metadata": " after age and sex" * settings["prompt_metadata"],
    }


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
    slices: str = "uniform",
    min_label_distance: int = 10,
    max_label_distance: int = 3,
    partner_sampling: str = "uniform",
) -> Path:
    """
    Writes `README.md` of a run, a model card that the Hub reads, from numbers and settings alone; beside it
    `training_config.json`, and for CT-RATE `.eval_results/ct_rate.yaml`.

    No report text, path or token gets into them: CT-RATE's reports may not be passed on.

    Args:
        run_dir (`str` or `Path`):
            Folder of the run, which holds the saved model and processor, what it was shown (`row_settings.json`), and
            `confidence.json` where confidences were fitted; its name becomes the model's.
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
            Machine in words, such as `"2 CPU cores"` or `"2 x NVIDIA H100 80GB HBM3"`.
        minutes (`float`):
            Training time; of a run that was resumed, from then on.
        base_model (`str`, *optional*):
            Model that training started from; without one the card says "from scratch". Only a Hub id is named, a local
            folder is not.
        slices (`str`, *optional*, defaults to `"uniform"`):
            `"uniform"` or `"jitter"`.
        min_label_distance (`int`, *optional*, defaults to 10), max_label_distance (`int`, *optional*, defaults to 3):
            Labels in which a `"heter"` partner differs at least, and a `"hard"` one at most.
        partner_sampling (`str`, *optional*, defaults to `"uniform"`):
            `"uniform"` or `"balanced"`.

    Returns:
        `Path`: the card's path.
    """
    run_dir = Path(run_dir)
    cohort = PHANTOM if phantom else REAL
    adapter = (run_dir / "adapter_config.json").exists()
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
        base_model_relation=base_model and ("adapter" if adapter else "finetune"),
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
    text = read_template("model_card").format(
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
        this_folder=THIS_FOLDER,
        row_options=cohort["row_options"],
        **(ADAPTER if adapter else WHOLE),
        negative=negative,
        negative_text=NEGATIVES[negative].format(
            min_label_distance=min_label_distance,
            max_label_distance=max_label_distance,
            partner_sampling=partner_sampling,
        ),
        num_train=num_train,
        num_test=num_test,
        **shown_text(json.loads((run_dir / "row_settings.json").read_text()), slices),
        config=config,
        steps=steps,
        batch=config.per_device_train_batch_size * config.gradient_accumulation_steps * config.world_size,
        base=base,
        lr_scheduler=config.lr_scheduler_type.value,
        hardware=hardware,
        minutes=minutes,
        resumed=", from the last resumption on" if config.resume_from_checkpoint else "",
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
