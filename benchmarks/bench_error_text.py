"""
What the words alone tell of `task="errors"` on real reports: `python benchmarks/bench_error_text.py REPORTS.csv`.

The file is CT-RATE's or any other with a column `report_text`. One half of the reports is what TF-IDF and logistic
regression are fitted to, the other is asked about. Printed are how many reports can be asked about, and how well the
text-only baseline finds the wrong statement; no scan is read.
"""

import argparse

import pandas as pd

from ct_rate_pairs.eval.tables import format_markdown
from ct_rate_pairs.eval.tasks.errors import detection_scores, detection_table, flip_reports
from ct_rate_pairs.eval.tasks.text_only import score_statements


SEEDS = 6  # of the errors that the baseline is fitted to


def main(path: str) -> None:
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
