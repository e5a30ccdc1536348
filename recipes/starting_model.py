"""The model that a training starts from."""

from collections.abc import Mapping

from datasets import Dataset
from peft import PeftConfig, PeftModel
from transformers import AutoModelForImageTextToText
from trl import ModelConfig, get_peft_config, get_quantization_config

from ct_rate_pairs.eval.load_model import base_commit_of, check_configs, load_processor, naming
from ct_rate_pairs.readable_rows import ReadableRows
from ct_rate_pairs.recipes.training_arguments import ENCODER_DECODER, MADE_ANEW, RecipeArguments
from ct_rate_pairs.trainer.encoder_decoder import TEXT_MODELS, VISION_MODELS, make_encoder_decoder
from ct_rate_pairs.trainer.hub_files import ADAPTER, base_of, commit_of, find_file
from ct_rate_pairs.trainer.row_settings import KEY, find_row_settings
from ct_rate_pairs.trainer.splits import texts_to_learn
from ct_rate_pairs.trainer.tiny import make_tiny_qwen


def load_model(
    recipe_args: RecipeArguments,
    model_args: ModelConfig,
    indexes: Mapping[str, Mapping[str, Dataset]],
    seed: int,
    commits: Mapping[str, str | None],
) -> tuple:
    """
    The model and processor of `--model_name_or_path`. `"tiny"` and the untrained parts of `"encoder-decoder"` have a
    vocabulary from the training texts of `indexes`. What comes from the Hub is that of `commits`. An adapter comes on
    its base model, to be trained further.
    """
    if model_args.model_name_or_path == "tiny":
        return make_tiny_qwen(texts_to_learn(indexes.values()), seed=seed)
    if model_args.model_name_or_path == ENCODER_DECODER:
        for name, commit in commits.items():
            check_configs(name, commit)
        slices = ReadableRows(next(iter(indexes.values()))["train"])[0]["images"]
        return make_encoder_decoder(
            recipe_args.vision_model,
            recipe_args.text_model,
            texts_to_learn(indexes.values()),
            slices[0].size[::-1],
            len(slices),
            seed=seed,
            vision_revision=commits.get(recipe_args.vision_model),
            text_revision=commits.get(recipe_args.text_model),
        )
    name, commit = model_args.model_name_or_path, commits[model_args.model_name_or_path]
    adapter, base_commit = find_file(name, ADAPTER, commit), base_commit_of(name, commit)
    check_configs(name, commit, base_commit)
    before = find_row_settings(name, commit)
    whole = (base_of(adapter, name), base_commit) if adapter else (name, commit)
    with naming(name):
        model = AutoModelForImageTextToText.from_pretrained(
            whole[0],
            revision=whole[1],
            dtype=model_args.dtype or "auto",
            attn_implementation=model_args.attn_implementation,
            quantization_config=get_quantization_config(model_args),
            trust_remote_code=False,
        )
    if model_args.load_in_4bit and not getattr(model, "is_loaded_in_4bit", False):
        raise ValueError(
            "load_in_4bit=true: the weights were not loaded in 4 bits. Give a model that is not quantized."
        )
    # Models of earlier releases have no copy of their row settings, with which the trainer compares the new rows.
    if before:
        setattr(model.config, KEY, before.content())
    processor = load_processor(name, commit, base_commit)
    if not adapter:
        return model, processor
    with naming(name):
        model = PeftModel.from_pretrained(model, name, revision=commit, is_trainable=True, trust_remote_code=False)
    model.active_peft_config.revision = base_commit  # whoever loads the adapter needs the same base model
    return model, processor


def new_adapter(model_args: ModelConfig, model) -> PeftConfig | None:
    """The adapter of the LoRA options for a model; `None` if none is wanted, or if the model is one that goes on."""
    config = None if isinstance(model, PeftModel) else get_peft_config(model_args)
    if config is not None:
        config.revision = model_args.model_revision  # whoever loads the adapter needs the same base model
    return config


def models_to_start_from(recipe_args: RecipeArguments, model_args: ModelConfig) -> list[str]:
    """The folders, and the names on the Hub, of the pretrained models that a training starts from."""
    if model_args.model_name_or_path == ENCODER_DECODER:
        named = (recipe_args.vision_model, VISION_MODELS), (recipe_args.text_model, TEXT_MODELS)
        return [name for name, untrained in named if name not in untrained]
    return [name for name in [model_args.model_name_or_path] if name not in MADE_ANEW]


def commits_of_start(recipe_args: RecipeArguments, model_args: ModelConfig) -> dict[str, str | None]:
    """
    The commit on the Hub of each model that the training starts from; `None` for a folder. It is asked for once,
    because the branch may move, and before the training, because the Hub may not answer after it.
    """
    names = models_to_start_from(recipe_args, model_args)
    return {name: commit_of(name, model_args.model_revision) for name in names}
