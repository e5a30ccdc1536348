"""
Writes the model card of a run: metadata, data, loss, results beside trivial reports, whether the model looks, and how
to load the model.

Two files for machines are written beside the card: the settings of the training, and the results in the Hub's format.
"""

import json
from pathlib import Path

from huggingface_hub import EvalResult, EvalResultEntry, ModelCard, ModelCardData, eval_result_entries_to_yaml
from huggingface_hub.utils import yaml_dump

from ct_rate_pairs.eval.looking.other_volumes import VOLUMES, suffix_of
from ct_rate_pairs.eval.tables import format_markdown, format_unread, format_value
from ct_rate_pairs.json_files import read_json
from ct_rate_pairs.json_schemas import ConfidenceQuality, Environment
from ct_rate_pairs.reports.texts import write_prompt
from ct_rate_pairs.trainer import NegativeSFTConfig
from ct_rate_pairs.trainer.row_settings import checked_settings
from ct_rate_pairs.trainer.run_record import ENVIRONMENT
from ct_rate_pairs.volumes.windows import windows_of

from .templates import CT_RATE, THIS_FOLDER, read_template


# Code in the card that loads the model and makes a pipeline: for a whole model, and for an adapter.
WHOLE = {
    "load_model": "model = AutoModelForImageTextToText.from_pretrained(model_id, revision=revision)",
    "make_pipeline": 'pipe = pipeline("image-text-to-text", model_id, revision=revision)',
}
ADAPTER = {
    "load_model": """\
on = {"revision": revision}  # of the adapter alone: the base model has no such revision
model = AutoModelForImageTextToText.from_pretrained(model_id, adapter_kwargs=on)""",
    "make_pipeline": 'pipe = pipeline("image-text-to-text", model=model, processor=processor)',
}

# How the card's code for transformers alone makes inputs of the slices, and how the card tells it: for a model that
# takes a volume as a video, and for one that takes each slice as an image. Both do what `PairCollator` does.
VIDEO = {
    "form": "The planes are the frames of a video, with timestamps from\n  their distance in mm.",
    "slices_to_inputs": """\
# A video of these frames, padded with air to whole patches, of which each takes two frames. Time is depth.
side, odd = processor.video_processor.patch_size * processor.video_processor.merge_size, number % 2
y, x = (-n % side for n in slices.shape[2:])
frames = F.pad(torch.cat([slices, slices[-1:]])[: number + odd], (x - x // 2, x // 2, y - y // 2, y // 2))
depths = gap * (planes - planes[0])  # mm
places = depths / depths[-1] * (number - 1)
even = abs(places - np.arange(number)).max() <= 1 / 3
places = np.arange(number) if even else places
places = np.append(places, places[-1])[: number + odd]  # a repeated last slice lies where it lies
mm_per_second = processor.video_processor.to_dict().get("mm_per_second", 10)
fps = mm_per_second * (number - 1) / float(depths[-1])
told = {"fps": fps, "frames_indices": places.tolist(), "total_num_frames": len(places)}
given = {"videos": [frames], "video_metadata": [told], "do_resize": False, "do_sample_frames": False}
shown = [{"type": "video"}]""",
    "tell_depths": """\
if "second_per_grid_ts" in inputs and not even:  # Qwen2.5-VL: seconds that, times 0, 1, 2, ..., give the depths
    places[number:] += 1  # here, it counts as one that lies a mean distance deeper
    pairs = torch.tensor(places.tolist()).view(-1, 2).mean(dim=1)
    seconds = inputs["second_per_grid_ts"][:, None].repeat(1, len(pairs))
    seconds[0, 1:] = ((pairs - pairs[0]) / 2 * seconds[0] / torch.arange(len(pairs)))[1:]
    inputs["second_per_grid_ts"] = seconds
""",
}
IMAGES = {
    "form": "Each plane is an image.",
    "slices_to_inputs": """\
given = {"images": [list(slices)]}
shown = [{"type": "image"}] * number""",
    "tell_depths": "",
}

CONSTRAINED = "whose loss makes a report unlikely where its visual evidence is absent"
UNCONSTRAINED = "without its negative constraint (beta 0): a baseline"
SHUFFLED = "With volumes shuffled, the model gets another patient's scan: if it looks, its Coverage falls.\n"

NEGATIVES = {
    "none": "none; the model is trained only on volumes with their own reports.",
    "gauss": "standard normal noise of the volume's size, clipped to [-1, 1], drawn anew in each epoch.",
    "heter": "a volume of another patient with at least {min_label_distance} of 18 labels different, or if there is\n"
    "  none, with as many different as possible; drawn `{partner_sampling}`, and cropped or padded with air to the\n"
    "  volume's size.",
    "hard": "a volume of another patient with at most {max_label_distance} of 18 labels different that lacks a\n"
    "  finding of the report; drawn `{partner_sampling}`, and cropped or padded with air to the volume's size.",
}
CHANNELS = {1: "as grey", 3: "as the three channels of an image"}
OPENINGS = {
    "none": "",
    "names": "a line with the names of the abnormalities, then ",
    "yes_no": "a line that says yes or no to each of the 18 abnormalities, then ",
}

# Texts of the card that depend on the cohort.
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

# Keys of `results.json`, and the names of these rows in the table.
ROWS = {
    "model": "**this model**",
    "shuffled": "this model, volumes shuffled between patients",
    "all_negative": "all-negative report",
    "most_common": "most common training report",
    "all_positive": "all-positive report",
}
# Keys of the metrics, and their names in the table and in the metadata.
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
    """The table of results: the model, the model with shuffled volumes, and trivial reports; `-` for no value."""
    rows = []
    for row, name in ROWS.items():
        if row in results:
            rows.append([name, *(format_value(results[row].get(key)) for key in METRICS)])
    return format_markdown([["", *METRICS.values()], *rows]).rstrip()


def intervals_text(model: dict) -> str:
    """A line with the bootstrap intervals of the row `model`; an empty string without intervals."""
    told = [
        f"{name} {bounds[0]:.3f} to {bounds[1]:.3f}"
        for key, name in METRICS.items()
        if (bounds := model.get(f"{key}_ci"))
    ]
    return f"\n{model['ci_level']:.0%} intervals of this model, by patient: {', '.join(told)}.\n" if told else ""


def cut_text(model: dict) -> str:
    """How many reports of the row `model` are cut at the limit of tokens; an empty string if that is not known."""
    if "cut" not in model:
        return ""
    limit = f"the limit of {model['max_new_tokens']:,} tokens" if "max_new_tokens" in model else "the limit of tokens"
    if not model["cut"]:
        return f"\nNo report met {limit} before its end.\n"
    return (
        f"\n**{model['cut']} reports ({model['cut_share']:.1%}) met {limit} before their end.** They are cut, and "
        "measured as they are.\n"
    )


def looking_text(model: dict) -> str:
    """Loss gaps and report matching of the row `model`; an empty string if nothing was measured."""
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
    """The measured quality of the confidences in `confidence.json`; an empty string without this file."""
    if not (run_dir / "confidence.json").is_file():
        return ""
    measured = read_json(run_dir / "confidence.json", ConfidenceQuality)["measured"]
    rows = [
        [name, *(f"{measured[row][key]:.3f}" for key in CONFIDENCE_COLUMNS)] for row, name in CONFIDENCE_ROWS.items()
    ]
    return read_template("model_card_confidence").format(
        n=measured["n"], table=format_markdown([["", *CONFIDENCE_COLUMNS.values()], *rows]).rstrip()
    )


def alone_text(settings: dict, adapter: bool, takes_video: bool) -> str:
    """Code that uses the model without this package, from the contents of `row_settings.json`."""
    top, bottom = settings["z_range"]
    form = VIDEO if takes_video else IMAGES
    return read_template("model_card_alone").format(
        peft=" peft" * adapter,
        this_folder=THIS_FOLDER,
        load_model=(ADAPTER if adapter else WHOLE)["load_model"],
        spacing_zyx=list(settings["spacing"])[::-1],
        top=top,
        bottom=bottom,
        num_slices=settings["num_slices"],
        windows=[list(window) for window in windows_of(settings["window"])],
        slices_to_inputs=form["slices_to_inputs"],
        tell_depths=form["tell_depths"],
        prompt=write_prompt(settings["target"], settings["prompt"]),
    )


def shown_text(settings: dict, slices: str) -> dict[str, str | int]:
    """The slices and the prompt that the model gets, in words, from the contents of `row_settings.json`."""
    ranges = [f"[{low:g}, {high:g}]" for low, high in windows_of(settings["window"])]
    top, bottom = settings["z_range"]
    return {
        "num_slices": settings["num_slices"],
        "spacing": " x ".join(f"{side:g}" for side in settings["spacing"]),
        "planes": (" at equal distances" if slices == "uniform" else " at random, one of each of as many equal parts")
        + (f" from {top:.0%} to {bottom:.0%} of the depth" if (top, bottom) != (0, 1) else ""),
        "window": f"HU clipped to {', '.join(ranges)} {CHANNELS[len(ranges)]}",
        "target": OPENINGS[settings.get("findings_line", "none")] + settings["target"].replace("+", " and "),
        "prompt": settings["prompt"],
        "prompt_metadata": " after age and sex" * settings["prompt_metadata"],
    }


def training_settings(config: NegativeSFTConfig, environment: dict) -> dict:
    """
    All training arguments except tokens and paths of this machine. If `environment.json` tells which optimizer ran, it
    stands in the place of the arguments that may have chosen another one.
    """
    settings = {name: value for name, value in config.to_dict().items() if name not in NOT_TOLD}
    if "optimizer" not in environment:
        return settings
    chosen = {name: value for name, value in settings.items() if not name.startswith(("optim", "adam_"))}
    return chosen | {"optimizer": environment["optimizer"]}


def software_text(environment: dict) -> str:
    """The versions and the commit in `environment.json`, in words."""
    if "versions" not in environment:
        return "not recorded"
    told = ", ".join(f"{package} {number}" for package, number in environment["versions"].items())
    commit = environment["commit"]
    return told + (f"; commit {commit[:12]}{', with changes' * environment['dirty']}" if commit else "")


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
    takes_video: bool = True,
    slices: str = "uniform",
    min_label_distance: int = 10,
    max_label_distance: int = 3,
    partner_sampling: str = "uniform",
) -> Path:
    """
    Writes the model card `README.md` of a run, and beside it `training_config.json` and, for CT-RATE,
    `.eval_results/ct_rate.yaml`.

    These files hold only numbers and settings. They hold no path or token, and no text of a report, since CT-RATE's
    reports must not be redistributed.

    Args:
        run_dir (`str` or `Path`):
            Folder of the run. It holds the saved model and processor, `row_settings.json`, `environment.json` if the
            recipe trained the model, and `confidence.json` if confidences were fitted. The name of the folder becomes
            the name of the model.
        results (`dict[str, dict]`):
            Contents of `results.json`: metrics under `model`, with intervals and measures of looking if there are any;
            metrics under the name of each trivial report; and metrics under `shuffled`, if measured.
        config ([`~ct_rate_pairs.trainer.NegativeSFTConfig`]):
            Training arguments of the run.
        phantom (`bool`):
            Whether the cohort is the phantom. Otherwise it is CT-RATE, whose licence the card then names.
        negative (`str`):
            `"none"`, `"gauss"`, `"heter"` or `"hard"`.
        num_train (`int`), num_test (`int`):
            Number of training scans, and number of scans that the results come from.
        steps (`int`):
            Number of optimiser steps.
        hardware (`str`):
            Description of the machine, such as `"2 CPU cores"` or `"2 x NVIDIA H100 80GB HBM3"`.
        minutes (`float`):
            Training time in minutes. For a resumed run, the time since the last resumption.
        base_model (`str`, *optional*):
            Model that the training started from; by default the card says "from scratch". The card names a model on
            the Hub, but not a local folder.
        takes_video (`bool`, *optional*, defaults to `True`):
            Whether the model gets a volume as a video, or each slice as an image: `takes_video` of its
            [`~ct_rate_pairs.trainer.PairCollator`].
        slices (`str`, *optional*, defaults to `"uniform"`):
            How the planes of the slices were chosen in training: `"uniform"` or `"jitter"`.
        min_label_distance (`int`, *optional*, defaults to `10`), \
        max_label_distance (`int`, *optional*, defaults to `3`):
            Minimum number of labels in which a `"heter"` partner differs, and maximum number for a `"hard"` partner.
        partner_sampling (`str`, *optional*, defaults to `"uniform"`):
            How partners were drawn: `"uniform"` or `"balanced"`.

    Returns:
        `Path`: path of the card.
    """
    run_dir = Path(run_dir)
    cohort = PHANTOM if phantom else REAL
    adapter = (run_dir / "adapter_config.json").exists()
    recorded = run_dir / ENVIRONMENT
    environment = read_json(recorded, Environment) if recorded.is_file() else {}
    scores = results["model"]
    measured = {key: round(scores[key], 4) for key in METRICS if scores.get(key) is not None}
    if base_model is None:
        base = "none, trained from scratch"
    elif Path(base_model).is_dir():
        base, base_model = "a local checkpoint", None  # the Hub would take a local path for the name of a repository
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
    path = run_dir / "row_settings.json"
    row_settings = checked_settings(read_json(path), path).content()
    text = read_template("model_card").format(
        metadata=data.to_yaml(),
        name=data.model_name,
        table=results_table(results),
        constraint=CONSTRAINED if config.beta > 0 else UNCONSTRAINED,
        reading=SHUFFLED * ("shuffled" in results),
        unread=f"\n{told}\n" if (told := format_unread("the model", scores)) else "",
        intervals=intervals_text(scores),
        cut=cut_text(scores),
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
        alone=alone_text(row_settings, adapter, takes_video),
        form=(VIDEO if takes_video else IMAGES)["form"],
        **shown_text(row_settings, slices),
        config=config,
        steps=steps,
        batch=config.per_device_train_batch_size * config.gradient_accumulation_steps * config.world_size,
        base=base,
        lr_scheduler=config.lr_scheduler_type.value,
        optimizer=environment.get("optimizer", {"name": config.to_dict()["optim"]})["name"],
        software=software_text(environment),
        hardware=hardware,
        minutes=minutes,
        resumed=", from the last resumption on" if config.resume_from_checkpoint else "",
        **{key: cohort[key] for key in ("cohort", "warning", "limits", "label_source", "data_text", "data_access")},
    )
    card = ModelCard(text)
    card.save(run_dir / "README.md")
    settings = json.dumps(training_settings(config, environment), indent=2)
    (run_dir / "training_config.json").write_text(settings + "\n")
    if not phantom:  # the Hub's format needs a dataset on the Hub
        notes = f"labeler {scores['labeler']}, recipe {scores['recipe']}, {num_test} scans"
        entries = [EvalResultEntry(CT_RATE, key, value, notes=notes) for key, value in measured.items()]
        (run_dir / ".eval_results").mkdir(exist_ok=True)
        (run_dir / ".eval_results" / "ct_rate.yaml").write_text(yaml_dump(eval_result_entries_to_yaml(entries)))
    return run_dir / "README.md"
