"""The command `ct-rate-pairs`, also `python -m ct_rate_pairs`: a door to all others."""

import sys
from collections.abc import Sequence
from importlib import import_module

from .command_line import CommandParser, run


# Name of a command: the module that it is, and what it does.
COMMANDS = {
    "phantom": ("ct_rate_pairs.phantom.__main__", "write a synthetic cohort in CT-RATE's tree"),
    "show": ("ct_rate_pairs.show", "draw examples as training sees them"),
    "partners": ("ct_rate_pairs.partners.__main__", "tell which volumes serve as negatives, and how often"),
    "prepare": ("ct_rate_pairs.prepare.__main__", "keep the slices of every scan, so that an epoch reads megabytes"),
    "train": ("ct_rate_pairs.recipes.sft_neg", "fine-tune a vision-language model, measure it, write its card"),
    "train-matcher": ("ct_rate_pairs.recipes.train_matcher", "train a dual encoder, the light baseline"),
    "evaluate": ("ct_rate_pairs.recipes.evaluate_reports", "write reports with a model and measure them"),
    "evaluate-task": ("ct_rate_pairs.recipes.evaluate_task", "measure answers, choices, or errors found"),
    "compare": ("ct_rate_pairs.recipes.compare_runs", "set two runs side by side, with intervals and p"),
    "table": ("ct_rate_pairs.recipes.table1", "set three runs side by side as the paper's table 1"),
    "study": ("ct_rate_pairs.recipes.study", "train and measure every row of a study"),
    "report": ("ct_rate_pairs.hub.report", "write the report of a scan with a released model"),
    "publish": ("ct_rate_pairs.hub.publish", "publish a finished run on the Hub"),
    "publish-metric": ("ct_rate_pairs.hub.publish_metric", "publish a metric as a Space"),
    "negative-index": ("ct_rate_pairs.hub.negative_index", "publish which volume is the negative of which"),
}


def main(argv: Sequence[str] | None = None) -> int | None:
    """Runs the command that the first argument names with the others."""
    width = max(map(len, COMMANDS))
    listed = "\n".join(f"  {name:<{width}}  {told}" for name, (_, told) in COMMANDS.items())
    parser = CommandParser(
        "ct-rate-pairs",
        description=f"Chest-CT report generation that looks at the scan.\n\ncommands:\n{listed}",
        epilog="`ct-rate-pairs COMMAND --help` lists the options of a command. More processes or machines:\n"
        "`accelerate launch -m ct_rate_pairs.recipes.sft_neg` is the command `train` on each of them.",
    )
    parser.add_argument("command", choices=COMMANDS, metavar="COMMAND ...", help="one of the above, with its options")
    argv = list(sys.argv[1:] if argv is None else argv) or ["--help"]
    name = parser.parse_args(argv[:1]).command
    return import_module(COMMANDS[name][0]).main(argv[1:])


def console() -> None:
    """The console script."""
    run(main)


if __name__ == "__main__":
    console()
