"""Asks a model about a scan: `ct-rate-pairs ask SCAN --model_name_or_path MODEL --question "..."`."""

import sys
from collections.abc import Sequence
from pathlib import Path

from ct_rate_pairs.command_line import CommandParser, run
from ct_rate_pairs.near_names import no_such
from ct_rate_pairs.number_ranges import COUNT

from .model_options import add_model_options, find_model, load_chosen_model
from .notice import NOTICE
from .report import read_metadata


HELP = """\
Ask a released model about a chest CT. The model must have been trained on questions: --tasks vqa or own_questions.

SCAN is read as by `ct-rate-pairs report`, once for all questions. Each question is asked as if it were the only one,
as in the training; with --dialogue, each one sees the questions and answers before it. The end of a question of the
task vqa, which says what form the answer must have ("Answer yes or no."), may be left out and is then added. Whatever
the training did not have is told: a question in other words, a question after a report.

--report asks about a scan after its report: report.json of `ct-rate-pairs report`, or a text in a file.

The answers are printed. --output_file writes them for programs, too. Path and header of the scan are never written."""
EXAMPLES = """\
examples:
  %(prog)s scan.nii.gz --question "Is there a lung nodule in this chest CT?" --model_name_or_path USER/model
  %(prog)s scan.nii.gz --question "Does this chest CT show pleural effusion?" "On which side is pleural effusion?" \
    --dialogue --model_name_or_path USER/model
  %(prog)s scan.nii.gz --report report/report.json --metadata age=63 sex=F --question "How severe is emphysema?" \
    --output_file answers.json --model_name_or_path USER/model

"""


def make_parser() -> CommandParser:
    """The parser of the command."""
    parser = CommandParser("ct-rate-pairs ask", description=HELP, epilog=EXAMPLES + NOTICE)
    add = parser.add_argument
    add("scan", type=Path, metavar="SCAN", help="scan: a file, or a folder of DICOM files")
    add_model_options(parser)
    add("--question", nargs="+", required=True, metavar="TEXT", help="one or several questions, each in quotes")
    add("--dialogue", action="store_true", help="ask the questions one after the other, in one dialogue")
    add("--report", type=Path, metavar="FILE", help="report to ask after: report.json, or a text file")
    add(
        "--metadata",
        nargs="+",
        metavar="NAME=VALUE",
        help="what is known of the scan: age, sex, clinical_information, technique, contrast, surgery or device",
    )
    add("--series", type=int, range=COUNT, metavar="N", help="number of the DICOM series, from 1")
    add("--name", default="scan", help="name of the scan in the answers (default: %(default)s)")
    add(
        "--max_new_tokens",
        type=int,
        range=COUNT,
        default=96,
        metavar="N",
        help="longest answer in tokens (default: %(default)s)",
    )
    add("--force", action="store_true", help="ask a model that was trained on phantoms about a patient's scan, too")
    add("--output_file", type=Path, metavar="FILE", help="JSON file to write the answers to")
    return parser


def main(argv: Sequence[str]) -> None:
    """The command `ct-rate-pairs ask`."""
    parser = make_parser()
    args = parser.parse_args(argv)
    for option, path in (("SCAN", args.scan), ("--report", args.report)):
        if path is not None and not path.exists():
            # A name may be a patient's: the screen of the user may show it, a log may not.
            told = "there is no such file or folder. A terminal shows its name, and names that are near."
            parser.error(f"{option}: {no_such('file or folder', path) if sys.stderr.isatty() else told}")
    if args.output_file is not None and args.output_file.is_dir():
        parser.error("--output_file is a folder: give a file.")
    metadata = read_metadata(args.metadata) if args.metadata else None

    find_model(args)

    from ct_rate_pairs.shown_text import for_terminal
    from ct_rate_pairs.volumes.slicing import VolumeError

    from .reporting.batch import for_command_line
    from .reporting.files import write_json

    text, line = read_report(args.report) if args.report else (None, None)
    reporter = load_chosen_model(args)
    try:
        answers = reporter.ask(
            args.scan,
            args.question,
            report=reporter.below_line(text, line) if text is not None else None,
            dialogue=args.dialogue,
            name=args.name,
            series=args.series,
            metadata=metadata,
            max_new_tokens=args.max_new_tokens,
            force=args.force,
        )
    except VolumeError as error:
        raise VolumeError(for_command_line(error)) from None
    for answer in answers.answers:
        print(f"{for_terminal(answer.question)}\n  {for_terminal(answer.text)}{' (cut)' * answer.cut}")
    for told in answers.told:
        print(f"note: {for_terminal(told)}", file=sys.stderr)
    print(f"\n{NOTICE}")
    if args.output_file:
        args.output_file.parent.mkdir(parents=True, exist_ok=True)
        write_json(answers.to_dict() | {"notice": NOTICE}, args.output_file)


def read_report(file: Path) -> tuple[str, str | None]:
    """The text of a report and its findings line, from `report.json` or a file that is the text."""
    from ct_rate_pairs.json_files import parse_json
    from ct_rate_pairs.json_schemas.scan_reports import WrittenReport

    if file.suffix == ".json":
        content = parse_json(file.read_bytes(), "--report", WrittenReport)
        return content["text"], content.get("line")
    try:
        return file.read_text(encoding="utf-8"), None
    except UnicodeDecodeError:
        raise ValueError("--report is no text in UTF-8: give report.json, or a text file.") from None


if __name__ == "__main__":
    run(main)
