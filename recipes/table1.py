"""
The paper's table 1 from three runs, as Markdown and CSV:

    python recipes/table1.py runs/origin runs/gauss runs/heter/evaluation --out runs/table1
"""

import argparse
import json
from pathlib import Path

from ct_rate_pairs.eval.tables import paper_table, write_csv, write_markdown


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("origin", "gauss", "heter"):
        parser.add_argument(name, type=Path, help=f"folder of the run {name}, or its results.json")
    parser.add_argument("--out", type=Path, default=Path("table1"), help="OUT.md and OUT.csv (default: %(default)s)")
    args = parser.parse_args()
    files = {"Origin": args.origin, "Ours-Gauss": args.gauss, "Ours-Heter": args.heter}
    files = {name: path / "results.json" if path.is_dir() else path for name, path in files.items()}
    lines = paper_table({name: json.loads(path.read_text()) for name, path in files.items()})
    args.out.parent.mkdir(parents=True, exist_ok=True)
    write_markdown(lines, args.out.with_suffix(".md"))
    write_csv(lines, args.out.with_suffix(".csv"))
    print(args.out.with_suffix(".md").read_text())
