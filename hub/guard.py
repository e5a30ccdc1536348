"""
Chooses the files of a run that may be published on the Hub, and refuses what must not be.

These must not be published: scans, tables and reports of CT-RATE (its licence forbids to redistribute them), tokens,
paths of this machine, identifiers of patients, and incomplete weights.

A file is published only if a list of names below allows it, and if its contents pass the checks. Files on no list are
never published, such as `samples/` (reference reports) and `training_args.bin` (a pickle that holds the token).
"""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from huggingface_hub.utils import validate_repo_id
from safetensors import SafetensorError

from ct_rate_pairs.json_files import JSONFileError, check_json
from ct_rate_pairs.json_schemas.adapter import AdapterConfig
from ct_rate_pairs.json_schemas.model_folder import WeightsIndex

from .contents import columns_of, names_in, read_contents, texts_in
from .plain_text import plain
from .references import REFERENCES, References, read_references
from .tokens_and_paths import find_identifier, find_path, find_token


INDEX = "model.safetensors.index.json"
ADAPTER = "adapter_config.json"
MODEL = (
    "model.safetensors",
    "model-*-of-*.safetensors",
    INDEX,
    "adapter_model.safetensors",
    "mask_head.safetensors",
    "label_head.safetensors",
    ADAPTER,
    "config.json",
    "generation_config.json",
)
VOCABULARY = ("tokenizer.json", "tokenizer.model", "vocab.json", "merges.txt", "added_tokens.json")
TEMPLATES = ("chat_template.jinja", "chat_template.json")
TOKENS = ("tokenizer_config.json", "special_tokens_map.json")
PROCESSOR = (
    "processor_config.json",
    "preprocessor_config.json",
    "video_preprocessor_config.json",
    *TEMPLATES,
    *TOKENS,
)
FIGURES = ("losses", "rewards", "labels", "gaps", "calibration", "reliability", "operating_curve")
PIXELS = "figures/reports.png"  # slices beside reference reports: published for the phantom only
ROW_SETTINGS = "row_settings.json"
SETTINGS = (
    ROW_SETTINGS,
    "training_config.json",
    "environment.json",
    "results.json",
    "confidence.json",
    "domain.json",
    "masks.json",
)
RESULTS = (
    *SETTINGS,
    "predictions.jsonl",
    *(f"figures/{name}.png" for name in FIGURES),
    PIXELS,
)
CARD = ("README.md", ".eval_results/*.yaml")
ALLOWED = (*MODEL, *VOCABULARY, *PROCESSOR, *RESULTS, *CARD)
# What Trainer needs to resume, with the shards of FSDP and DeepSpeed. `trainer_state.json` is written anew.
TRAINING_STATE = (
    *("optimizer.pt", "optimizer.bin", "scheduler.pt", "scaler.pt", "rng_state*.pth"),
    *("pytorch_model_fsdp*", "pytorch_model_fsdp*/*", "optimizer_*/*", "latest", "global_step*/*.pt"),
)
CHECKPOINT = (*MODEL, *VOCABULARY, *PROCESSOR, ROW_SETTINGS, *TRAINING_STATE)

DATA = (".nii", ".nii.gz", ".mha", ".dcm", ".parquet", ".arrow", ".npy", ".npz")
# Offset, bytes at this offset, and the kind of file that has them.
MAGIC = (
    (344, b"n+1\0", "NIfTI"),
    (344, b"ni1\0", "NIfTI"),
    (4, b"n+2\0\r\n", "NIfTI"),
    (128, b"DICM", "DICOM"),
    (0, b"PAR1", "Parquet"),
    (0, b"ARROW1", "Arrow"),
)
COLUMNS = ("Findings_EN", "Impressions_EN", "ClinicalInformation_EN", "VolumeName,")  # of CT-RATE's tables
# No longer than CT-RATE's names, so that the name of a person, a date or the number of a patient does not match.
# `patient` is the beginning of the neutral names of a reader's own scans.
PUBLISHED_NAME = r"(?:train|valid|patient)_[0-9]{1,5}_[a-z]{1,2}_[0-9]{1,2}\.nii\.gz"
LONGEST_SETTING = 300  # characters; a longer text among numbers and settings is taken for a report
# A generated report is a copy if so large a share of its fingerprints is of one reference report alone, and so many
# fingerprints; or if it has so many of them in one stretch, however much else it says. All generated reports together,
# if there are some, are copies at a smaller share. Measured by `benchmarks/bench_guard.py`.
COPIED, COPIED_FINGERPRINTS, COPIED_STRETCH = 0.4, 8, 24
ALL_COPIED, SOME_REPORTS = 0.2, 5
WRITE_REFERENCES = """\
The recipe writes it when a training begins. Copy it from the folder of the run, or write it, with the data_dir and
  other options of the training:
    from datasets import load_dataset
    from ct_rate_pairs.hub.references import keep_references
    keep_references({folder!r}, load_dataset("ct_rate_pairs", split="train"))"""


class ForbiddenContentError(ValueError):
    """A run's folder holds something that must not be published. The message lists all such things."""


def publishable_files(run_dir: Path, *, token: str | None = None) -> list[str]:
    """
    Chooses the files of a run that go to the Hub, and refuses the run if its folder holds what must not be published.

    Args:
        run_dir (`Path`):
            Folder of the run. No file may quote the reference reports that are known from
            [`~ct_rate_pairs.hub.references.keep_references`] and from `samples/`. Only the former tells whether the
            run's cohort is the phantom, whose slices and reports may be published.
        token (`str`, *optional*):
            The token in use. Files are searched for this token, and for anything that has the form of a token.

    Returns:
        `list[str]`: paths within the folder, sorted.

    Raises:
        [`ForbiddenContentError`]: with one line for each thing found: data files anywhere in the folder, files whose
            contents do not match their names, truncated or missing weights, an adapter with a local base model,
            predictions with other fields than volume, findings line, report and cut, quotes of reference reports,
            tokens, local paths, and identifiers of patients; or if the reference reports are not known.
    """
    found = _data_files(run_dir)
    references = References.of([])
    try:
        references = read_references(run_dir)
    except FileNotFoundError:
        told = WRITE_REFERENCES.format(folder=str(run_dir))
        found.append(f"{REFERENCES} is missing, so nobody can tell whether a file quotes a reference report. {told}")
    except JSONFileError as error:
        found.append(f"{error} {WRITE_REFERENCES.format(folder=str(run_dir))}")
    files = [file for file in _chosen(run_dir, ALLOWED) if references.phantom or file != PIXELS]
    for file in files:
        contents, wrong = _read(run_dir, file, token)
        found += wrong
        if file == "predictions.jsonl":
            found += [f"{file} {what}" for what in _wrong_predictions(contents, references)]
        elif any(map(references.quoted_in, _readings(contents))):
            found.append(f"{file}: quotes a reference report")
        elif file in SETTINGS and max(map(len, texts_in(contents)), default=0) > LONGEST_SETTING:
            found.append(f"{file}: a text of more than {LONGEST_SETTING} characters, as reports are")
    _refuse(run_dir, found)
    return files


def checkpoint_files(folder: Path, token: str | None = None) -> list[str]:
    """
    Like [`publishable_files`], for a checkpoint of Trainer. The files are those of the model, its row settings, and
    the state of the training, except `trainer_state.json`. None of them is searched for quotes: no step of the
    training writes a report into them.
    """
    model = _chosen(folder, (*MODEL, *VOCABULARY, *PROCESSOR, ROW_SETTINGS))
    _refuse(folder, _data_files(folder) + [wrong for file in model for wrong in _read(folder, file, token)[1]])
    return sorted({*model, *_chosen(folder, TRAINING_STATE)})


def _chosen(folder: Path, patterns: Sequence[str]) -> list[str]:
    """The files in a folder that match any of the patterns, as sorted relative paths."""
    paths = {path for pattern in patterns for path in folder.glob(pattern) if path.is_file()}
    return sorted(path.relative_to(folder).as_posix() for path in paths)


def _refuse(folder: Path, found: list[str]) -> None:
    """Raises [`ForbiddenContentError`] if anything was found."""
    if found:
        raise ForbiddenContentError(
            f"{folder} must not be published:\n"
            + "\n".join(f"- {line}" for line in found)
            + "\nMove, remove or correct these, and publish again. Nothing was uploaded."
        )


def _data_files(folder: Path) -> list[str]:
    """One line per data file in the folder and its subfolders."""
    kinds = ((path, _data(path)) for path in sorted(folder.rglob("*")) if path.is_file())
    return [f"{path.relative_to(folder)}: {kind}" for path, kind in kinds if kind]


def _data(path: Path) -> str | None:
    """The kind of a data file, by its name or its first bytes; `None` for other files."""
    name = path.name.lower()
    if name.endswith(DATA):
        return "a scan or a table, by its name"
    with path.open("rb") as file:
        head = file.read(4096)
    if name.endswith((".csv", ".tsv")) and any(
        column.strip(",").encode().lower() in head.lower() for column in COLUMNS
    ):
        return "a table of CT-RATE, by its columns"
    return next((f"{kind} data" for offset, magic, kind in MAGIC if head[offset:].startswith(magic)), None)


def _read(folder: Path, file: str, token: str | None) -> tuple[list, list[str]]:
    """The contents of a file, and one line for each thing in it that must not be published."""
    try:
        contents = read_contents(folder / file)
        if file == ADAPTER:
            wrong = [*_wrong_base(check_json(contents[0], AdapterConfig, "it"))]
        elif file == INDEX:
            shards = set(check_json(contents[0], WeightsIndex, "it")["weight_map"].values())
            missing = [shard for shard in sorted(shards) if not (folder / shard).is_file()]
            wrong = [f"{shard}, which it names, is missing" for shard in missing]
        else:
            wrong = []
    except (ValueError, SafetensorError) as error:  # a decoding or parsing error is a ValueError
        return [], [f"{file}: not what its name says, or cut short ({error})"]
    wrong += _secrets("\n".join(texts_in(contents)), token, folder, file)
    return contents, [f"{file}: {what}" for what in wrong]


def _readings(contents: list) -> Iterator[str]:
    """
    The contents of a file as texts that may quote a report, even if it is cut into pieces: each column of records,
    all values, all names, and all of these as they follow each other.
    """
    columns = columns_of(contents).values()
    orders = (names_in(contents), texts_in(contents, names=False), texts_in(contents))
    yield from {"\n".join(texts): None for texts in (*columns, *orders)}  # each once


def _secrets(text: str, token: str | None, folder: Path, file: str) -> Iterator[str]:
    """
    One line each for tokens (not printed), identifiers, columns of tables and, unless it is a vocabulary, local paths.
    """
    if find_token(text, token):
        yield "a token; revoke it"
    folded = plain(text).casefold()
    if identifier := find_identifier(text):
        yield f"what identifies a patient or a scan in DICOM, {identifier}"
    if columns := [column for column in COLUMNS if column.casefold() in folded]:
        yield f"the column {columns[0].strip(',')} of CT-RATE's tables"
    if file not in VOCABULARY:
        template = file in TEMPLATES
        settings = file.endswith((".json", ".yaml")) and not template
        if path := find_path(text, folder, settings=settings, template=template, tokens=file in TOKENS):
            yield f"a path of this machine, {path}"


def _wrong_base(config: dict) -> Iterator[str]:
    """One line if an adapter's base model is not on the Hub: nobody else could then load the adapter."""
    base = config.get("base_model_name_or_path") or ""
    try:
        validate_repo_id(base)
        named = not Path(base).exists()
    except ValueError:
        named = False
    if not named:
        yield f"its base, {base!r}, is no model on the Hub: put its name there, or publish the merged model"


def _wrong_predictions(rows: list, references: References) -> Iterator[str]:
    """One line per prediction with other fields than a prediction has, and if reports are references."""
    for number, row in enumerate(rows, 1):
        if not isinstance(row, dict) or row.keys() - {"line", "cut"} != {"volume", "report"}:
            fields = ", ".join(row) if isinstance(row, dict) else type(row).__name__
            yield f"line {number}: {fields:.80}; a volume and its generated report alone may be published"
        elif not isinstance(row.get("cut", False), bool):
            yield f"line {number}: cut must be true or false"
        elif not all(isinstance(row[name], str) for name in row.keys() - {"cut"}) or not re.fullmatch(
            PUBLISHED_NAME, row["volume"]
        ):
            yield f"line {number}: volume must be a name such as valid_1_a_1.nii.gz, and report a text"
    reports = {number: row["report"] for number, row in enumerate(rows, 1) if _is_text(row, "report")}
    copies = sum(map(references.has, reports.values()))
    # Reports follow templates, so a model may write a few reference reports word for word.
    if 2 * copies > len(reports):
        yield f"holds {copies} reference reports among {len(reports)} reports: they are not a model's"
        return
    lines = {number: row["line"] for number, row in enumerate(rows, 1) if _is_text(row, "line")}
    shared = {n: references.shared_with(f"{lines.get(n, '')}\n{report}") for n, report in reports.items()}
    if alike := [number for number, of_one in shared.items() if is_copy(*of_one)]:
        yield f"line {alike[0]}: a copy of a reference report; so are {len(alike)} of {len(reports)} reports"
    elif are_copies(list(shared.values())):
        yield "holds reports whose text is for the most part in single reference reports: they are not a model's"


def _is_text(row: object, name: str) -> bool:
    return isinstance(row, dict) and isinstance(row.get(name), str)


def is_copy(rare: int, own: int, in_a_row: int) -> bool:
    """
    Whether a generated report copies a reference report, or holds a copy of one.

    Args:
        rare (`int`), own (`int`), in_a_row (`int`):
            See [`~ct_rate_pairs.hub.references.References.shared_with`].
    """
    return (rare >= COPIED_FINGERPRINTS and rare >= COPIED * own) or in_a_row >= COPIED_STRETCH


def are_copies(shared: Sequence[tuple[int, int, int]]) -> bool:
    """Whether generated reports are copies as a whole, from the arguments of [`is_copy`] for each of them."""
    rare, own, _ = (sum(counts) for counts in zip(*shared, strict=True)) if shared else (0, 0, 0)
    return len(shared) >= SOME_REPORTS and rare > ALL_COPIED * own
