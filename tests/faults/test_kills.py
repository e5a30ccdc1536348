"""`kill -9` at random moments of whatever writes: what is left is whole, or the next run knows that it is not."""

import json
import os
import random
import signal
import time
import types
from contextlib import suppress

import nibabel as nib
import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import torch
from datasets import load_dataset
from helpers import programs
from helpers.faults import KILLS, all_end, descendants, kill_at_random
from helpers.pair_trainer import make_trainer
from helpers.prepare import use_a_thread
from helpers.tiny_reader import AFFINE, make_voxels
from helpers.tree import SPACING
from matplotlib.figure import Figure
from peft import LoraConfig
from PIL import Image
from safetensors import safe_open
from safetensors.torch import save_file
from tqdm import tqdm

from ct_rate_pairs.eval.figures.style import save_figure
from ct_rate_pairs.eval.predictions.store import append_predictions, read_predictions, resume_predictions
from ct_rate_pairs.eval.tables import write_csv, write_table
from ct_rate_pairs.folder_lock import folder_lock
from ct_rate_pairs.hub import load_reporter
from ct_rate_pairs.hub.reporting.files import finished_reports, report_key, save, write_json
from ct_rate_pairs.phantom.cohort import write_cohort
from ct_rate_pairs.prepare.__main__ import main as prepare
from ct_rate_pairs.prepare.shards import Prepared, _is_whole, _write_shard, png
from ct_rate_pairs.reports.labels import LABELS
from ct_rate_pairs.trainer.generation import Written
from ct_rate_pairs.trainer.row_settings import _add_metadata
from ct_rate_pairs.trainer.run_record import read_run, write_run_config
from ct_rate_pairs.trainer.whole_checkpoints import damage_of, last_whole_checkpoint
from ct_rate_pairs.whole_files import write_whole


LONG = ["word"] * 20_000


def text_file(path):
    def read():
        words = path.read_text().split()
        assert len(words) == len(LONG) + 1 and set(words[1:]) == {"word"}

    return lambda number: write_whole(path, " ".join([str(number), *LONG])), read


def json_file(path):
    def read():
        number, words = json.loads(path.read_text())
        assert type(number) is int and words == LONG

    return lambda number: write_json([number, LONG], path), read


def results(path):
    def read():
        assert json.loads((path.parent / "results.json").read_text())["words"] == LONG
        assert (path.parent / "table.md").read_text().count("\n") == 5_001

    lines = [["a", "b"]] * 5_000
    return lambda number: write_table({"n": number, "words": LONG}, lines, path.parent), read


def csv_file(path):
    return lambda number: write_csv([[number, *LONG]] * 9, path), lambda: _rows(path)


def _rows(path):
    assert {len(line.split(",")) for line in path.read_text().splitlines()} == {len(LONG) + 1}


def figure(path):
    drawn = Figure(figsize=(3, 2))
    drawn.subplots().plot([1, 2])

    def read():
        Image.open(path).load()

    return lambda number: save_figure(drawn, path), read


def run_record(path):
    options = {f"option_{number}": number for number in range(300)}
    write = lambda number: write_run_config("train", options | {"step": number}, {"step"}, path.parent)  # noqa: E731

    def read():
        assert len(read_run(path.parent)) == 301

    return write, read


def adapter(path):
    save_file({"weight": torch.arange(200_000.0)}, path)

    def read():
        with safe_open(path, "pt") as file:
            assert torch.equal(file.get_tensor("weight"), torch.arange(200_000.0))

    return lambda number: _add_metadata(path, {"number": str(number)}), read


@pytest.mark.slow
@pytest.mark.parametrize("writer", [text_file, json_file, results, csv_file, figure, run_record, adapter])
def test_a_file_is_the_old_one_or_the_new_one(tmp_path, writer):
    (tmp_path / "out").mkdir()
    write, read = writer(tmp_path / "out" / "file.png")

    def work():
        with folder_lock(tmp_path / "out", "a command"):
            for number in range(3):
                write(number)

    kill_at_random(work, read)
    work()
    assert not [path.name for path in (tmp_path / "out").iterdir() if path.name.endswith((".part", ".lock"))]


@pytest.mark.slow
def test_no_report_that_was_written_is_lost_or_doubled(tmp_path):
    path = tmp_path / "predictions.jsonl"
    volumes = [f"valid_{number}_a_1.nii.gz" for number in range(2_000)]
    state = types.SimpleNamespace(is_main_process=True, wait_for_everyone=lambda: None)
    seen = {}

    def work():
        done = resume_predictions(path, {"weights": "a"}, state)
        for start in range(len(done), min(len(done) + 40, len(volumes)), 4):
            new = {volume: Written(f"Report of {volume}.", False) for volume in volumes[start : start + 4]}
            append_predictions(path, new)

    def check():
        found = read_predictions(path)  # refuses a volume that is there twice
        assert seen.items() <= found.items() and list(found) == volumes[: len(found)]
        assert all(report == f"Report of {volume}." for volume, report in found.items())
        seen.update(found)

    kill_at_random(work, check)
    while len(seen) < len(volumes):
        work()
        check()


@pytest.mark.slow
def test_a_report_json_stands_beside_its_own_files(tmp_path, reader_dir):
    nib.save(nib.Nifti1Image(make_voxels((1, 0, 1)), AFFINE), tmp_path / "a.nii")
    reporter = load_reporter(reader_dir, device="cpu")
    report = reporter.report(tmp_path / "a.nii", name="scan-001")
    key, out = report_key(tmp_path / "a.nii", None, 1200), tmp_path / "out"
    number = 0

    def work():
        nonlocal number
        number += 1
        object.__setattr__(report, "text", f"Report {os.getpid()} {number}")
        save(report, out / "scan-001", key)

    def check():
        if finished_reports(out, reporter):
            text = json.loads((out / "scan-001" / "report.json").read_text())["text"]
            assert all(text in (out / "scan-001" / name).read_text() for name in ("report.md", "report.html"))
            Image.open(out / "scan-001" / "sheet.png").load()

    kill_at_random(work, check)
    save(report, out / "scan-001", key)
    assert finished_reports(out, reporter) == {"scan-001": key}


@pytest.mark.slow
def test_a_shard_is_there_whole_or_not_at_all(tmp_path):
    planes = np.random.default_rng(0).integers(0, 256, (4, 40, 40), dtype=np.uint8)
    row = {"images": [{"bytes": png(plane), "path": None} for plane in planes], "slice_mm": [0.0, 1.0, 2.0, 3.0]}
    row |= {"findings": "F.", "impression": "I.", "labels": [0] * len(LABELS), "age": None, "sex": None}
    (tmp_path / "data").mkdir()
    file = tmp_path / "data" / "train-00000-of-00001.parquet"

    def work():
        file.unlink(missing_ok=True)
        names = [f"train_{number}_a_1.nii.gz" for number in range(100)]
        scans = iter([Prepared(name, row | {"volume": name}, "", []) for name in names])
        _write_shard(file, scans, {"settings": {}}, tqdm(disable=True))

    def check():
        if file.exists():
            assert _is_whole(file) and pq.read_table(file).num_rows == 100

    kill_at_random(work, check)
    work()
    assert [path.name for path in file.parent.iterdir()] == [file.name]


@pytest.mark.slow
@pytest.mark.parametrize("form", ["preprocessed", "preprocessed_numpy"])
def test_a_store_that_was_killed_has_whole_files_and_becomes_the_same(tree, tmp_path, monkeypatch, capsys, form):
    options = ["--data_dir", str(tree), "--form", form, "--spacing", *map(str, SPACING)]
    options += ["--shard_size", "4", "--on_error", "raise"]
    use_a_thread(monkeypatch)  # in this process; the runs that are killed have processes
    prepare([*options, "--workers", "1", "--output_dir", str(tmp_path / "whole")])
    files = {path.relative_to(tmp_path / "whole"): path for path in (tmp_path / "whole").rglob("volumes/*/*")}
    out, moments = tmp_path / "out", random.Random(0)
    kills = max(1, KILLS // 5)  # each starts a command with two processes
    for kill in range(kills):
        run = programs.start("-m", "ct_rate_pairs.prepare", *options, "--workers", "2", "--output_dir", out)
        wanted = (2 * kill + 1) * len(files) // (2 * kills)  # later in the store with each kill
        while run.poll() is None and len(list(out.rglob("volumes/*/*.n*"))) < wanted:
            time.sleep(0.002)
        time.sleep(moments.random() / 50)
        processes = descendants(run.pid) if run.poll() is None else []
        with suppress(ProcessLookupError):  # it may have ended just now
            os.kill(run.pid, signal.SIGKILL)
        run.wait()
        assert all_end(processes)
        for path in out.rglob("volumes/*/[!.]*"):
            assert path.read_bytes() == files[path.relative_to(out)].read_bytes()
        for path in out.rglob("data/[!.]*"):
            assert pq.read_table(path).num_rows == 4
    prepare([*options, "--workers", "1", "--output_dir", str(out)])
    assert "24 scans" in capsys.readouterr().out.splitlines()[-1]
    assert {path.relative_to(out) for path in out.rglob("volumes/*/*")} == set(files)
    whole, again = (load_dataset("ct_rate_pairs", data_dir=str(folder), split="test") for folder in
                    (tmp_path / "whole", out))  # fmt: skip
    assert [row["images"][0].tobytes() for row in whole] == [row["images"][0].tobytes() for row in again]


@pytest.mark.slow
def test_a_cohort_that_was_killed_has_whole_volumes_and_becomes_the_same(tmp_path):
    options = {"scans": 3, "valid_scans": 1, "shape": (84, 56, 40), "workers": 1}
    write_cohort(tmp_path / "whole", **options)
    out = tmp_path / "out"

    def check():
        for path in out.rglob("*.nii.gz"):
            assert np.isfinite(nib.load(path).get_fdata()).all()
        for path in out.rglob("*.csv"):
            assert len(pd.read_csv(path)) > 0

    def content(folder):
        return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}

    kill_at_random(lambda: write_cohort(out, **options), check)
    write_cohort(out, **options)
    assert content(out) == content(tmp_path / "whole")


@pytest.mark.slow
@pytest.mark.parametrize("lora", [False, True])
def test_a_checkpoint_that_was_killed_is_not_taken_for_whole(tmp_path, lora):
    config = LoraConfig(r=4, target_modules=["q_proj"]) if lora else None
    options = {"beta": 0.0, "max_steps": 1, "save_strategy": "steps", "save_steps": 1, "peft_config": config}
    trainer = make_trainer(tmp_path / "run", save_total_limit=1, **options)
    trainer.train()
    weights = {name: value.clone() for name, value in trainer.model.state_dict().items()}

    def work():
        steps = [int(path.name.split("-")[1]) for path in (tmp_path / "run").glob("checkpoint-*")]
        trainer.state.global_step = max(steps) + 1
        trainer._save_checkpoint(trainer.model, None)

    def check():
        found = last_whole_checkpoint(str(tmp_path / "run"))
        assert damage_of(found) is None and torch.load(found / "optimizer.pt", weights_only=True)["state"]
        (file,) = found.glob("*model.safetensors")
        with safe_open(file, "pt") as tensors:
            assert all(tensors.get_tensor(name) is not None for name in tensors.keys())  # noqa: SIM118

    kill_at_random(work, check)
    resumed = make_trainer(tmp_path / "run", save_total_limit=1, **options)
    resumed.train(resume_from_checkpoint=True)
    for name, value in resumed.model.state_dict().items():
        torch.testing.assert_close(value, weights[name], rtol=0, atol=0)


@pytest.mark.slow
def test_a_model_that_was_killed_while_it_was_saved_leaves_the_one_before(tmp_path):
    trainer = make_trainer(tmp_path / "run", beta=0.0, max_steps=1)
    trainer.save_model()

    def work():
        with folder_lock(tmp_path / "run", "ct-rate-pairs train"):
            trainer.save_model()

    def check():
        type(trainer.model).from_pretrained(tmp_path / "run")

    kill_at_random(work, check)
    work()
    assert not list((tmp_path / "run").glob(".*"))
