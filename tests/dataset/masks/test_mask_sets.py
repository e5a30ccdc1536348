"""The layouts of masks: a table, ReXGroundingCT, TotalSegmentator. What is wrong with one is told with the remedy."""

import json
import pickle

import nibabel as nib
import numpy as np
import pytest
from helpers.drawn_masks import FINDINGS, write_masks, write_table

from ct_rate_pairs.json_files import JSONFileError
from ct_rate_pairs.masks import MaskSet
from ct_rate_pairs.masks.rexgrounding import CATEGORIES
from ct_rate_pairs.sources.csv_tables import TableError
from ct_rate_pairs.volumes.slicing import VolumeError


FIRST, SECOND, THIRD = (f"train_{number}_a_1.nii.gz" for number in (1, 10, 11))


def test_a_table_tells_findings_sentences_and_who_has_none(tree, tmp_path):
    masks = MaskSet(write_masks(tree, tmp_path, unknown=1, empty=1))
    assert masks.findings(FIRST) is None and masks.findings(SECOND) == []
    assert masks.findings(THIRD) == [{"finding": name, "sentence": f"{name}, case 1."} for name in FINDINGS]
    assert pickle.loads(pickle.dumps(masks)).findings(THIRD) == masks.findings(THIRD)
    assert MaskSet(tmp_path / "masks.csv").findings(THIRD) == masks.findings(THIRD)


def test_names_choose_among_the_masks(tree, tmp_path):
    masks = MaskSet(write_masks(tree, tmp_path, empty=1), FINDINGS[1:])
    assert masks.findings(FIRST) == []
    assert [told["finding"] for told in masks.findings(SECOND)] == ["Lung opacity"]
    with pytest.raises(ValueError, match=r"no mask of 'Lung nodul' \(is 'Lung nodule' meant"):
        MaskSet(tmp_path, ("Lung nodul",))


def save(file, array=None, names=None):
    file.parent.mkdir(parents=True, exist_ok=True)
    image = nib.Nifti1Image(np.zeros((4, 4, 4), np.uint8) if array is None else array, np.eye(4))
    if names:  # as TotalSegmentator's nifti_ext_header.py writes them
        labels = "".join(
            f'<Label Key="{value}" Red="1.0" Green="0.0" Blue="0.0" Alpha="1"><![CDATA[{name}]]></Label>\n'
            for value, name in names.items()
        )
        table = f'<VolumeInformation Index="0">   <LabelTable>\n{labels}\n  </LabelTable> </VolumeInformation>'
        xml = f'<?xml version="1.0" encoding="UTF-8"?> <CaretExtension> {table}</CaretExtension>\n              '
        image.header.extensions.append(nib.nifti1.Nifti1Extension(0, xml.encode()))
    nib.save(image, file)


@pytest.mark.parametrize("ending", [".nii.gz", ".nii"])
def test_structures_are_found_in_folders_and_in_files_that_name_them(tmp_path, ending):
    names = {10: "lung_upper_lobe_left", 51: "heart", 52: "aorta"}
    save(tmp_path / f"ts_total/train_fixed/train_1/train_1_a/train_1_a_1{ending}", names=names)
    save(tmp_path / f"ts_nodules/train_fixed/train_1/train_1_a/train_1_a_1{ending}", names={1: "lung_nodules"})
    for structure in ("heart", "aorta"):
        save(tmp_path / f"here/train_10_a_1/{structure}{ending}")
        save(tmp_path / f"radgenome/seg_valid_3_b_2/{structure}{ending}")
    save(tmp_path / f"else/atlas{ending}")  # of no volume
    masks = MaskSet(tmp_path)
    assert [told["finding"] for told in masks.findings(FIRST)] == ["lung_nodules", *names.values()]
    assert [(mask.value, mask.finding) for mask in masks._masks[FIRST][1:]] == list(names.items())
    for volume in (SECOND, "valid_3_b_2.nii.gz"):
        assert masks.findings(volume) == [{"finding": name, "sentence": ""} for name in ("aorta", "heart")]
    save(tmp_path / "more/train_11_a_1.nii.gz")
    with pytest.raises(TableError, match=r"train_11_a_1.nii.gz: its header does not name its structures.*masks.csv"):
        MaskSet(tmp_path)
    (tmp_path / "more/train_11_a_1.nii.gz").write_bytes(b"\x1f\x8bdamaged")
    with pytest.raises(VolumeError, match=r"train_11_a_1.nii.gz: (damaged|cannot be read)"):
        MaskSet(tmp_path)


def test_rexgrounding_tells_sentence_and_category_and_what_is_withheld(tmp_path, caplog):
    entry = {
        "name": FIRST,
        "findings": {"10": "Effusion.", "0": "Nodular consolidation in the right lower lobe."},
        "entity_counts": {"0": 1, "10": 2},
        "shape": [512, 512, 238],
        "pixels": {"0": 15571, "10": 3},
        "categories": {"0": "2b", "10": "2e"},
        "protocol": "protocol1",
    }
    withheld = {"name": SECOND, "findings": {"0": "Nodule."}}  # as in the challenge's split `test`
    none = {"name": THIRD, "findings": {}}
    (tmp_path / "dataset.json").write_text(json.dumps({"train": [entry, none], "val": [], "test": [withheld]}))
    save(tmp_path / "segmentations" / FIRST)
    masks = MaskSet(tmp_path)
    assert masks.findings(FIRST) == [
        {"finding": CATEGORIES["2b"], "sentence": entry["findings"]["0"]},
        {"finding": CATEGORIES["2e"], "sentence": "Effusion."},
    ]
    assert [mask.channel for mask in masks._masks[FIRST]] == [0, 10]
    assert masks.findings(SECOND) is None and masks.findings(THIRD) == []
    assert "1 of its volumes have no file in segmentations/" in caplog.text
    (tmp_path / "MICCAI_challenge_dataset.json").write_text(json.dumps({"val": [entry]}))
    assert MaskSet(tmp_path / "MICCAI_challenge_dataset.json").findings(FIRST) == masks.findings(FIRST)


@pytest.mark.parametrize(
    ("name", "findings"),
    [("../../secret.nii.gz", {"0": "Nodule."}), ("train_1_a_1", {}), (FIRST, {"../0": "N."}), (FIRST, {"0": 1})],
)
def test_a_table_of_rexgrounding_that_holds_something_else_is_refused(tmp_path, name, findings):
    (tmp_path / "dataset.json").write_text(json.dumps({"train": [{"name": name, "findings": findings}]}))
    with pytest.raises(JSONFileError, match=r"dataset.json: the field train.0"):
        MaskSet(tmp_path)


@pytest.mark.parametrize(
    ("row", "told"),
    [
        (("", "m.nii", "", "", ""), "row 2, column 'volume': it is empty"),
        ((FIRST, "", "", "Nodule", ""), "row 2, column 'file': it is empty"),
        ((FIRST, "absent.nii", "", "", ""), "row 2, column 'file': there is no such file"),
        ((FIRST, "../out.nii", "", "", ""), "row 2, column 'file': the path leads out"),
        ((FIRST, "/etc/passwd", "", "", ""), "row 2, column 'file': the path does not begin at the table"),
        ((FIRST, "m.nii", "0", "", ""), "column 'value': it is no whole number above 0"),
        ((FIRST, "m.nii", "heart", "", ""), "column 'value': it is no whole number above 0"),
    ],
)
def test_a_wrong_row_of_a_table_is_told_without_its_cells(tmp_path, row, told):
    (tmp_path / "out.nii").touch()
    table = write_table(tmp_path / "masks", [row])
    (tmp_path / "masks" / "m.nii").touch()
    with pytest.raises(TableError, match=told) as raised:
        MaskSet(table)
    assert FIRST not in str(raised.value) and "passwd" not in str(raised.value)


def test_what_holds_no_masks_is_told_with_what_would(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"masks: There is no file or folder .*absent"):
        MaskSet(tmp_path / "absent")
    with pytest.raises(
        ValueError, match=r"holds neither masks.csv .* nor dataset.json .* nor masks of TotalSegmentator"
    ):
        MaskSet(tmp_path)
    (tmp_path / "masks.csv").write_text("volumes,file\nx,y\n")
    with pytest.raises(TableError, match=r"it has no column 'volume' \(is 'volumes' meant"):
        MaskSet(tmp_path)
    (tmp_path / "m.nii.gz").touch()
    with pytest.raises(ValueError, match=r"is no table of masks \(.csv, .jsonl, .parquet\) and no JSON file"):
        MaskSet(tmp_path / "m.nii.gz")


def test_the_fingerprint_changes_with_a_mask(tree, tmp_path):
    folder = write_masks(tree, tmp_path)
    before = MaskSet(folder).fingerprint
    assert MaskSet(folder).fingerprint == before
    file = folder / "train_1_a_1/Lung nodule.nii.gz"
    image = nib.load(file)
    nib.save(nib.Nifti1Image(1 - np.asarray(image.dataobj).clip(0, 1), image.affine), file)
    assert MaskSet(folder).fingerprint != before
    assert MaskSet(folder, FINDINGS[:1]).fingerprint != before
