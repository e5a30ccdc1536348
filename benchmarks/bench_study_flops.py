"""
Operations per training row of each row of a study, in total and beside the table's first row:

    python benchmarks/bench_study_flops.py --table findings

Each row trains `STEPS` steps with its own options and schedule, so the negative comes as late as in the study, under
torch's counter of floating-point operations. The counter sees all matrix products and convolutions: forward, backward
and Muon. Attention runs as matrix products over the whole square of tokens. A row that starts from the model of
another run is counted on a new model, of the same size. The table and JSON go to `--output_dir`.
"""

import argparse
import json
import tempfile
from pathlib import Path

import yaml
from torch.utils.flop_counter import FlopCounterMode

from ct_rate_pairs.eval.study.plan import Run, prepare_cohorts, read_study
from ct_rate_pairs.eval.tables import format_markdown, write_markdown
from ct_rate_pairs.recipes import sft_neg
from ct_rate_pairs.recipes.recipe_parser import find_config
from ct_rate_pairs.recipes.starting_model import load_model
from ct_rate_pairs.recipes.training_arguments import MADE_ANEW


STEPS = 40


def count(run: Run, study: Path, out: Path) -> float:
    """Operations per row of this run's training."""
    settings = run.settings | run.own_paths(study)
    settings |= {"output_dir": str(out), "max_steps": STEPS, "save_strategy": "no"}
    if settings["model_name_or_path"] not in MADE_ANEW:
        settings["model_name_or_path"] = "tiny"
    (out / "config.yaml").write_text(yaml.safe_dump(settings))
    recipe_args, args, model_args = sft_neg.parse(["--config", str(out / "config.yaml")])
    options = recipe_args.dataset_options() | {"seed": args.seed}
    indexes = sft_neg.load_tasks(recipe_args, args, options)
    model, processor = load_model(recipe_args, model_args, indexes, args.seed, {})
    model.set_attn_implementation("eager")  # torch's counter does not know the attention of CPUs
    trainer = sft_neg.make_trainer(recipe_args, args, model_args, model, processor, indexes, options)
    with FlopCounterMode(display=False) as counter:
        trainer.train()
    return counter.get_total_flops() / (STEPS * args.train_batch_size)


def main(config: Path, table: str, study: Path, out: Path) -> None:
    """Counts the operations of all rows of a table."""
    plan = read_study(config, [table])
    prepare_cohorts(plan, study)
    counted = {}
    for row in plan.tables[table].rows:
        with tempfile.TemporaryDirectory() as folder:
            counted[row.title] = count(row.runs[0], study, Path(folder))
        print(f"{row.title}: {counted[row.title] / 1e9:.2f}", flush=True)
    first = next(iter(counted.values()))
    ratios = {title: flops / first for title, flops in counted.items()}
    lines = [["", "operations per training row (1e9)", "ratio"]]
    lines += [[title, f"{flops / 1e9:.2f}", f"{ratios[title]:.2f}"] for title, flops in counted.items()]
    out.mkdir(parents=True, exist_ok=True)
    (out / f"{table}.json").write_text(json.dumps({"operations_per_row": counted, "ratio": ratios}, indent=2))
    write_markdown(lines, out / f"{table}.md")
    print(format_markdown(lines))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", default="study", help="the study (default: %(default)s)")
    parser.add_argument("--table", default="findings", help="its table (default: %(default)s)")
    parser.add_argument("--study_dir", type=Path, default=Path("runs/study"), help="its folder (default: %(default)s)")
    parser.add_argument("--output_dir", type=Path, default=Path("runs/bench_study_flops"), help="default: %(default)s")
    given = parser.parse_args()
    main(find_config(given.config), given.table, given.study_dir.resolve(), given.output_dir)
