"""The command `ct-rate-pairs plan`, which tells what a training on CT-RATE will take, before anything is rented."""

import json
from collections.abc import Sequence
from pathlib import Path

from ct_rate_pairs.command_line import CommandParser, add_options, given_options, run
from ct_rate_pairs.trainer.plan.options import PlanOptions


DESCRIPTION = """\
Tell what a training on CT-RATE takes: operations of a row, cores that keep a GPU fed, hours of an epoch and what is
slowest, memory of a GPU, and disk. Nothing is read or downloaded, and no GPU is needed.

Computed: the operations are counted on the meta device, from the released configurations of Qwen2.5-VL. GPU seconds
are these operations over the peak of the GPU and the MFU that you expect (model FLOPs utilisation: without what
gradient checkpointing runs again). Weights, gradients and optimizer are counted; activations are estimated.
Measured: processor seconds of a row by store, and the size of a prepared row. Measure your own machine and copy with
`python benchmarks/bench_unit_costs.py --data_dir DIR`, and pass the file as --unit_costs.
Assumed, and yours to set: --mfu, --workers, --store_gb_s, --stream_mb_s, --volume_mb.

The ways of training, by --negative:
  none      stock supervised fine-tuning
  gauss     noise is the negative: nothing more is read, and everything is computed twice
  heter     another patient's volume is the negative: two volumes are read, and everything is computed twice
  mutual    the volumes of a batch are each other's negatives: no second read, and one pass of the vision tower.
            A GPU then takes 2 rows or more at once. With a sharded model, the tower runs twice, as for heter
The stores, by --store:
  fixed, original   CT-RATE's .nii.gz files on disk
  hub               the fixed files, downloaded for each row
  prepared          a prepared copy of slices, see `ct-rate-pairs prepare --help`. Copies of whole volumes (--form
                    preprocessed, preprocessed_numpy) are left out: what a row from these costs was not measured with
                    the others

A model that fits on one GPU is trained whole on each. Any other model is sharded over all GPUs, and trains volume and
negative jointly.

How to read the hours: beside them stands what is slowest. gpu: the GPUs are fed. workers: more workers (and cores) per
GPU, or a prepared copy. store, network: a faster store, or a prepared copy."""


def main(argv: Sequence[str]) -> None:
    """The command `ct-rate-pairs plan`."""
    parser = CommandParser(
        "ct-rate-pairs plan",
        description=DESCRIPTION,
        epilog="examples:\n  ct-rate-pairs plan\n  ct-rate-pairs plan --model 3B --gpus 8 --mfu 0.3 --store prepared "
        "--negative heter\n  ct-rate-pairs plan --tuning lora --gpu A100 --output_file plan.json",
    )
    add_options(parser, PlanOptions)
    parser.add_argument("--unit_costs", type=Path, metavar="FILE", help="Unit costs that you have measured.")
    parser.add_argument("--output_file", type=Path, metavar="FILE", help="Also write the plan to this JSON file.")
    arguments = vars(parser.parse_args(argv))
    given = given_options(arguments, PlanOptions)
    options = PlanOptions(**given)
    for name, reason in options.idle().items():
        if name in given:
            raise ValueError(f"--{name} has no effect here: {reason}. Leave it out, or change the other option.")

    from ct_rate_pairs.trainer.plan.overview import make_plan
    from ct_rate_pairs.trainer.plan.tables import format_plan
    from ct_rate_pairs.trainer.plan.unit_costs import SHIPPED, read_unit_costs
    from ct_rate_pairs.whole_files import write_whole

    plan = make_plan(options, read_unit_costs(arguments["unit_costs"] or SHIPPED))
    print(format_plan(plan))
    if arguments["output_file"]:
        arguments["output_file"].parent.mkdir(parents=True, exist_ok=True)
        write_whole(arguments["output_file"], json.dumps(plan, indent=2) + "\n")


if __name__ == "__main__":
    run(main)
