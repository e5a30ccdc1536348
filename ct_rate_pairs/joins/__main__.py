"""The command `ct-rate-pairs join`, which makes a table of a reader's own from the files of another data set."""

from collections.abc import Sequence
from pathlib import Path

from ct_rate_pairs.command_line import CommandParser, run


SETS = ("3d-rad", "radgenome", "rad-chestct")


def main(argv: Sequence[str]) -> None:
    """Runs the command with its arguments."""
    parser = CommandParser(
        "ct-rate-pairs join",
        description='Make a table of questions for task="own_questions" from the files of another data set:\n'
        "  3d-rad       CSV files of questions about CT-RATE\n"
        "  radgenome    CSV files of RadGenome-ChestCT: regions, findings and sizes of CT-RATE's volumes\n"
        "  rad-chestct  CSV files of labels of RAD-ChestCT, an external test: 16 of the 18 labels as questions\n\n"
        "DIR is a copy of CT-RATE (or of some of its volumes), or for rad-chestct the folder of the .npz files. The\n"
        "table lies in DIR, beside the scans. Volumes without a scan in DIR are counted, and listed in a file beside\n"
        "the table. Nothing is downloaded. docs/own_data.md tells where each column comes from.",
        epilog="examples:\n  ct-rate-pairs join 3d-rad 3DRAD/test --data_dir CT-RATE\n"
        "  ct-rate-pairs join radgenome radgenome_files/validation_vqa_size.csv --data_dir CT-RATE\n"
        "  ct-rate-pairs join rad-chestct RAD-ChestCT --data_dir RAD-ChestCT",
    )
    add = parser.add_argument
    add("set", choices=SETS, metavar="SET", help="one of the above")
    add("files", nargs="+", type=Path, metavar="FILES", help="CSV files of the set, or folders of them")
    add("--data_dir", required=True, type=Path, metavar="DIR", help="folder of the scans")
    add("--output_file", type=Path, metavar="FILE", help="table to write, in DIR (default: DIR/SET.csv)")
    args = parser.parse_args(argv)

    from .table import join_ct_rate, join_rad_chestct, write_table

    out = args.output_file or args.data_dir / f"{args.set}.csv"
    if out.suffix != ".csv" or out.resolve().parent != args.data_dir.resolve():
        parser.error(f"--output_file {out}: give a .csv file in {args.data_dir}, because scans lie below their table.")
    join = join_rad_chestct if args.set == "rad-chestct" else join_ct_rate
    print(write_table(out, *join(args.set, args.files, args.data_dir)))


if __name__ == "__main__":
    run(main)
