"""
Train a dual encoder, the light baseline beside a vision-language model, then measure it on the same scans.

On the phantom, without a GPU or a download:

    ct-rate-pairs phantom --output_dir runs/phantom_cohort --scans 3000
    ct-rate-pairs train-matcher --config matcher

On CT-RATE, with pretrained towers:

    accelerate launch recipes/train_matcher.py --config recipes/configs/matcher.yaml --data_dir /path/to/CT-RATE \\
        --spacing 0.75 0.75 1.5 --image_size 480 480 --text_model bert-base-uncased --use_cpu false \\
        --image_tower clip_all_slices --vision_model openai/clip-vit-base-patch16 --learning_rate 2e-5

`--beside FOLDER` puts a vision-language model into the same table: `ct-rate-pairs evaluate-task --task matching` writes
FOLDER, `docs/matcher.md` shows how.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import ct_rate_pairs  # noqa: F401 (registers the dataset)
from ct_rate_pairs.command_line import run
from ct_rate_pairs.recipes.arguments import DataArguments, RecipeParser


CHOICES = [
    {"options": options, "difficulty": difficulty}
    for options in ("full", "keywords")
    for difficulty in ("random", "hard")
]


@dataclass
class MatcherArguments(DataArguments):
    """What this recipe adds: the towers, the texts, and what is measured."""

    image_tower: str = field(
        default="cnn3d", metadata={"help": "cnn3d, clip_middle_slice (stage 1) or clip_all_slices (stage 2)."}
    )
    image_size: list[int] = field(
        default_factory=lambda: [480, 480],
        metadata={"help": "Height and width in pixels that slices are cropped or padded to."},
    )
    text_model: str = field(default="tiny", metadata={"help": "BERT: folder, name on the Hub, or tiny: untrained."})
    vision_model: str | None = field(
        default=None,
        metadata={"help": "CLIP for image_tower clip_*: folder or name on the Hub; untrained by default."},
    )
    keep_sentences: float = field(
        default=1.0, metadata={"help": "Share of a report's sentences in a training text, drawn anew each time."}
    )
    validation_scans: int = field(
        default=64, metadata={"help": "Scans of the validation split that an `eval_strategy` measures the loss on."}
    )
    beside: list[str] = field(
        default_factory=list,
        metadata={"help": "Folders in which `evaluate-task` measured other models on matching, for the table."},
    )


def load_matcher(recipe_args: MatcherArguments, texts: list[str], seed: int) -> tuple:
    """The towers that the options name, or small untrained ones whose vocabulary comes from `texts`."""
    from transformers import BertModel, BertTokenizer, CLIPVisionModel

    from ct_rate_pairs.trainer.matcher import MatcherConfig, MatcherModel
    from ct_rate_pairs.trainer.tiny import make_tiny_matcher

    config = {
        "image_tower": recipe_args.image_tower,
        "image_size": tuple(recipe_args.image_size),
        "num_channels": 3 if recipe_args.window == "rgb" else 1,
    }
    if recipe_args.text_model == "tiny" and recipe_args.vision_model is None:
        return make_tiny_matcher(texts, seed=seed, **config)
    if recipe_args.text_model == "tiny":
        raise ValueError(f"vision_model={recipe_args.vision_model} needs a pretrained --text_model beside it.")
    text = BertModel.from_pretrained(recipe_args.text_model, add_pooling_layer=False)
    config["text_config"] = text.config
    vision = None
    if recipe_args.vision_model:
        vision = CLIPVisionModel.from_pretrained(recipe_args.vision_model)
        config["vision_config"] = vision.config
    return MatcherModel(MatcherConfig(**config), text, vision), BertTokenizer.from_pretrained(recipe_args.text_model)


def load_split(split: str, options: dict):
    """A split of the dataset, which has to have scans."""
    from datasets import load_dataset

    index = load_dataset("ct_rate_pairs", **options)
    if not len(index.get(split, ())):
        raise ValueError(f"{options.get('data_dir', 'CT-RATE')} has no readable scan for the split '{split}'.")
    return index[split]


def load_choices(options: dict) -> tuple:
    """The questions of `task="matching"` about the split `test`, and those of `train`."""
    from datasets import load_dataset

    splits = load_dataset("ct_rate_pairs", **options | {"negative": "none", "task": "matching"})
    if "test" not in splits:
        raise ValueError("The split 'test' is too small to choose among the reports of four patients: use more scans.")
    return splits["test"], splits["train"]


def read_beside(folder: str, asked: list) -> dict:
    """What `ct-rate-pairs evaluate-task` wrote of another model, which has to be asked the questions of this run."""
    from ct_rate_pairs.eval.tasks.matching import fingerprint_questions

    file = Path(folder) / "results.json"
    results = json.loads(file.read_text())
    questions = {fingerprint_questions(rows.with_format(None)) for rows in asked}
    if results.get("model", {}).get("questions") not in questions:
        raise ValueError(
            f"{file} holds no answers to this run's questions. Measure that model on the whole split with the same "
            "data, `target` and seed: ct-rate-pairs evaluate-task --task matching --options full (or keywords) "
            "--difficulty random (or hard), --answers texts for one that writes reports."
        )
    return results


def texts_by_volume(split) -> dict[str, dict]:
    """Report, age and sex of each volume of a split. No volume is read."""
    columns = split.with_format(None).select_columns(["volume", "completion", "age", "sex"])
    return {row["volume"]: row for row in columns}


def print_cut_texts(tokenizer, texts: list[str], longest: int) -> None:
    lengths = [len(ids) for ids in tokenizer(texts)["input_ids"]]
    cut = sum(length > longest for length in lengths) / len(lengths)
    print(f"Reports have up to {max(lengths)} tokens; {cut:.1%} are cut after {longest}.")


def main(argv: Sequence[str]) -> None:
    from transformers import Trainer, TrainingArguments

    parser = RecipeParser([MatcherArguments, TrainingArguments], "ct-rate-pairs train-matcher", __doc__, {})
    recipe_args, args = parser.parse(argv)

    from ct_rate_pairs.eval.matcher import evaluate_matcher
    from ct_rate_pairs.eval.rows import first_rows
    from ct_rate_pairs.rows import reader_of
    from ct_rate_pairs.trainer import NewNegativesEachEpoch, save_row_settings
    from ct_rate_pairs.trainer.matcher_collator import MatcherCollator

    if recipe_args.negative not in ("none", "hard", "heter"):
        raise ValueError(
            f"negative={recipe_args.negative!r} has no report to tell apart: choose none (the batch's other pairs are "
            "negatives), hard or heter."
        )
    options = recipe_args.dataset_options() | {"seed": args.seed}
    train, validation = load_split("train", options), None
    texts = texts_by_volume(train)
    reports = [row["completion"][-1]["content"] for row in texts.values()]
    if args.eval_strategy != "no":
        validation = load_split("validation", options)
        texts |= texts_by_volume(validation)  # of all: any of them may be a partner
        validation = first_rows(validation, recipe_args.validation_scans)
    test = load_split("test", options | {"negative": "none"})
    choices = [load_choices(options | kind) for kind in CHOICES]
    beside = {folder: read_beside(folder, [asked for asked, _ in choices]) for folder in recipe_args.beside}
    model, tokenizer = load_matcher(recipe_args, reports, args.seed)
    if args.process_index == 0:
        print_cut_texts(tokenizer, reports, model.config.text_config.max_position_embeddings)

    args.remove_unused_columns = False  # the model takes none of the dataset's columns: the collator reads them
    trainer = Trainer(
        model=model,
        args=args,
        train_dataset=train,
        eval_dataset=validation,
        data_collator=MatcherCollator(
            tokenizer,
            model.config,
            partners=None if recipe_args.negative == "none" else texts,
            keep_sentences=recipe_args.keep_sentences,
        ),
        processing_class=tokenizer,
        callbacks=[NewNegativesEachEpoch()],
    )
    trainer.train(resume_from_checkpoint=args.resume_from_checkpoint)
    trainer.save_model()
    trainer.accelerator.end_training()  # the ranks part here
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
