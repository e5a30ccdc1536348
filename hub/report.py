"""A scan, or a folder of them -> reports: `python -m ct_rate_pairs.hub.report SCAN --model USER/model --out DIR`."""

import argparse
import json
import re
import sys
from collections.abc import Sequence
from pathlib import Path

from transformers import TextStreamer

from ct_rate_pairs.hub.reporting.files import NOTICE, finished_reports, report_key, save, write_json
from ct_rate_pairs.hub.reporting.reporter import Reporter, load_reporter
from ct_rate_pairs.volumes.scan_files import find_scans
from ct_rate_pairs.volumes.slicing import VolumeError


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


def report_batch(
    reporter: Reporter, scans: Sequence[Path], out: Path, series: int | None = None, max_new_tokens: int = 1200
) -> list[dict]:
    """
    Reports many scans, each into a folder of `out`; those that an earlier call has finished are passed over.

    Args:
        reporter ([`~ct_rate_pairs.hub.reporting.reporter.Reporter`]):
            Writes the reports.
        scans (`Sequence[Path]`):
            Files, or folders of DICOM files.
        out (`Path`):
            Where to. Scans that cannot be read are listed in its `failures.json`, which is not there without any.
        series (`int`, *optional*), max_new_tokens (`int`, *optional*, defaults to `1200`):
            As of [`~ct_rate_pairs.hub.reporting.reporter.Reporter.report`]. With others, a scan gets another report.

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
