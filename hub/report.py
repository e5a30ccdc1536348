"""Writes reports of one or several scans: `ct-rate-pairs report SCAN --model_name_or_path MODEL --output_dir DIR`."""

import sys
from argparse import Namespace
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from ct_rate_pairs.command_line import CommandParser, run
from ct_rate_pairs.folder_lock import folder_lock
from ct_rate_pairs.near_names import no_such
from ct_rate_pairs.number_ranges import COUNT

from .model_options import add_model_options, find_model, load_chosen_model
from .notice import NOTICE
from .pacs.options import add_pacs_options, check_pacs_options, check_single, series_of


HELP = """\
Write the report of a chest CT with a released model.

SCAN is a .nii.gz, .nii or .mha file in HU, a folder of DICOM files (.dcm or .dcm.gz), or a .zip of such a folder. A
folder of pictures (.png, .jpg), one per slice, is read with a warning: pictures have no HU. So is an .npz file of
RAD-ChestCT, which has no voxel size. The command writes to DIR:
  report.md    the report, the findings with their confidence, and the slices that each finding rests on
  report.html  a page for any browser, without a network: a click on a sentence shows the slices that it rests on
  report.json  the same for programs
  sheet.png    the slices in lung and mediastinal windows; frames mark the slices that a finding rests on

Several scans are a batch, and so is a folder with volumes, .zip files or several DICOM studies. Each scan of a batch
gets its own subfolder in DIR. A DICOM study is one scan, even if each of its series lies in a subfolder; --series
chooses the series. Hidden files are left out, and slices among them are told. Links are followed. After an
interruption, the same command continues: finished scans are not repeated, unless --series, --max_new_tokens,
--operating_point or the code changes. Scans that cannot be read are listed in failures.json; the other scans are still
reported.

A model that was trained with a findings line can be told which findings to write about: --operating_point states what
is probable enough, and --findings states what a reader has found. By default, the operating point is the one at which
the model was measured after its training, as its card tells; --operating_point none lets the model decide. report.md
and report.json name what has decided. --findings is also for a model that was trained with findings in its prompts. A
model whose prompts told of the patient is told by --metadata; report.md and report.json name what it was told, and not
the values.

--dicomweb takes a study from a PACS. A token is read from CT_RATE_PAIRS_DICOMWEB_TOKEN, or a login from
CT_RATE_PAIRS_DICOMWEB_USER and CT_RATE_PAIRS_DICOMWEB_PASSWORD. The scan is kept in a temporary folder until it is
reported. --sr writes a DICOM Structured Report, --store_sr stores it in the study, and --fhir writes a FHIR R4
DiagnosticReport.

report.md says what the model was trained on, and how a scan differs from that. A model that was trained on phantoms
refuses the scan of a patient, unless --force is given: its report would say nothing about the patient.

The Structured Report belongs to its study, and so it names the patient. Nothing else in DIR has the path or the header
of a scan, and neither has the DiagnosticReport. A scan is called scan, or in a batch scan-001, scan-002 and so on in
the order of the paths. A file of CT-RATE such as valid_1_a_1.nii.gz keeps its name. --name names a single scan, and
--names those of a batch. --mapping writes a file for you alone, outside of DIR: the path of the scan of each report,
and of a DICOM scan the SOPInstanceUID of the image that each slice is of."""
EXAMPLES = """\
examples:
  %(prog)s scan.nii.gz --model_name_or_path USER/model --output_dir report
  %(prog)s dicom_folder --series 2 --name "case 7" --model_name_or_path USER/model --output_dir report
  %(prog)s scan.nii.gz --findings "Cardiomegaly; Pleural effusion" --model_name_or_path USER/model --output_dir report
  %(prog)s scan.nii.gz --metadata age=63 sex=F "clinical_information=Cough." --model_name_or_path USER/model \
    --output_dir report
  %(prog)s --dicomweb https://pacs.example.org/dicom-web --study 1.2.3 --store_sr --model_name_or_path USER/model \
    --output_dir report
  %(prog)s folder_of_scans --model_name_or_path USER/model --model_revision beta-0.2 --output_dir reports

"""


def make_parser() -> CommandParser:
    """The parser of the command."""
    parser = CommandParser(
        "ct-rate-pairs report",
        old_names={"model": "model_name_or_path", "revision": "model_revision", "out": "output_dir"},
        description=HELP,
        epilog=EXAMPLES + NOTICE,
    )
    add = parser.add_argument
    add("scans", nargs="*", type=Path, metavar="SCAN", help="scan, or folder of scans")
    add_model_options(parser)
    add("--output_dir", required=True, type=Path, metavar="DIR", help="folder to write to; created if there is none")
    add("--name", help="name of a single scan in its report")
    add(
        "--names",
        type=Path,
        metavar="FILE.csv",
        help="names of the scans of a batch: the columns path and name (default: scan-001, scan-002 and so on). A "
        "name has letters, digits, points, hyphens and underscores",
    )
    add(
        "--mapping",
        type=Path,
        metavar="FILE.json",
        help="also write, for you alone, which report is of which scan, and which DICOM image each slice is of",
    )
    add(
        "--series",
        metavar="N",
        help="number of the DICOM series, from 1, or with --dicomweb its UID; an error lists them where several fit",
    )
    add(
        "--max_new_tokens",
        type=int,
        range=COUNT,
        default=1200,
        metavar="N",
        help="longest report in tokens (default: %(default)s)",
    )
    add(
        "--operating_point",
        metavar="POINT",
        help="decides on the findings by their probabilities: f1, or a sensitivity such as 0.9; none: the model "
        "decides (default: as the model was measured)",
    )
    add(
        "--findings",
        metavar="LABELS",
        help='findings of a single scan to write the report for, such as "Cardiomegaly; Pleural effusion", or none; '
        'with a side, as "Lung nodule left", for a model whose findings line has sides',
    )
    add(
        "--metadata",
        nargs="+",
        metavar="NAME=VALUE",
        help="what is known of a single scan: age, sex, clinical_information, technique, contrast, surgery or device",
    )
    add(
        "--masks",
        action="store_true",
        help="also write a mask of each stated finding in the space of the scan, masks/*.nii.gz, with a model that "
        "has learnt from masks",
    )
    add_pacs_options(parser)
    add(
        "--force",
        action="store_true",
        help="report a scan that is unlike phantoms, too, with a model that was trained on phantoms",
    )
    return parser


def main(argv: Sequence[str]) -> int:
    """The command `ct-rate-pairs report`; returns 1 if a scan of a batch could not be reported."""
    parser = make_parser()
    args = parser.parse_args(argv)
    for number, path in enumerate(args.scans, start=1):
        if not path.exists():
            # A name may be a patient's: the screen of the user may show it, a log may not.
            told = "there is no such file or folder. A terminal shows its name, and names that are near."
            told = no_such("file or folder", path) if sys.stderr.isatty() else told
            parser.error(f"SCAN number {number}: {told}")
    if args.output_dir.exists() and not args.output_dir.is_dir():
        parser.error("--output_dir is a file: give a folder.")
    check_pacs_options(parser, args)
    args.series_uid, args.series = series_of(parser, args)

    find_model(args)
    if not args.dicomweb:
        return report_scans(parser, args)

    from ct_rate_pairs.volumes.told import collected_warnings

    from .pacs import DicomWebServer, choose_series, retrieved_series

    server = DicomWebServer(args.dicomweb, args.allow_http)
    with collected_warnings() as told:
        args.series_uid = args.series_uid or choose_series(server, args.study)
    with retrieved_series(server, args.study, args.series_uid) as folder:
        args.scans = [folder]
        return report_scans(parser, args, server, told)


def report_scans(parser: CommandParser, args: Namespace, server=None, told: Sequence[str] = ()) -> int:
    """
    Reports the scans of a command, of which `told` says how they were chosen on the DICOMweb `server`. Returns 1 if a
    scan of a batch could not be reported.
    """
    from ct_rate_pairs.volumes.scan_files import find_scans
    from ct_rate_pairs.volumes.slicing import VolumeError

    from .reporting.batch import for_command_line, new_name, report_batch
    from .reporting.files import report_key, save
    from .reporting.mapping import PRIVATE, ScanMapping
    from .reporting.masks import check_masker
    from .reporting.names import read_names
    from .reporting.streamer import TerminalStreamer

    scans, batch = find_scans(args.scans)
    check_number(parser, args, scans, batch)
    names = read_names(args.names, scans) if args.names else None
    mapping = ScanMapping(args.mapping, args.output_dir) if args.mapping else None
    options = {"series": args.series, "max_new_tokens": args.max_new_tokens, "force": args.force}
    options |= options_of_scan(args)
    with folder_lock(args.output_dir, parser.prog):
        reporter = load_chosen_model(args)
        check_masker(reporter.masker, bool(args.masks or args.seg))
        if batch:
            options["with_masks"] = args.masks
            failures = report_batch(reporter, scans, args.output_dir, names=names, mapping=mapping, **options)
            print(f"{len(scans) - len(failures)} of {len(scans)} scans are reported in {args.output_dir}.")
            if mapping:
                print(f"{args.mapping}: {PRIVATE}")
            return 1 if failures else 0
        if args.findings is None:
            options["operating_point"] = reporter.deciding_point(args.operating_point)
        name = args.name or new_name(scans[0], {"scan"}).removesuffix("-001")
        streamer = TerminalStreamer(reporter.collator.processor.tokenizer, skip_prompt=True, skip_special_tokens=True)
        try:
            report = reporter.report(scans[0], name=name, streamer=streamer, **options)
            report = replace(report, told=[*told, *report.told])
            key = report_key(scans[0], **options, with_masks=args.masks)
            save(report, args.output_dir, key)
            if mapping:
                mapping.add(name, None if server else scans[0], key["digest"], report.instances)
        except VolumeError as error:
            found = for_command_line(error)
            # A series on a server may hold several volumes.
            found = found.replace("--series ", f"--series {args.series_uid}:") if server else found
            raise VolumeError(found) from None
        written = [f"{args.output_dir}/report.md, report.html, report.json, sheet.png"]
        written += (
            [f"{len(report.masks.shown)} masks in {args.output_dir}/masks"] if args.masks and report.masks else []
        )
        written += [f"{args.mapping} ({PRIVATE})"] if mapping else []
        if args.sr or args.store_sr or args.seg or args.fhir:
            from .pacs.outputs import write_for_pacs

            written += write_for_pacs(report, args, server)
    if doubtful := [finding.label for finding in report.findings if finding.doubtful]:
        print(f"\nStated, and doubtful by their confidence: {', '.join(doubtful)}.")
    print(f"\n{NOTICE}\nWritten: {', '.join(written)}")
    return 0


def check_number(parser: CommandParser, args: Namespace, scans: Sequence[Path], batch: bool) -> None:
    """Ends the command if an option is for one scan and there is a batch, or the other way round."""
    if batch and args.name is not None:
        parser.error("--name is for a single scan: those of a batch are numbered.")
    for name in ("findings", "metadata"):
        if batch and getattr(args, name) is not None:
            parser.error(f"--{name} is for a single scan: those of a batch differ.")
    check_single(parser, args, scans, batch)
    if args.names and not batch:
        parser.error("--names is for a batch: give --name for a single scan.")


def read_metadata(words: Sequence[str]) -> dict[str, int | str]:
    """
    Values by their names, from words `NAME=VALUE`.

    Raises:
        `ValueError`: for a word without a value, and for a name that occurs twice.
    """
    values: dict[str, int | str] = {}
    for word in words:
        name, equals, value = word.partition("=")
        if not equals or name in values:
            raise ValueError(f"--metadata {word!r:.80}: give each name once, as NAME=VALUE, such as age=63.")
        values[name] = int(value) if name == "age" and value.isdecimal() else value
    return values


def options_of_scan(args) -> dict:
    """
    What sets the findings, and what is known of the patient. A wrong operating point or a misspelt label is told
    before the model is loaded.
    """
    from ct_rate_pairs.eval.scoring.operating_points import read_operating_point
    from ct_rate_pairs.reports.findings_line import findings_named

    options = {}
    if args.operating_point is not None:
        read_operating_point(args.operating_point)
        options["operating_point"] = args.operating_point
    if args.findings is not None:
        text = args.findings.strip()
        options["findings"] = [] if text.lower() == "none" else [name.strip() for name in text.split(";")]
        findings_named(options["findings"])
    if args.metadata is not None:
        options["metadata"] = read_metadata(args.metadata)
    return options


if __name__ == "__main__":
    run(main)
