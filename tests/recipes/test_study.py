"""`recipes/study.py`, as a user types it, on a tiny phantom and for two steps."""

import shutil
from threading import Event
from types import SimpleNamespace

import pytest
import yaml
from helpers import programs
from helpers.study import STUDY

from ct_rate_pairs.phantom import write_cohort
from ct_rate_pairs.recipes import study


@pytest.mark.slow
def test_a_study_runs_goes_on_and_tells_what_failed_and_what_is_missing(tmp_path, capsys):
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(STUDY, sort_keys=False))
    write_cohort(tmp_path / "runs" / "tiny" / "cohort", **STUDY["cohort"], workers=1)  # it starts two processes for it
    run = programs.run("-m", "ct_rate_pairs", "study", "--config", "tiny.yaml", cwd=tmp_path)
    assert run.returncode == 0, run.stderr[-3000:]
    out = tmp_path / "runs" / "tiny"  # named by the config
    runs = {path.name: path for path in (out / "runs").iterdir()}
    # A row of both tables is run once.
    on = "heter_beta-0.1_max_steps-1_model_name_or_path-runs-none_beta-0_seed-0_seed-0"
    (grpo,) = (name for name in runs if name.startswith("grpo_beta-0_"))
    assert runs.keys() == {
        "none_beta-0_seed-0", "heter_beta-0.1_max_negative_loss-inf_seed-0", "heter_beta--1_seed-0", on, grpo
    }  # fmt: skip
    assert "ct-rate-pairs grpo --config" in (runs[grpo] / "config.yaml").read_text()
    assert run.stdout.count(": finished") == 4 and "heter_beta--1_seed-0: failed" in run.stdout
    failed = runs.pop("heter_beta--1_seed-0")
    records = {name: (path / "run.yaml").read_text() for name, path in runs.items()}
    for name, path in runs.items():
        record = yaml.safe_load(records[name])
        assert record["minutes"] > 0 and record["cpu_minutes"] > 0 and 0.1 < record["peak_gib"] < 10
        assert not list(path.glob("checkpoint-*")) and (path / "trainer_state.json").exists()
    for name in ("first_losses.png", "first_gaps.png", "second_losses.png"):
        assert (out / "figures" / name).stat().st_size > 10_000
    # What fails is told with its log, and stops nothing.
    second = (out / "tables" / "second.md").read_text()
    assert (
        "| goes on | 1 | " in second
        and "| rewards | 1 | " in second
        and "| again | 1 | " in second
        and "| broken | 1 failed | - |" in second
    )
    assert "must not be negative" in second and "runs/heter_beta--1_seed-0/log.txt" in second
    assert (failed / "log.txt").exists()

    # Again: what is there is kept.
    asked = ["--config", str(tmp_path / "tiny.yaml"), "--output_dir", str(out)]
    study.main([*asked, "--only", "first"])
    told = capsys.readouterr().out
    assert "none_beta-0_seed-0: kept" in told and "max_negative_loss-inf_seed-0: kept" in told
    assert {name: (path / "run.yaml").read_text() for name, path in runs.items()} == records

    # What goes on from a run waits for that; a finished run of other settings is put aside, not lost.
    record = yaml.safe_load(records["none_beta-0_seed-0"])
    path = runs["none_beta-0_seed-0"] / "run.yaml"
    path.write_text(yaml.safe_dump(record | {"state": "failed", "error": "exit 1"}))
    (runs[on] / "run.yaml").write_text(records[on].replace("max_steps: 1\n", "max_steps: 9\n"))
    study.main([*asked, "--only", "second", "--hours", "0"])
    assert f"{on}: not run, none_beta-0_seed-0 is not finished" in capsys.readouterr().out
    path.write_text(records["none_beta-0_seed-0"])
    study.make_room(runs[on])
    assert not list(runs[on].iterdir()) and len(list(runs[on].parent.glob(f"{on}_until-*/results.json"))) == 1

    # Nothing is begun once the hours are over.
    study.main([*asked, "--only", "second", "--hours", "1e-9"])
    told = capsys.readouterr().out
    assert "none_beta-0_seed-0: kept" in told and "heter_beta--1_seed-0: not run, the study's hours are over" in told

    # From the folders alone, wherever they are; a run that is gone is not run.
    first = (out / "tables" / "first.md").read_text()
    moved = out.rename(tmp_path / "moved")
    shutil.rmtree(moved / "tables")
    shutil.rmtree(moved / "cohort")
    shutil.rmtree(moved / "runs" / failed.name)
    study.main(["--config", str(tmp_path / "tiny.yaml"), "--output_dir", str(moved), "--tables_only"])
    assert (moved / "tables" / "first.md").read_text() == first
    assert "| broken | not run | - |" in (moved / "tables" / "second.md").read_text()


def test_a_run_that_waits_for_its_first_run_leaves_its_slot_to_others(monkeypatch, tmp_path):
    names = {"first": None, "goes on": "first", "other": None}
    runs = [SimpleNamespace(name=name, first_run=first) for name, first in names.items()]
    began, order = Event(), []

    def train(run, *_):
        if run.name == "first":
            assert began.wait(30), "the other run has not begun beside the first"
        if run.name == "other":
            began.set()
        order.append(run.name)

    monkeypatch.setattr(study, "train", train)
    study.train_all(SimpleNamespace(runs=runs), tmp_path, deadline=0, jobs=2)
    assert sorted(order) == sorted(names) and order.index("first") < order.index("goes on")
