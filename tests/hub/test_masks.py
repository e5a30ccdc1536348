"""A mask for each stated finding, at the voxels of the scan where the finding is; and what has none is told."""

import json
import shutil
from copy import copy
from dataclasses import replace
from functools import partial

import nibabel as nib
import numpy as np
import pytest
import torch
from helpers.command import call
from helpers.dicom_series import PLANTED, slices, write
from helpers.mask_reader import THRESHOLD
from helpers.scan_reports import said_in, without_patches
from helpers.tiny_reader import AFFINE, FINDINGS, make_row, make_voxels, save_nifti
from highdicom.seg import segread

from ct_rate_pairs.hub import load_reporter
from ct_rate_pairs.hub.report import main
from ct_rate_pairs.hub.reporting import masks, sheet
from ct_rate_pairs.hub.reporting.batch import report_batch
from ct_rate_pairs.hub.reporting.files import format_report
from ct_rate_pairs.hub.reporting.locating import score_of
from ct_rate_pairs.hub.reporting.masks import Masker, load_masker
from ct_rate_pairs.hub.reporting.page import format_page
from ct_rate_pairs.masks.rexgrounding import CATEGORIES
from ct_rate_pairs.reports.labels import LABELS
from ct_rate_pairs.trainer.mask_head import CELLS, MaskHead


SHOWN = (1, 0, 1)
STATED_HERE = ["Emphysema", "Pleural effusion"]


@pytest.fixture(scope="module")
def reporter(mask_reader_dir):
    return load_reporter(mask_reader_dir, device="cpu")


def drawn_in(shown) -> np.ndarray:
    """Where something is drawn in the array of [`make_voxels`], `[X, Y, K]`, feet first."""
    drawn = np.zeros((28, 28, 12), bool)
    for third, here in enumerate(reversed(shown)):
        drawn[6:20, 6:20, 4 * third : 4 * third + 4] = here
    return drawn


def overlap(mask: np.ndarray, box: np.ndarray, planes: list[int]) -> float:
    """Intersection over union on the planes that the slices show."""
    mask, box = mask[:, :, planes], box[:, :, planes]
    return float((mask & box).sum() / (mask | box).sum())


def turned(file, to: str):
    """A scan with its array in another order."""
    image = nib.load(file)
    own = nib.orientations.io_orientation(image.affine)
    turn = nib.orientations.ornt_transform(own, nib.orientations.axcodes2ornt(to))
    return image.as_reoriented(turn)


@pytest.mark.slow_but_first
@pytest.mark.parametrize("order", ["SRP", "RAS", "PIR"])
def test_a_mask_lies_in_the_file_of_the_scan_where_its_finding_is_drawn(reporter, tmp_path, order):
    scan = save_nifti(tmp_path / "scan.nii.gz", SHOWN)
    nib.save(turned(scan, order), tmp_path / "turned.nii.gz")
    report = reporter.report(tmp_path / "turned.nii.gz", max_new_tokens=60)
    assert list(report.masks.shown) == STATED_HERE == [f.label for f in report.findings if f.stated]
    report.masks.save(tmp_path / "masks")
    for finding in FINDINGS:
        file = tmp_path / f"masks/{finding.lower().replace(' ', '_')}.nii.gz"
        assert file.is_file() == (finding in STATED_HERE)
        if file.is_file():
            assert nib.load(file).shape == nib.load(tmp_path / "turned.nii.gz").shape
            back = turned(file, "LPS")
            np.testing.assert_allclose(back.affine, nib.load(scan).affine, atol=1e-4)
            planes = [11 - plane for plane in report.masks.plan.seen_planes]
            assert overlap(back.get_fdata() > 0, drawn_in(SHOWN), planes) > 0.7
            assert not np.delete(back.get_fdata(), planes, axis=2).any()


@pytest.mark.slow
def test_the_command_writes_masks_beside_the_report_and_a_segmentation_of_the_same_voxels(
    mask_reader_dir, tmp_path, capfd
):
    series, out = (
        write(tmp_path / "series", slices(make_voxels(SHOWN), AFFINE, FrameOfReferenceUID="1.2.3")),
        (tmp_path / "out"),
    )
    order = (series, "--model_name_or_path", mask_reader_dir, "--output_dir", out, "--device", "cpu")
    assert call(main, *order, "--masks", "--seg", tmp_path / "masks.dcm") == 0
    assert "sheet.png, 2 masks" in capfd.readouterr().out
    told = json.loads((out / "report.json").read_text())["masks"]
    assert told["files"] == {label: f"masks/{label.lower().replace(' ', '_')}.nii.gz" for label in STATED_HERE}
    assert told["thresholds"] == dict.fromkeys(STATED_HERE, THRESHOLD)
    assert told["seen_planes"] == {"axis": "z", "places": [0, 2, 4, 6, 8, 10]}
    kept = b"".join(said_in(out / name) for name in ("report.json", *told["files"].values())).decode("latin-1")
    assert not [word for word in PLANTED if word in kept]
    assert (tmp_path / "masks.dcm").stat().st_mode & 0o777 == 0o600
    document = segread(tmp_path / "masks.dcm")
    assert [document.get_segment_description(n).segment_label for n in (1, 2)] == STATED_HERE
    for number, label in enumerate(STATED_HERE, start=1):
        voxels = nib.load(out / told["files"][label]).get_fdata() > 0  # [X, Y, K]
        uids = [f"1.2.826.0.1.777.1.{plane + 1}" for plane in told["seen_planes"]["places"]]
        frames = document.get_pixels_by_source_instance(uids, segment_numbers=[number], ignore_spatial_locations=True)
        np.testing.assert_array_equal(
            frames[..., 0] > 0, voxels[:, :, told["seen_planes"]["places"]].transpose(2, 1, 0)
        )
    assert call(main, *order) == 0  # the masks of the earlier report are gone
    assert not list((out / "masks").iterdir()) and "masks" not in json.loads((out / "report.json").read_text())


@pytest.mark.slow
def test_masks_are_outlined_where_they_are_and_told_beside_their_findings(reporter, tmp_path):
    report = without_patches(reporter.report(save_nifti(tmp_path / "scan.nii.gz", SHOWN)))
    label, shown = "Emphysema", report.masks.shown["Emphysema"]
    report = replace(report, masks=replace(report.masks, shown={label: shown}))
    colour = sheet.colour_of(report, report.findings[LABELS.index(label)])
    on = []
    for index, place in enumerate(report.slices):
        tile = report.native.images("lung")[index].resize((420, 420))
        drawn = np.asarray(sheet.slice_block(report, index, {"lung": tile}))
        top = sheet.written("slice 1", 420).height + sheet.GAP // 2  # of the tile, below its caption
        outlined = np.flatnonzero((drawn == colour).all(axis=-1)[top : top + 420, :420].any(axis=0))
        if len(columns := np.flatnonzero(shown[index].any(axis=0))):
            on.append(place.number)
            np.testing.assert_allclose(outlined[[0, -1]], [15 * columns[0], 15 * (columns[-1] + 1)], atol=2)
        else:
            assert not len(outlined)
    assert on == [1, 2, 5, 6]  # the head has the places of all findings
    page = format_page(report)
    assert page.count('class="mask"') == 4 and page.count("· mask on slices") == 1
    assert "on slices: Emphysema: 1, 2, 5, 6." in format_report(report)


@pytest.mark.slow
def test_a_batch_writes_the_masks_of_each_scan_and_resumes_only_with_the_same_files(reporter, tmp_path, capsys):
    scans = [save_nifti(tmp_path / f"{number}.nii.gz", SHOWN, seed=number) for number in (1, 2)]
    files = ["emphysema.nii.gz", "pleural_effusion.nii.gz"]
    batch = partial(report_batch, reporter, scans, tmp_path / "out", max_new_tokens=60)
    assert batch() == [] and not list(tmp_path.glob("out/*/masks/*"))
    assert batch(with_masks=True) == [] and "finished before" not in capsys.readouterr().out
    assert sorted(path.name for path in tmp_path.glob("out/*/masks/*")) == sorted(files * 2)
    assert batch(with_masks=True) == [] and capsys.readouterr().out.count("finished before") == 2


@pytest.mark.parametrize("option", [("--masks",), ("--seg", "masks.dcm")])
def test_a_model_without_a_mask_head_is_told_before_it_writes(reader_dir, tmp_path, capfd, option):
    series = write(tmp_path / "series", slices(make_voxels(SHOWN), AFFINE))
    option = [word if word.startswith("-") else tmp_path / word for word in option]
    order = ("--model_name_or_path", reader_dir, "--output_dir", tmp_path / "out", "--device", "cpu")
    assert call(main, series, *order, *option) == 2
    assert "Masks need a model with a mask head (mask_head.safetensors)" in capfd.readouterr().err
    assert not (tmp_path / "out" / "report.json").exists()


def test_a_segmentation_is_of_one_dicom_scan(mask_reader_dir, tmp_path, capfd):
    scan = save_nifti(tmp_path / "scan.nii.gz", SHOWN)
    order = ("--model_name_or_path", mask_reader_dir, "--output_dir", tmp_path / "out", "--seg", tmp_path / "m.dcm")
    assert call(main, scan, *order) == 2
    assert "--seg needs a DICOM scan" in capfd.readouterr().err


def test_what_is_stated_and_has_no_place_is_told(mask_reader_dir, tmp_path):
    reporter = load_reporter(mask_reader_dir, device="cpu")
    reporter.masker.fitted["Emphysema"] = 1.1
    report = reporter.report(save_nifti(tmp_path / "scan.nii.gz", SHOWN), max_new_tokens=60)
    assert (list(report.masks.shown), report.masks.without) == (["Pleural effusion"], ["Emphysema"])
    assert report.told == ["The mask head shows no place for what the report states: Emphysema."]
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    for number, image in enumerate(make_row(SHOWN)["images"]):
        image.save(pictures / f"{number}.png")
    report = reporter.report(pictures, max_new_tokens=60)
    assert report.masks is None and "There are no masks: pictures do not tell where they lie." in report.told


def test_names_of_other_masks_stand_for_the_labels_that_they_state(reader):
    head = MaskHead(8, list(CATEGORIES.values()), 2)
    masker = Masker(head, {"Micronodules": 0.2, "Pulmonary nodules or masses": 0.3})
    names = {label: [head.names[place] for place in places] for label, places in masker.channels.items()}
    assert names["Lung nodule"] == ["Micronodules", "Pulmonary nodules or masses"]
    assert names["Atelectasis"] == names["Consolidation"] == ["Atelectasis or consolidation"]
    assert "Cardiomegaly" not in names
    assert masker.thresholds("Lung nodule") == {"Micronodules": 0.2, "Pulmonary nodules or masses": 0.3}
    assert masker.threshold("Emphysema") == 0.5
    assert Masker(MaskHead(8, LABELS, 2)).channels == {label: [place] for place, label in enumerate(LABELS)}


@pytest.mark.parametrize(
    ("micronodules", "nodules", "is_mask"),
    [(0.1, 0.25, False), (0.19, 0.29, False), (0.1, 0.35, True), (0.25, 0, True)],
)
def test_each_finding_of_the_head_meets_its_own_threshold(reporter, monkeypatch, micronodules, nodules, is_mask):
    shares = {"Micronodules": micronodules, "Pulmonary nodules or masses": nodules}
    head = MaskHead(8, list(shares), 2)
    cells = torch.tensor(list(shares.values()))[None, :, None, None, None].expand(3, -1, 2, CELLS, CELLS)
    monkeypatch.setattr(masks, "predict_cells", lambda *inputs: cells)
    masker = Masker(head, {"Micronodules": 0.2, "Pulmonary nodules or masses": 0.3})
    inputs = (reporter.model, reporter.collator, make_row(SHOWN))
    found = masker.masks(*inputs, None, ["Lung nodule"])
    assert found.without == ["Lung nodule"] * (not is_mask)
    if is_mask:
        assert found.shown["Lung nodule"].all()
        assert found.thresholds == {"Micronodules": 0.2, "Pulmonary nodules or masses": 0.3}
    highest = masker.shares(*inputs, ["Lung nodule"])["Lung nodule"].max()
    assert (score_of(highest, masker.threshold("Lung nodule")) >= 0.5) == is_mask  # so `locate` agrees


@pytest.mark.slow
def test_a_finding_without_a_fitted_threshold_takes_a_half_and_is_told(reporter, mask_reader_dir, tmp_path):
    """`masks.json` has no threshold of what validation does not show, and of nothing if it was not measured."""
    head = mask_reader_dir / "mask_head.safetensors"
    shutil.copy(head, tmp_path)
    assert load_masker(str(tmp_path), None, reporter.model).fitted == {}
    scores = json.loads((mask_reader_dir / "masks.json").read_text())
    scores["model"]["findings"]["Emphysema"]["threshold"] = None
    (tmp_path / "masks.json").write_text(json.dumps(scores))
    masker = load_masker(str(tmp_path), None, reporter.model)
    assert (masker.threshold("Emphysema"), masker.threshold("Pleural effusion")) == (0.5, THRESHOLD)
    assert masker.unfitted(FINDINGS) == ["Emphysema"]
    other = copy(reporter)
    other.masker = masker
    scan = save_nifti(tmp_path / "scan.nii.gz", SHOWN)
    report = other.report(scan, max_new_tokens=60)
    told = "No threshold could be fitted for Emphysema: masks begin at a share of 0.5, which was not measured."
    assert told in report.told and report.masks.to_dict()["unfitted"] == ["Emphysema"]
    assert told in other.locate(scan, "Emphysema.").told and told not in other.locate(scan, "Pleural effusion.").told
    assert told not in reporter.report(scan, max_new_tokens=60).told
