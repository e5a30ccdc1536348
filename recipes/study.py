"""
Does the negative constraint make the model look? Train and evaluate every row of a study on one phantom cohort:

    ct-rate-pairs study --config study_small
    ct-rate-pairs study --config study --jobs 2 --only table2 shortcut

Each run is `ct-rate-pairs train`, or with rewards `ct-rate-pairs grpo`, in its own process. Its settings, log and
results are in DIR/runs/NAME. After an interruption, the same command continues: finished runs are kept, and failed
runs are tried again. Tables are made from the records of the runs (NAME/run.yaml), and figures from their folders;
`--tables_only` makes them at any time.
"""

import os
import platform
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from datetime import datetime
from pathlib import Path
from threading import Event, Semaphore

import yaml

from ct_rate_pairs.command_line import CommandParser, run
from ct_rate_pairs.folder_lock import folder_lock
from ct_rate_pairs.number_ranges import COUNT
from ct_rate_pairs.processes import ENDS_WITH
from ct_rate_pairs.whole_files import write_whole


RECIPES = Path(__file__).resolve().parent


def train_in_turn(run, study, out: Path, deadline: float, first: Future | None, slots: Semaphore, stop: Event) -> None:
    """Waits for the run `first` and then for one of the `slots`, and trains a run; not if `stop` is set by then."""
    if first:
        first.result()
    with slots:
        if not stop.is_set():
            train(run, study, out, deadline, stop)


def train(run, study, out: Path, deadline: float, stop: Event) -> None:
    """
    Trains and evaluates one run, unless it is finished, and writes its record. Stops the training if `stop` is set.
    """
    from ct_rate_pairs.eval.study.plan import RUNS, run_folder
    from ct_rate_pairs.eval.study.results import is_finished, read_numbers, read_record

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
    with folder_lock(folder, "ct-rate-pairs study"):  # of a training that was started by hand
        pass
    make_room(folder)
    config = folder / "config.yaml"
    write_whole(config, yaml.safe_dump(run.settings | run.own_paths(out), sort_keys=False))
    begun = {"commit": commit(), "started": datetime.now().astimezone().isoformat(timespec="seconds")}
    start = time.monotonic()
    log = folder / "log.txt"
    with open(log, "w") as stream:
        process = subprocess.Popen(
            [sys.executable, "-m", f"ct_rate_pairs.recipes.{run.recipe}", "--config", str(config)],
            stdout=stream,
            stderr=subprocess.STDOUT,
            # Runs share the cores, and more threads than cores only slow all of them down.
            env=os.environ | {"OMP_NUM_THREADS": "1", ENDS_WITH: str(os.getpid())},
        )
        usage = wait_for(process, stop)
    if stop.is_set():
        print(f"{run.name}: stopped", flush=True)
        return
    record = {
        "state": "finished" if process.returncode == 0 else "failed",
        "minutes": (time.monotonic() - start) / 60,
        "cpu_minutes": (usage.ru_utime + usage.ru_stime) / 60,
        "peak_gib": usage.ru_maxrss / 2**20,  # of the largest process of the run
        **begun,
        "machine": f"{platform.machine()}, {os.cpu_count()} CPU cores",
        "cohort": study.cohort,
        "settings": run.settings,
    }
    if process.returncode == 0:
        keep_losses(folder)
        record |= read_numbers(folder)
    else:
        lines = log.read_text(errors="replace").replace("\r", "\n").strip().splitlines() or ["no output"]
        record["error"] = f"exit {process.returncode}: {lines[-1][:200]} (runs/{run.name}/log.txt)"
    if (folder / "run.yaml").is_file():  # which the training has written: all its options, and not just those given
        (folder / "run.yaml").replace(config)
    write_whole(folder / "run.yaml", yaml.safe_dump(record, sort_keys=False))
    told = record.get("error", f"{record['peak_gib']:.1f} GiB")
    print(f"{run.name}: {record['state']}, {record['minutes']:.1f} min, {told}", flush=True)


def wait_for(process: subprocess.Popen, stop: Event):
    """
    Waits until a training ends, and returns its use of the machine. If `stop` is set, the training is stopped, and
    killed if it does not end within 10 seconds.
    """
    signals = iter([signal.SIGTERM, signal.SIGKILL])
    patience = 0.0
    while True:
        # `os.wait4` gives the peak memory of this child alone.
        pid, status, usage = os.wait4(process.pid, os.WNOHANG)
        if pid:
            process.returncode = os.waitstatus_to_exitcode(status)
            return usage
        if not stop.wait(0.2):
            continue
        if time.monotonic() > patience and (number := next(signals, None)):
            os.kill(process.pid, number)  # `send_signal` would take the status of the child away
            patience = time.monotonic() + 10
        time.sleep(0.1)


def make_room(folder: Path) -> None:
    """Makes an empty folder. A finished run in it, with other settings or another cohort, is kept under a new name."""
    from ct_rate_pairs.eval.study.results import read_record

    if read_record(folder).get("state") == "finished":
        folder.rename(folder.with_name(f"{folder.name}_until-{datetime.now():%Y%m%d-%H%M%S}"))
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)


def keep_losses(folder: Path) -> None:
    """Keeps only the losses of the last checkpoint. Its weights are those of the model, which is saved already."""
    (checkpoint,) = folder.glob("checkpoint-*")
    shutil.move(checkpoint / "trainer_state.json", folder / "trainer_state.json")
    shutil.rmtree(checkpoint)


def train_all(study, out: Path, deadline: float, jobs: int) -> None:
    """Trains all runs, `jobs` at a time. If the study is stopped, its trainings are stopped, too."""
    stop, slots, runs = Event(), Semaphore(jobs), {}
    with ThreadPoolExecutor(
        len(study.runs)
    ) as pool:  # a run that waits for its first run must leave its slot to others
        for one in study.runs:
            before = runs.get(one.first_run)
            runs[one.name] = pool.submit(train_in_turn, one, study, out, deadline, before, slots, stop)
        try:
            wait(runs.values())
        except BaseException:
            stop.set()
            raise
    for future in runs.values():
        future.result()


def commit() -> str:
    """The commit of the checkout, followed by `+` if files differ from it."""
    from ct_rate_pairs.trainer.run_record import code_version

    told = code_version()
    return f"{told['commit'][:12]}{'+' * told['dirty']}" if told["commit"] else "no git checkout"


def main(argv: Sequence[str]) -> None:
    """The command `ct-rate-pairs study`."""
    parser = CommandParser("ct-rate-pairs study", description=__doc__, old_names={"out": "output_dir"})
    add = parser.add_argument
    add("--config", required=True, help="YAML file of the study, or study or study_small, which come with the package")
    add(
        "--output_dir",
        type=Path,
        metavar="DIR",
        help="folder of the study (default: runs/NAME, with the name of the config)",
    )
    add("--jobs", type=int, range=COUNT, default=2, help="concurrent runs, one core per run (default: %(default)s)")
    add("--only", nargs="+", default=[], metavar="TABLE", help="train and write only these tables of the config")
    add("--hours", type=float, help="start no run after this many hours (default: `hours` of the config, or no limit)")
    add("--tables_only", action="store_true", help="train nothing, and make only tables and figures")
    args = parser.parse_args(argv)

    from ct_rate_pairs.eval.study.figures import plot_study
    from ct_rate_pairs.eval.study.plan import prepare_cohorts, read_study
    from ct_rate_pairs.eval.study.results import summarise
    from ct_rate_pairs.eval.study.tables import write_tables
    from ct_rate_pairs.recipes.recipe_parser import find_config

    config = find_config(args.config)
    study = read_study(config, args.only)
    out = (args.output_dir or Path("runs") / config.stem).resolve()
    if not args.tables_only:
        hours = next(hours for hours in (args.hours, study.hours, float("inf")) if hours is not None)
        with folder_lock(out, parser.prog):
            prepare_cohorts(study, out)
            train_all(study, out, time.monotonic() + 3600 * hours, args.jobs)
    summary = summarise(study, out)
    write_tables(summary, out / "tables")
    plot_study(study, summary, out, out / "figures")
    for name in summary:
        print((out / "tables" / f"{name}.md").read_text())


if __name__ == "__main__":
    run(main)
