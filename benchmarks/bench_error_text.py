"""
How well the text alone solves `task="errors"` on real reports: `python benchmarks/bench_error_text.py REPORTS.csv`.

The file is CT-RATE's, or any other CSV with a column `report_text`. The text-only baseline (TF-IDF and logistic
regression) is fitted to one half of the reports, and asked about the other half. The benchmark prints how many reports
can be asked about, and how well the baseline finds the wrong statement. No scan is read.
"""

import argparse

import pandas as pd

from ct_rate_pairs.eval.tables import format_markdown
from ct_rate_pairs.eval.tasks.errors import detection_scores, detection_table, flip_reports
from ct_rate_pairs.eval.tasks.text_only import score_statements


SEEDS = 6  # the baseline is fitted to the errors of this number of seeds


def main(path: str) -> None:
    """Fits and measures the baseline, and prints its results."""
    reports = pd.read_csv(path)["report_text"].tolist()
    names, half = [f"train_{number}_a_1.nii.gz" for number in range(len(reports))], len(reports) // 2
    fitted = [flipped for seed in range(SEEDS) for flipped in flip_reports(names[:half], reports[:half], seed)[1]]
    kept, asked = flip_reports(names[half:], reports[half:])
    options = [report.options for report in asked]
    scores = score_statements([report.options for report in fitted], [report.wrong for report in fitted], options)
    wrong, kinds = ([getattr(report, name) for report in asked] for name in ("wrong", "kind"))
    volumes = [names[half + place] for place in kept]
    print(f"{len(kept)} of {len(reports) - half} reports have two statements to choose from")
    print(
        format_markdown(detection_table(detection_scores({"text_only": scores}, options, wrong, kinds, volumes, 0.95)))
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("reports", help="CSV with the column `report_text`")
    main(parser.parse_args().reports)
