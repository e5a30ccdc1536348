"""The options of the commands that load a released model, and the model that they choose."""

from argparse import Namespace

from ct_rate_pairs.command_line import CommandParser


def add_model_options(parser: CommandParser) -> None:
    """Adds the options that choose a model, and how its weights are loaded."""
    add = parser.add_argument
    add("--model_name_or_path", required=True, metavar="MODEL", help="name on the Hub, or folder of a trained model")
    add("--model_revision", metavar="REVISION", help="branch, tag or commit on the Hub")
    add("--device", help="such as cuda:1 or cpu (default: an accelerator if there is one)")
    add("--dtype", default="auto", help="data type of the weights, such as bfloat16 (default: as saved)")
    add("--quantization", choices=("4bit", "8bit"), help="quantize the weights, for a small memory (extra qlora)")


def find_model(args: Namespace) -> None:
    """
    Fixes `args.model_revision` to a commit, so that all files are of one. A missing model is told here, before torch
    is imported.
    """
    from ct_rate_pairs.trainer.hub_files import commit_of

    args.model_revision = commit_of(args.model_name_or_path, args.model_revision) or args.model_revision


def load_chosen_model(args: Namespace):
    """The [`~ct_rate_pairs.hub.reporting.reporter.Reporter`] of the model that the options choose."""
    from .reporting.load import load_reporter

    return load_reporter(
        args.model_name_or_path, args.model_revision, args.device, args.dtype, quantization=args.quantization
    )
