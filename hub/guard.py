"""
What of a run's folder may be published, and what never may: scans, tables and reports of CT-RATE (its licence forbids
to pass them on), tokens, and paths of the machine.

A list of file names decides what goes up; what is in those files is then looked at. Whatever is on neither list, such
as checkpoints, `samples/` (reference reports) and `training_args.bin` (a pickle that holds the token), stays here.
"""

import json
import re
import struct
from collections.abc import Iterator, Sequence
from pathlib import Path


MODEL = (
    "model.safetensors",
    "model-*-of-*.safetensors",
    "model.safetensors.index.json",
    "adapter_model.safetensors",
    "adapter_config.json",
    "config.json",
    "generation_config.json",
)
VOCABULARY = ("tokenizer.json", "tokenizer.model", "vocab.json", "merges.txt", "added_tokens.json")
PROCESSOR = (
    "processor_config.json",
    "preprocessor_config.json",
    "video_preprocessor_config.json",
    "chat_template.jinja",
    "chat_template.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
)
RESULTS = (
    "row_settings.json",
    "training_config.json",
    "results.json",
    "confidence.json",
    "predictions.jsonl",
    "figures/*.png",
)
CARD = ("README.md", ".eval_results/*.yaml")
ALLOWED = (*MODEL, *VOCABULARY, *PROCESSOR, *RESULTS, *CARD)
PIXELS = "figures/reports.png"  # slices beside reference reports: of the phantom only

DATA = (".nii", ".nii.gz", ".mha", ".dcm", ".parquet", ".arrow", ".csv", ".tsv", ".npy", ".npz")
# Offset, bytes there, what has them
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

TOKEN = re.compile(r"\bhf_[A-Za-z0-9]{16,}")
LOCAL_PATH = re.compile(r"(?:/home/|/root/|/Users/|[A-Za-z]:\\+Users\\+)[\w.-]+")
LONGEST_SETTING = 300  # characters; a longer text among numbers and settings is a report
QUOTE = 12  # words in a row of a reference report that no other text has by chance


class ForbiddenContentError(ValueError):
    """A run's folder holds what must not be published; the message lists it."""


def publishable_files(
    run_dir: Path, *, phantom: bool, references: Sequence[str] = (), token: str | None = None
) -> list[str]:
    """
    Chooses what of a run's folder goes to the Hub, and refuses the run if any of it must not.

    Args:
        run_dir (`Path`):
            The run's folder.
        phantom (`bool`):
            Whether the cohort is the phantom, whose slices and reports are ours; CT-RATE otherwise.
        references (`Sequence[str]`, *optional*):
            Reference reports of the cohort: no file may quote them. Those in `samples/` are always looked for.
        token (`str`, *optional*):
            The token in use, which is looked for as well as anything of a token's form.

    Returns:
        `list[str]`: paths within the folder, sorted.

    Raises:
        [`ForbiddenContentError`]: with a line for each thing found: data files anywhere in the folder, files that are
            not what their name says, texts other than volume and report among the predictions, quotes of reference
            reports, tokens, and local paths.
    """
    found = [f"{path.relative_to(run_dir)}: {kind}" for path in sorted(run_dir.rglob("*")) if (kind := _data(path))]
    allowed = (path for pattern in ALLOWED for path in run_dir.glob(pattern))
    files = sorted(path.relative_to(run_dir).as_posix() for path in allowed)
    if not phantom:
        files = [file for file in files if file != PIXELS]
    references = [] if phantom else [*references, *_sampled_references(run_dir)]
    quotes = {quote for reference in references for quote in _quotes(reference)}
    for file in files:
        path = run_dir / file
        try:
            texts = list(_texts(path))
        except (ValueError, struct.error) as error:  # a decoding or parsing error is a ValueError
            found.append(f"{file}: not what its name says ({error})")
            continue
        found += [f"{file}: {what}" for what in _secrets("\n".join(texts), token, run_dir, file in VOCABULARY)]
        if file == "predictions.jsonl":
            found += [f"{file} {what}" for what in _wrong_predictions(path, references)]
        elif file not in (*VOCABULARY, "chat_template.jinja", "chat_template.json", "tokenizer_config.json"):
            if any(not quotes.isdisjoint(_quotes(text)) for text in texts):
                found.append(f"{file}: quotes a reference report")
            elif file in RESULTS and path.suffix == ".json" and any(len(text) > LONGEST_SETTING for text in texts):
                found.append(f"{file}: a text of more than {LONGEST_SETTING} characters, as reports are")
    if found:
        raise ForbiddenContentError(
            f"{run_dir} must not be published, as it holds:\n"
            + "\n".join(f"- {line}" for line in found)
            + "\nMove, remove or correct these, and publish again. Nothing was uploaded."
        )
    return files


def _data(path: Path) -> str | None:
    """What kind of data file `path` is, by its name or its first bytes; `None` for any other."""
    if not path.is_file():
        return None
    if path.name.lower().endswith(DATA):
        return "a scan or a table, by its name"
    with path.open("rb") as file:
        head = file.read(352)
    return next((f"{kind} data" for offset, magic, kind in MAGIC if head[offset:].startswith(magic)), None)


def _texts(path: Path) -> Iterator[str]:
    """
    The texts in a file, which is checked to be what its name says: the strings of a JSON file, keys too; the header of
    a safetensors file, beside which it holds numbers alone; the bytes of an image.
    """
    if path.suffix == ".safetensors":
        with path.open("rb") as file:
            (length,) = struct.unpack("<Q", file.read(8))
            if length > path.stat().st_size:
                raise ValueError("no safetensors header")
            yield from _strings(json.loads(file.read(length)))
    elif path.suffix == ".png":
        content = path.read_bytes()
        if not content.startswith(PNG):
            raise ValueError("no PNG header")
        yield content.decode("latin-1")
    elif path.suffix == ".model":  # a sentencepiece vocabulary
        yield path.read_bytes().decode("latin-1")
    elif path.suffix == ".json":
        yield from _strings(json.loads(path.read_text("utf-8")))
    elif path.suffix == ".jsonl":
        for line in path.read_text("utf-8").splitlines():
            yield from _strings(json.loads(line))
    else:
        yield path.read_text("utf-8")


def _strings(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for name, item in value.items():
            yield name
            yield from _strings(item)
    elif isinstance(value, list):
        for item in value:
            yield from _strings(item)


def _secrets(text: str, token: str | None, run_dir: Path, vocabulary: bool) -> Iterator[str]:
    """Tokens, never quoted; columns of CT-RATE's tables; and, but for a vocabulary's entries, local paths."""
    if TOKEN.search(text) or (token and token in text):
        yield "a token of the Hub; revoke it"
    if columns := [column for column in COLUMNS if column in text]:
        yield f"the column {columns[0].strip(',')} of CT-RATE's tables"
    if not vocabulary:
        path = LOCAL_PATH.search(text)
        if path or str(run_dir.resolve()) in text:
            yield f"a path of this machine, {path[0] if path else run_dir.resolve()}"


def _wrong_predictions(path: Path, references: Sequence[str]) -> Iterator[str]:
    """Lines that hold more than a volume and its report, and reports that are the references themselves."""
    rows = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
    for number, row in enumerate(rows, 1):
        if not isinstance(row, dict) or row.keys() != {"volume", "report"}:
            fields = ", ".join(row) if isinstance(row, dict) else type(row).__name__
            yield f"line {number}: {fields}; a volume and its generated report alone may be published"
    reports = [" ".join(row["report"].split()) for row in rows if isinstance(row, dict) and "report" in row]
    known = {" ".join(reference.split()) for reference in references}
    copies = sum(report in known for report in reports)
    if 2 * copies > len(reports):  # templates make a model write a few of them word for word
        yield f"holds {copies} reference reports among {len(reports)} reports: they are not a model's"


def _sampled_references(run_dir: Path) -> Iterator[str]:
    """The reference reports in `samples/`, as [`~ct_rate_pairs.trainer.WriteReportSamples`] writes them."""
    for path in run_dir.glob("samples/*.md"):
        yield from re.findall(r"### Reference\n\n(.*?)\n\n### Generated", path.read_text("utf-8"), re.DOTALL)


def _quotes(text: str) -> set[tuple[str, ...]]:
    """All runs of `QUOTE` words in a text."""
    words = re.findall(r"\w+", text.lower())
    return {tuple(words[start : start + QUOTE]) for start in range(len(words) - QUOTE + 1)}
