"""Questions and labels of other data sets are joined to scans by the names of the volumes."""

import pandas as pd
import pytest
from datasets import load_dataset
from helpers.other_sets import STATES, write_rad_chestct, write_radgenome, write_three_d_rad
from helpers.tree import SPACING, write_tree

from ct_rate_pairs.__main__ import main
from ct_rate_pairs.joins.questions import one_answer_each
from ct_rate_pairs.joins.rad_chestct import LABELS_ASKED, MAPPING, UNKNOWN
from ct_rate_pairs.reports.labels import LABELS
from ct_rate_pairs.sources.csv_tables import TableError
from ct_rate_pairs.sources.own_table import OwnTable


SHOWN = {"spacing": SPACING, "num_slices": 4, "task": "own_questions"}


@pytest.fixture
def scans(tmp_path):
    """Two patients a split, whose volumes a test may add tables to."""
    return write_tree(tmp_path / "CT-RATE", 2)


def rows_of(table) -> pd.DataFrame:
    return pd.read_csv(table, dtype=str, keep_default_na=False)


def test_questions_of_3d_rad_are_asked_of_volumes_of_ct_rate(scans, tmp_path, capsys):
    files = write_three_d_rad(tmp_path / "3DRAD", [1, 2, 77])
    main(["join", "3d-rad", str(files), "--data_dir", str(scans)])
    told = capsys.readouterr().out
    assert "12 questions about 4 scans (train 2, test 2)" in told
    assert "2 of 6 volumes with questions have no scan" in told and "valid_77_a_1.nii.gz" in told
    assert "taken for the volumes valid_1_a_1.nii.gz" in told
    listed = (scans / "3d-rad_unmatched.txt").read_text().split()
    assert sorted(listed) == ["train_77_a_1.nii.gz", "valid_77_a_1.nii.gz"]

    table = rows_of(scans / "3d-rad.csv")
    first = table[table["scan"].str.endswith("/valid_1_a_1.nii.gz")]
    assert set(first["answer"]) == {"No", "30 mm", STATES[0]} and set(first["patient"]) == {"valid_1"}
    labels = rows_of(scans / "dataset/multi_abnormality_labels/valid_predicted_labels.csv").iloc[0]
    assert first.iloc[0][list(LABELS)].tolist() == labels[list(LABELS)].tolist() and first.iloc[0]["age"] == "36"
    assert not first.iloc[1:][list(LABELS)].to_numpy().any()
    asked = first.set_index("answer")["question"]
    assert asked["No"] == "Is hiatal hernia present on the CT scan?" and asked["30 mm"].endswith("aorta?")
    assert asked[STATES[0]].endswith(f"\nAnswer with one of: {'; '.join(STATES)}.")

    data = load_dataset("ct_rate_pairs", "heter", table=str(scans / "3d-rad.csv"), validation_size=0.0, **SHOWN)
    assert data["train"].num_rows == data["test"].num_rows == 6
    row = data["test"][0]
    assert row["labels"] == [int(labels[label]) for label in LABELS] and len(row["images"]) == 4
    assert row["negative_volume"] != row["volume"]


def test_questions_of_radgenome_have_wording_and_each_one_answer(scans, tmp_path, capsys):
    files = write_radgenome(tmp_path / "files", ["train_1_a_1.nii.gz", "train_2_a_1.nii.gz"])
    main(["join", "radgenome", str(files), "--data_dir", str(scans)])
    told = capsys.readouterr().out
    assert "wording is this package's own" in told and "4 that repeat another" in told
    table = rows_of(scans / "radgenome.csv")
    asked = table[table["scan"].str.contains("train_1_a_1")].set_index("question")["answer"].to_dict()
    assert asked == {
        "Region: lung. Does it show ground glass areas, nodule? Answer yes or no.": "Yes.",
        "Region: right lung. Does it show nodule? Answer yes or no.": "Yes.",
        "Region: pleura. Does it show pleural effusion? Answer yes or no.": "No.",
        "Region: right lung. Which abnormalities does it show?": "nodule",
        "Region: right lung. What is the size of the nodule?": "6x4 mm, 3 mm",
        "In which regions does this chest CT show nodule?": "lung, right lung",
        "Which disorders does this chest CT suggest?": "emphysema, hiatal hernia",
    }
    main(["join", "radgenome", str(files / "train_vqa_size.csv"), "--data_dir", str(scans)])
    assert "2 questions about 2 scans (train 2)." in capsys.readouterr().out


def test_what_chooses_two_answers_is_left_out_and_counted():
    rows = [
        *(("a", "Is it?", "Yes", False), ("a", "Is it?", "no.", False)),
        *(("a", "Which of these?", "one", True), ("a", "Which of these?", "two", True)),
        *(("a", "Where?", "left", False), ("a", "Where?", "right", False), ("a", "Where?", "left", False)),
        *(("b", "Where?", "left", False), (None, "Where?", "left", False), ("b", "How?", None, False)),
    ]
    joined = one_answer_each(pd.DataFrame(rows, columns=["volume", "question", "answer", "closed"]))
    kept = joined.asked[["volume", "question", "answer"]].to_numpy().tolist()
    assert sorted(kept) == [["a", "Where?", "left, right"], ["b", "Where?", "left"]]
    assert (joined.incomplete, joined.repeated, joined.contradicting) == (2, 1, 2)


def test_labels_of_rad_chestct_are_questions_and_what_is_not_known_is_not_asked(tmp_path, capsys):
    folder = write_rad_chestct(tmp_path / "RAD-ChestCT", shape=(56, 60, 60))
    (folder / "tst00003.npz").unlink()
    main(["join", "rad-chestct", str(folder), "--data_dir", str(folder)])
    told = capsys.readouterr().out
    assert "176 questions about 11 scans (test 3, train 4, validation 4)" in told
    assert "1 of 12 volumes with questions have no scan" in told and "tst00003" in told
    assert "does not tell Mosaic attenuation pattern" in told
    table = rows_of(folder / "rad-chestct.csv")
    assert not set(LABELS) & set(table) and set(table["question"]) == set(LABELS_ASKED) and len(LABELS_ASKED) == 16
    assert not table["question"].str.contains("mosaic").any()
    both = "Does this chest CT show calcification of the arterial walls or calcification of the coronary arteries? "
    assert f"{both}Answer yes or no." in LABELS_ASKED
    of_scan = table.groupby("scan")["answer"].unique()
    assert [of_scan[f"trn0000{number}.npz"].tolist() for number in range(2)] == [["No"], ["Yes"]]
    assert table.set_index("scan")["patient"]["val00002.npz"].iloc[0] == "val-patient-1"

    data = load_dataset("ct_rate_pairs", table=str(folder / "rad-chestct.csv"), **SHOWN)
    assert {name: len(set(rows["volume"])) for name, rows in data.items()} == {"train": 4, "validation": 4, "test": 3}
    assert len(data["test"][0]["images"]) == 4
    assert "not known and are given as 0" in " ".join(OwnTable(folder / "rad-chestct.csv").doubts())


def test_each_label_of_ct_rate_is_mapped_once_or_unknown():
    known = [label for labels in MAPPING for label in labels]
    assert sorted([*known, *UNKNOWN]) == sorted(LABELS) and UNKNOWN == ("Mosaic attenuation pattern",)


def test_a_place_of_a_finding_makes_no_difference_and_one_is_enough(tmp_path):
    folder = write_rad_chestct(tmp_path / "rad", 2)
    file = folder / "imgtest_Abnormality_and_Location_Labels.csv"
    labels = pd.read_csv(file)
    labels.loc[0, "nodulegr1cm*heart"] = 1
    labels.loc[0, "pleural_effusion*left_lung"] = 1
    labels.to_csv(file, index=False)
    main(["join", "rad-chestct", str(folder), "--data_dir", str(folder), "--output_file", str(folder / "own.csv")])
    table = rows_of(folder / "own.csv")
    yes = table[(table["scan"] == "tst00000.npz") & (table["answer"] == "Yes")]["question"]
    assert {LABELS_ASKED[question] for question in yes} == {("Lung nodule",), ("Pleural effusion",)}


def damaged(file, change) -> None:
    table = pd.read_csv(file, dtype=str)
    change(table).to_csv(file, index=False)


RAD_LABELS = "imgtest_Abnormality_and_Location_Labels.csv"


@pytest.mark.parametrize(
    ("name", "file", "change", "told"),
    [
        ("3d-rad", "test/Task4_Existence_Detection/Hiatal hernia.csv", lambda t: t.drop(columns="Answer"),
         r"Hiatal hernia\.csv has no column 'Answer' \(it has: Task, Subtask, VolumeName"),
        ("radgenome", "train_vqa_size.csv", lambda t: t.rename(columns={"Size": "size"}),
         r"train_vqa_size\.csv has no column 'Size'"),
        ("rad-chestct", RAD_LABELS, lambda t: t.drop(columns=[c for c in t if c.startswith("fibrosis*")]),
         r"imgtest.*has no column 'fibrosis\*"),
        ("rad-chestct", RAD_LABELS, lambda t: t.assign(**{"hernia*heart": ["0", "2", "0", "0"]}),
         r"imgtest.*row 3, column 'hernia\*heart': a label is 0 or 1"),
        ("rad-chestct", "CT_Scan_Metadata_Complete_35747.csv", lambda t: t[:3],
         r"CT_Scan_Metadata.*has no row of tst00000, which imgtest"),
        ("rad-chestct", "CT_Scan_Metadata_Complete_35747.csv", lambda t: t.drop(columns="MRN_DEID"),
         r"CT_Scan_Metadata.*has no column 'MRN_DEID'"),
    ],
)  # fmt: skip
def test_other_forms_are_refused_by_file_and_column(scans, tmp_path, name, file, change, told):
    match name:
        case "3d-rad":
            folder = write_three_d_rad(tmp_path / "set", [1, 2])
        case "radgenome":
            folder = write_radgenome(tmp_path / "set", ["train_1_a_1.nii.gz"])
        case _:
            folder = scans = write_rad_chestct(tmp_path / "set")
    damaged(folder / file, change)
    with pytest.raises(TableError, match=told):
        main(["join", name, str(folder), "--data_dir", str(scans)])
    assert not list(scans.glob("*_unmatched.txt")) and not (scans / f"{name}.csv").exists()


def test_what_cannot_be_joined_is_told_with_the_remedy(scans, tmp_path, capsys):
    files = write_three_d_rad(tmp_path / "3DRAD", [70])
    with pytest.raises(TableError, match=r"None of the 2 volumes with questions, such as .*_70_a_1.* has a scan in"):
        main(["join", "3d-rad", str(files), "--data_dir", str(scans)])
    with pytest.raises(FileNotFoundError, match="There is no file or folder"):
        main(["join", "3d-rad", str(tmp_path / "none"), "--data_dir", str(scans)])
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match=r"holds no file img\*_Abnormality"):
        main(["join", "rad-chestct", str(tmp_path / "empty"), "--data_dir", str(scans)])
    write_radgenome(tmp_path / "files", ["train_1_a_1.nii.gz"])
    with pytest.raises(TableError, match="its name tells no kind of questions"):
        main(["join", "radgenome", str(tmp_path / "files" / "train_region_report.csv"), "--data_dir", str(scans)])
    with pytest.raises(SystemExit):
        main(["join", "3d-rad", str(files), "--data_dir", str(scans), "--output_file", str(tmp_path / "other.csv")])
    assert "scans lie below their table" in capsys.readouterr().err
