"""Loads a model from a folder or the Hub: a whole model, or an adapter together with its base model."""

import hashlib
import json
import logging
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

import torch
from safetensors import SafetensorError
from transformers import (
    AutoModelForImageTextToText,
    AutoProcessor,
    Blip2Processor,
    InstructBlipProcessor,
    PreTrainedModel,
    ProcessorMixin,
)
from transformers.utils.hub import extract_commit_hash

from ct_rate_pairs.eval.predictions.montage import MontageCollator
from ct_rate_pairs.eval.predictions.numbered import NumberedCollator
from ct_rate_pairs.json_files import check_json, read_json
from ct_rate_pairs.json_schemas.adapter import AdapterConfig
from ct_rate_pairs.json_schemas.model_folder import ModelConfig, ProcessorPart, WeightsIndex
from ct_rate_pairs.trainer import PairCollator, volume_encoder  # noqa: F401  its models become known to transformers
from ct_rate_pairs.trainer.finite import check_loaded
from ct_rate_pairs.trainer.generation import end_tokens
from ct_rate_pairs.trainer.hub_files import (
    ADAPTER,
    CONFIGS,
    base_of,
    check_folder,
    commit_of,
    find_file,
    is_model_folder,
)
from ct_rate_pairs.trainer.row_settings import FILE

from .quantization import Quantization, quantization_config


logger = logging.getLogger(__name__)

PROCESSORS = ("processor_config.json", "preprocessor_config.json")
# Files of a model that decide what it writes, as patterns.
DECIDING = (
    "*.safetensors",
    "*.bin",
    "*.index.json",
    ADAPTER,
    FILE,
    "*config.json",
    "tokenizer*",
    "vocab*",
    "merges.txt",
    "*.model",
    "added_tokens.json",
    "special_tokens_map.json",
    "chat_template*",
    "additional_chat_templates/*",
)
# Of these patterns, what a training keeps for itself.
OF_RUNS = ("training_args.bin", "training_config.json", "optimizer.bin")


def load_model(
    name_or_path: str,
    revision: str | None = None,
    dtype: str = "auto",
    device: torch.device | str = "cpu",
    slices_as: Literal["slices", "numbered", "montage"] = "slices",
    chat_template_kwargs: dict | None = None,
    base_commit: str | None = None,
    device_map: str | dict | None = None,
    quantization: Quantization | None = None,
) -> tuple[PreTrainedModel, PairCollator]:
    """
    Loads an image-text-to-text model of transformers for evaluation, and the collator for this model.

    Args:
        name_or_path (`str`):
            Folder, or name on the Hub. A folder with `adapter_config.json` is an adapter: its base model is loaded
            first, by the name that `adapter_config.json` holds.
        revision (`str`, *optional*):
            Branch, tag or commit on the Hub. An adapter's base model has a revision of its own, see `base_commit`.
        dtype (`str`, *optional*, defaults to `"auto"`):
            Data type of the weights, such as `"bfloat16"`; `"auto"` keeps the type in which they were saved. With
            `quantization`, that of the weights that are not quantized, and `"auto"` is bfloat16.
        device (`torch.device` or `str`, *optional*, defaults to `"cpu"`):
            Device that the model is moved to.
        slices_as (`str`, *optional*, defaults to `"slices"`):
            `"slices"`: one video per volume or one image per slice, whichever the model family expects; `"numbered"`:
            one image per slice with its number, see
            [`~ct_rate_pairs.eval.predictions.numbered.NumberedCollator`]; `"montage"`: one picture per volume, see
            [`~ct_rate_pairs.eval.predictions.montage.MontageCollator`].
        chat_template_kwargs (`dict`, *optional*):
            Arguments of the chat template. By default, those that the model was trained with, or thinking turned off,
            see [`~ct_rate_pairs.trainer.PairCollator`].
        base_commit (`str`, *optional*):
            Commit of an adapter's base model on the Hub. By default, that of [`base_commit_of`].
        device_map (`str` or `dict`, *optional*):
            How the layers are spread over devices, as in transformers; `"auto"` fills one accelerator after another.
            It stands in the place of `device`.
        quantization (`str`, *optional*):
            `"4bit"` or `"8bit"`: the weights are quantized while they are loaded, see
            [`~ct_rate_pairs.eval.quantization.quantization_config`].

    Returns:
        `tuple`: the model in evaluation mode, and its [`~ct_rate_pairs.trainer.PairCollator`].

    Raises:
        `OSError`: if there is no such model, or if its weights are cut. Code from a repository is never run
            (`trust_remote_code=False`).
        `ValueError`: if its files are not as they must be, or for [`check_family`]'s reasons. The message names the
            model.
        `ImportError`: if `quantization` needs a package that is not installed.
        [`~ct_rate_pairs.trainer.finite.NonFiniteWeightsError`]: if its weights are NaN or infinite.
    """
    if Path(name_or_path).is_dir():
        check_folder(name_or_path)
    placed = {} if device_map is None else {"device_map": device_map}
    if quantization is not None:  # such weights cannot be moved later
        placed = {"device_map": {"": device}} | placed | {"quantization_config": quantization_config(quantization)}
        dtype = "bfloat16" if dtype == "auto" else dtype  # of what is not quantized
    where = {"revision": revision}
    if find_file(name_or_path, ADAPTER, revision):  # `revision` then is that of the base model
        base_commit = base_commit or base_commit_of(name_or_path, revision)
        where = {"revision": base_commit, "adapter_kwargs": {"revision": revision}}
    check_configs(name_or_path, revision, base_commit)
    with naming(name_or_path):
        model = AutoModelForImageTextToText.from_pretrained(
            name_or_path, dtype=dtype, trust_remote_code=False, **where, **placed
        )
        end_tokens(model)
    if quantization is not None and not getattr(model, f"is_loaded_in_{quantization}", False):
        raise ValueError(
            f"quantization={quantization!r}: {name_or_path} is quantized already, in another way. Leave it out."
        )
    processor = load_processor(name_or_path, revision, base_commit)
    check_family(model, processor, name_or_path)
    collate = {"slices": PairCollator, "numbered": NumberedCollator, "montage": MontageCollator}[slices_as]
    model = model.eval() if placed else model.eval().to(device)
    check_loaded(model, name_or_path)
    return model, collate(processor, chat_template_kwargs=chat_template_kwargs)


def check_family(model: PreTrainedModel, processor: ProcessorMixin, name_or_path: str) -> None:
    """
    Refuses a model that is asked in another way than those measured here, and one that would write reports without any
    picture.

    Raises:
        `ValueError`: if its language model is an encoder-decoder, unless it is the T5 of BLIP-2 or InstructBLIP; or if
            a processor of these two does not place the pictures where the model looks for them.
    """
    blip = isinstance(processor, Blip2Processor | InstructBlipProcessor)
    if not blip and (model.config.is_encoder_decoder or model.config.get_text_config().is_encoder_decoder):
        raise ValueError(
            f"The language model of {name_or_path} is an encoder-decoder. Of these, only the T5 of BLIP-2 and "
            "InstructBLIP is measured here. Take another model, or write its reports by its own code, and measure "
            "them with --predictions FILE."
        )
    if blip:
        placed = processor.num_query_tokens, processor.tokenizer.convert_tokens_to_ids(str(processor.image_token))
        looked_for = model.config.num_query_tokens, model.config.image_token_id
        if placed != looked_for:
            raise ValueError(
                f"The processor of {name_or_path} places (number, token) {placed} for a picture, but the model looks "
                f"for {looked_for}, so it would write without seeing the picture. Take a newer commit of this model, "
                "whose processor_config.json has num_query_tokens."
            )


def check_configs(name_or_path: str, revision: str | None = None, base_commit: str | None = None) -> None:
    """
    Checks the configurations of a model before transformers and PEFT read them: none chooses code, and none takes
    hours or all memory. In a folder, the weights are in the folder itself, where [`version_of`] finds them.

    Args:
        name_or_path (`str`), revision (`str`, *optional*), base_commit (`str`, *optional*):
            The model, as for [`load_model`].

    Raises:
        `ValueError`: for the first field that is not as it must be.
    """
    adapter = find_file(name_or_path, ADAPTER, revision)
    base = base_of(adapter, name_or_path) if adapter else None
    if base and not Path(name_or_path, "config.json").is_file():
        name_or_path, revision = base, base_commit
    if config := find_file(name_or_path, "config.json", revision):
        read_json(config, ModelConfig)
    for index in Path(name_or_path).glob("*.index.json"):
        read_json(index, WeightsIndex)


@contextmanager
def naming(name_or_path: str) -> Iterator[None]:
    """
    Names the model in an error of transformers while it loads the model's files, and what to do if they are damaged.

    Raises:
        `OSError`: if the weights are cut.
        `ValueError`: for all other errors than those of the system, of missing packages and of memory.
    """
    try:
        yield
    except (OSError, ImportError, MemoryError, torch.OutOfMemoryError):
        raise
    except SafetensorError as error:
        raise OSError(
            f"The weights of {name_or_path} are empty or cut ({error}). Copy them again, or go on with their training "
            "(--resume_from_checkpoint true)."
        ) from error
    except Exception as error:
        raise ValueError(
            f"{name_or_path} cannot be loaded ({type(error).__name__}: {error}). Its files are damaged, or belong to "
            "another kind or version of model. Copy or download them again."
        ) from error


def load_processor(name_or_path: str, revision: str | None = None, base_commit: str | None = None) -> ProcessorMixin:
    """
    Loads the processor of a model. An adapter that comes without one has that of its base model, and a warning tells
    so.

    Args:
        name_or_path (`str`), revision (`str`, *optional*), base_commit (`str`, *optional*):
            The model, as for [`load_model`].

    Raises:
        `OSError`: if there is no such model.
        `ValueError`: if its files are not as they must be. The message names the model.
    """
    adapter = find_file(name_or_path, ADAPTER, revision)
    if adapter and not any(find_file(name_or_path, file, revision) for file in PROCESSORS):
        base = base_of(adapter, name_or_path)
        logger.warning("%s has no processor: that of its base model %s is taken.", name_or_path, base)
        name_or_path, revision = base, base_commit or base_commit_of(name_or_path, revision)
    with naming(name_or_path):
        processor = AutoProcessor.from_pretrained(name_or_path, revision=revision, trust_remote_code=False)
    check_processor(processor, name_or_path)
    return processor


def check_processor(processor: ProcessorMixin, name_or_path: str) -> None:
    """Raises a `ValueError` if numbers of a processor, in whatever file they stand, would fail at the first scan."""
    parts = vars(processor)
    for name in ("image_processor", "video_processor"):
        if part := parts.get(name):
            check_json(json.loads(part.to_json_string()), ProcessorPart, f"The {name} of {name_or_path}")
    tokenizer = parts.get("tokenizer")
    if tokenizer and not isinstance(tokenizer.model_max_length, int | float):
        raise ValueError(
            f"The tokenizer of {name_or_path}: the field model_max_length is no number, but "
            f"{tokenizer.model_max_length!r:.80}."
        )
    if tokenizer and not {*tokenizer.tokenize("No nodule.")} - {tokenizer.unk_token}:
        raise ValueError(
            f"The tokenizer of {name_or_path} knows no word: tokenizer.json, or the vocabulary in another file, is "
            "missing or empty. Copy or download it again."
        )


def check_model(
    model: PreTrainedModel, collator: PairCollator, row: dict, max_new_tokens: int, *, with_losses: bool
) -> None:
    """
    Tries a model's processor on one row, so that an unsuitable model fails before hours of writing reports.

    Args:
        model ([`~transformers.PreTrainedModel`]), collator ([`~ct_rate_pairs.trainer.PairCollator`]):
            The model and its collator.
        row (`dict`):
            Any row of the split.
        max_new_tokens (`int`):
            Maximum length of a report in tokens.
        with_losses (`bool`):
            Whether the losses of reports will be measured too, besides writing reports.

    Raises:
        `ValueError`: if slices, prompt and report do not fit into the model's context, since past it a model writes
            nonsense without any error; or if the chat template does not separate an answer from its prompt.
    """
    length = collator.prompts([row])["input_ids"].shape[1]
    text = model.config.get_text_config()
    # T5, an encoder-decoder, knows relative positions, and no longest text.
    context = None if text.is_encoder_decoder else text.max_position_embeddings
    if context and length + max_new_tokens > context:
        raise ValueError(
            f"{row['volume']} takes {length} tokens. With {max_new_tokens} for the report, this is more than this "
            f"model's context of {context}. Pass one picture per volume (--slices_as montage), fewer slices "
            "(--num_slices) or shorter reports (--max_new_tokens)."
        )
    if with_losses:
        try:
            collator([row])
        except ValueError as error:
            raise ValueError(f"{error} To measure only the model's reports, pass --looking_scans 0.") from error


def base_commit_of(name_or_path: str, revision: str | None = None) -> str | None:
    """
    The commit on the Hub of the base model of an adapter: the one that the adapter was trained on, if its
    `adapter_config.json` has it as `revision`, and otherwise the one that the main branch points to now.

    Args:
        name_or_path (`str`), revision (`str`, *optional*):
            Folder of the model, or its name and its branch, tag or commit on the Hub.

    Returns:
        `str` or `None`: the commit; `None` for a whole model, and for a base model in a folder.

    Raises:
        `OSError`: if there is no such model or base model, or if the Hub does not answer and the cache has no copy.
    """
    adapter = find_file(name_or_path, ADAPTER, revision)
    base = base_of(adapter, name_or_path) if adapter else None
    if not base or is_model_folder(base):
        return None
    return commit_of(base, read_json(adapter, AdapterConfig).get("revision"))


def version_of(
    name_or_path: str,
    revision: str | None = None,
    *,
    base_commit: str | None = None,
    files: Collection[str] = DECIDING,
) -> str:
    """
    Identifies a model: by its name and commit on the Hub, or by a hash of the files in its folder that decide what it
    writes: weights of each format, configurations, tokenizer, chat template, processor and row settings. For an
    adapter, its base model is a part of this.

    The hash does not depend on where the folder lies or when it was copied. Hashing takes about one second per
    gigabyte.

    Args:
        name_or_path (`str`), revision (`str`, *optional*):
            Folder of the model, or its name and its branch, tag or commit on the Hub.
        base_commit (`str`, *optional*):
            Commit of an adapter's base model on the Hub, if it is known. By default, that of [`base_commit_of`].
        files (`Collection[str]`, *optional*):
            Patterns of the files of a folder to hash.

    Returns:
        `str`: such as `sha256:1a2b...`, `USER/model@COMMIT` or `USER/adapter@COMMIT on USER/base@COMMIT`.

    Raises:
        `OSError`: if there is no such model, or no such base model.
    """
    if is_model_folder(name_or_path):
        return _hash_of_folder(Path(name_or_path), base_commit, files)
    for file in CONFIGS:
        if path := find_file(name_or_path, file, revision):
            version = f"{name_or_path}@{extract_commit_hash(path, None)}"
            if file == ADAPTER:  # also beside a config.json, as transformers does
                base_commit = base_commit or base_commit_of(name_or_path, revision)
                version += f" on {_version_of_base(path, name_or_path, base_commit)}"
            return version
    raise OSError(f"{name_or_path} is neither a model's folder nor a model on the Hub: it has no config.json.")


def _hash_of_folder(folder: Path, base_commit: str | None, files: Collection[str]) -> str:
    digest = hashlib.sha256()
    paths = {path for pattern in files for path in folder.glob(pattern) if path.is_file() and path.name not in OF_RUNS}
    for path in sorted(paths):
        if path.name == ADAPTER:  # without the path of its base, which may move
            config = {name: value for name, value in read_json(path).items() if name != "base_model_name_or_path"}
            content = hashlib.sha256(json.dumps(config, sort_keys=True).encode()).digest()
            base_commit = base_commit or base_commit_of(str(folder))
            content += _version_of_base(path, str(folder), base_commit).encode()
        else:
            with path.open("rb") as file:
                content = hashlib.file_digest(file, "sha256").digest()
        digest.update(path.relative_to(folder).as_posix().encode() + b"\0" + content)
    return f"sha256:{digest.hexdigest()[:16]}"


def _version_of_base(adapter: Path, name_or_path: str, base_commit: str | None) -> str:
    """The version of the base model that an `adapter_config.json` names."""
    base = base_of(adapter, name_or_path)
    if not base:
        return "a base model without a name"
    if is_model_folder(base):
        return version_of(base)
    return f"{base}@{base_commit}"
