"""
Write the paper's table 1 for three runs, as Markdown and CSV:

    ct-rate-pairs table runs/origin runs/gauss runs/heter/evaluation --output_file runs/table1.md
"""

from collections.abc import Sequence
from pathlib import Path

from ct_rate_pairs.command_line import CommandParser, run
from ct_rate_pairs.json_files import read_json
from ct_rate_pairs.json_schemas.evaluation import Results
from ct_rate_pairs.near_names import no_such


def main(argv: Sequence[str]) -> None:
    """The command `ct-rate-pairs table`."""
    parser = CommandParser("ct-rate-pairs table", description=__doc__, old_names={"out": "output_file"})
    for name in ("origin", "gauss", "heter"):
        parser.add_argument(name, type=Path, help=f"folder of the run {name}, or its results.json")
    parser.add_argument(
        "--output_file",
        type=Path,
        default=Path("table1.md"),
        help="FILE.md; FILE.csv is written beside it (default: %(default)s)",
    )
    args = parser.parse_args(argv)

    from ct_rate_pairs.eval.tables import paper_table, write_csv, write_markdown
    from ct_rate_pairs.trainer.generation import cut_warning

    files = {"Origin": args.origin, "Ours-Gauss": args.gauss, "Ours-Heter": args.heter}
    files = {name: path / "results.json" if path.is_dir() else path for name, path in files.items()}
    for path in files.values():
        if not path.is_file():
            raise FileNotFoundError(f"{no_such('file', path)} Give the folder of a finished run, or its results.json.")
    runs = {name: read_json(path, Results) for name, path in files.items()}
    lines = paper_table(runs)
    args.output_file.parent.mkdir(parents=True, exist_ok=True)
    write_markdown(lines, args.output_file.with_suffix(".md"))
    write_csv(lines, args.output_file.with_suffix(".csv"))
    print(args.output_file.with_suffix(".md").read_text())
    for name, results in runs.items():
        if warning := cut_warning(results["model"].get("cut", 0), results["model"]["n"]):
            print(f"{name}: {warning}")


if __name__ == "__main__":
    run(main)
