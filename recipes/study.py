"""
Does the negative constraint make the model look? Trains and evaluates every row of a study on one phantom cohort:

    python recipes/study.py --config recipes/configs/study_small.yaml
    python recipes/study.py --config recipes/configs/study.yaml --jobs 2 --only table2 shortcut

Each run is `recipes/sft_neg.py` in a process of its own, with its settings, log and results under OUT/runs/NAME. The
same command goes on after any interruption: finished runs are kept, failed ones are tried again. Tables and figures
are made from the runs' folders, at any time also by `--tables-only`. `docs/study.md` says what is asked and how to
read them.
"""

import argparse
import os
import platform
import shutil
import subprocess
import sys
import time
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import datetime
from pathlib import Path

import yaml

from ct_rate_pairs.eval.study.figures import plot_study
from ct_rate_pairs.eval.study.plan import RUNS, Run, Study, prepare_cohorts, read_study, run_folder
from ct_rate_pairs.eval.study.results import is_finished, read_record, summarise
from ct_rate_pairs.eval.study.tables import write_tables


RECIPES = Path(__file__).resolve().parent


def train(run: Run, study: Study, out: Path, deadline: float, first: Future | None) -> None:
    """Trains and evaluates one run, unless it is there, and leaves its record. It waits for `first`, if it goes on."""
    if first:
        first.result()
    folder = run_folder(out, run)
    if is_finished(folder, run, study.cohort):
        print(f"{run.name}: kept", flush=True)
        return
    if run.first_run and read_record(out / RUNS / run.first_run).get("state") != "finished":
        print(f"{run.name}: not run, {run.first_run} is not finished", flush=True)
        return
    if time.monotonic() > deadline:
        print(f"{run.name}: not run, the study's hours are over", flush=True)
        return
    make_room(folder)
    config = folder / "config.yaml"
    config.write_text(yaml.safe_dump(run.settings | run.own_paths(out), sort_keys=False))
    begun = {"commit": commit(), "started": datetime.now().astimezone().isoformat(timespec="seconds")}
    start = time.monotonic()
    log = folder / "log.txt"
    with open(log, "w") as stream:
        process = subprocess.Popen(
            [sys.executable, str(RECIPES / "sft_neg.py"), "--config", str(config)],
            stdout=stream,
            stderr=subprocess.STDOUT,
            # More threads than cores only wait for each other.
            env=os.environ | {"OMP_NUM_THREADS": "1"},
        )
        # Alone tells the peak memory of this child from that of the others.
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    record = {
        "state": "finished" if process.returncode == 0 else "failed",
        "minutes": (time.monotonic() - start) / 60,
        "cpu_minutes": (usage.ru_utime + usage.ru_stime) / 60,
        "peak_gib": usage.ru_maxrss / 2**20,  # of its largest process
        **begun,
        "machine": f"{platform.machine()}, {os.cpu_count()} CPU cores",
        "cohort": study.cohort,
        "settings": run.settings,
    }
    if process.returncode == 0:
        keep_losses(folder)
    else:
        lines = log.read_text(errors="replace").replace("\r", "\n").strip().splitlines() or ["no output"]
        record["error"] = f"exit {process.returncode}: {lines[-1][:200]} (runs/{run.name}/log.txt)"
    (folder / "run.yaml").write_text(yaml.safe_dump(record, sort_keys=False))
    told = record.get("error", f"{record['peak_gib']:.1f} GiB")
    print(f"{run.name}: {record['state']}, {record['minutes']:.1f} min, {told}", flush=True)


def make_room(folder: Path) -> None:
    """An empty folder. A finished run that was there, of other settings or another cohort, is put aside."""
    if read_record(folder).get("state") == "finished":
        folder.rename(folder.with_name(f"{folder.name}_until-{datetime.now():%Y%m%d-%H%M%S}"))
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)


def keep_losses(folder: Path) -> None:
    """Of the last checkpoint only the losses: its weights are the model's, which is saved beside it."""
    (checkpoint,) = folder.glob("checkpoint-*")
    shutil.move(checkpoint / "trainer_state.json", folder / "trainer_state.json")
    shutil.rmtree(checkpoint)


def commit() -> str:
    """The checkout's commit; `+` after it where files differ from it."""
    told = subprocess.run(
        ["git", "describe", "--always", "--dirty=+", "--abbrev=12"],
        cwd=RECIPES,
        capture_output=True,
        text=True,
        check=False,
    )
    return told.stdout.strip() or "no git checkout"


def main(args: argparse.Namespace) -> None:
    study = read_study(args.config, args.only)
    out = (args.out or Path("runs") / args.config.stem).resolve()
    if not args.tables_only:
        prepare_cohorts(study, out)
        hours = next(hours for hours in (args.hours, study.hours, float("inf")) if hours is not None)
        deadline = time.monotonic() + 3600 * hours
        with ThreadPoolExecutor(args.jobs) as pool:
            runs: dict[str, Future] = {}
            for run in study.runs:
                runs[run.name] = pool.submit(train, run, study, out, deadline, runs.get(run.first_run))
        for future in runs.values():
            future.result()
    summary = summarise(study, out)
    write_tables(summary, out / "tables")
    plot_study(study, summary, out, out / "figures")
    for name in summary:
        print((out / "tables" / f"{name}.md").read_text())


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", type=Path, required=True, help="the study's YAML")
    parser.add_argument("--out", type=Path, help="folder of the study (default: runs/NAME of the config)")
    parser.add_argument("--jobs", type=int, default=2, help="runs at a time, a core each (default: %(default)s)")
    parser.add_argument("--only", nargs="+", default=[], metavar="TABLE", help="these tables of the config")
    parser.add_argument("--hours", type=float, help="begin no run after that (default: the config's `hours`, or none)")
    parser.add_argument("--tables-only", action="store_true", help="train nothing, tables and figures alone")
    main(parser.parse_args())
