"""A reader's own table: every format of scans and tables gives the same rows, and a bad row is named."""

import json
import os
import pickle
import re
import shutil

import numpy as np
import pandas as pd
import pytest
from datasets import load_dataset
from helpers.own_scans import REPORTS, own_rows, write_scan, write_table
from helpers.shares import mostly_slow
from helpers.tree import SPACING

from ct_rate_pairs import LABELS
from ct_rate_pairs.builder import ROW_FEATURES
from ct_rate_pairs.prepare.shards import features_of
from ct_rate_pairs.readers import reader_of
from ct_rate_pairs.reports.rules import label_report
from ct_rate_pairs.sources import open_source
from ct_rate_pairs.sources.csv_tables import TableError
from ct_rate_pairs.sources.own_table import COLUMNS, TAKEN, OwnTable, neutral_name
from ct_rate_pairs.sources.stores import StoreSource
from ct_rate_pairs.tasks import TASKS
from ct_rate_pairs.volume_names import patient_of
from ct_rate_pairs.volumes.scan_files import read_scan
from ct_rate_pairs.volumes.settings import FORMS
from ct_rate_pairs.volumes.windows import to_uint8


PLANTED = ("MÜLLER", "Cough", "ct 0", "dicom/2", "nodule")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("hospital") / "scans of 2024"
    write_table(folder.with_suffix(".rows.jsonl"), rows := own_rows(folder))
    write_table(folder / "cohort.csv", rows)
    return folder


@pytest.fixture
def own(folder, tmp_path):
    """A copy of the folder, with its rows, that the test may damage."""
    shutil.copytree(folder, tmp_path / "own")
    rows = [json.loads(line) for line in folder.with_suffix(".rows.jsonl").read_text().splitlines()]
    return tmp_path / "own", rows


def load(path, **options):
    return load_dataset("ct_rate_pairs", data_dir=str(path), **{"spacing": SPACING, "num_slices": 4, **options})


def test_every_format_of_scans_is_read_and_every_row_is_what_the_table_says(folder):
    dataset = load(folder, validation_size=0.0)
    assert {name: len(split) for name, split in dataset.items()} == {"train": 8, "test": 4}
    rows = [*dataset["train"], *dataset["test"]]
    table = pd.read_csv(folder / "cohort.csv")
    for row, (_, given) in zip(rows, table.iterrows(), strict=True):
        expected, slice_mm = read_scan(folder / given["scan"]).slices(4, SPACING)
        np.testing.assert_array_equal(np.stack([np.asarray(image) for image in row["images"]]), to_uint8(expected))
        assert row["slice_mm"] == pytest.approx(slice_mm)
        assert row["completion"][0]["content"] == f"Findings: {given['report']}"
        assert row["labels"] == label_report(given["report"])
        assert (row["age"], row["sex"]) == (given["age"], "F" if given["sex"] == "female" else "M")
        assert row["clinical_information"] == (None if pd.isna(given["clinical_information"]) else "Cough.")
    assert sum(map(sum, dataset["train"]["labels"])) > 8


def test_names_are_neutral_and_tell_the_patient(folder):
    dataset = load(folder, validation_size=0.0)
    names = [*dataset["train"]["volume"], *dataset["test"]["volume"]]
    patients = pd.read_csv(folder / "cohort.csv")["patient"]
    assert names[:4] == [f"patient_{name}_1.nii.gz" for name in ("1_a", "2_a", "3_a", "3_b")]
    told = dict(zip(names, patients, strict=True))
    assert len(told) == 12
    for name in names:
        assert sorted(told[other] == told[name] for other in names) == sorted(
            patient_of(other) == patient_of(name) for other in names
        )
    assert [neutral_name(7, scan) for scan in (1, 26, 27, 703)] == [
        f"patient_7_{letters}_1.nii.gz" for letters in ("a", "z", "aa", "aaa")
    ]


@pytest.mark.slow
def test_partners_are_never_of_the_same_patient(folder):
    dataset = load(folder, negative="heter", validation_size=0.0)["train"]
    for row in dataset:
        assert row["negative_volume"] and patient_of(row["negative_volume"]) != patient_of(row["volume"])
        assert len(row["negative_images"]) == 4 and row["negative_images"][0].size == row["images"][0].size


@pytest.mark.parametrize("ending", mostly_slow([".jsonl", ".csv", ".parquet"]))
def test_every_format_of_tables_gives_the_same_rows(own, ending):
    folder, rows = own
    expected = list(load(folder))
    (folder / "cohort.csv").unlink()
    for row in rows:
        row["age"] = row["age"] if ending == ".csv" else int(row["age"])
    table = write_table(folder / f"table{ending}", rows)
    for dataset in (
        load(folder),
        load(table),
        load_dataset("ct_rate_pairs", table=table, spacing=SPACING, num_slices=4),
    ):
        assert list(dataset) == expected
        assert dataset["test"][1]["age"] == 40 + 9 and dataset["test"][1]["labels"] == label_report(REPORTS[3])


@pytest.mark.slow
def test_a_stream_has_the_rows_of_the_index(folder):
    rows, stream = load(folder)["train"], load(folder, streaming=True)["train"]
    for row, streamed in zip(rows, stream, strict=True):
        assert {**streamed, "images": None} == {**row, "images": None}
        assert [np.asarray(a).tolist() for a in streamed["images"]] == [np.asarray(a).tolist() for a in row["images"]]


def test_the_names_of_columns_and_splits_may_be_written_otherwise(own):
    folder, rows = own
    for row, split in zip(rows, ["training", "Val", "eval"] * 4, strict=True):
        row |= {"patient": row["scan"], "split": split}
    renamed = pd.DataFrame(rows).rename(columns={"scan": " Scan", "clinical_information": "Clinical Information"})
    renamed = renamed.assign(**{label.lower(): "1.0" for label in LABELS})
    renamed.to_csv(folder / "cohort.csv", index=False, encoding="utf-8-sig")
    dataset = load(folder)
    assert {name: len(split) for name, split in dataset.items()} == {"train": 4, "validation": 4, "test": 4}
    assert dataset["test"][0]["clinical_information"] == "Cough." and dataset["test"][0]["labels"] == [1] * 18


def test_without_a_column_of_splits_all_rows_are_for_training(own, caplog):
    folder, rows = own
    write_table(folder / "cohort.csv", [{k: row[k] for k in ("scan", "report")} for row in rows])
    dataset = load(folder, validation_size=0.3)
    assert set(dataset) == {"train", "validation"} and len(dataset["train"]) + len(dataset["validation"]) == 12
    told = caplog.text
    assert "no column 'split'" in told and "no column 'patient'" in told and "no columns of labels" in told


def test_a_report_is_divided_at_its_impression_and_sections_may_be_columns(own):
    folder, rows = own
    rows[0]["report"] = "FINDINGS: Both lungs are clear.\nImpression : Normal.\n"
    write_table(folder / "cohort.csv", rows)
    as_report = load(folder)["train"][0]["completion"]
    assert as_report[0]["content"] == "Findings: Both lungs are clear.\nImpression: Normal."
    for row in rows:
        row |= {"findings": "Both lungs are clear.", "impression": "Normal."}
        del row["report"]
    write_table(folder / "cohort.csv", rows)
    assert load(folder)["train"][0]["completion"] == as_report
    assert load(folder, target="impression")["train"][0]["completion"][0]["content"] == "Normal."


def test_a_changed_table_or_scan_is_noticed(own):
    folder, rows = own
    before = open_source(folder).fingerprint()
    assert load(folder)["train"][0]["age"] == 40
    rows[0]["age"] = 41
    write_table(folder / "cohort.csv", rows)
    assert open_source(folder).fingerprint() != before and load(folder)["train"][0]["age"] == 41
    before = open_source(folder).fingerprint()
    os.utime(folder / rows[3]["scan"], ns=(0, 0))
    assert open_source(folder).fingerprint() != before


def outside(folder, rows):
    shutil.copy(folder / "ct 0.nii.gz", folder.parent / "outside.nii.gz")


def linked(folder, rows):
    outside(folder, rows)
    (folder / "link.nii.gz").symlink_to(folder.parent / "outside.nii.gz")
    rows[4]["scan"] = "link.nii.gz"


def in_two_splits(folder, rows):
    rows[3]["split"] = "test"


def twice(folder, rows):
    rows[4]["scan"] = rows[1]["scan"]


def set_to(column, value, prepare=lambda folder, rows: None):
    def damage(folder, rows):
        prepare(folder, rows)
        rows[4][column] = value

    return damage


FAULTS = [
    (set_to("scan", "gone.nii.gz"), "row 6, column 'scan': there is no such file"),
    (
        set_to("scan", "dicom\\2"),
        "row 6, column 'scan': there is no such file or folder \\(folders are separated by /",
    ),
    (set_to("scan", None), "row 6, column 'scan': it is empty"),
    (set_to("scan", "."), "row 6, column 'scan': the path leads out"),
    (set_to("scan", "../outside.nii.gz", outside), "row 6, column 'scan': the path leads out of the table's folder"),
    (set_to("scan", "/etc/passwd"), "row 6, column 'scan': the path does not begin at the table"),
    (set_to("scan", "C:\\ct.nii"), "row 6, column 'scan': the path does not begin at the table"),
    (linked, "row 6, column 'scan': the path leads out of the table's folder"),
    (twice, "row 6, column 'scan': it is the scan of row 3"),
    (set_to("patient", None), "row 6, column 'patient': it is empty"),
    (set_to("split", "trian"), "row 6, column 'split': it is not train, validation or test"),
    (in_two_splits, "row 5, column 'split': the patient of row 4, in 'train', stands in 'test' here"),
    (set_to("age", "old"), "row 6, column 'age': no age"),
    (set_to("age", "200"), "row 6, column 'age': no age"),
    (set_to("age", "000Y"), "row 6, column 'age': no age"),
    (set_to("age", "130Y"), "row 6, column 'age': no age"),
    (set_to("sex", "Köln"), "row 6, column 'sex': it is not M or F"),
    (set_to("series", "two"), "row 6, column 'series': no number"),
    (set_to("report", "Keine Rundherde. Herz normal groß, kein Erguss."), "row 6, column 'report': the report seems"),
    (set_to("report", "A nodule. " * 20_000), "row 6, column 'report': 199,999 letters are no report"),
]


@pytest.mark.parametrize("damage, match", mostly_slow(FAULTS))
def test_a_bad_row_is_named_and_left_out_if_asked(own, caplog, damage, match):
    folder, rows = own
    damage(folder, rows)
    write_table(folder / "cohort.csv", rows)
    with pytest.raises(TableError, match=match) as raised:
        load(folder)
    assert "ct-rate-pairs check" in str(raised.value) and str(folder / "cohort.csv") in str(raised.value)
    assert not [word for word in PLANTED if word in str(raised.value)]
    caplog.clear()
    dataset = load(folder, on_error="skip")
    names = [*dataset["train"]["volume"], *dataset["test"]["volume"]]
    expected = [neutral_name(p, s) for p, s in ((1, 1), (2, 1), (3, 1), (3, 2), (4, 1), (5, 1), (5, 2), (6, 1))]
    bad = 3 if damage is in_two_splits else 4
    if damage is not twice:  # then the row has no name of its own
        assert names[:7] == [*expected[:bad], *expected[bad + 1 :]]
    assert re.search(match, caplog.text) and "left out" in caplog.text


def test_a_link_within_a_dicom_folder_leads_nowhere_outside(own):
    folder, rows = own
    series = folder / rows[2]["scan"]
    moved = folder.parent / "moved.dcm"
    first = sorted(series.iterdir())[0]
    shutil.move(first, moved)
    first.symlink_to(moved)
    with pytest.raises(
        ValueError, match="row 4 of cohort.csv, patient_3_a_1.nii.gz: 1 of its files are links that lead"
    ):
        load(folder)["train"][2]["images"]


@pytest.mark.parametrize(
    "rename, match",
    [
        ({"scan": "scans"}, "no column 'scan'.*is 'scans' meant"),
        ({"report": "Befund"}, "neither a column of reports"),
        ({"age": "label"}, "column 'label' of their own"),
        ({"age": "Lungs"}, "column 'lungs' of their own"),
        ({"age": "Sex"}, "two columns are called 'sex'"),
        ({"age": "question"}, "a column 'question' needs a column 'answer'"),
        ({"age": "findings"}, "'report' beside 'findings'"),
        ({"age": "Cardiomegaly"}, "1 of the 18 columns of labels, and no 'Medical material'"),
    ],
)
def test_a_table_without_the_columns_it_needs_is_refused(own, rename, match):
    folder, rows = own
    pd.DataFrame(rows).rename(columns=rename).to_csv(folder / "cohort.csv", index=False)
    with pytest.raises(TableError, match=match):
        load(folder)


def test_metadata_have_no_name_that_rows_scans_or_prepared_copies_have(folder):
    of_rows = {*ROW_FEATURES, *(name for task in TASKS.values() for name in task.features)}
    of_copies = {
        *StoreSource.table.names,
        *(name for form in FORMS for name in features_of({"form": form, "own": True})),
    }
    table = open_source(folder).table
    of_scans = {*table.read[0].columns} - {*table.metadata}
    assert of_rows | of_copies | of_scans <= {*TAKEN, *COLUMNS, *LABELS}


def test_rows_of_one_scan_share_what_one_of_them_says(own):
    folder, rows = own
    asked = [
        {"scan": rows[0]["scan"], "question": question, "answer": "yes", **dict.fromkeys(LABELS, said), "age": age}
        for question, said, age in (("Is it?", None, None), ("Was it?", "1", "41"))
    ]
    scans, problems = OwnTable(write_table(folder / "asked.jsonl", asked)).read
    assert not problems and scans[list(LABELS)].to_numpy().all() and scans["age"].tolist() == [41]


@pytest.mark.parametrize(
    "name, content, match",
    [
        ("t.csv", b"", "cannot be read"),
        ("t.csv", b"scan,report\n", "has no row"),
        ("t.csv", b"scan;report\nct 0.nii.gz;x\n", "not separated by commas"),
        ("t.csv", b"scan,report\nct 0.nii.gz,x,y\n", "Expected 2 fields in line 2, saw 3"),
        ("t.csv", "scan,report\nct 0.nii.gz,Übersicht\n".encode("latin-1"), "cannot be read.*utf-8"),
        ("t.csv", b"scan,,report\na,b,c\n", "column 2 has no name"),
        ("t.jsonl", b'{"scan": "ct 0.nii.gz", "report": ["x"]}\n', "row 1, column 'report': a list"),
        ("t.jsonl", b'\n{"scan": "ct 0.nii.gz"\n', "row 2 is not JSON"),
        ("t.jsonl", b"[1]\n", "row 1: it is no JSON object"),
        ("t.parquet", b"PAR1", "cannot be read"),
        ("t.xlsx", b"PK", "from a spreadsheet, as CSV in UTF-8"),
    ],
)
def test_a_file_that_is_no_table_is_refused(own, name, content, match):
    folder, _ = own
    (folder / name).write_bytes(content)
    with pytest.raises(TableError, match=match):
        load(folder / name)


def test_one_of_several_tables_is_named(own):
    folder, rows = own
    table = write_table(folder / "second.jsonl", rows[:6])
    with pytest.raises(ValueError, match=r"2 tables \(cohort.csv, second.jsonl\)"):
        load(folder)
    assert len(load(table)["train"]) == 6
    with pytest.raises(ValueError, match="both name the scans"):
        load_dataset("ct_rate_pairs", table=table, data_dir=str(folder))
    with pytest.raises(FileNotFoundError, match="is .*second.jsonl meant"):
        load_dataset("ct_rate_pairs", table=folder / "secnd.jsonl")


def test_what_has_no_effect_on_pictures_or_on_a_table_is_refused(folder):
    with pytest.raises(ValueError, match="window='rgb' has no effect on pictures.*row 6 of"):
        load(folder, window="rgb", on_error="skip")
    with pytest.raises(ValueError, match="reconstructions='all' is a choice among CT-RATE's files"):
        load(folder, reconstructions="all")
    with pytest.raises(ValueError, match="files='original'"):
        load(folder, files="original")


def test_a_window_applies_where_no_scan_is_a_folder_of_pictures(own):
    folder, rows = own
    write_table(folder / "cohort.csv", [row for row in rows if not row["scan"].startswith("png")])
    assert load(folder, window="rgb")["train"][0]["images"][0].mode == "RGB"


def test_one_of_several_series_is_chosen_by_a_column(own):
    folder, rows = own
    from helpers.dicom_series import slices, write
    from helpers.own_scans import AFFINE

    other = np.random.default_rng(99).integers(-1000, 400, (24, 20, 20), dtype=np.int16)
    write(folder / rows[2]["scan"], slices(other, AFFINE, series=2))
    write_table(folder / "cohort.csv", rows)
    with pytest.raises(ValueError, match="row 4 of cohort.csv.*by its number, in the column series"):
        load(folder)["train"][2]["images"]
    rows[2]["series"] = 2
    write_table(folder / "cohort.csv", rows)
    shown = np.stack([np.asarray(image) for image in load(folder)["train"][2]["images"]])
    np.testing.assert_array_equal(shown, to_uint8(read_scan(folder / rows[2]["scan"], series=2).slices(4, SPACING)[0]))


def test_the_source_of_a_reader_can_be_sent_to_a_process(folder):
    source = pickle.loads(pickle.dumps(reader_of(load(folder)["train"]).source))
    assert len(source.scans("train", "raise")) == 8 and source.settings.spacing == SPACING


@pytest.mark.slow
def test_a_table_reads_fifty_thousand_rows_in_seconds(tmp_path):
    write_scan(tmp_path, 0)
    rows = [f"ct 0.nii.gz,{number},Question {number}?,yes" for number in range(50_000)]
    (tmp_path / "t.csv").write_text("scan,note,question,answer\n" + "\n".join(rows))
    scans, problems = OwnTable(tmp_path / "t.csv").read
    assert len(scans) == 1 and len(scans["questions"].iloc[0]) == 50_000 and not problems
