"""
Train a dual encoder, a light baseline for vision-language models, and measure it on the same scans.

On the phantom, without a GPU or a download:

    ct-rate-pairs phantom --output_dir runs/phantom_cohort --scans 3000
    ct-rate-pairs train-matcher --config matcher

On CT-RATE, with pretrained towers:

    accelerate launch -m ct_rate_pairs.recipes.train_matcher --config matcher --data_dir /path/to/CT-RATE \\
        --spacing 0.75 0.75 1.5 --image_size 480 480 --text_model bert-base-uncased --use_cpu false \\
        --image_tower clip_all_slices --vision_model openai/clip-vit-base-patch16 --learning_rate 2e-5

`--beside FOLDER` adds a vision-language model to the table. `ct-rate-pairs evaluate-task --task matching` writes
FOLDER.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import ct_rate_pairs  # noqa: F401 (registers the dataset)
from ct_rate_pairs.command_line import run
from ct_rate_pairs.folder_lock import folder_lock
from ct_rate_pairs.json_files import read_json
from ct_rate_pairs.json_schemas.evaluation import Results
from ct_rate_pairs.near_names import no_such
from ct_rate_pairs.number_ranges import COUNT, Range
from ct_rate_pairs.recipes.arguments import DataArguments
from ct_rate_pairs.recipes.recipe_parser import RecipeParser


CHOICES = [
    {"options": options, "difficulty": difficulty}
    for options in ("full", "keywords")
    for difficulty in ("random", "hard")
]


@dataclass
class MatcherArguments(DataArguments):
    """The options of this recipe: scans, towers, texts, and what to measure."""

    image_tower: str = field(
        default="cnn3d", metadata={"help": "cnn3d, clip_middle_slice (stage 1) or clip_all_slices (stage 2)."}
    )
    image_size: list[int] = field(
        default_factory=lambda: [480, 480],
        metadata={"range": COUNT, "help": "Height and width in pixels to which slices are cropped or padded."},
    )
    text_model: str = field(
        default="tiny", metadata={"help": "BERT: folder or name on the Hub; tiny: a small untrained one."}
    )
    vision_model: str | None = field(
        default=None,
        metadata={"help": "CLIP for image_tower clip_*: folder or name on the Hub; by default untrained."},
    )
    keep_sentences: float = field(
        default=1.0,
        metadata={
            "range": Range(0, 1, above=True),
            "help": "Share of a report's sentences in each training text, drawn anew at each use.",
        },
    )
    validation_scans: int = field(
        default=64,
        metadata={"help": "Scans of the validation split to measure the loss on, with an `eval_strategy`; 0: all."},
    )
    beside: list[str] = field(
        default_factory=list,
        metadata={"help": "Folders of `evaluate-task --task matching` for other models, to add to the table."},
    )

    def idle(self, args) -> dict[str, str]:
        """The options without effect beside the others, and why."""
        from ct_rate_pairs.trainer.idle_options import idle_training_options

        idle = self.idle_negatives() | idle_training_options(args)
        of_prompts = ("prompt", "prompt_metadata", "findings_line")
        idle |= dict.fromkeys(of_prompts, "a matcher compares scans with reports alone")
        idle["label_smoothing_factor"] = "the loss of a matcher compares scans and texts, and has no such term"
        if self.image_tower == "cnn3d":
            idle["vision_model"] = "image_tower=cnn3d has no CLIP vision model"
        if args.eval_strategy == "no":
            idle["validation_scans"] = "eval_strategy is no"
        return idle


def commits_of_towers(recipe_args: MatcherArguments) -> dict[str, str | None]:
    """The commit on the Hub of each pretrained tower; `None` for a folder."""
    from ct_rate_pairs.trainer.hub_files import commit_of

    names = (recipe_args.text_model, recipe_args.vision_model)
    return {name: commit_of(name) for name in names if name not in (None, "tiny")}


def load_matcher(
    recipe_args: MatcherArguments, channels: int, texts: list[str], seed: int, commits: dict[str, str | None]
) -> tuple:
    """
    The model and its tokenizer, for slices of 1 or 3 channels. Small untrained towers have a vocabulary from `texts`.
    Pretrained towers are those of `commits`.
    """
    from transformers import BertModel, BertTokenizer, CLIPVisionModel

    from ct_rate_pairs.trainer.matcher import MatcherConfig, MatcherModel
    from ct_rate_pairs.trainer.tiny import make_tiny_matcher

    config = {
        "image_tower": recipe_args.image_tower,
        "image_size": tuple(recipe_args.image_size),
        "num_channels": channels,
    }
    if recipe_args.text_model == "tiny" and recipe_args.vision_model is None:
        return make_tiny_matcher(texts, seed=seed, **config)
    if recipe_args.text_model == "tiny":
        raise ValueError(f"vision_model={recipe_args.vision_model} needs a pretrained --text_model beside it.")
    of_text, of_vision = commits[recipe_args.text_model], commits.get(recipe_args.vision_model)
    text = BertModel.from_pretrained(
        recipe_args.text_model, revision=of_text, add_pooling_layer=False, trust_remote_code=False
    )
    config["text_config"] = text.config
    vision = None
    if recipe_args.vision_model:
        vision = CLIPVisionModel.from_pretrained(recipe_args.vision_model, revision=of_vision, trust_remote_code=False)
        config["vision_config"] = vision.config
    tokenizer = BertTokenizer.from_pretrained(recipe_args.text_model, revision=of_text, trust_remote_code=False)
    return MatcherModel(MatcherConfig(**config), text, vision), tokenizer


def load_split(split: str, options: dict):
    """A split of the dataset; raises a `ValueError` if it has no scans."""
    from datasets import load_dataset

    from ct_rate_pairs.readers import split_of

    return split_of(load_dataset("ct_rate_pairs", **options), split)


def load_choices(options: dict) -> tuple:
    """The questions of `task="matching"` about the splits `test` and `train`."""
    from datasets import load_dataset

    splits = load_dataset("ct_rate_pairs", **options | {"negative": "none", "task": "matching"})
    if "test" not in splits:
        raise ValueError("The split 'test' is too small to choose among the reports of four patients: use more scans.")
    return splits["test"], splits["train"]


def read_beside(folder: str, asked: list) -> dict:
    """Results of `ct-rate-pairs evaluate-task` for another model, which must have the questions of this run."""
    from ct_rate_pairs.eval.tasks.matching import fingerprint_questions

    file = Path(folder) / "results.json"
    if not file.is_file():
        raise FileNotFoundError(f"--beside: {no_such('file', file)}")
    results = read_json(file, Results)
    questions = {fingerprint_questions(rows) for rows in asked}
    if results.get("model", {}).get("questions") not in questions:
        raise ValueError(
            f"{file} holds no answers to this run's questions. Measure that model on the whole split with the same "
            "data, `target` and seed: ct-rate-pairs evaluate-task --task matching --options full (or keywords) "
            "--difficulty random (or hard), and --answers texts for a model that writes reports."
        )
    return results


def texts_by_volume(split) -> dict[str, dict]:
    """Report, age and sex of each volume of a split. No volume is read."""
    columns = split.with_format(None).select_columns(["volume", "completion", "age", "sex"])
    return {row["volume"]: row for row in columns}


def print_cut_texts(tokenizer, texts: list[str], longest: int) -> None:
    """Prints how many reports are longer than the text tower reads."""
    lengths = [len(ids) for ids in tokenizer(texts)["input_ids"]]
    cut = sum(length > longest for length in lengths) / len(lengths)
    print(f"Reports have up to {max(lengths)} tokens; {cut:.1%} are cut after {longest}.")


def main(argv: Sequence[str]) -> None:
    """The command `ct-rate-pairs train-matcher`."""
    from transformers import TrainingArguments

    from ct_rate_pairs.trainer.preconditions import check_upload

    parser = RecipeParser([MatcherArguments, TrainingArguments], "ct-rate-pairs train-matcher", __doc__, {})
    recipe_args, args = parser.parse(argv)
    check_upload(args)
    idle = recipe_args.idle(args)
    parser.refuse_idle(idle)
    parser.tell_idle(idle)
    parser.keep_run(args.output_dir, args.resume_from_checkpoint)
    with folder_lock(args.output_dir, parser.prog, distributed=True):
        train(recipe_args, args, parser)


def train(recipe_args: MatcherArguments, args, parser: RecipeParser) -> None:
    """Trains and measures the matcher."""
    from ct_rate_pairs.eval.matcher import evaluate_matcher
    from ct_rate_pairs.eval.rows import first_rows
    from ct_rate_pairs.readable_rows import ReadableRows
    from ct_rate_pairs.readers import reader_of
    from ct_rate_pairs.reports.findings_line import report_of
    from ct_rate_pairs.trainer import NewNegativesEachEpoch, save_row_settings
    from ct_rate_pairs.trainer.matcher_collator import MatcherCollator
    from ct_rate_pairs.trainer.matcher_trainer import MatcherTrainer
    from ct_rate_pairs.trainer.row_settings import KEY, settings_of
    from ct_rate_pairs.trainer.run_record import WriteRunRecord, options_in_effect
    from ct_rate_pairs.trainer.what_learns import format_what_learns, what_learns

    if recipe_args.negative not in ("none", "hard", "heter"):
        raise ValueError(
            f"negative={recipe_args.negative!r} has no report to tell apart: choose none (the other pairs of the "
            "batch are negatives), hard or heter."
        )
    options = recipe_args.dataset_options() | {"seed": args.seed}
    train, validation = load_split("train", options), None
    texts = texts_by_volume(train)
    reports = [report_of(row["completion"][-1]) for row in texts.values()]
    if args.eval_strategy != "no":
        validation = load_split("validation", options)
        texts |= texts_by_volume(validation)  # of all volumes, because any may be a partner
        validation = first_rows(validation, recipe_args.validation_scans)
    test = load_split("test", options | {"negative": "none"})
    choices = [load_choices(options | kind) for kind in CHOICES]
    beside = {folder: read_beside(folder, [asked for asked, _ in choices]) for folder in recipe_args.beside}
    channels = reader_of(train).source.settings.channels  # a prepared copy has its own settings
    commits = commits_of_towers(recipe_args)
    model, tokenizer = load_matcher(recipe_args, channels, reports, args.seed, commits)
    if args.process_index == 0:
        print_cut_texts(tokenizer, reports, model.config.text_config.max_position_embeddings)

    setattr(model.config, KEY, settings_of([reader_of(train)]).content())  # saved with each checkpoint
    args.remove_unused_columns = False  # the collator reads columns that the model does not take
    used = options_in_effect(parser.values, [train])
    base = ", ".join(f"{name}@{commit}" for name, commit in commits.items() if commit) or None
    trainer = MatcherTrainer(
        model=model,
        args=args,
        train_dataset=ReadableRows(train),
        eval_dataset=None if validation is None else ReadableRows(validation),
        data_collator=MatcherCollator(
            tokenizer,
            model.config,
            partners=None if recipe_args.negative == "none" else texts,
            keep_sentences=recipe_args.keep_sentences,
        ),
        processing_class=tokenizer,
        callbacks=[
            NewNegativesEachEpoch(train),
            WriteRunRecord("ct-rate-pairs train-matcher", used, parser.given, base),
        ],
    )
    if trainer.is_world_process_zero():
        print(format_what_learns(what_learns(model)), flush=True)
    trainer.train(resume_from_checkpoint=args.resume_from_checkpoint)
    trainer.save_model()
    trainer.accelerator.end_training()  # only the main process continues
    if not trainer.is_world_process_zero():
        return

    save_row_settings([reader_of(train)], args.output_dir)
    evaluate_matcher(
        model,
        MatcherCollator(tokenizer, model.config),
        test,
        train,
        choices,
        args.output_dir,
        beside=beside,
        batch_size=args.per_device_eval_batch_size,
    )


if __name__ == "__main__":
    run(main)
