"""The model that a training starts from."""

from transformers import AutoModelForImageTextToText
from trl import get_quantization_config

from ct_rate_pairs.eval.load_model import check_configs, load_processor, naming
from ct_rate_pairs.trainer.hub_files import commit_of
from ct_rate_pairs.trainer.row_settings import KEY, find_row_settings
from ct_rate_pairs.trainer.tiny import make_tiny_qwen


def load_model(model_args, texts: list[str], seed: int) -> tuple:
    """The model and processor of `--model_name_or_path`; `"tiny"` is untrained, with a vocabulary from `texts`."""
    if model_args.model_name_or_path == "tiny":
        return make_tiny_qwen(texts, seed=seed)
    commit = model_args.model_revision
    check_configs(model_args.model_name_or_path, commit)
    before = find_row_settings(model_args.model_name_or_path, commit)
    with naming(model_args.model_name_or_path):
        model = AutoModelForImageTextToText.from_pretrained(
            model_args.model_name_or_path,
            revision=commit,
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
    return model, load_processor(model_args.model_name_or_path, commit)


def commit_of_start(model_args) -> str | None:
    """
    The commit on the Hub that the training begins with; `None` for a folder, and for `"tiny"`. It is asked for once,
    because the branch may move, and before the training, because the Hub may not answer after it.
    """
    if model_args.model_name_or_path == "tiny":
        return None
    return commit_of(model_args.model_name_or_path, model_args.model_revision)
