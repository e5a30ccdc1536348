"""
Set runs side by side, as Markdown and CSV.

    ct-rate-pairs table runs/origin runs/gauss runs/heter/evaluation --output_file runs/table1.md
    ct-rate-pairs table ours=runs/heter m3d=runs/m3d ct-clip=latents/evaluation --output_file runs/models.md

Three runs without names are the paper's: Origin, Ours-Gauss and Ours-Heter, and the table is its table 1. Runs with
names may be of any kind and number: models, files of reports, endpoints, and dual encoders (train-matcher,
evaluate-matcher). All must have been measured on the same scans.
"""

from collections.abc import Sequence
from pathlib import Path

from ct_rate_pairs.command_line import CommandParser, run
from ct_rate_pairs.json_files import check_json, read_json
from ct_rate_pairs.json_schemas.evaluation import MatcherResults, Results
from ct_rate_pairs.near_names import no_such


PAPER = ("Origin", "Ours-Gauss", "Ours-Heter")


def main(argv: Sequence[str]) -> None:
    """The command `ct-rate-pairs table`."""
    parser = CommandParser("ct-rate-pairs table", description=__doc__.strip(), old_names={"out": "output_file"})
    parser.add_argument("runs", nargs="+", metavar="[NAME=]RUN", help="folder of a run, or its results.json")
    parser.add_argument(
        "--output_file",
        type=Path,
        default=Path("table1.md"),
        help="FILE.md; FILE.csv is written beside it (default: %(default)s)",
    )
    args = parser.parse_args(argv)
    pairs = [text.partition("=") for text in args.runs]
    is_paper = not any(equals for _, equals, _ in pairs)
    if is_paper and len(pairs) != len(PAPER):
        parser.error("give the paper's three runs, or NAME=RUN for each run.")
    if not is_paper and not all(name and place for name, _, place in pairs):
        parser.error("give all runs as NAME=RUN, or the paper's three without names.")
    places = dict(zip(PAPER, args.runs, strict=True)) if is_paper else {name: place for name, _, place in pairs}
    if len(places) < len(pairs):
        parser.error("two runs have the same name.")

    from ct_rate_pairs.eval.model_table import model_table
    from ct_rate_pairs.eval.tables import paper_table, write_csv, write_markdown
    from ct_rate_pairs.trainer.generation import cut_warning

    # A missing run is told before any is read.
    files = {name: find_results(Path(place)) for name, place in places.items()}
    runs = {name: read_results(file) for name, file in files.items()}
    lines = paper_table(runs) if is_paper else model_table(runs)
    args.output_file.parent.mkdir(parents=True, exist_ok=True)
    write_markdown(lines, args.output_file.with_suffix(".md"))
    write_csv(lines, args.output_file.with_suffix(".csv"))
    print(args.output_file.with_suffix(".md").read_text())
    for name, results in runs.items():
        model = results.get("model", {})
        if model and (warning := cut_warning(model.get("cut", 0), model["n"])):
            print(f"{name}: {warning}")


def find_results(path: Path) -> Path:
    """The results of a run: in its folder, in the subfolder `evaluation` of it, or the file itself."""
    folders = [path / "results.json", path / "evaluation" / "results.json"] if path.is_dir() else [path]
    file = next((file for file in folders if file.is_file()), None)
    if file is None:
        raise FileNotFoundError(
            f"{no_such('file', folders[0])} Give the folder of a finished run, or its results.json."
        )
    return file


def read_results(file: Path) -> dict:
    """The results in a file, of a model of reports or of a dual encoder."""
    content = read_json(file)
    is_matcher = isinstance(content, dict) and "retrieval" in content
    return check_json(content, MatcherResults if is_matcher else Results, file)


if __name__ == "__main__":
    run(main)
