"""
Write scans as another model's own preprocessing has them, to run that model with its own code.

    ct-rate-pairs export --for m3d --data_dir /path/to/CT-RATE --output_dir exports/m3d
    ct-rate-pairs export --for ct-clip --data_dir runs/phantom_cohort --output_dir exports/ct-clip

Each scan becomes one array. `manifest.json` tells its shape, spacing, window, axes and prompt, and where each number
comes from; beside it are the lists that the model's scripts read. An interrupted export goes on with the same command.
A scan that cannot be read is listed in the manifest, and the others are written.

`ct-rate-pairs evaluate --predictions FILE --made_by NAME@COMMIT` measures the reports that the model writes.
"""

from collections.abc import Sequence

from ct_rate_pairs.command_line import CommandParser, run
from ct_rate_pairs.export import FORMATS
from ct_rate_pairs.volumes.settings import FILES, RECONSTRUCTIONS


def main(argv: Sequence[str]) -> None:
    """The command `ct-rate-pairs export`."""
    parser = CommandParser("ct-rate-pairs export", description=__doc__.strip())
    add = parser.add_argument
    add("--for", required=True, dest="format", choices=FORMATS, help="the model")
    add("--output_dir", required=True, metavar="DIR", help="folder to write to")
    add("--data_dir", metavar="DIR", help="copy of CT-RATE, phantom cohort or table of own scans (default: the Hub)")
    add("--split", choices=("test", "validation", "train"), default="test", help="scans to write")
    add("--max_eval_samples", type=int, default=0, metavar="N", help="the first N scans of the split; 0: all")
    add("--files", choices=FILES, default="fixed", help="HU from the headers, or from the metadata table")
    add("--reconstructions", choices=RECONSTRUCTIONS, default="first", help="reconstructions of a scan to write")
    args = parser.parse_args(argv)

    from ct_rate_pairs.config import CTRatePairsConfig
    from ct_rate_pairs.export.write import MANIFEST, export_scans, gigabytes
    from ct_rate_pairs.sources import open_source
    from ct_rate_pairs.sources.prepared import PreparedSource
    from ct_rate_pairs.splits import read_tables

    source = open_source(args.data_dir, files=args.files, reconstructions=args.reconstructions)
    if isinstance(source, PreparedSource):
        parser.error(f"{args.data_dir} is a prepared copy, which lacks the whole volumes: give what it is a copy of.")
    scans = read_tables(source, CTRatePairsConfig(on_error="skip"))[args.split]
    scans = scans.iloc[: args.max_eval_samples or len(scans)]
    print(f"{len(scans)} scans of the split {args.split}: at most {gigabytes(args.format, len(scans)):.1f} GB.")
    manifest = export_scans(source, scans, args.output_dir, name=args.format, split=args.split)
    print(f"{args.output_dir}: {len(manifest['scans'])} scans for {manifest['model']}, see {MANIFEST}.")
    for told in manifest["not_stated"]:
        print(f"The scripts of {manifest['model']} do not state everything. {told}")
    if failed := manifest["failed"]:
        print(f"{len(failed)} scans could not be read, see `failed` in {MANIFEST}. The first: {next(iter(failed))}.")


if __name__ == "__main__":
    run(main)
