"""
Chooses the files of a run that may be published on the Hub, and refuses what must not be.

These must not be published: scans, tables and reports of CT-RATE (its licence forbids to redistribute them), tokens,
paths of this machine, and incomplete weights.

A file is published only if a list of names below allows it, and if its contents pass the checks. Files on no list are
never published, such as `samples/` (reference reports) and `training_args.bin` (a pickle that holds the token).
"""

import hashlib
import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from huggingface_hub.utils import validate_repo_id
from safetensors import SafetensorError, safe_open

from ct_rate_pairs.volume_names import VOLUME_NAME


INDEX = "model.safetensors.index.json"
ADAPTER = "adapter_config.json"
MODEL = (
    "model.safetensors",
    "model-*-of-*.safetensors",
    INDEX,
    "adapter_model.safetensors",
    ADAPTER,
    "config.json",
    "generation_config.json",
)
VOCABULARY = ("tokenizer.json", "tokenizer.model", "vocab.json", "merges.txt", "added_tokens.json")
TEMPLATES = ("chat_template.jinja", "chat_template.json")
PROCESSOR = (
    "processor_config.json",
    "preprocessor_config.json",
    "video_preprocessor_config.json",
    *TEMPLATES,
    "tokenizer_config.json",
    "special_tokens_map.json",
)
PIXELS = "figures/reports.png"  # slices beside reference reports: published for the phantom only
ROW_SETTINGS = "row_settings.json"
RESULTS = (
    ROW_SETTINGS,
    "training_config.json",
    "environment.json",
    "results.json",
    "confidence.json",
    "predictions.jsonl",
    *(f"figures/{name}.png" for name in ("losses", "labels", "gaps", "calibration")),
    PIXELS,
)
CARD = ("README.md", ".eval_results/*.yaml")
ALLOWED = (*MODEL, *VOCABULARY, *PROCESSOR, *RESULTS, *CARD)
# What Trainer needs to resume, with the shards of FSDP and DeepSpeed. `trainer_state.json` is written anew.
TRAINING_STATE = (
    *("optimizer.pt", "optimizer.bin", "scheduler.pt", "scaler.pt", "rng_state*.pth"),
    *("pytorch_model_fsdp*", "pytorch_model_fsdp*/*", "optimizer_*/*", "latest", "global_step*/*.pt"),
)
REFERENCES = "reference_hashes.json"  # hashes of the reports that no file may quote; this file is not published

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
PNG = b"\x89PNG\r\n\x1a\n"
COLUMNS = ("Findings_EN", "Impressions_EN", "ClinicalInformation_EN", "VolumeName,")  # of CT-RATE's tables

# Tokens of the Hub, GitHub, Weights & Biases, OpenAI and AWS, and JSON web tokens.
TOKEN = re.compile(
    r"(?<![A-Za-z0-9])(?:(?:hf_|api_org_)[A-Za-z0-9]{16,}|gh[a-z]_[A-Za-z0-9]{30,}|github_pat_\w{22,}"
    r"|wandb_v\d_\w{16,}|sk-[\w-]{20,}|AKIA[A-Z0-9]{16}|eyJ[\w-]{8,}\.eyJ[\w-]{8,}\.[\w-]+)"
)
HOME = re.compile(r"(?:/home/|/root/|/Users/|[A-Za-z]:\\+Users\\+)[\w.-]+")
# Any local path. Only settings are searched for it, because a text may have slashes of its own.
LOCAL_PATH = re.compile(r"(?<![\w./:])(?:(?:/|[A-Za-z]:[/\\]+)[\w.-]+[/\\]+|(?:~|\.\.?)[/\\]+)[\w.-]+")
LONGEST_SETTING = 300  # characters; a longer text among numbers and settings is taken for a report
QUOTE = 12  # consecutive words: a text that shares so many with a reference report quotes the report


class ForbiddenContentError(ValueError):
    """A run's folder holds something that must not be published. The message lists all such things."""


def publishable_files(run_dir: Path, *, phantom: bool, token: str | None = None) -> list[str]:
    """
    Chooses the files of a run that go to the Hub, and refuses the run if its folder holds what must not be published.

    Args:
        run_dir (`Path`):
            Folder of the run. No file may quote the reference reports that are known from
            [`keep_reference_hashes`] and from `samples/`.
        phantom (`bool`):
            Whether the cohort is the phantom, whose slices and reports may be published. Otherwise it is CT-RATE.
        token (`str`, *optional*):
            The token in use. Files are searched for this token, and for anything that has the form of a token.

    Returns:
        `list[str]`: paths within the folder, sorted.

    Raises:
        [`ForbiddenContentError`]: with one line for each thing found: data files anywhere in the folder, files whose
            contents do not match their names, truncated or missing weights, an adapter with a local base model,
            predictions with other fields than volume, report and cut, quotes of reference reports, tokens, and local
            paths.
    """
    files = [file for file in _chosen(run_dir, ALLOWED) if phantom or file != PIXELS]
    found = _data_files(run_dir)
    reports, quotes = (set(), set()) if phantom else _reference_hashes(run_dir)
    for file in files:
        texts, wrong = _read(run_dir, file, token)
        found += wrong
        if file == "predictions.jsonl":
            found += [f"{file} {what}" for what in _wrong_predictions(texts, reports)]
        elif file not in (*VOCABULARY, *TEMPLATES, "tokenizer_config.json"):
            strings = list(_strings(texts))
            if any(not quotes.isdisjoint(_quotes(text)) for text in strings):
                found.append(f"{file}: quotes a reference report")
            elif file in RESULTS and file.endswith(".json") and any(len(text) > LONGEST_SETTING for text in strings):
                found.append(f"{file}: a text of more than {LONGEST_SETTING} characters, as reports are")
    _refuse(run_dir, found)
    return files


def checkpoint_files(folder: Path, token: str | None = None) -> list[str]:
    """
    Like [`publishable_files`], for a checkpoint of Trainer. The files are those of the model, its row settings, and
    the state of the training, except `trainer_state.json`.
    """
    model = _chosen(folder, (*MODEL, *VOCABULARY, *PROCESSOR, ROW_SETTINGS))
    _refuse(folder, _data_files(folder) + [wrong for file in model for wrong in _read(folder, file, token)[1]])
    return sorted({*model, *_chosen(folder, TRAINING_STATE)})


def keep_reference_hashes(run_dir: str | Path, references: Sequence[str]) -> None:
    """
    Writes hashes of reference reports to a run's folder, so that [`publishable_files`] can find quotes of the reports.

    Whole reports and all their sequences of 12 words are hashed. The reports themselves are not written.

    Args:
        run_dir (`str` or `Path`):
            Folder of the run.
        references (`Sequence[str]`):
            Reference reports of the scans that the model wrote reports for.
    """
    hashes = {
        "reports": sorted({_hash(_words(reference)) for reference in references}),
        "quotes": sorted({quote for reference in references for quote in _quotes(reference)}),
    }
    (Path(run_dir) / REFERENCES).write_text(json.dumps(hashes))


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
    if name.endswith((".csv", ".tsv")) and any(column.strip(",").encode() in head for column in COLUMNS):
        return "a table of CT-RATE, by its columns"
    return next((f"{kind} data" for offset, magic, kind in MAGIC if head[offset:].startswith(magic)), None)


def _read(folder: Path, file: str, token: str | None) -> tuple[list, list[str]]:
    """The contents of a file, and one line for each thing in it that must not be published."""
    try:
        contents = _contents(folder / file)
    except (ValueError, SafetensorError) as error:  # a decoding or parsing error is a ValueError
        return [], [f"{file}: not what its name says, or cut short ({error})"]
    wrong = list(_secrets("\n".join(_strings(contents)), token, folder, file))
    if file == ADAPTER:
        wrong += _wrong_base(*contents)
    elif file == INDEX:
        shards = set(contents[0].get("weight_map", {}).values())
        wrong += [f"{shard}, which it names, is missing" for shard in sorted(shards) if not (folder / shard).is_file()]
    return contents, [f"{file}: {what}" for what in wrong]


def _contents(path: Path) -> list:
    """
    The contents of a file that can hold text: the values of JSON, the names in safetensors, a text, or the bytes of an
    image or a vocabulary as text. An error is raised if the file is truncated, or not what its name says.
    """
    if path.suffix == ".safetensors":
        with safe_open(path, "np") as weights:  # refuses a file with missing or additional bytes
            return [weights.metadata(), list(weights.keys())]
    if path.suffix == ".png" and not path.read_bytes().startswith(PNG):
        raise ValueError("no PNG header")
    if path.suffix in (".png", ".model"):
        return [path.read_bytes().decode("latin-1")]
    text = path.read_text("utf-8")
    if path.suffix == ".json":
        return [json.loads(text)]
    return [json.loads(line) for line in text.splitlines()] if path.suffix == ".jsonl" else [text]


def _strings(value: object) -> Iterator[str]:
    """All texts within a JSON value, including keys."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for name, item in value.items():
            yield name
            yield from _strings(item)
    elif isinstance(value, list):
        for item in value:
            yield from _strings(item)


def _secrets(text: str, token: str | None, folder: Path, file: str) -> Iterator[str]:
    """One line each for tokens (not printed), columns of CT-RATE's tables, and local paths, except in vocabularies."""
    if TOKEN.search(text) or (token and token in text):
        yield "a token; revoke it"
    if columns := [column for column in COLUMNS if column in text]:
        yield f"the column {columns[0].strip(',')} of CT-RATE's tables"
    if file not in VOCABULARY:
        settings = file.endswith(".json") and file not in TEMPLATES
        path = HOME.search(text) or (settings and LOCAL_PATH.search(text))
        if path or str(folder.resolve()) in text:
            yield f"a path of this machine, {path[0] if path else folder.resolve()}"


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


def _wrong_predictions(rows: list, references: set[str]) -> Iterator[str]:
    """One line per prediction with other fields than volume, report and cut, and one if the reports are references."""
    for number, row in enumerate(rows, 1):
        if not isinstance(row, dict) or row.keys() - {"cut"} != {"volume", "report"}:
            fields = ", ".join(row) if isinstance(row, dict) else type(row).__name__
            yield f"line {number}: {fields}; a volume and its generated report alone may be published"
        elif not isinstance(row.get("cut", False), bool):
            yield f"line {number}: cut must be true or false"
        elif not all(isinstance(row[name], str) for name in ("volume", "report")) or not re.fullmatch(
            VOLUME_NAME, row["volume"]
        ):
            yield f"line {number}: volume must be a name such as valid_1_a_1.nii.gz, and report a text"
    reports = [row["report"] for row in rows if isinstance(row, dict) and isinstance(row.get("report"), str)]
    copies = sum(_hash(_words(report)) in references for report in reports)
    # Reports follow templates, so a model may write a few reference reports word for word.
    if 2 * copies > len(reports):
        yield f"holds {copies} reference reports among {len(reports)} reports: they are not a model's"


def _reference_hashes(run_dir: Path) -> tuple[set[str], set[str]]:
    """
    Hashes of reference reports, and of their sequences of words: from the file of [`keep_reference_hashes`], and from
    the reports in `samples/`, which [`~ct_rate_pairs.trainer.WriteReportSamples`] writes.
    """
    reports, quotes = set(), set()
    if (run_dir / REFERENCES).is_file():
        hashes = json.loads((run_dir / REFERENCES).read_text())
        reports, quotes = set(hashes["reports"]), set(hashes["quotes"])
    for path in run_dir.glob("samples/*.md"):
        for sample in re.findall(r"### Reference\n\n(.*?)\n\n### Generated", path.read_text("utf-8"), re.DOTALL):
            reports.add(_hash(_words(sample)))
            quotes |= _quotes(sample)
    return reports, quotes


def _words(text: str) -> list[str]:
    """The words of a text in lower case, without punctuation."""
    return re.findall(r"\w+", text.lower())


def _quotes(text: str) -> set[str]:
    """Hashes of all sequences of `QUOTE` consecutive words in a text."""
    words = _words(text)
    return {_hash(words[start : start + QUOTE]) for start in range(len(words) - QUOTE + 1)}


def _hash(words: list[str]) -> str:
    """A hash of a sequence of words, 16 hexadecimal digits."""
    return hashlib.blake2b(" ".join(words).encode(), digest_size=8).hexdigest()
