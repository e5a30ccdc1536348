"""Tables of reports, labels and metadata are read, or refused by name; a new table makes a new index."""

import numpy as np
import pandas as pd
import pytest
from helpers.loaded_tree import error_of, load
from helpers.tree import without_labels, write_tree

from ct_rate_pairs import LABELS
from ct_rate_pairs.readers import reader_of, split_of
from ct_rate_pairs.reports import LABELER
from ct_rate_pairs.sources.ages import years_of


def test_not_given_is_never_taught(tree):
    texts = [turn[0]["content"] for turn in load(tree, "none", split="test").with_format(None)["completion"]]
    assert "Findings: Finding 0." in texts and "Findings: Finding 1.\nImpression: Impression 1." in texts
    assert not any("Not given" in text for text in texts)


def test_marks_of_missing_texts_are_left_out_by_name_and_the_other_section_teaches(own_tree, caplog):
    file = own_tree / "dataset/radiology_text_reports/validation_reports.csv"
    table = pd.read_csv(file)
    marks = ["-", "Yok", "N/A", "No report.", "#NAME?", "NOT GIVEN ", "null", "."]
    table.loc[0:7, "Findings_EN"] = marks
    table.loc[4:7, "Impressions_EN"] = marks[4:]
    table.to_csv(file, index=False)
    rows = load(own_tree, "none", split="test").with_format(None)
    assert rows["volume"][:] == [f"valid_{i}_a_1.nii.gz" for i in (2, 3, 4, 9, 10, 11, 12)]
    texts = [turn[0]["content"] for turn in rows["completion"]]
    assert texts[:3] == [f"Impression: Impression {i}." for i in (1, 2, 3)]
    assert not any(mark in text for text in texts for mark in ("Yok", "N/A", "No report", "#NAME"))
    assert "5 of the 12 scans of the split 'test' have no findings+impression" in caplog.text
    assert "the first: valid_1_a_1.nii.gz" in caplog.text


def test_each_text_in_another_language_is_taught_and_counted_by_section(own_tree, caplog):
    load(own_tree, "none", split="test")
    assert "seem to be in" not in caplog.text
    file = own_tree / "dataset/radiology_text_reports/validation_reports.csv"
    table = pd.read_csv(file)
    table.loc[table["VolumeName"] == "valid_7_a_1.nii.gz", "Impressions_EN"] = "Sağ akciğerde nodül izlendi."
    table.to_csv(file, index=False)
    assert len(load(own_tree, "none", split="test")) == len(load(own_tree, "none", split="test", target="findings"))
    told = {message for message in caplog.messages if "seem to be in" in message}
    assert len(told) == 1
    message = told.pop()
    assert "1 of the 11 texts in the impression of the split 'test'" in message
    assert "Turkish, the first: valid_7_a_1.nii.gz" in message


def test_a_text_that_is_too_long_for_a_report_is_named_and_left_out_if_asked(own_tree, caplog):
    file = own_tree / "dataset/radiology_text_reports/validation_reports.csv"
    table = pd.read_csv(file)
    table.loc[table["VolumeName"] == "valid_7_a_1.nii.gz", "Findings_EN"] = "A nodule. " * 20_000
    table.to_csv(file, index=False)
    told = f"{file}, row of valid_7_a_1.nii.gz: Findings_EN and Impressions_EN have 200,"
    assert told in error_of(own_tree, split="test")
    rows = load(own_tree, "none", split="test", on_error="skip").with_format(None)
    assert "valid_7_a_1.nii.gz" not in rows["volume"][:] and told in caplog.text


def test_an_age_or_a_sex_that_cannot_be_read_is_told_and_left_out(own_tree, caplog):
    file = own_tree / "dataset/metadata/validation_metadata.csv"
    table = pd.read_csv(file).astype(object)
    table.loc[0:3, "PatientAge"] = ["018M", "63", 63, None]
    table.loc[0:3, "PatientSex"] = ["male", "Female", "1", None]
    table.to_csv(file, index=False)
    rows = load(own_tree, "none", split="test").with_format(None)
    assert rows["age"][:5] == [1, None, None, None, 36]
    assert rows["sex"][:5] == ["M", "F", None, None, "F"]
    assert "2 of the 12 cells of PatientAge are left out, the first: '63' of valid_2_a_1.nii.gz" in caplog.text
    assert "1 of the 12 cells of PatientSex are left out, the first: '1' of valid_3_a_1.nii.gz" in caplog.text


def test_an_age_that_nobody_has_is_told_and_left_out(own_tree, caplog):
    file = own_tree / "dataset/metadata/validation_metadata.csv"
    table = pd.read_csv(file).astype(object)
    table.loc[0:4, "PatientAge"] = ["999Y", "130Y", "000Y", "000D", "122Y"]
    table.to_csv(file, index=False)
    rows = load(own_tree, "none", split="test").with_format(None)
    assert rows["age"][:6] == [None, None, None, 0, 122, 36]
    assert "3 of the 12 cells of PatientAge are left out, the first: '999Y'" in caplog.text


@pytest.mark.parametrize(
    ("told", "years"),
    [
        *(("036Y", 36), ("102Y", 102), ("122Y", 122), ("018M", 1), ("000M", 0), ("000W", 0), ("000D", 0)),
        *(("123Y", None), ("999Y", None), ("000Y", None), ("045y", None), ("45", None), ("", None), ("nan", None)),
        *(("999M", 83), ("999W", 19), ("999D", 2), ("1234Y", None), ("-36Y", None)),
    ],
)
def test_years_are_read_from_every_unit(told, years):
    assert years_of(told) == years


@pytest.mark.parametrize("column", ["Findings_EN", "Impressions_EN"])
@pytest.mark.parametrize("streaming", [False, True])
def test_a_split_without_a_text_is_told_with_the_reason(own_tree, column, streaming):
    file = own_tree / "dataset/radiology_text_reports/train_reports.csv"
    table = pd.read_csv(file).assign(**{column: "Not given."})
    table.to_csv(file, index=False)
    target = {"Findings_EN": "findings", "Impressions_EN": "impression"}[column]
    told = error_of(own_tree, split="train[:3]" if not streaming else "train", target=target, streaming=streaming)
    assert f"no row in the split 'train': of its {len(table)} scans, none has a {target}" in told
    with pytest.raises(ValueError, match=f"none has a {target}"):
        split_of(load(own_tree, target=target), "train")
    assert len(load(own_tree, "none", split="test", target=target))


def test_a_split_without_a_patient_is_told_with_the_reason(own_tree):
    told = error_of(own_tree, split="validation", validation_size=0.0)
    assert "no row in the split 'validation': validation_size=0.0 takes no patient of the split 'train'" in told


@pytest.mark.parametrize("options", [{"sep": ";"}, {"sep": "\t"}, {"encoding": "utf-16"}])
def test_a_table_that_a_spreadsheet_saved_otherwise_is_refused_with_the_remedy(own_tree, options):
    file = own_tree / "dataset/radiology_text_reports/train_reports.csv"
    pd.read_csv(file).to_csv(file, index=False, **options)
    with pytest.raises(ValueError, match=r"train_reports\.csv .*CSV in UTF-8, with commas"):
        load(own_tree)


def test_one_reconstruction_a_scan(own_tree):
    folder = own_tree / "dataset/valid_fixed/valid_3/valid_3_a"
    (folder / "valid_3_a_2.nii.gz").write_bytes((folder / "valid_3_a_1.nii.gz").read_bytes())
    for file in own_tree.glob("dataset/*/valid*.csv"):
        table = pd.read_csv(file)
        twin = table[table["VolumeName"] == "valid_3_a_1.nii.gz"].assign(VolumeName="valid_3_a_2.nii.gz")
        pd.concat([twin, table]).to_csv(file, index=False)
    names = load(own_tree, "none", split="test").with_format(None)["volume"]
    assert "valid_3_a_1.nii.gz" in names and "valid_3_a_2.nii.gz" not in names and len(names) == 12
    names = load(own_tree, "none", split="test", reconstructions="all").with_format(None)["volume"]
    assert {"valid_3_a_1.nii.gz", "valid_3_a_2.nii.gz"} <= set(names) and len(names) == 13


@pytest.mark.parametrize(
    "entry", ["valid_4_a_1", "valid_4_a_1.nii.gz,", "valid_4/valid_4_a/valid_4_a_1.nii.gz", "VolumeName"]
)
def test_an_entry_of_no_chest_that_is_no_name_is_told(own_tree, caplog, entry):
    (own_tree / "dataset/metadata/no_chest_valid.txt").write_text(f"\ufeffvalid_5_a_1.nii.gz\n{entry}\n", "utf-8")
    names = load(own_tree, "none", split="test").with_format(None)["volume"][:]
    assert "valid_4_a_1.nii.gz" in names and "valid_5_a_1.nii.gz" not in names
    assert f"no_chest_valid.txt: 1 of 2 entries are no names of volumes, the first: {entry!r}" in caplog.text


@pytest.mark.parametrize(
    ("table", "column"),
    [
        ("radiology_text_reports/validation_reports.csv", "Findings_EN"),
        ("multi_abnormality_labels/valid_predicted_labels.csv", "Lung nodule"),
        ("metadata/validation_metadata.csv", "PatientAge"),
        ("metadata/validation_metadata.csv", "VolumeName"),
    ],
)
def test_a_column_that_is_there_twice_is_refused(own_tree, table, column):
    file = own_tree / "dataset" / table
    cells = pd.read_csv(file)
    cells.insert(1, column, cells.iloc[:, -1].tolist(), allow_duplicates=True)
    cells.to_csv(file, index=False)
    assert f"{file}: two columns are called '{column}'. Rename or remove one" in error_of(own_tree, split="test")


def test_no_chest_volumes_are_left_out(own_tree):
    (own_tree / "dataset/metadata/no_chest_valid.txt").write_text("valid_4_a_1.nii.gz\n")
    assert "valid_4_a_1.nii.gz" not in load(own_tree, "none", split="test").with_format(None)["volume"]


def test_a_cohort_written_anew_serves_no_stale_index(own_tree):
    assert len(load(own_tree, "none", split="test")) == 12
    write_tree(own_tree, scans=13)
    assert len(load(own_tree, "none", split="test")) == 13


def test_bad_tables_are_named_with_the_remedy(own_tree):
    labels = own_tree / "dataset/multi_abnormality_labels/train_predicted_labels.csv"
    whole = labels.read_text()
    labels.write_text(whole.replace("Lung nodule", "Nodule"))
    assert "no column 'Lung nodule'" in error_of(own_tree) and str(labels) in error_of(own_tree)
    labels.write_text(whole.replace(",1,", ",7,", 1))
    assert "row 2" in error_of(own_tree) and "0 or 1" in error_of(own_tree)
    labels.write_text(whole.replace("train_2_a_1.nii.gz", "train_2_a.nii.gz"))
    assert f"{labels}, row 3: 'train_2_a.nii.gz' is not a CT-RATE volume name" in error_of(own_tree)
    labels.write_text("")
    assert "not a readable CSV" in error_of(own_tree)
    labels.write_text(whole[: whole.rindex("train_12")])
    assert "train_12_a_1.nii.gz" in error_of(own_tree) and "on_error='skip'" in error_of(own_tree)
    assert len(load(own_tree, "none", on_error="skip", split="train+validation")) == 11
    labels.unlink()
    assert str(labels) in error_of(own_tree)


def test_a_cohort_without_label_tables_gets_the_labels_of_its_reports_and_says_so(own_tree, caplog):
    rows = load(without_labels(own_tree), "none", split="test", target="findings")
    stated = [{LABELS[i] for i in np.flatnonzero(labels)} for labels in rows.with_format(None)["labels"]]
    # From the whole report, whatever is taught
    assert stated == [{"Lung nodule"}, {"Lung nodule", "Emphysema"}] * 6
    told = [message for message in caplog.messages if "There is no label table" in message]
    assert "18 labels of the 12 volumes in validation_reports.csv are read from their reports by the rule" in told[-1]
    assert reader_of(rows).source.labels_from == "rules"


def test_labels_that_were_given_later_serve_no_stale_index(own_tree):
    tables = {file: file.read_text() for file in (own_tree / "dataset/multi_abnormality_labels").iterdir()}
    by_rules = load(without_labels(own_tree), "none", split="test").with_format(None)["labels"][:]
    for file, text in tables.items():
        file.write_text(text)
    rows = load(own_tree, "none", split="test")
    assert rows.with_format(None)["labels"][:] != by_rules and reader_of(rows).source.labels_from == "table"


def test_the_index_follows_the_labeler_that_reads_its_labels(own_tree, monkeypatch, tmp_path):
    source = reader_of(load(without_labels(own_tree), "none", split="test")).source
    before, other = source.fingerprint(), tmp_path / "terms.py"
    other.write_text("# of another release")
    for place in range(len(LABELER)):
        changed = (*LABELER[:place], other, *LABELER[place + 1 :])
        monkeypatch.setattr("ct_rate_pairs.sources.tree.LABELER", changed)
        assert source.fingerprint() != before


def test_labels_are_never_read_from_a_report_in_another_language(own_tree, caplog):
    file = without_labels(own_tree) / "dataset/radiology_text_reports/validation_reports.csv"
    table = pd.read_csv(file)
    table.loc[table["VolumeName"] == "valid_7_a_1.nii.gz", "Findings_EN"] = "Sağ akciğerde nodül izlendi."
    table.to_csv(file, index=False)
    error = error_of(own_tree)
    assert f"{file}, row of valid_7_a_1.nii.gz: the report seems to be in Turkish. There is no label table" in error
    assert "(1 such volumes). Translate these reports, give the 18 labels of each volume in such a table" in error
    names = load(own_tree, "none", split="test", on_error="skip").with_format(None)["volume"][:]
    assert len(names) == 11 and "valid_7_a_1.nii.gz" not in names and "valid_7_a_1.nii.gz" in caplog.text


def test_one_label_table_of_two_is_a_missing_table(own_tree):
    missing = own_tree / "dataset/multi_abnormality_labels/valid_predicted_labels.csv"
    missing.unlink()
    assert f"{missing} is missing" in error_of(own_tree)
