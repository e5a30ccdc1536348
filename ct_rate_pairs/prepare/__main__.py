"""The command `ct-rate-pairs prepare` (also `python -m ct_rate_pairs.prepare`), which writes a prepared copy."""

from collections.abc import Sequence

from ct_rate_pairs.command_line import CommandParser, add_options, run
from ct_rate_pairs.number_ranges import COUNT
from ct_rate_pairs.volumes.settings import FORMS, VolumeSettings, volume_options


def main(argv: Sequence[str]) -> None:
    """Runs the command with its arguments."""
    parser = CommandParser(
        "ct-rate-pairs prepare",
        old_names={"out": "output_dir"},
        description="Read every scan once, and store its slices, report and labels in Parquet shards. An epoch then\n"
        "reads a few megabytes per scan and does not inflate the volumes again. With --form, whole resampled volumes\n"
        "are stored instead, and slices are chosen as they are read. Load the copy with\n"
        'load_dataset("ct_rate_pairs", data_dir=DIR, negative="heter"). After an interruption (even kill -9), run\n'
        "the same command again: it continues with the first unfinished file. Bad volumes are left out and listed\n"
        "in bad_volumes.csv, and warnings in told_volumes.csv.",
        epilog="examples:\n"
        "  ct-rate-pairs prepare --output_dir prepared                               # CT-RATE from the Hub\n"
        "  ct-rate-pairs prepare --output_dir prepared --data_dir /data/CT-RATE --workers 32\n"
        "  ct-rate-pairs prepare --output_dir volumes --form preprocessed_numpy      # whole volumes\n"
        "  sbatch --array 0-7 ... ct-rate-pairs prepare --output_dir /shared/prepared \\\n"
        "      --shard_index $SLURM_ARRAY_TASK_ID --num_shards 8                         # one job per machine",
    )
    add = parser.add_argument
    add("--output_dir", required=True, metavar="DIR", help="folder of the prepared copy")
    add(
        "--data_dir",
        metavar="SRC",
        help="copy of CT-RATE, phantom cohort or table of own scans (default: CT-RATE on the Hub)",
    )
    add(
        "--form",
        choices=FORMS,
        default="slices",
        help="slices: 8-bit images. preprocessed: whole volumes in [-1, 1], as NIfTI with their affine. "
        "preprocessed_numpy: whole volumes in HU, as .npy of shape (z, x, y) (default: %(default)s)",
    )
    add_options(parser, VolumeSettings)
    add("--shard_size", type=int, range=COUNT, default=200, metavar="N", help="scans per file (default: %(default)s)")
    add("--workers", type=int, range=COUNT, metavar="W", help="processes (default: one per core)")
    add(
        "--on_error",
        choices=("skip", "raise"),
        default="skip",
        help="what to do at a bad volume (default: %(default)s)",
    )
    add("--shard_index", type=int, default=0, metavar="I", help="number of this job, from 0 (default: %(default)s)")
    add(
        "--num_shards",
        type=int,
        range=COUNT,
        default=1,
        metavar="N",
        help="jobs that share the work (default: %(default)s)",
    )
    args = vars(parser.parse_args(argv))
    out, data_dir = args.pop("output_dir"), args.pop("data_dir")
    settings = volume_options(args)

    from ct_rate_pairs.sources import open_source
    from ct_rate_pairs.sources.prepared import PreparedSource

    from .shards import BAD_VOLUMES, TOLD_VOLUMES, prepare

    source = open_source(data_dir, **settings)
    if isinstance(source, PreparedSource):
        parser.error(f"{data_dir} is a prepared copy already: give the folder that it was prepared from.")
    summary = prepare(source, out, **args)
    print(
        f"{out}: {summary['rows']} scans, {summary['bytes'] / 1e9:.2f} GB "
        f"({summary['bytes'] / 1e6 / max(1, summary['rows']):.2f} MB per scan), {summary['bad']} bad volumes"
        + (f" (see {out}/{BAD_VOLUMES})" if summary["bad"] else "")
        + (f", {summary['told']} read with a warning (see {out}/{TOLD_VOLUMES})" if summary["told"] else "")
        + (f"; {summary['missing']} files are not written yet, or not by this job" if summary["missing"] else "")
    )


if __name__ == "__main__":
    run(main)
