"""The command `ct-rate-pairs` (also `python -m ct_rate_pairs`), which runs every other command of the package."""

import sys
from collections.abc import Sequence
from importlib import import_module

from .command_line import CommandParser, run


# Name of each command -> its module, and what the command does.
COMMANDS = {
    "phantom": ("ct_rate_pairs.phantom.__main__", "write a synthetic cohort in CT-RATE's tree"),
    "join": (
        "ct_rate_pairs.joins.__main__",
        "make a table of questions from 3D-RAD, RadGenome or RAD-ChestCT",
    ),
    "check": ("ct_rate_pairs.check", "find what is wrong with a table of your own scans"),
    "show": ("ct_rate_pairs.show", "draw examples as training sees them"),
    "partners": ("ct_rate_pairs.partners.__main__", "show which volumes serve as negatives, and how often"),
    "prepare": ("ct_rate_pairs.prepare.__main__", "store the slices of every scan once, for fast epochs"),
    "plan": ("ct_rate_pairs.recipes.plan", "tell what a training on CT-RATE takes: hours, cores, memory, disk"),
    "train": ("ct_rate_pairs.recipes.sft_neg", "fine-tune a vision-language model, measure it, write its card"),
    "grpo": ("ct_rate_pairs.recipes.grpo", "reinforce a trained model by rewards on the reports that it writes"),
    "train-matcher": ("ct_rate_pairs.recipes.train_matcher", "train a dual encoder, the light baseline"),
    "evaluate": ("ct_rate_pairs.recipes.evaluate_reports", "write reports with a model and measure them"),
    "evaluate-task": ("ct_rate_pairs.recipes.evaluate_task", "measure a model's answers, choices, or found errors"),
    "evaluate-matcher": (
        "ct_rate_pairs.recipes.evaluate_matcher",
        "measure a dual encoder from its vectors, as those of CT-CLIP",
    ),
    "export": ("ct_rate_pairs.recipes.export", "write scans as other models read them: M3D, RadFM, CT-CLIP, ..."),
    "compare": ("ct_rate_pairs.recipes.compare_runs", "compare two runs, with intervals and p-values"),
    "table": (
        "ct_rate_pairs.recipes.table1",
        "set runs side by side: the paper's table 1, or any runs",
    ),
    "study": ("ct_rate_pairs.recipes.study", "train and measure every row of a study"),
    "report": ("ct_rate_pairs.hub.report", "write the report of a scan with a released model"),
    "ask": ("ct_rate_pairs.hub.ask", "ask a released model about a scan"),
    "app": ("ct_rate_pairs.hub.app.__main__", "open a page to report scans and ask about them with a released model"),
    "publish": ("ct_rate_pairs.hub.publish", "publish a finished run on the Hub"),
    "publish-metric": ("ct_rate_pairs.hub.publish_metric", "publish a metric as a Space"),
    "negative-index": ("ct_rate_pairs.hub.negative_index", "publish the negative of every volume, as a table"),
}


def main(argv: Sequence[str] | None = None) -> int | None:
    """Runs the command that the first argument names, with the remaining arguments."""
    width = max(map(len, COMMANDS))
    listed = "\n".join(f"  {name:<{width}}  {told}" for name, (_, told) in COMMANDS.items())
    parser = CommandParser(
        "ct-rate-pairs",
        description=f"Chest-CT report generation that looks at the scan.\n\ncommands:\n{listed}",
        epilog="`ct-rate-pairs COMMAND --help` lists the options of a command. To train on several processes or\n"
        "machines, replace `ct-rate-pairs train` by `accelerate launch -m ct_rate_pairs.recipes.sft_neg`.",
    )
    parser.add_argument("command", choices=COMMANDS, metavar="COMMAND ...", help="one of the above, with its options")
    argv = list(sys.argv[1:] if argv is None else argv) or ["--help"]
    name = parser.parse_args(argv[:1]).command
    return import_module(COMMANDS[name][0]).main(argv[1:])


def console() -> None:
    """The entry point of the console script `ct-rate-pairs`."""
    run(main)


if __name__ == "__main__":
    console()
