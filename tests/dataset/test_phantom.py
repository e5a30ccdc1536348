"""The phantom cohort: files, statistics, findings that stay where the report says, and reports that tell the truth."""

import csv
import hashlib
import re
import subprocess
import sys
from collections import Counter

import nibabel as nib
import numpy as np
import pytest
from helpers.command import call
from helpers.shares import mostly_slow
from hypothesis import given, settings
from hypothesis import strategies as st

from ct_rate_pairs import LABELS
from ct_rate_pairs.phantom import Scan, write_cohort
from ct_rate_pairs.phantom.__main__ import main
from ct_rate_pairs.phantom.cohort import plan_cohort
from ct_rate_pairs.phantom.english_words import NOT_GIVEN
from ct_rate_pairs.phantom.prevalence import draw_labels
from ct_rate_pairs.phantom.reports import write_report
from ct_rate_pairs.random_streams import random_stream
from ct_rate_pairs.reports.readable import is_chinese, unread_language
from ct_rate_pairs.reports.rules import label_report


# Volumes of CT-RATE's 47,149 training volumes with each label, in official order.
TRAIN_VOLUMES = 47149
POSITIVE_VOLUMES = (
    *(5818, 13377, 5308, 3412, 12025, 6751, 12221, 9122, 12263),
    *(21382, 17420, 12589, 5705, 3638, 4973, 8319, 4732, 3745),
)
FIELD_OF_VIEW = (336.0, 336.0, 320.0)
SHAPE = (84, 84, 40)
COARSE = (48, 48, 24)
ALL = np.ones(len(LABELS), int)


def without(labels, label):
    labels = np.array(labels)
    labels[LABELS.index(label)] = 0
    return labels


def ten_planes(volume):
    """The planes of ten slices, by linear interpolation along z: float `[10, x, y]`, superior first."""
    count = volume.shape[2]
    heights = count - (np.arange(10) + 0.5) / 10 * count - 0.5
    low = np.floor(heights).astype(int)
    share = heights - low
    planes = volume[:, :, low] * (1 - share) + volume[:, :, np.minimum(low + 1, count - 1)] * share
    return np.clip(planes, -1000, 1000).transpose(2, 0, 1)


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    out = tmp_path_factory.mktemp("phantom")
    shape, spacing = COARSE, [size / count for size, count in zip(FIELD_OF_VIEW, COARSE, strict=True)]
    write_cohort(out, 24, seed=3, valid_scans=4, shape=shape, spacing=spacing, workers=1)
    return out / "dataset"


@pytest.fixture(scope="module")
def reports():
    """400 scans with CT-RATE's labels: labels, findings and the two sections, no voxels."""
    rows = []
    for plan in plan_cohort(400, seed=5):
        scan = Scan(5, (plan.split, plan.patient, plan.scan), plan.labels, FIELD_OF_VIEW)
        rows.append((scan, *write_report(random_stream(5, plan.patient, plan.scan, 7), scan.findings)))
    return rows


def read(path):
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


# --- files ----------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_tree_and_the_csvs_are_ct_rates(cohort):
    for split, reports_csv, valid in (("train", "train", "train"), ("valid", "validation", "valid")):
        volumes = sorted(path.name for path in (cohort / f"{split}_fixed").rglob("*.nii.gz"))
        for path in (cohort / f"{split}_fixed").rglob("*.nii.gz"):
            patient, scan = re.fullmatch(rf"({split}_\d+)_([ab])_[12]\.nii\.gz", path.name).groups()
            assert path.parent.relative_to(cohort).as_posix() == f"{split}_fixed/{patient}/{patient}_{scan}"
        texts = read(cohort / "radiology_text_reports" / f"{reports_csv}_reports.csv")
        labels = read(cohort / "multi_abnormality_labels" / f"{valid}_predicted_labels.csv")
        metadata = read(cohort / "metadata" / f"{reports_csv}_metadata.csv")
        assert (cohort / "metadata" / f"no_chest_{valid}.txt").read_text() == ""
        for rows in (texts, labels, metadata):
            assert sorted(row["VolumeName"] for row in rows) == volumes
        assert list(texts[0]) == [
            *("VolumeName", "ClinicalInformation_EN", "Technique_EN", "Findings_EN", "Impressions_EN")
        ]
        assert list(labels[0]) == ["VolumeName", *LABELS]
        assert {"PatientSex", "PatientAge", "XYSpacing", "ZSpacing", "RescaleIntercept"} <= set(metadata[0])
        assert re.fullmatch(r"\d{3}Y", metadata[0]["PatientAge"])


def test_reconstructions_share_report_and_labels_but_not_voxels(cohort):
    texts = {row["VolumeName"]: row for row in read(cohort / "radiology_text_reports" / "train_reports.csv")}
    labels = {
        row["VolumeName"]: row for row in read(cohort / "multi_abnormality_labels" / "train_predicted_labels.csv")
    }
    pairs = [name for name in texts if name.endswith("_2.nii.gz")]
    assert pairs
    for second in pairs:
        first = second.replace("_2.nii", "_1.nii")
        for table in (texts, labels):
            assert list(table[first].values())[1:] == list(table[second].values())[1:]
        one, two = (nib.load(next(cohort.rglob(name))) for name in (first, second))
        assert one.shape != two.shape
        assert np.allclose(np.array(one.shape) * one.header.get_zooms(), np.array(two.shape) * two.header.get_zooms())


def test_volumes_are_hu_with_axes_left_back_head(cohort):
    image = nib.load(next(cohort.rglob("train_1_a_1.nii.gz")))
    assert nib.aff2axcodes(image.affine) == ("L", "P", "S")
    assert image.get_data_dtype() == np.int16
    row = next(r for r in read(cohort / "metadata" / "train_metadata.csv") if r["VolumeName"] == "train_1_a_1.nii.gz")
    assert (int(row["Columns"]), int(row["Rows"]), int(row["NumberofSlices"])) == image.shape
    assert float(row["ZSpacing"]) == pytest.approx(image.header.get_zooms()[2], rel=1e-4)
    volume = np.asarray(image.dataobj)
    assert np.median(volume[0]) == pytest.approx(-1000, abs=30)  # air about the patient
    assert volume.min() >= -1024


def test_anatomy_lies_on_its_side():
    scan = Scan(0, (0, 1, 1), np.zeros(18, int), FIELD_OF_VIEW)
    volume = scan.render(SHAPE).astype(float)
    middle = volume[:, :, SHAPE[2] // 2]
    left = np.arange(SHAPE[0]) >= SHAPE[0] // 2
    lung = (middle < -600) & (middle > -940)
    assert lung[left].sum() < lung[~left].sum()  # the heart takes from the left lung
    bone = middle > 250
    back = np.arange(SHAPE[1]) >= SHAPE[1] // 2
    assert bone[:, back].sum() > bone[:, ~back].sum()  # the spine is behind
    slices = (volume < -600).sum(axis=(0, 1)) - (volume < -950).sum(axis=(0, 1))
    assert slices[: SHAPE[2] // 5].sum() < slices[-SHAPE[2] // 2 :].sum()  # the abdomen is below


def digests(folder):
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file()
    }


@pytest.mark.slow
def test_the_same_seed_writes_the_same_bytes_with_any_number_of_workers(cohort, tmp_path):
    spacing = [size / count for size, count in zip(FIELD_OF_VIEW, COARSE, strict=True)]
    write_cohort(tmp_path, 24, seed=3, valid_scans=4, shape=COARSE, spacing=spacing, workers=2)
    assert digests(tmp_path / "dataset") == digests(cohort)


def test_slabs_do_not_show(monkeypatch):
    scan = Scan(2, (0, 1, 1), ALL, FIELD_OF_VIEW)
    whole = scan.render(COARSE)
    monkeypatch.setattr("ct_rate_pairs.phantom.scan.SLAB_VOXELS", 48 * 48 * 5)
    monkeypatch.setattr("ct_rate_pairs.phantom.scan.NOISE_HU", {"soft": 0.0})
    in_slabs = scan.render(COARSE)
    monkeypatch.setattr("ct_rate_pairs.phantom.scan.SLAB_VOXELS", 48 * 48 * 24)
    assert np.abs(scan.render(COARSE).astype(int) - in_slabs).max() <= 1
    assert np.abs(whole.astype(int) - in_slabs).max() > 1  # the noise, which is drawn slab by slab


def test_the_command_writes_a_cohort(tmp_path):
    size = ("--shape", 24, 24, 12, "--spacing", 14, 14, 26.7)
    assert call(main, "--output_dir", tmp_path, "--scans", 2, "--workers", 1, *size) == 0
    assert len(list((tmp_path / "dataset" / "train_fixed").rglob("*_1.nii.gz"))) == 2


def test_a_field_of_view_without_a_thorax_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"cannot hold a thorax.*at least \(320"):
        write_cohort(tmp_path, 1, shape=(64, 64, 32), spacing=(3.0, 3.0, 5.0))
    with pytest.raises(ValueError, match="at least one scan"):
        write_cohort(tmp_path, 0)
    assert not list(tmp_path.iterdir())


# --- findings -------------------------------------------------------------------------------------------------------


# The demo's geometry, and a field of view that is wide about the thorax
@pytest.mark.slow_but_first
@pytest.mark.parametrize(("shape", "field_of_view"), [((84, 56, 40), (378.0, 252.0, 260.0)), (SHAPE, FIELD_OF_VIEW)])
@pytest.mark.parametrize("label", mostly_slow(LABELS))
def test_a_finding_switched_off_changes_its_region_only_and_shows_on_one_of_the_ten_planes(
    label, shape, field_of_view
):
    rng = np.random.default_rng(LABELS.index(label))
    seen = []
    for patient in range(1, 7):
        labels = draw_labels(rng)[0]
        labels[LABELS.index(label)] = 1
        name = (0, patient, 1)
        scan = Scan(8, name, labels, field_of_view)
        present, absent = scan.render(shape), Scan(8, name, without(labels, label), field_of_view).render(shape)
        assert not ((present != absent) & ~scan.region(label, shape)).any()
        contrast = np.abs(ten_planes(present) - ten_planes(absent))
        seen.append(max((plane > 100).sum() for plane in contrast))
        if label == "Lung nodule" and scan.findings[label].size <= 6:
            seen.pop()  # a small nodule may lie between the planes
    assert len(seen) >= 3
    # Of six patients one may have the finding behind another: a nodule in a pleural effusion, say.
    assert sorted(seen)[1] >= 4


@pytest.mark.slow
@settings(max_examples=5, deadline=None)
@given(seed=st.integers(0, 10**6), patient=st.integers(1, 10**5))
def test_no_finding_leaves_its_region_even_when_all_are_there(seed, patient):
    scan = Scan(seed, (0, patient, 1), ALL, FIELD_OF_VIEW)
    present = scan.render(COARSE)
    for label in LABELS:
        absent = Scan(seed, (0, patient, 1), without(ALL, label), FIELD_OF_VIEW).render(COARSE)
        assert not ((present != absent) & ~scan.region(label, COARSE)).any(), label


@pytest.mark.slow
def test_most_nodules_are_large_enough_for_a_plane():
    only = np.eye(18, dtype=int)[LABELS.index("Lung nodule")]
    sizes = [Scan(0, (0, n, 1), only, FIELD_OF_VIEW).findings["Lung nodule"].size for n in range(300)]
    assert 0.08 < np.mean(np.array(sizes) <= 6) < 0.22
    assert {4, 6} < set(sizes) and max(sizes) > 24


def centroid(label, patient):
    only = np.eye(18, dtype=int)[LABELS.index(label)]
    name = (0, patient, 1)
    scan = Scan(21, name, only, FIELD_OF_VIEW)
    changed = scan.render(COARSE) != Scan(21, name, 0 * only, FIELD_OF_VIEW).render(COARSE)
    # The volume's axes run left, back and head; millimetres from its middle.
    place = [index.mean() for index in np.nonzero(changed)]
    return scan.findings[label], (np.array(place) + 0.5 - np.array(COARSE) / 2) * np.array(FIELD_OF_VIEW) / np.array(
        COARSE
    )


@pytest.mark.slow_but_first
@pytest.mark.parametrize(
    "label",
    ["Lung nodule", "Lung opacity", "Consolidation", "Bronchiectasis", "Atelectasis", "Pleural effusion"],
)
def test_the_reported_side_is_the_side_of_the_voxels_and_the_place_varies(label):
    drawn = [centroid(label, patient) for patient in range(1, 19)]
    # A small nodule may slip between the voxels of a volume as coarse as this.
    drawn = [(finding, place) for finding, place in drawn if label != "Lung nodule" or finding.size > 6]
    for finding, (left, _, _) in drawn:
        if finding.side == "both":
            assert abs(left) < 50
        else:
            assert (left > 0) == (finding.side == "left")
    assert {"left", "right"} <= {finding.side for finding, _ in drawn}
    # Fluid always sinks to the back and the base, so its place varies in side and height only.
    least = (40, 1, 8) if label == "Pleural effusion" else (40, 8, 12)
    assert (np.std([place for _, place in drawn], axis=0) > least).all()


@pytest.mark.slow
def test_a_place_in_a_lobe_varies_over_the_lobe():
    only = np.eye(18, dtype=int)[LABELS.index("Consolidation")]
    patients = [
        n for n in range(400) if Scan(21, (0, n, 1), only, FIELD_OF_VIEW).findings["Consolidation"].lobe == "lower"
    ]
    places = np.array([centroid("Consolidation", n)[1] for n in patients[:24]])
    assert np.ptp(np.abs(places[:, 0])) > 25 and np.ptp(places[:, 1]) > 30 and np.ptp(places[:, 2]) > 50


# --- labels ---------------------------------------------------------------------------------------------------------


def test_labels_have_ct_rates_prevalence_co_occurrence_and_number():
    rng = np.random.default_rng(0)
    labels = np.concatenate([draw_labels(rng) for _ in range(20000)])
    prevalence = np.array(POSITIVE_VOLUMES) / TRAIN_VOLUMES
    assert np.abs(labels.mean(axis=0) - prevalence).max() < 0.012
    both = {pair: np.mean(labels[:, LABELS.index(pair[0])] & labels[:, LABELS.index(pair[1])]) for pair in PAIRS}
    for pair, share in PAIRS.items():
        assert both[pair] == pytest.approx(share, abs=0.008), pair
    count = labels.sum(axis=1)
    assert count.mean() == pytest.approx(3.45, abs=0.06)
    assert 0.07 < np.mean(count == 0) < 0.13 and 0.01 < np.mean(count >= 10) < 0.04


# Share of CT-RATE's training volumes with both labels.
PAIRS = {
    ("Arterial wall calcification", "Coronary artery wall calcification"): 0.2186,
    ("Lung opacity", "Consolidation"): 0.1259,
    ("Lung nodule", "Lung opacity"): 0.1382,
    ("Medical material", "Pleural effusion"): 0.0427,
    ("Emphysema", "Mosaic attenuation pattern"): 0.0090,
    ("Peribronchial thickening", "Bronchiectasis"): 0.0384,
}


def test_second_scans_resemble_the_first_and_keep_the_prevalence():
    rng = np.random.default_rng(1)
    pairs = np.stack([draw_labels(rng, 2) for _ in range(6000)])  # [patients, 2, 18]
    prevalence = np.array(POSITIVE_VOLUMES) / TRAIN_VOLUMES
    assert np.abs(pairs[:, 1].mean(axis=0) - prevalence).max() < 0.025
    nodule = pairs[:, :, LABELS.index("Lung nodule")]
    assert nodule[nodule[:, 0] == 1, 1].mean() > nodule[nodule[:, 0] == 0, 1].mean() + 0.3


# --- reports --------------------------------------------------------------------------------------------------------


def sentences(text):
    return re.findall(r"[^.?]+[.?]", text)


@pytest.mark.slow
def test_most_sentences_of_a_report_are_shared_by_many_reports(reports):
    split = [{sentence.strip() for sentence in sentences(findings)} for _, findings, _ in reports]
    shared = Counter(sentence for one in split for sentence in one)
    share = [np.mean([(shared[s] - 1) / (len(split) - 1) >= 0.2 for s in one]) for one in split]
    assert np.mean(share) >= 0.6 and np.median(share) >= 0.6


def test_reports_have_ct_rates_length_and_a_small_vocabulary(reports):
    words = [re.findall(r"[a-z]+|\d+", f"{findings} {impression}".lower()) for _, findings, impression in reports]
    assert 110 <= np.median([len(one) for one in words]) <= 170
    assert 150 <= len({word for one in words for word in one}) <= 350
    missing = np.mean([impression == NOT_GIVEN for _, _, impression in reports])
    assert 0.005 < missing < 0.07


# What only a positive statement says, by label: each negative wording of these terms holds a negation.
TERMS = {
    "Medical material": "catheter|pacemaker|wires",
    "Arterial wall calcification": "aortic wall|plaques in the thoracic aorta",
    "Cardiomegaly": "heart size is increased|cardiomegaly",
    "Pericardial effusion": "pericardial effusion",
    "Coronary artery wall calcification": "coronary arteries",
    "Hiatal hernia": "hiatal hernia",
    "Lymphadenopathy": "enlarged lymph nodes|lymphadenopath",
    "Emphysema": "emphysema",
    "Atelectasis": "atelecta",
    "Lung nodule": "nodule",
    "Lung opacity": "ground glass",
    "Pulmonary fibrotic sequela": "sequelae",
    "Pleural effusion": "pleural effusion",
    "Mosaic attenuation pattern": "mosaic attenuation",
    "Peribronchial thickening": "peribronchial",
    "Consolidation": "consolidation",
    "Bronchiectasis": "bronchiecta",
    "Interlobular septal thickening": "interlobular sept",
}


def test_every_positive_label_is_stated_and_no_negative_one(reports):
    negation = re.compile(r"\b(no|not|without)\b")
    for scan, findings, impression in reports:
        said = [s.lower() for s in sentences(findings) if not negation.search(s.lower())]
        summed = impression.lower()
        for label, present in zip(LABELS, scan.labels, strict=True):
            assert any(re.search(TERMS[label], s) for s in said) == bool(present), (label, findings)
            if impression != NOT_GIVEN and scan.labels.any():
                assert bool(re.search(TERMS[label], summed)) == bool(present), (label, impression)


def test_the_rule_labeler_reads_the_labels_back(reports):
    for scan, findings, _ in reports:
        assert label_report(findings) == scan.labels.tolist(), findings


def test_reports_tell_the_findings_sides_lobes_and_sizes(reports):
    checked = 0
    for scan, findings, _ in reports:
        for label in ("Lung nodule", "Consolidation", "Lung opacity"):
            if label in scan.findings:
                finding = scan.findings[label]
                stated = [s for s in sentences(findings) if re.search(f"{TERMS[label]}", s.lower()) and " mm" in s]
                assert len(stated) == 1
                assert f"{finding.size} mm" in stated[0]
                assert f"the {finding.side} lung {finding.lobe} lobe" in stated[0]
                checked += 1
    assert checked > 200


def test_a_chinese_cohort_has_the_same_scans_and_labels_and_chinese_texts(tmp_path):
    for language in ("en", "zh"):
        write_cohort(tmp_path / language, 2, valid_scans=1, workers=1, language=language)
    english, chinese = (tmp_path / language / "dataset" for language in ("en", "zh"))
    for path in sorted(english.rglob("*.*")):
        same = path.read_bytes() == (chinese / path.relative_to(english)).read_bytes()
        assert same == ("radiology_text_reports" not in path.parts), path
    for row in csv.DictReader((chinese / "radiology_text_reports" / "train_reports.csv").open(encoding="utf-8")):
        assert unread_language(row["Findings_EN"]) is None and is_chinese(row["Findings_EN"])
    with pytest.raises(ValueError, match="language='tr' is unknown: choose one of 'en', 'zh'"):
        write_cohort(tmp_path / "other", 1, workers=1, language="tr")
    with pytest.raises(ValueError, match="other arguments"):
        write_cohort(tmp_path / "en", 2, valid_scans=1, workers=1, language="zh")


def test_a_folder_with_another_cohort_is_refused(tmp_path):
    write_cohort(tmp_path, 1, valid_scans=1, workers=1)
    write_cohort(tmp_path, 1, valid_scans=1, workers=1)  # the same again is no harm
    with pytest.raises(ValueError, match="other arguments"):
        write_cohort(tmp_path, 2, valid_scans=1, workers=1)


@pytest.mark.slow
def test_a_script_without_a_guard_of_its_main_module_ends_with_an_error(tmp_path):
    """Spawned workers run such a script again, and die. A pool of multiprocessing would start them anew, for ever."""
    script = tmp_path / "script.py"
    script.write_text(
        f"from ct_rate_pairs.phantom import write_cohort\nwrite_cohort({str(tmp_path / 'out')!r}, 9, workers=2)\n"
    )
    done = subprocess.run([sys.executable, script], check=False, capture_output=True, text=True, timeout=300)
    assert done.returncode and 'call write_cohort below `if __name__ == "__main__":`' in done.stderr
