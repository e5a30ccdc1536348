"""A scan, or a folder of them -> reports: `python -m ct_rate_pairs.hub.report SCAN --model USER/model --out DIR`."""

import argparse
import hashlib
import json
import os
import re
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from transformers import TextStreamer

from ct_rate_pairs.dicom import study_of
from ct_rate_pairs.scan_files import files_of
from ct_rate_pairs.volume import VolumeError

from .evidence_sheet import plot_sheet
from .reporter import Reporter, ScanReport, load_reporter


NOTICE = (
    "Not a medical device. A model wrote this text and no radiologist has read it: it may miss findings, state "
    "findings that are not there, and be wrong about sides and sizes. It must not guide the care of anyone."
)
VOLUMES = (".nii.gz", ".nii", ".mha", ".mhd", ".zip")  # a .mhd, so that a batch says that it cannot be read
# As long as CT-RATE's are and no longer: a name or a date must not pass for one
CT_RATE_NAME = re.compile(r"(?:train|valid)_\d{1,5}_[a-z]{1,2}_\d{1,2}")
HELP = """\
Write the report of a chest CT with a released model.

SCAN is a .nii.gz, .nii or .mha file in HU, a folder of DICOM files, or a .zip of one. In DIR are then
  report.md    the report, the findings with their confidence and the slices they rest on
  report.json  the same for programs
  sheet.png    the slices that the model was shown, those that a finding rests on framed

Several scans, or a folder that holds volumes, zips or several DICOM studies, are a batch: each scan gets a folder of
its own in DIR. A DICOM study is one scan, of whose series --series chooses one, though each may lie in a folder of its
own below. Hidden files are passed over. Run the same command again to go on after a break; finished scans are not done
again, unless --series or --max-new-tokens is another. What cannot be read is listed in failures.json, and does not
stop the others.

Nothing of the scan's path or header is written: a scan is called scan, scan-001 and so on in the order of the paths,
unless its file has a name of CT-RATE's, such as valid_1_a_1.nii.gz, or one is given by --name."""
EXAMPLES = """\
examples:
  %(prog)s scan.nii.gz --model USER/model --out report
  %(prog)s dicom_folder --series 2 --name "case 7" --model USER/model --out report
  %(prog)s folder_of_scans --model USER/model --revision beta-0.2 --out reports

"""


def find_scans(paths: Sequence[Path]) -> tuple[list[Path], bool]:
    """The scans that `paths` stand for, and whether they are a batch."""
    scans, batch = [], len(paths) > 1
    for path in paths:
        files = files_of(path) if path.is_dir() else []
        volumes = [file for file in files if file.name.lower().endswith(VOLUMES)]
        studies = find_studies([file for file in files if file not in volumes])
        scans += sorted(volumes + studies) or [path]
        batch = batch or len(studies) > 1 or bool(volumes)
    return scans, batch


def find_studies(files: Sequence[Path]) -> list[Path]:
    """Folders that hold one DICOM study each; where a study has no folder to itself, those of its series."""
    studies: dict[Path, str] = {}  # of the first file that tells it
    for file in files:
        if not studies.get(file.parent) and file.is_file():
            study = study_of(partial(file.open, "rb"))
            if study is not None:
                studies[file.parent] = study
    folders = [folder for folder in studies if not any(parent in studies for parent in folder.parents)]
    scans = []
    for study in {studies[folder] for folder in folders}:
        own = [folder for folder in folders if studies[folder] == study]
        shared = Path(os.path.commonpath(own))
        alone = study and all(folder in own for folder in folders if folder.is_relative_to(shared))
        scans += [shared] if alone else own
    return scans


def digest(scan: Path) -> str:
    """What tells one scan from another, whatever it or its files are called: a hash of the bytes."""
    digests = []
    try:
        for file in [file for file in files_of(scan) if file.is_file()] if scan.is_dir() else [scan]:
            with file.open("rb") as content:
                digests.append(hashlib.file_digest(content, "sha256").digest())
    except OSError as error:  # it names the file
        raise VolumeError(f"the scan: cannot be read: {error.strerror}.") from None
    return hashlib.sha256(b"".join(sorted(digests))).hexdigest()


def write_markdown(report: ScanReport) -> str:
    """The report as Markdown: text, stated findings, the others, and how it was made."""

    def percent(probability: float | None) -> str:
        if probability is None:
            return ""
        return "< 1%" if probability < 0.01 else "> 99%" if probability > 0.99 else f"{probability:.0%}"

    def cells(*values: str) -> str:
        return "| " + " | ".join(value.replace("|", "\\|").replace("\n", " ") for value in values) + " |"

    stated = [finding for finding in report.findings if finding.stated]
    others = [finding for finding in report.findings if not finding.stated]
    lines = [f"# Chest CT report: {report.name}", "", f"> **{NOTICE[:21]}**{NOTICE[21:]}", ""]
    lines += ["## Report", "", *"\n\n".join(report.text.splitlines()).splitlines(), "", "## Findings it states", ""]
    if stated:
        lines += ["| finding | confidence | slices it rests on | sentence |", "|---|---|---|---|"]
        for finding in stated:
            slices = ", ".join(f"{number} ({report.slice_mm[number - 1]:.0f} mm)" for number in finding.slices)
            lines.append(
                cells(finding.label, percent(finding.confidence), slices or "none stands out", finding.sentence)
            )
        lines += ["", "Slices are counted from the top, mm from the first one. ![slices](sheet.png)"]
    else:
        lines.append("None of the 18.")
    lines += ["", "## Findings it does not state", ""]
    if report.calibration:
        lines += ["| finding | confidence that it is there |", "|---|---|"]
        lines += [cells(f.label, percent(f.confidence)) for f in sorted(others, key=lambda f: -f.confidence)]
        error = report.calibration["calibrated"]["ece"]
        lines += [
            "",
            f"Confidences are calibrated probabilities, {error:.1%} off on the average over validation scans.",
        ]
    else:
        lines.append(", ".join(finding.label for finding in others) + ".")
        lines += ["", "The model has no `confidence.json`, so no confidence is given."]
    took = ", ".join(f"{step} {seconds:.1f} s" for step, seconds in report.seconds.items())
    lines += ["", f"Model {report.model}, version {report.version}; {len(report.slice_mm)} slices; {took}.", ""]
    return "\n".join(lines)


def save(report: ScanReport, folder: Path, key: dict) -> None:
    """Writes a report's three files; `report.json` comes last, and marks the scan and options of `key` as finished."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "report.json").unlink(missing_ok=True)  # an earlier one must not stand beside another's sheet
    plot_sheet(report, folder / "sheet.png")
    (folder / "report.md").write_text(write_markdown(report), encoding="utf-8")
    write_json(report.to_dict() | key | {"notice": NOTICE}, folder / "report.json")


def write_json(values: dict | list, path: Path) -> None:
    """Whole or not at all."""
    part = path.with_suffix(".part")
    part.write_text(json.dumps(values, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    part.replace(path)


def report_key(scan: Path, series: int | None, max_new_tokens: int) -> dict:
    """What a report is of: it stands for no other series of its scan, and for no longer one."""
    return {"digest": digest(scan), "series": series, "max_new_tokens": max_new_tokens}


def finished_reports(out: Path, reporter: Reporter) -> dict[str, dict]:
    """
    The reports of an earlier batch in `out`: name of the scan to what [`report_key`] gave.

    Raises:
        `ValueError`: if another model, another version of it, or something else wrote them.
    """
    done = {}
    for path in out.glob("*/report.json"):
        report = json.loads(path.read_text(encoding="utf-8"))
        if missing := {"model", "version", "digest", "series", "max_new_tokens"} - set(report):
            raise ValueError(f"{path} is no report of this command, without {sorted(missing)}: choose another --out.")
        if (report["model"], report["version"]) != (reporter.name, reporter.version):
            raise ValueError(
                f"{out} holds reports of {report['model']}, version {report['version']}, not of {reporter.name}, "
                f"version {reporter.version}: choose another --out."
            )
        done[path.parent.name] = {name: report[name] for name in ("digest", "series", "max_new_tokens")}
    return done


def report_batch(
    reporter: Reporter, scans: Sequence[Path], out: Path, series: int | None = None, max_new_tokens: int = 1200
) -> list[dict]:
    """
    Reports many scans, each into a folder of `out`; those that an earlier call has finished are passed over.

    Args:
        reporter ([`~ct_rate_pairs.hub.reporter.Reporter`]):
            Writes the reports.
        scans (`Sequence[Path]`):
            Files, or folders of DICOM files.
        out (`Path`):
            Where to. Scans that cannot be read are listed in its `failures.json`, which is not there without any.
        series (`int`, *optional*), max_new_tokens (`int`, *optional*, defaults to `1200`):
            As of [`~ct_rate_pairs.hub.reporter.Reporter.report`]. With others, a scan gets another report.

    Returns:
        `list[dict]`: the failures: `name`, `number` of the scan in the order of `scans`, `digest` and `error`.
    """
    out.mkdir(parents=True, exist_ok=True)
    listed = out / "failures.json"
    done = finished_reports(out, reporter)
    earlier = json.loads(listed.read_text(encoding="utf-8")) if listed.exists() else []
    # A scan keeps its name. One that cannot be opened has no digest, and is called by its number.
    names = {f["digest"]: f["name"] for f in earlier if f["digest"] and f["name"] not in done}
    failures: list[dict] = []
    for number, scan in enumerate(scans, start=1):
        key, name = {"digest": None}, f"scan number {number}"
        try:
            key = report_key(scan, series, max_new_tokens)
            if finished := [known for known, other in done.items() if other == key]:
                print(f"[{number}/{len(scans)}] {finished[0]}: finished before", flush=True)
                continue
            name = names.setdefault(key["digest"], new_name(scan, {*names.values(), *done}))
            report = reporter.report(scan, name=name, series=series, max_new_tokens=max_new_tokens)
        except VolumeError as error:
            told = for_command_line(error)
            failures.append({"name": name, "number": number, "digest": key["digest"], "error": told})
            print(f"[{number}/{len(scans)}] {name}: {told}", file=sys.stderr, flush=True)
        else:
            save(report, out / name, key)
            done[name] = key
            stated = [finding.label for finding in report.findings if finding.stated]
            print(f"[{number}/{len(scans)}] {name}: {', '.join(stated) or 'no finding'}", flush=True)
        if failures:
            write_json(failures, listed)
    if not failures:
        listed.unlink(missing_ok=True)
    return failures


def for_command_line(error: VolumeError) -> str:
    return str(error).replace("series=", "--series ")


def new_name(scan: Path, taken: set[str]) -> str:
    """CT-RATE's own name of a volume, else the first free one of scan-001, scan-002, ..."""
    stem = scan.name.split(".")[0]
    if CT_RATE_NAME.fullmatch(stem) and stem not in taken:
        return stem
    return next(name for number in range(1, len(taken) + 2) if (name := f"scan-{number:03d}") not in taken)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m ct_rate_pairs.hub.report",
        description=HELP,
        epilog=EXAMPLES + NOTICE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("scans", nargs="+", type=Path, metavar="SCAN", help="scan, or folder of scans")
    add("--model", required=True, help="name on the Hub, or folder of a trained model")
    add("--revision", help="branch, tag or commit on the Hub")
    add("--out", required=True, type=Path, metavar="DIR", help="folder to write to; made if it is not there")
    add("--name", help="what a single scan is called in its report")
    add(
        "--series", type=int, metavar="N", help="which DICOM series, from 1; the error lists them if there are several"
    )
    add("--max-new-tokens", type=int, default=1200, metavar="N", help="longest report (default: %(default)s tokens)")
    add("--device", help="such as cuda:1 or cpu (default: an accelerator where there is one)")
    add("--dtype", default="auto", help="of the weights, such as bfloat16 (default: as they were saved)")
    args = parser.parse_args(arguments)
    for number, path in enumerate(args.scans, start=1):
        if not path.exists():
            parser.error(f"SCAN number {number}: there is no such file or folder.")
    scans, batch = find_scans(args.scans)
    if batch and args.name is not None:
        parser.error("--name is for a single scan: those of a batch are numbered.")
    if args.out.exists() and not args.out.is_dir():
        parser.error("--out is a file: give a folder.")
    options = {"series": args.series, "max_new_tokens": args.max_new_tokens}
    try:
        reporter = load_reporter(args.model, args.revision, args.device, args.dtype)
        if batch:
            failures = report_batch(reporter, scans, args.out, **options)
            print(f"{len(scans) - len(failures)} of {len(scans)} scans are reported in {args.out}.")
            return 1 if failures else 0
        name = args.name or new_name(scans[0], {"scan"}).removesuffix("-001")
        streamer = TextStreamer(reporter.collator.processor.tokenizer, skip_prompt=True, skip_special_tokens=True)
        report = reporter.report(scans[0], name=name, streamer=streamer, **options)
        save(report, args.out, report_key(scans[0], **options))
    except VolumeError as error:
        parser.exit(1, f"error: {for_command_line(error)}\n")
    except (ValueError, OSError) as error:
        parser.exit(1, f"error: {error}\n")
    print(f"\n{NOTICE}\nWritten: {args.out}/report.md, report.json, sheet.png")
    return 0


if __name__ == "__main__":
    sys.exit(main())
