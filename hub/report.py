"""A scan, or a folder of them -> reports: `ct-rate-pairs report SCAN --model_name_or_path USER/model --output_dir DIR`."""

from collections.abc import Sequence
from pathlib import Path

from ct_rate_pairs.command_line import CommandParser, run

from .notice import NOTICE


HELP = """\
Write the report of a chest CT with a released model.

SCAN is a .nii.gz, .nii or .mha file in HU, a folder of DICOM files, or a .zip of one. In DIR are then
  report.md    the report, the findings with their confidence and the slices they rest on
  report.json  the same for programs
  sheet.png    the slices that the model was shown, those that a finding rests on framed

Several scans, or a folder that holds volumes, zips or several DICOM studies, are a batch: each scan gets a folder of
its own in DIR. A DICOM study is one scan, of whose series --series chooses one, though each may lie in a folder of its
own below. Hidden files are passed over. Run the same command again to go on after a break; finished scans are not done
again, unless --series or --max_new_tokens is another. What cannot be read is listed in failures.json, and does not
stop the others.

Nothing of the scan's path or header is written: a scan is called scan, scan-001 and so on in the order of the paths,
unless its file has a name of CT-RATE's, such as valid_1_a_1.nii.gz, or one is given by --name."""
EXAMPLES = """\
examples:
  %(prog)s scan.nii.gz --model_name_or_path USER/model --output_dir report
  %(prog)s dicom_folder --series 2 --name "case 7" --model_name_or_path USER/model --output_dir report
  %(prog)s folder_of_scans --model_name_or_path USER/model --model_revision beta-0.2 --output_dir reports

"""


def main(argv: Sequence[str]) -> int:
    parser = CommandParser(
        "ct-rate-pairs report",
        old_names={"model": "model_name_or_path", "revision": "model_revision", "out": "output_dir"},
        description=HELP,
        epilog=EXAMPLES + NOTICE,
    )
    add = parser.add_argument
    add("scans", nargs="+", type=Path, metavar="SCAN", help="scan, or folder of scans")
    add("--model_name_or_path", required=True, metavar="MODEL", help="name on the Hub, or folder of a trained model")
    add("--model_revision", metavar="REVISION", help="branch, tag or commit on the Hub")
    add("--output_dir", required=True, type=Path, metavar="DIR", help="folder to write to; made if it is not there")
    add("--name", help="what a single scan is called in its report")
    add(
        "--series", type=int, metavar="N", help="which DICOM series, from 1; the error lists them if there are several"
    )
    add("--max_new_tokens", type=int, default=1200, metavar="N", help="longest report (default: %(default)s tokens)")
    add("--device", help="such as cuda:1 or cpu (default: an accelerator where there is one)")
    add("--dtype", default="auto", help="of the weights, such as bfloat16 (default: as they were saved)")
    args = parser.parse_args(argv)
    for number, path in enumerate(args.scans, start=1):
        if not path.exists():
            parser.error(f"SCAN number {number}: there is no such file or folder.")
    if args.output_dir.exists() and not args.output_dir.is_dir():
        parser.error("--output_dir is a file: give a folder.")

    from transformers import TextStreamer

    from ct_rate_pairs.volumes.scan_files import find_scans
    from ct_rate_pairs.volumes.slicing import VolumeError

    from .reporting.batch import for_command_line, new_name, report_batch
    from .reporting.files import report_key, save
    from .reporting.load import load_reporter

    scans, batch = find_scans(args.scans)
    if batch and args.name is not None:
        parser.error("--name is for a single scan: those of a batch are numbered.")
    options = {"series": args.series, "max_new_tokens": args.max_new_tokens}
    reporter = load_reporter(args.model_name_or_path, args.model_revision, args.device, args.dtype)
    if batch:
        failures = report_batch(reporter, scans, args.output_dir, **options)
        print(f"{len(scans) - len(failures)} of {len(scans)} scans are reported in {args.output_dir}.")
        return 1 if failures else 0
    name = args.name or new_name(scans[0], {"scan"}).removesuffix("-001")
    streamer = TextStreamer(reporter.collator.processor.tokenizer, skip_prompt=True, skip_special_tokens=True)
    try:
        report = reporter.report(scans[0], name=name, streamer=streamer, **options)
        save(report, args.output_dir, report_key(scans[0], **options))
    except VolumeError as error:
        raise VolumeError(for_command_line(error)) from None
    print(f"\n{NOTICE}\nWritten: {args.output_dir}/report.md, report.json, sheet.png")
    return 0


if __name__ == "__main__":
    run(main)
