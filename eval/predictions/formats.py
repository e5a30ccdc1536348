"""
Reads files of reports: `predictions.jsonl`, the format of the VLM3D challenge, and what the scripts of other projects
write, by their own keys:

- CT-CHAT, JSON: `image`, `conversations_out` of `question` and `answer`
  (`llava/serve/ctchat_validation_llama.py` of ibrahimethemhamamci/CT-CHAT at fec81f5c).
- M3D-LaMed, CSV: `Ground Truth`, `pred` (`Bench/eval/eval_caption.py` of BAAI-DCAI/M3D at b24a7503).
- RadFM, CSV: `Ground Truth`, `Pred`, both as Python lists (`src/test.py` of chaoyi-wu/RadFM at 651e1969).
- CT2Rep, CSV without a heading: name and report (its `modules/trainer.py` writes the report alone;
  docs/other_models.md has a script that writes both).
- any CSV, JSON or JSONL with a column for the name of a scan and one for its report (`NAMES`, `REPORTS`).

The scripts of M3D-LaMed and RadFM write no name of a scan. For them, `ct-rate-pairs export` gives each scan its
VolumeName as reference, which they copy to `Ground Truth`.
"""

import ast
import csv
import io
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ct_rate_pairs.json_files import JSONFileError, check_json, parse_json, read_json
from ct_rate_pairs.json_schemas.challenge import ChallengeJobs, ChallengeReports
from ct_rate_pairs.volume_names import VOLUME_NAME


NAMES = ("volume", "VolumeName", "input_image_name", "AccessionNo", "image")
REPORTS = ("report", "generated_report", "pred", "Pred")
ENDINGS = (".nii.gz", ".nii_embedded.npz", ".npz", ".npy", ".mha", ".nii")  # of the file of a scan
REFERENCE = "Ground Truth"
REPORT_MARK = "<report_generation>"  # in CT-CHAT's questions that ask for a report
END_MARKS = ("<|eot_id|>", "<|end_of_text|>", "<s>", "</s>")  # that CT-CHAT's script leaves in an answer


def read_rows(path: str | Path) -> list[dict[str, Any]]:
    """
    Reads the reports of a file.

    Args:
        path (`str` or `Path`):
            The file: `.json`, `.csv`, or otherwise JSON lines. If an interruption truncated its last line, the line is
            left out and a notice is printed.

    Returns:
        `list[dict]`: for each report, `volume` (a VolumeName), `report`, and in JSON lines whatever else is there.

    Raises:
        `FileNotFoundError`: if there is no such file.
        `ValueError`: for a row without a name and a report. The message gives the number of the row.
    """
    path = Path(path)
    read = {".json": _json_rows, ".csv": _csv_rows}.get(path.suffix, read_json_lines)
    return [_named(row, f"{path} entry {number}") for number, row in enumerate(read(path), 1)]


def volume_of(name: str) -> str:
    """The VolumeName of a scan whose file a script names, such as `scans/valid_1_a_1.npz`."""
    name = Path(name).name
    ending = next((ending for ending in ENDINGS if name.endswith(ending)), "")
    return f"{name.removesuffix(ending)}.nii.gz"


def _named(row: Any, place: str) -> dict[str, Any]:
    """A row with the keys `volume` and `report`, which may have other names in it."""
    row = row if isinstance(row, dict) else {}
    name, report = (next((row[key] for key in keys if key in row), None) for keys in (NAMES, REPORTS))
    if name is None and (found := re.search(VOLUME_NAME, str(row.get(REFERENCE, "")))):
        name = found.group()
    if not isinstance(name, str) or not isinstance(report, str):
        raise ValueError(
            f"{place} needs texts for the volume ({', '.join(NAMES)}) and the report ({', '.join(REPORTS)}), got "
            f"{row!r:.200}."
        )
    return row | {"volume": volume_of(name), "report": report}


def _json_rows(path: Path) -> list:
    """The rows of a JSON file of the challenge, of CT-CHAT, or of another program."""
    content = read_json(path)
    if isinstance(content, dict) and content and all(isinstance(report, str) for report in content.values()):
        return [{"volume": name, "report": report} for name, report in content.items()]
    if isinstance(content, list) and content and all(isinstance(row, dict) for row in content):
        if all("conversations_out" in row for row in content):
            return list(_answers(content, path))
        if all(set(NAMES) & row.keys() for row in content):
            return content
    return _challenge_rows(path, content)


def _challenge_rows(path: Path, content: Any) -> list[dict]:
    """The entries of a file of the VLM3D challenge."""
    if isinstance(content, list):
        jobs = check_json(content, ChallengeJobs, path)
        contents = [output.get("value") for job in jobs for output in (job.get("outputs") or ())]
    else:
        contents = [content]
    found = [
        check_json(content, ChallengeReports, path)["generated_reports"]
        for content in contents
        if isinstance(content, dict) and "generated_reports" in content
    ]
    if not found:
        raise ValueError(
            f"{path} has no list `generated_reports`, as the VLM3D challenge's files have, nor rows with the name of "
            f"a scan ({', '.join(NAMES)}) and its report ({', '.join(REPORTS)})."
        )
    return [entry for entries in found for entry in entries]


def _answers(content: list[dict], path: Path) -> Iterator[dict]:
    """The answers to CT-CHAT's question for a report. Its other questions are left out."""
    for number, row in enumerate(content, 1):
        asked = row["conversations_out"]
        if not isinstance(asked, list) or not all(isinstance(turn, dict) for turn in asked):
            raise ValueError(f"{path} entry {number}: conversations_out is no list of questions and answers.")
        for turn in asked:
            if REPORT_MARK in str(turn.get("question")):
                answer = turn.get("answer")
                for mark in END_MARKS:
                    answer = answer.replace(mark, "") if isinstance(answer, str) else answer
                yield {"image": row.get("image"), "report": answer.strip() if isinstance(answer, str) else answer}


def _csv_rows(path: Path) -> list[dict]:
    """The rows of a CSV file. Without a heading, it has two columns: name and report."""
    try:
        text = path.read_text(encoding="utf-8-sig")
        rows = [row for row in csv.reader(io.StringIO(text, newline="")) if row]
    except (csv.Error, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is no CSV file in UTF-8 ({error}). Write it again.") from error
    if not rows:
        return []
    heading = rows[0]
    if len(heading) == 2 and re.fullmatch(VOLUME_NAME, volume_of(heading[0])):
        return [dict(zip(("volume", "report"), row, strict=False)) for row in rows]
    return [{key: _plain(value) for key, value in zip(heading, row, strict=False)} for row in rows[1:]]


def _plain(cell: str) -> str:
    """A cell as text. RadFM's script writes a list of one text as Python does."""
    if not (cell.startswith(("['", '["')) and cell.endswith(("']", '"]'))):
        return cell
    try:
        texts = ast.literal_eval(cell)
    except (SyntaxError, ValueError, RecursionError, MemoryError):  # text that only begins and ends like a list
        return cell
    return " ".join(texts) if all(isinstance(text, str) for text in texts) else cell


def read_json_lines(path: Path) -> list:
    """The lines of a `.jsonl` file, parsed. A truncated last line is left out."""
    *lines, last = path.read_bytes().split(b"\n")
    rows = []
    for number, line in enumerate(lines, 1):
        try:
            rows.append(parse_json(line, f"{path} line {number}"))
        except JSONFileError as error:
            raise ValueError(f"{error} Or remove the line.") from error
    if last and is_whole(last):
        rows.append(parse_json(last, f"{path} line {len(lines) + 1}"))
    elif last:
        print(f"{path} line {len(lines) + 1} was cut off and is left out.")
    return rows


def is_whole(line: str | bytes) -> bool:
    """Whether a last line without a line break is complete: a truncated JSON object is never valid JSON."""
    try:
        parse_json(line, "the line")
    except JSONFileError:
        return False
    return True
