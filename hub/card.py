"""
Writes the model card of a run: metadata, data, loss, results beside trivial reports, whether the model looks, and how
to load the model.

Two files for machines are written beside the card: the settings of the training, and the results in the Hub's format.
"""

import json
from collections.abc import Sequence
from pathlib import Path

from huggingface_hub import EvalResult, EvalResultEntry, ModelCard, ModelCardData, eval_result_entries_to_yaml
from huggingface_hub.utils import yaml_dump
from trl import GRPOConfig

from ct_rate_pairs.eval.tables import format_unread
from ct_rate_pairs.json_files import read_json
from ct_rate_pairs.json_schemas.run import Environment
from ct_rate_pairs.reports.prompt_lines import metadata_names
from ct_rate_pairs.trainer import NegativeSFTConfig
from ct_rate_pairs.trainer.hub_files import ADAPTER as ADAPTER_CONFIG
from ct_rate_pairs.trainer.hub_files import base_of
from ct_rate_pairs.trainer.row_settings import checked_settings
from ct_rate_pairs.trainer.run_record import ENVIRONMENT
from ct_rate_pairs.volumes.windows import windows_of
from ct_rate_pairs.whole_files import write_whole

from .card_code import ADAPTER, IMAGES, VIDEO, WHOLE, alone_text
from .card_cohorts import LABELS_BY_RULES, OWN, PHANTOM, REAL
from .card_memory import memory_text
from .card_results import (
    METRICS,
    confidence_text,
    cut_text,
    domain_text,
    labels_text,
    lines_text,
    looking_text,
    places_text,
    point_texts,
    prompt_only_text,
    results_table,
)
from .card_sample import sample_text
from .card_settings import NOT_TOLD, citation_text, install_text, settings_text, software_text
from .card_training import base_text, commits_of, negative_text, objective_text, trained_text
from .templates import CT_RATE, MEASURED, THIS_FOLDER, read_template


SHUFFLED = "Shuffled, the model gets another patient's scan: if it looks, its Coverage falls.\n"

CHANNELS = {1: "as grey", 3: "as the three channels of an image"}
OPENINGS = {
    "none": "",
    "names": "a line with the names of the abnormalities, then ",
    "yes_no": "a line that says yes or no to each of the 18 abnormalities, then ",
    "sides": "a line that says of each of the 18 abnormalities whether and on which side it is there, then ",
}

PLANES = {
    "uniform": " at equal distances",
    "jitter": " at random, one of each of as many equal parts",
    "key": " with most of the findings, by masks, one of each of as many equal parts; beyond the training its middle",
    "lung": " at equal distances within the extent of the lungs, which is found from HU",
    "mip": " as images of as many equal slabs (red: maximum, green: mean, blue: the middle plane)",
}

CUES = "In training, prompts named the findings of the scan, from its labels. Those of the results did not"
DROPPED = "{dropout:.0%} of the training prompts told nothing of this, and the others lacked each line as often"


def shown_text(settings: dict, slices: str) -> dict[str, str | int]:
    """The slices and the prompt that the model gets, in words, from the contents of `row_settings.json`."""
    ranges = [f"[{low:g}, {high:g}]" for low, high in windows_of(settings["window"])]
    top, bottom = settings["z_range"]
    whole = "this extent" if slices == "lung" else "the depth"
    return {
        "num_slices": settings["num_slices"],
        "spacing": " x ".join(f"{side:g}" for side in settings["spacing"]),
        "planes": PLANES[slices] + (f" from {top:.0%} to {bottom:.0%} of {whole}" if (top, bottom) != (0, 1) else ""),
        "window": f"HU clipped to {', '.join(ranges)} {CHANNELS[3 if slices == 'mip' else len(ranges)]}",
        "target": OPENINGS[settings.get("findings_line", "none")] + settings["target"].replace("+", " and "),
        "prompt": settings["prompt"],
        "prompt_lines": prompt_text(settings),
    }


def prompt_text(settings: dict) -> str:
    """What prompts tell ahead of the question, in words, from the contents of `row_settings.json`."""
    told = [name.replace("_", " ") for name in metadata_names(settings["prompt_metadata"])]
    text = f", after lines with {', '.join(told)}" if told else ""
    if settings.get("prompt_findings"):
        text += f".\n  {CUES}"
    if dropout := settings.get("prompt_dropout"):
        text += f".\n  {DROPPED.format(dropout=dropout)}"
    return text


def training_settings(config: NegativeSFTConfig | GRPOConfig, environment: dict) -> dict:
    """
    All training arguments except tokens and paths of this machine. If `environment.json` tells which optimizer ran, it
    stands in the place of the arguments that may have chosen another one.
    """
    settings = {name: value for name, value in config.to_dict().items() if name not in NOT_TOLD}
    if "optimizer" not in environment:
        return settings
    chosen = {name: value for name, value in settings.items() if not name.startswith(("optim", "adam_"))}
    return chosen | {"optimizer": environment["optimizer"]}


def write_model_card(
    run_dir: str | Path,
    results: dict[str, dict],
    config: NegativeSFTConfig | GRPOConfig,
    *,
    phantom: bool,
    own: bool = False,
    negative: str = "none",
    reward_funcs: Sequence[str] = (),
    num_train: int,
    num_test: int,
    steps: int,
    hardware: str,
    minutes: float,
    peak_memory: int | None = None,
    base_model: str | Sequence[str] | None = None,
    takes_video: bool = True,
    slices: str = "uniform",
    min_label_distance: int = 10,
    max_label_distance: int = 3,
    partner_sampling: str = "uniform",
    sample: tuple[str, str] | None = None,
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
        config ([`~ct_rate_pairs.trainer.NegativeSFTConfig`] or [`~trl.GRPOConfig`]):
            Training arguments of the run.
        phantom (`bool`):
            Whether the cohort is the phantom.
        own (`bool`, *optional*, defaults to `False`):
            Whether the cohort is a table of the reader's own scans. If it is neither, it is CT-RATE, whose licence the
            card then names.
        negative (`str`, *optional*, defaults to `"none"`):
            `"none"`, `"gauss"`, `"heter"` or `"hard"`.
        reward_funcs (`Sequence[str]`, *optional*):
            Names of the rewards of a reinforcement, in the order of `reward_weights` of `config`.
        num_train (`int`), num_test (`int`):
            Number of training scans, and number of scans that the results come from.
        steps (`int`):
            Number of optimiser steps.
        hardware (`str`):
            Description of the machine, such as `"2 CPU cores"` or `"2 x NVIDIA H100 80GB HBM3"`.
        minutes (`float`):
            Training time in minutes. For a resumed run, the time since the last resumption.
        peak_memory (`int`, *optional*):
            Bytes that the process took at most which trained and wrote the reports: of the GPU if there is one, and
            else of the machine.
        base_model (`str`, *optional*):
            Model that the training started from; by default the card says "from scratch". The card names a model on
            the Hub, with its commit from `environment.json`. It does not name a local folder. If that is a run of this
            package, the card tells how it was trained, and what from.
        takes_video (`bool`, *optional*, defaults to `True`):
            Whether the model gets a volume as a video, or each slice as an image: `takes_video` of its
            [`~ct_rate_pairs.trainer.PairCollator`].
        slices (`str`, *optional*, defaults to `"uniform"`):
            How the planes of the slices were chosen in training, see
            [`~ct_rate_pairs.volumes.settings.VolumeSettings`].
        min_label_distance (`int`, *optional*, defaults to `10`), \
        max_label_distance (`int`, *optional*, defaults to `3`):
            Minimum number of labels in which a `"heter"` partner differs, and maximum number for a `"hard"` partner.
        partner_sampling (`str`, *optional*, defaults to `"uniform"`):
            How partners were drawn: `"uniform"`, `"balanced"` or `"mutual"`.
        sample (`tuple[str, str]`, *optional*):
            A report of the model and the reference of the same scan, to show side by side. Only for the phantom.

    Returns:
        `Path`: path of the card.

    Raises:
        `ValueError`: if `sample` is given, and `reference_hashes.json` of the run does not say that the cohort is the
            phantom.
    """
    run_dir = Path(run_dir)
    scores = results["model"]
    cohort = (PHANTOM if phantom else OWN if own else REAL) | (
        {"label_source": LABELS_BY_RULES} if "labels" in scores else {}
    )
    adapter = (run_dir / ADAPTER_CONFIG).is_file()
    adapted = base_of(run_dir / ADAPTER_CONFIG, str(run_dir)) if adapter else None
    path = run_dir / "row_settings.json"
    row_settings = checked_settings(read_json(path), path).content()
    recorded = run_dir / ENVIRONMENT
    environment = read_json(recorded, Environment) if recorded.is_file() else {}
    measured = {key: round(scores[key], 4) for key in METRICS if scores.get(key) is not None}
    bases = [base_model] if isinstance(base_model, str) else list(base_model or ())
    commits = commits_of(environment.get("base"))  # a run that the training started from has told its own
    direct = [name for name in bases if not Path(name).is_dir()]  # not paths, which would be taken for repositories
    on_hub = list(dict.fromkeys((*direct, *commits)))
    if adapted and not Path(adapted).is_dir():  # an adapter that goes on has another start, and the same base model
        on_hub = [adapted]
    relation = "adapter" if adapter and (direct or adapted in on_hub) else "finetune"
    data = ModelCardData(
        model_name=run_dir.resolve().name,
        library_name="transformers",
        pipeline_tag="image-text-to-text",
        language=row_settings["prompt"],
        license=cohort["license"],
        base_model=on_hub if len(on_hub) > 1 else next(iter(on_hub), None),
        base_model_relation=relation if on_hub else None,
        datasets=cohort["datasets"],
        metrics=["ct_coverage", "ct_label_accuracy", "ct_crg", "ct_report_text"],
        tags=["chest-ct", "radiology", "report-generation", "ct-rate-pairs", "trl"]
        + ["grpo"] * bool(reward_funcs)
        + ["phantom"] * phantom,
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
        trained=trained_text(config, reward_funcs),
        blind="four" if "prompt_only" in results else "three",
        prompt_column=", and the labels that the prompt alone suggests" if "prompt_only" in results else "",
        reading=SHUFFLED * ("shuffled" in results),
        prompt_only=prompt_only_text(results),
        unread=f"\n{told}\n" if (told := format_unread("the model", scores)) else "",
        labels=labels_text(scores, run_dir),
        sample=sample_text(run_dir, sample) if sample else "",
        places=places_text(scores),
        cut=cut_text(scores),
        looking=looking_text(scores),
        lines=lines_text(scores),
        **point_texts(scores),
        confidence=confidence_text(run_dir),
        domain=domain_text(run_dir),
        labeler=scores["labeler"],
        recipe=scores["recipe"],
        this_folder=THIS_FOLDER,
        memory=memory_text(run_dir, adapter, hardware, peak_memory),
        weights=MEASURED,
        row_options=cohort["row_options"],
        **(ADAPTER if adapter else WHOLE),
        negative=negative,
        negative_text=negative_text(
            negative,
            partner_sampling,
            reward_funcs,
            min_label_distance=min_label_distance,
            max_label_distance=max_label_distance,
        ),
        objective=objective_text(config, reward_funcs),
        num_train=num_train,
        num_test=num_test,
        alone=alone_text(row_settings, adapter, takes_video),
        form=(VIDEO if takes_video else IMAGES)["form"],
        **shown_text(row_settings, slices),
        config=config,
        steps=steps,
        batch=config.per_device_train_batch_size * config.gradient_accumulation_steps * config.world_size,
        base=base_text(bases, commits),
        lr_scheduler=config.lr_scheduler_type.value,
        optimizer=environment.get("optimizer", {"name": config.to_dict()["optim"]})["name"],
        software=software_text(environment),
        settings=settings_text(run_dir, f"ct-rate-pairs {'grpo' if reward_funcs else 'train'}"),
        install=install_text(environment),
        citation=citation_text(of_ct_rate=not own, of_grpo=bool(reward_funcs)),
        hardware=hardware,
        minutes=minutes,
        resumed=", from the last resumption on" if config.resume_from_checkpoint else "",
        **{key: cohort[key] for key in ("cohort", "warning", "limits", "label_source", "data_text", "data_access")},
    )
    card = ModelCard(text)
    write_whole(run_dir / "README.md", str(card))
    settings = json.dumps(training_settings(config, environment), indent=2)
    write_whole(run_dir / "training_config.json", settings + "\n")
    if not phantom and not own:  # the Hub's format needs a dataset on the Hub
        notes = f"labeler {scores['labeler']}, recipe {scores['recipe']}, {num_test} scans"
        entries = [EvalResultEntry(CT_RATE, key, value, notes=notes) for key, value in measured.items()]
        (run_dir / ".eval_results").mkdir(exist_ok=True)
        write_whole(run_dir / ".eval_results" / "ct_rate.yaml", yaml_dump(eval_result_entries_to_yaml(entries)))
    return run_dir / "README.md"
