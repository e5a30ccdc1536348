"""The command `ct-rate-pairs phantom` (also `python -m ct_rate_pairs.phantom`), which writes a phantom cohort."""

from collections.abc import Sequence

from ct_rate_pairs.command_line import CommandParser, run
from ct_rate_pairs.number_ranges import COUNT, SHARE, SIZE


def main(argv: Sequence[str]) -> None:
    """Runs the command with its arguments."""
    parser = CommandParser(
        "ct-rate-pairs phantom",
        old_names={"out": "output_dir"},
        description="Write a cohort of synthetic chest CT scans, with reports, labels and metadata. The files have\n"
        "CT-RATE's own layout (DIR/dataset/train_fixed/train_1/train_1_a/train_1_a_1.nii.gz and so on). Load\n"
        'the cohort with load_dataset("ct_rate_pairs", data_dir=DIR).',
        epilog="example: ct-rate-pairs phantom --output_dir /tmp/phantom --scans 200 --seed 0\n"
        "full size: --scans 2 --shape 512 512 300 --spacing 0.68 0.68 1.0",
    )
    add = parser.add_argument
    add("--output_dir", required=True, metavar="DIR", help="folder to write to; created if it does not exist")
    add(
        "--scans",
        type=int,
        range=COUNT,
        required=True,
        metavar="N",
        help="scans in the training split; some patients have two",
    )
    add("--seed", type=int, default=0, metavar="S", help="equal seeds give equal files (default: %(default)s)")
    add(
        "--valid_scans",
        type=int,
        metavar="M",
        help="scans in the official validation set, on top of N (default: N / 10)",
    )
    add(
        "--shape",
        type=int,
        range=COUNT,
        nargs=3,
        default=(84, 56, 40),
        metavar=("X", "Y", "Z"),
        help="voxels along x, y, z (default: 84 56 40)",
    )
    add(
        "--spacing",
        type=float,
        range=SIZE,
        nargs=3,
        default=(4.5, 4.5, 6.5),
        metavar=("X", "Y", "Z"),
        help="mm per voxel (default: 4.5 4.5 6.5); shape x spacing must be at least 320 x 250 x 250 mm",
    )
    add(
        "--reconstructions",
        type=float,
        range=SHARE,
        default=0.25,
        metavar="SHARE",
        help="share of scans with a second, sharp reconstruction (default: %(default)s)",
    )
    add("--language", choices=("en", "zh"), default="en", help="language of the reports (default: %(default)s)")
    add(
        "--masks",
        action="store_true",
        help="also write DIR/masks: which voxels each finding takes, and their table masks.csv, for\n"
        "load_dataset(..., masks=DIR/masks)",
    )
    add("--workers", type=int, range=COUNT, metavar="W", help="processes (default: one per core)")
    options = vars(parser.parse_args(argv))

    from .cohort import write_cohort

    write_cohort(options.pop("output_dir"), **options)


if __name__ == "__main__":
    run(main)
