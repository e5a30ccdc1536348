"""A hospital's folder of several formats and a table in words of its own, from the check to the report of a scan."""

import json
import shutil

import pytest
import torch
from datasets import load_dataset
from helpers.own_scans import own_rows, write_table
from helpers.prepare import use_a_thread
from helpers.tree import SPACING

from ct_rate_pairs.__main__ import main
from ct_rate_pairs.hub.guard import ForbiddenContentError, publishable_files


GRID = ("--spacing", *map(str, SPACING), "--num_slices", "4")
TRAIN = ("--max_steps", "2", "--logging_steps", "1", "--max_eval_samples", "4", "--max_new_tokens", "4")
PLANTED = ("MÜLLER", "Cough")


@pytest.mark.slow
@pytest.mark.parametrize("prepared", [False, True])
def test_a_table_of_own_scans_goes_the_whole_way(tmp_path, monkeypatch, hub, capsys, prepared):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: False)
    rows = own_rows(tmp_path / "own", 12)
    rows[0]["split"] = rows[1]["split"] = "validation"
    write_table(tmp_path / "own" / "cohort.csv", rows)
    assert main(["check", "own", *GRID]) == 0
    main(["show", "own", *GRID, "--n", "2", "--output_file", "sheet.png"])
    assert (tmp_path / "sheet.png").stat().st_size > 0
    main(["partners", "own"])
    data = "own"
    if prepared:
        use_a_thread(monkeypatch)
        main(["prepare", "--data_dir", "own", "--output_dir", "copy", "--workers", "1", "--on_error", "raise", *GRID])
        whole, copy = (
            load_dataset("ct_rate_pairs", "heter", data_dir=name, spacing=SPACING, num_slices=4)
            for name in ("own", "copy")
        )
        assert whole["train"].column_names == copy["train"].column_names
        assert set(copy) == {"train", "validation", "test"}
        for split in whole:
            for one, other in zip(whole[split], copy[split], strict=True):
                assert [image.tobytes() for image in one["images"]] == [image.tobytes() for image in other["images"]]
                assert {**one, "images": 0, "negative_images": 0} == {**other, "images": 0, "negative_images": 0}
        card = (tmp_path / "copy" / "README.md").read_text()
        assert "Do not upload this folder" in card and "CT-RATE is gated" not in card
        assert "6 + 2 + 4 scans (train, validation, test)" in card
        shutil.move("own", "moved")  # the copy needs its source no more
        data = "copy"
    main(["train", "--config", "phantom_heter", "--data_dir", data, *GRID, *TRAIN, "--confidence_scans", "0",
          "--per_device_train_batch_size", "2", "--output_dir", "run"])  # fmt: skip
    results = json.loads((tmp_path / "run" / "results.json").read_text())
    assert results["model"]["n"] == 4
    predictions = (tmp_path / "run" / "predictions.jsonl").read_text()
    assert all(json.loads(line)["volume"].startswith("patient_") for line in predictions.splitlines())
    main(["evaluate", "--model_name_or_path", "run", "--data_dir", data, "--max_eval_samples", "4",
          "--max_new_tokens", "8", "--looking_scans", "4"])  # fmt: skip
    scans = tmp_path / ("moved" if prepared else "own")
    for scan in (scans / rows[0]["scan"], scans / rows[4]["scan"]):  # NIfTI and pictures
        main(["report", str(scan), "--model_name_or_path", "run", "--output_dir", "report", "--max_new_tokens", "8"])
    assert "no HU and no size" in (tmp_path / "report" / "report.md").read_text()

    card = (tmp_path / "run" / "README.md").read_text()
    assert "a private cohort" in card and "ibrahimhamamci" not in card and "cc-by-nc-sa" not in card
    assert "figures/reports.png" not in publishable_files(tmp_path / "run")
    written = [file for file in (tmp_path / "run").rglob("*") if file.suffix in (".json", ".jsonl", ".md", ".yaml")]
    assert not [word for word in PLANTED for file in written if word in file.read_text()]
    if not prepared:
        _is_published_without_texts_and_pixels(tmp_path, rows, hub, capsys)
    lines = [json.loads(line) for line in predictions.splitlines()]
    copied = [line | {"report": row["report"]} for line, row in zip(lines, rows, strict=False)]
    (tmp_path / "run" / "predictions.jsonl").write_text("".join(json.dumps(line) + "\n" for line in copied))
    with pytest.raises(ValueError, match="reference report"):
        publishable_files(tmp_path / "run")


def _of_reports(rows) -> str:
    """Reports of the table as predictions."""
    lines = ({"volume": f"patient_{n}_a_1.nii.gz", "report": row["report"]} for n, row in enumerate(rows, 1))
    return "".join(json.dumps(line) + "\n" for line in lines)


def _is_published_without_texts_and_pixels(tmp_path, rows, hub, capsys):
    """The run goes up, without what is of the scans, and is refused once it holds something of them."""
    capsys.readouterr()
    main(["publish", "run", "alice/own", "--private"])
    assert capsys.readouterr().out == f"{hub.url}/alice/own/tree/main\n"
    repo = hub.repo("alice/own")
    files = repo.files()
    assert repo.private and "predictions.jsonl" in files and "model.safetensors" in files
    hidden = {"figures/reports.png", "reference_hashes.json"}  # slices with their reports, and what reports could be
    assert all((tmp_path / "run" / name).is_file() for name in hidden) and not hidden & set(files)
    stored = b"".join(data for of_commit in repo.commits.values() for data in of_commit.values())
    private = {word for row in rows for word in (row["patient"], row["scan"], row["report"][:40])} | {*PLANTED}
    assert not [word for word in private if word.encode() in stored]

    card, before = tmp_path / "run" / "README.md", dict(repo.branches)
    written = card.read_text()
    for name, leak in (
        ("README.md", lambda file: file.write_text(written + rows[0]["report"])),
        ("predictions.jsonl", lambda file: file.write_text(_of_reports(rows))),
        ("scan.npz", lambda file: file.write_bytes(b"PK")),
    ):
        file = tmp_path / "run" / name
        kept = file.read_bytes() if file.exists() else None
        leak(file)
        with pytest.raises(ForbiddenContentError, match=name):
            main(["publish", "run", "alice/own"])
        assert repo.branches == before
        file.unlink() if kept is None else file.write_bytes(kept)
