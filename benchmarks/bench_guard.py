"""
Measures how often the guard errs: `python benchmarks/bench_guard.py REPORTS.csv`, for a table with the column
`report_text`. `phantom-zh` in the place of the table stands for 800 Chinese reports of the phantom. What is said of
words below then holds for characters.

A tenth of the reports at a time is taken out. The other reports are the references. A report that was taken out then
stands for one that a model has written, as no model writes more like the references. It is no copy, so each refusal is
a false alarm. Chains of words from the references stand for models that learned less or more by heart. Then references
themselves are planted, changed as by accident.
"""

import argparse
import random
import re
import string
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from ct_rate_pairs.hub.guard import are_copies, is_copy, publishable_files
from ct_rate_pairs.hub.references import REFERENCES, STRETCH, WINDOW, References, keep_reference_hashes, letters_of
from ct_rate_pairs.phantom.cohort import REPORT_KEYS, plan_cohort
from ct_rate_pairs.phantom.reports import write_report
from ct_rate_pairs.phantom.scan import Scan
from ct_rate_pairs.random_streams import random_stream
from ct_rate_pairs.reports.readable import is_chinese
from ct_rate_pairs.reports.texts import write_completion


PARTS, FILE_SIZES = 10, (10, 50)
ROOT = Path(__file__).resolve().parents[1]
MB = 2**20


def sentences_of(report: str) -> list[str]:
    return [sentence for sentence in re.split(r"(?<=[.!?])\s+|(?<=。)", report) if sentence]


def words_of(report: str) -> list[str]:
    return list(report) if is_chinese(report) else report.split()


def joined(words: Sequence[str]) -> str:
    text = "".join(words)
    return text if is_chinese(text) else " ".join(words)


def replaced(report: str, rng: random.Random, share: float) -> str:
    """A report in which a share of the words is another one."""
    other = "未" if is_chinese(report) else "unclear"
    return joined([other if rng.random() < share else word for word in words_of(report)])


ACCIDENTS: dict[str, Callable[[str, random.Random], str]] = {
    "as it is": lambda report, _: report,
    "with a word more": lambda report, _: f"{report} Unchanged.",
    "in capitals, each word on a line": lambda report, _: "\n".join(words_of(report.upper())),
    "without its digits": lambda report, _: re.sub(r"\d", "", report),
    "after 3,000 other letters": lambda report, rng: "".join(rng.choices(string.ascii_lowercase, k=3000)) + report,
    "its first half": lambda report, _: report[: len(report) // 2],
    "its sentences in another order": lambda report, rng: " ".join(rng.sample(s := sentences_of(report), len(s))),
    "one word of 50 is another": lambda report, rng: replaced(report, rng, 0.02),
    "one word of 10 is another": lambda report, rng: replaced(report, rng, 0.1),
}


def chains(reports: Sequence[str], words: int, count: int) -> list[str]:
    """Reports whose every word follows, somewhere in `reports`, the `words` words before it."""
    rng, after = random.Random(0), defaultdict(list)
    for report in reports:
        text = [""] * words + words_of(report) + ["END"]
        for place in range(words, len(text)):
            after[tuple(text[place - words : place])].append(text[place])
    written = []
    for _ in range(count):
        text = [""] * words
        while text[-1] != "END" and len(text) < 1000:
            text.append(rng.choice(after[tuple(text[-words:])]))
        written.append(joined(text[words:-1]))
    return written


def phantom_reports() -> list[str]:
    """Chinese reports of the phantom, of which no volume is written."""
    reports = []
    for plan in plan_cohort(800):
        scan = Scan(0, (plan.split, plan.patient, plan.scan), plan.labels, [378.0, 252.0, 260.0])
        rng = random_stream(0, plan.split, plan.patient, plan.scan, REPORT_KEYS)
        reports.append(write_completion(*write_report(rng, scan.findings, "zh")))
    return reports


def print_rates(name: str, shared: list[tuple[int, int, int]]) -> None:
    """How many reports, and files of reports, are refused."""
    rng = random.Random(0)
    alone = sum(is_copy(*of_one) for of_one in shared)
    share = np.mean([rare / own for rare, own, _ in shared if own])
    line = f"{name:44} {share:6.3f} {alone:5} of {len(shared)} ({alone / len(shared):6.1%})"
    for size in FILE_SIZES:
        files = [rng.choices(shared, k=size) for _ in range(1000)]
        line += f" {sum(map(are_copies, files)) / 1000:9.1%}"
    print(line)


def main() -> None:
    """Prints the rates, the size of the hashes and the time."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("reports", type=Path, help="CSV with a column report_text")
    path = parser.parse_args().reports
    if path == Path("phantom-zh"):
        reports = phantom_reports()
    else:
        reports = pd.read_csv(path)["report_text"].dropna().tolist()
    chains_of = (3, 4, 5, 8) if is_chinese("".join(reports[:9])) else (2, 3, 4, 6)  # a word has 1.3 characters
    random.Random(0).shuffle(reports)

    print(f"{len(reports)} reports. Predictions: reports that are refused as copies, and files that are, as a whole")
    print(f"{'':44} shared        alone           {'':3} files of {FILE_SIZES[0]}, of {FILE_SIZES[1]}")
    innocent: dict[str, list] = defaultdict(list)
    planted: dict[str, list] = defaultdict(list)
    rng = random.Random(0)
    for part in range(PARTS):
        kept, out = [report for i, report in enumerate(reports) if i % PARTS != part], reports[part::PARTS]
        known = References.of([report] for report in kept)
        innocent["written by others, taken out"] += map(known.shared_with, out)
        for words in chains_of:
            written = chains(kept, words, len(reports) // PARTS)
            innocent[f"chains of {words} words of these references"] += map(known.shared_with, written)
            other = References.of([report] for report in out)
            innocent[f"chains of {words} words of other reports"] += map(other.shared_with, written)
        every = References.of([report] for report in reports)
        for name, change in ACCIDENTS.items():
            planted[name] += [every.shared_with(change(report, rng)) for report in out]
    for name, shared in innocent.items():
        print_rates(f"no copies: {name}", shared)
    for name, shared in planted.items():
        print_rates(f"copies: {name}", shared)

    pages = [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("hub/templates/*")]
    quoted = [page.name for page in pages if every.quoted_in(page.read_text("utf-8"))]
    print(
        f"\nOther files. Pages and templates of this repository that quote a reference: {len(quoted)} of {len(pages)}"
    )
    lone = {sentence for report in reports for sentence in sentences_of(report)}
    lengths = ((0, STRETCH), (STRETCH, STRETCH + WINDOW - 1), (STRETCH + WINDOW - 1, 10**6))
    for least, most in lengths:
        some = [sentence for sentence in lone if least <= len(letters_of(sentence)) < most]
        found = sum(map(every.quoted_in, some))
        print(f"Lone sentences of {least} to {most - 1} letters that are found: {found} of {len(some)}")

    stock, rng = [sentences_of(report) for report in reports], random.Random(0)
    lone = [sentence for sentences in stock for sentence in sentences]
    many = [" ".join(rng.choices(lone, k=len(rng.choice(stock)))) for _ in range(24_000)]
    with tempfile.TemporaryDirectory() as name:
        folder, start = Path(name), time.process_time()
        keep_reference_hashes(folder, many)
        seconds = time.process_time() - start
        size = (folder / REFERENCES).stat().st_size / MB
        print(
            f"\nHashes of {len(many)} reports made of these sentences: {size:.1f} MB, in {seconds:.1f} s of one core"
        )
        words = sorted({word for page in pages for word in re.findall(r"[a-z]+", page.read_text("utf-8"))})
        page = " ".join(random.Random(0).choices(words, k=200_000))
        for megabytes in (25, 50):
            (folder / "README.md").write_text((page * (megabytes * MB // len(page) + 1))[: megabytes * MB])
            start = time.process_time()
            assert publishable_files(folder) == ["README.md"]
            print(f"A card of {megabytes} MB is searched in {time.process_time() - start:.1f} s of one core")


if __name__ == "__main__":
    main()
