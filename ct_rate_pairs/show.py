"""The command `ct-rate-pairs show DIR` (also `python -m ct_rate_pairs.show DIR`), which draws a sheet of examples."""

from collections.abc import Sequence
from pathlib import Path

from ct_rate_pairs.volumes.settings import VolumeSettings, volume_options

from .command_line import CommandParser, add_data_dir, add_options, run
from .config import NEGATIVES
from .number_ranges import COUNT


def main(argv: Sequence[str]) -> None:
    """Runs the command with its arguments."""
    parser = CommandParser(
        "ct-rate-pairs show",
        old_names={"out": "output_file"},
        description="Draw examples as training sees them: the slices of a volume (superior first, the patient's\n"
        "right on the left), its negative below them, and its labels, prompt and report beside them. Look at\n"
        "some examples before you train.",
        epilog="example: ct-rate-pairs show runs/phantom_cohort --spacing 4.5 4.5 6.5",
    )
    add = parser.add_argument
    add_data_dir(parser)
    add("--n", type=int, range=COUNT, default=4, help="number of examples (default: %(default)s)")
    add("--output_file", default="sheet.png", metavar="PNG", help="image file to write (default: %(default)s)")
    add("--split", choices=("train", "validation", "test"), default="train", help="(default: %(default)s)")
    add("--negative", choices=NEGATIVES, default="heter", help="kind of negative (default: %(default)s)")
    add("--masks", metavar="PATH", help="masks of findings (a table or a folder), which are outlined on the slices")
    add_options(parser, VolumeSettings)
    add("--seed", type=int, default=0, help="seed of the examples and of their negatives (default: %(default)s)")
    args = vars(parser.parse_args(argv))
    count, out, seed = args.pop("n"), Path(args.pop("output_file")), args["seed"]
    if out.suffix != ".png":
        parser.error("give an --output_file that ends in .png")

    from datasets import load_dataset

    from .example_sheet import draw_sheet
    from .random_streams import random_stream
    from .readers import reader_of
    from .whole_files import whole_file

    dataset = load_dataset("ct_rate_pairs", **volume_options(args), **args)
    chosen = random_stream(seed).permutation(len(dataset))[:count]
    rows = [dataset[int(i)] for i in chosen]
    out.parent.mkdir(parents=True, exist_ok=True)
    with whole_file(out) as part:
        draw_sheet(rows, reader_of(dataset)).savefig(part, format="png", dpi=110)
    print(f"{out}: {len(rows)} examples of {len(dataset)}")


if __name__ == "__main__":
    run(main)
