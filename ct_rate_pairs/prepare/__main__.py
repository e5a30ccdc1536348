"""`python -m ct_rate_pairs.prepare`: writes a prepared copy."""

import argparse
import sys

from ct_rate_pairs.sources import open_source
from ct_rate_pairs.sources.prepared import PreparedSource
from ct_rate_pairs.volumes.settings import add_settings, take_settings

from .shards import BAD_VOLUMES, prepare


def main():
    parser = argparse.ArgumentParser(
        prog="python -m ct_rate_pairs.prepare",
        description="Read every scan once and keep its slices, reports and labels in sharded Parquet: an epoch then "
        "reads megabytes a scan instead of inflating a volume. Load the copy with "
        'load_dataset("ct_rate_pairs", data_dir=DIR, negative="heter"). Interrupted, even by kill -9, the same '
        "command goes on with the first unfinished file. Bad volumes are left out and listed in bad_volumes.csv.",
        epilog="examples:\n"
        "  python -m ct_rate_pairs.prepare --out prepared                               # CT-RATE from the Hub\n"
        "  python -m ct_rate_pairs.prepare --out prepared --data-dir /data/CT-RATE --workers 32\n"
        "  sbatch --array 0-7 ... python -m ct_rate_pairs.prepare --out /shared/prepared \\\n"
        "      --shard-index $SLURM_ARRAY_TASK_ID --num-shards 8                         # one job a machine",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--out", required=True, metavar="DIR", help="folder of the prepared copy")
    add("--data-dir", metavar="SRC", help="CT-RATE tree or phantom cohort (default: CT-RATE on the Hub)")
    add_settings(parser)
    add("--shard-size", type=int, default=200, metavar="N", help="scans a file (default: %(default)s)")
    add("--workers", type=int, metavar="W", help="processes (default: one a core)")
    add("--on-error", choices=("skip", "raise"), default="skip", help="at a bad volume (default: %(default)s)")
    add("--shard-index", type=int, default=0, metavar="I", help="this job, of --num-shards (default: %(default)s)")
    add("--num-shards", type=int, default=1, metavar="N", help="jobs that share the work (default: %(default)s)")
    args = vars(parser.parse_args())

    out, data_dir = args.pop("out"), args.pop("data_dir")
    try:
        source = open_source(data_dir, **take_settings(args))
        if isinstance(source, PreparedSource):
            parser.error(f"{data_dir} is a prepared copy already: give the tree that it was prepared from.")
        summary = prepare(source, out, **args)
    except (ValueError, OSError) as error:
        sys.exit(f"error: {error}")
    print(
        f"{out}: {summary['rows']} scans, {summary['bytes'] / 1e9:.2f} GB "
        f"({summary['bytes'] / 1e6 / max(1, summary['rows']):.2f} MB a scan), {summary['bad']} bad volumes"
        + (f" (see {out}/{BAD_VOLUMES})" if summary["bad"] else "")
        + (f"; {summary['missing']} files are other jobs' or still to be written" if summary["missing"] else "")
    )


if __name__ == "__main__":
    main()
