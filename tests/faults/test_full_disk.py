"""A full disk: what was there stays, what is begun is not taken for whole, and the same command goes on later."""

import json
import os
import shutil

import nibabel as nib
import pyarrow.parquet as pq
import pytest
from helpers.faults import fill, small_disk
from helpers.pair_trainer import make_trainer
from helpers.prepare import use_a_thread
from helpers.tiny_reader import AFFINE, make_voxels
from helpers.tree import SPACING

from ct_rate_pairs.eval.predictions.provenance import provenance_path
from ct_rate_pairs.eval.predictions.store import append_predictions, read_predictions, resume_predictions
from ct_rate_pairs.hub import load_reporter
from ct_rate_pairs.hub.reporting.batch import report_batch
from ct_rate_pairs.phantom.cohort import write_cohort
from ct_rate_pairs.prepare import prepare
from ct_rate_pairs.sources import open_source
from ct_rate_pairs.trainer.generation import Written
from ct_rate_pairs.trainer.whole_checkpoints import last_whole_checkpoint
from ct_rate_pairs.whole_files import write_whole


class Alone:
    is_main_process = True

    def wait_for_everyone(self):
        pass


@pytest.mark.parametrize("length", [100, 1_000, 3_000])
def test_predictions_keep_all_reports_that_were_written_and_go_on(tmp_path, length):
    with small_disk(tmp_path / "disk", "64k") as disk:
        path, provenance = disk / "predictions.jsonl", {"weights": "a"}
        text, volumes = "x" * length, [f"valid_{number}_a_1.nii.gz" for number in range(2_000)]
        resume_predictions(path, provenance, Alone())
        written = 0
        with pytest.raises(OSError, match="No space left"):
            for volume in volumes:
                append_predictions(path, {volume: Written(text, False)})
                written += 1
        assert written > 10
        for _ in range(2):  # the disk is still full
            with pytest.raises(OSError, match="No space left"):
                resume_predictions(path, provenance, Alone())
            assert list(read_predictions(path))[:written] == volumes[:written]
        shutil.move(path, tmp_path / path.name)
        shutil.move(provenance_path(path), tmp_path)
    path = tmp_path / path.name
    done = resume_predictions(path, provenance, Alone())
    append_predictions(path, {volume: Written(text, False) for volume in volumes if volume not in done})
    assert read_predictions(path) == dict.fromkeys(volumes, text)


def test_a_file_that_does_not_fit_leaves_the_old_one_and_no_other(tmp_path):
    with small_disk(tmp_path / "disk", "64k") as disk:
        write_whole(disk / "results.json", "old")
        fill(disk)
        with pytest.raises(OSError, match="No space left"):
            write_whole(disk / "results.json", "n" * 10_000)
        assert (disk / "results.json").read_text() == "old" and sorted(os.listdir(disk)) == ["ballast", "results.json"]


@pytest.mark.slow
@pytest.mark.parametrize("size", ["100k", "300k", "500k"])
def test_a_batch_goes_on_when_there_is_room(tmp_path, reader_dir, size):
    reporter, scans = load_reporter(reader_dir, device="cpu"), []
    for number in range(8):
        scans.append(tmp_path / f"{number}.nii")
        nib.save(nib.Nifti1Image(make_voxels((1, 0, 1), number), AFFINE), scans[-1])
    with small_disk(tmp_path / "disk", size) as disk:
        with pytest.raises(OSError, match="No space left"):
            report_batch(reporter, scans, disk / "out")
        shutil.copytree(disk / "out", tmp_path / "out")
    before = {path: path.read_text() for path in tmp_path.glob("out/*/report.json")}
    assert all(json.loads(text) for text in before.values())
    assert report_batch(reporter, scans, tmp_path / "out") == []
    assert {path: path.read_text() for path in before} == before
    assert len(list(tmp_path.glob("out/*/report.json"))) == 8 and not list((tmp_path / "out").rglob(".*"))


@pytest.mark.slow
def test_a_cohort_and_a_copy_go_on_when_there_is_room(tmp_path, tree, monkeypatch):
    use_a_thread(monkeypatch)
    source = open_source(tree, spacing=SPACING)
    prepare(source, tmp_path / "whole", shard_size=2, workers=1)
    largest = max(path.stat().st_size for path in tmp_path.glob("whole/data/*"))
    with small_disk(tmp_path / "disk", str(3 * largest)) as disk:
        with pytest.raises(OSError, match="No space left"):
            prepare(source, disk / "out", shard_size=2, workers=1)
        shutil.copytree(disk / "out", tmp_path / "out")
    assert not list((tmp_path / "out").rglob(".*.part"))
    prepare(source, tmp_path / "out", shard_size=2, workers=1)
    for path in tmp_path.glob("whole/data/*"):
        assert pq.read_table(path).equals(pq.read_table(tmp_path / "out" / "data" / path.name))
    with small_disk(tmp_path / "disk", "100k") as disk, pytest.raises(OSError, match="No space left"):
        write_cohort(disk / "out", 2, valid_scans=1, workers=1)


@pytest.mark.slow
@pytest.mark.parametrize("room", [0.1, 0.4, 0.7, 0.95])
def test_a_checkpoint_that_does_not_fit_leaves_the_one_before(tmp_path, room):
    options = {"beta": 0.0, "max_steps": 2, "save_strategy": "steps", "save_steps": 1, "save_total_limit": 1}
    trainer = make_trainer(tmp_path / "whole", **options)
    trainer.train()
    size = sum(path.stat().st_size for path in (tmp_path / "whole" / "checkpoint-2").iterdir())
    with small_disk(tmp_path / "disk", str(int(size * (1 + room)))) as disk:
        with pytest.raises(Exception, match="No space left|PytorchStreamWriter|unexpected pos|enforce fail"):
            make_trainer(disk / "run", **options).train()
        assert last_whole_checkpoint(str(disk / "run")).name == "checkpoint-1"
        shutil.copytree(disk / "run", tmp_path / "run")
    resumed = make_trainer(tmp_path / "run", **options)
    resumed.train(resume_from_checkpoint=True)
    for name, value in resumed.model.state_dict().items():
        assert value.equal(trainer.model.state_dict()[name])
