"""A Segmentation marks the very pixels of the masks on the images. It is of the patient, and unverified."""

import subprocess
from dataclasses import replace

import numpy as np
import pytest
from helpers.dicom_reports import report_of
from helpers.dicom_series import PLANTED, enhanced, slices
from highdicom.seg import Segmentation, segread

from ct_rate_pairs.hub.pacs.finding_codes import CODES
from ct_rate_pairs.hub.pacs.segmentation import make_segmentation


COS, SIN = np.cos(np.radians(10)), np.sin(np.radians(10))
STRAIGHT = np.diag([-4.0, -4.0, 8.0, 1.0])
# Of patients who lie on their front, who came feet first, and whose images have the columns of others as rows.
AFFINES = {
    "as usual": STRAIGHT,
    "prone": np.array([[4.0, 0, 0, 0], [0, 4.0, 0, 0], [0, 0, 8.0, 0], [0, 0, 0, 1]]),
    "feet first": np.array([[-4.0, 0, 0, 20], [0, -4.0, 0, 30], [0, 0, -8.0, 700], [0, 0, 0, 1]]),
    "rows for columns": np.array([[0, -4.0, 0, 0], [-4.0, 0, 0, 0], [0, 0, 8.0, 0], [0, 0, 0, 1]]),
    "oblique": np.array([[-4 * COS, -4 * SIN, 0, 5], [4 * SIN, -4 * COS, 0, 6], [0, 0, 8.0, 7], [0, 0, 0, 1]]),
}


def series(affine=STRAIGHT, **attributes):
    """Images `[20, 28]` of 12 planes of a body, in which some voxels are bright."""
    bright = np.zeros((28, 20, 12), bool)
    bright[4:24, 4:14] = np.random.default_rng(0).random((20, 10, 12)) < 0.3
    voxels = np.where(bright, 300, -850).astype(np.int16)
    voxels[:, -4:] = 40
    return slices(voxels, affine, **{"FrameOfReferenceUID": "1.2.3", "StudyID": "7", **attributes})


def kept(report, tmp_path) -> Segmentation:
    """The document as it is read back from its file."""
    make_segmentation(report).save_as(tmp_path / "seg.dcm")
    return segread(tmp_path / "seg.dcm")


def bright_in(dataset) -> np.ndarray:
    return dataset.pixel_array > 200


@pytest.mark.parametrize("lying", AFFINES)
def test_the_frames_of_a_segment_are_the_bright_pixels_of_the_images_that_they_name(tmp_path, lying):
    datasets = series(AFFINES[lying])
    report = report_of(datasets, masked=True)
    document = kept(report, tmp_path)
    images = {dataset.SOPInstanceUID: dataset for dataset in datasets}
    seen = [image.sop_instance_uid for image in report.instances.images]
    frames = document.get_pixels_by_source_instance(seen, segment_numbers=[1, 2])
    for uid, frame in zip(seen, frames, strict=True):
        np.testing.assert_array_equal(frame[..., 0] > 0, bright_in(images[uid]))
        assert 0 < (frame[..., 1] > 0).sum() < (frame[..., 0] > 0).sum()
    assert sorted(uid for *_, uid in document.get_source_image_uids()) == sorted(seen)
    for item in document.PerFrameFunctionalGroupsSequence:
        source = images[item.DerivationImageSequence[0].SourceImageSequence[0].ReferencedSOPInstanceUID]
        assert list(item.PlanePositionSequence[0].ImagePositionPatient) == list(source.ImagePositionPatient)
    shared = document.SharedFunctionalGroupsSequence[0]
    np.testing.assert_allclose(
        shared.PlaneOrientationSequence[0].ImageOrientationPatient, datasets[0].ImageOrientationPatient, atol=1e-6
    )
    assert shared.PixelMeasuresSequence[0].PixelSpacing == [4, 4]


def test_frames_of_an_enhanced_ct_are_named_by_their_numbers(tmp_path):
    datasets = series(SliceThickness=8, SpacingBetweenSlices=8)
    report = report_of([enhanced(datasets)], masked=True)
    document = kept(report, tmp_path)
    numbers = [image.frame for image in report.instances.images]
    uid = report.instances.images[0].sop_instance_uid
    frames = document.get_pixels_by_source_frame(uid, numbers, segment_numbers=[1], ignore_spatial_locations=True)
    for number, frame in zip(numbers, frames, strict=True):
        np.testing.assert_array_equal(frame[..., 0] > 0, bright_in(datasets[number - 1]))
    assert document.SourceImageSequence[0].ReferencedSOPClassUID.name == "Enhanced CT Image Storage"
    assert (
        len(document.SourceImageSequence) == len(document.ReferencedSeriesSequence[0].ReferencedInstanceSequence) == 1
    )


def test_slices_of_one_thick_image_are_one_frame(tmp_path):
    datasets = series(np.diag([-4.0, -4.0, 20.0, 1.0]))[:3]
    report = report_of(datasets, masked=True)
    assert len(report.images) == 6
    document = kept(report, tmp_path)
    assert len(document.PerFrameFunctionalGroupsSequence) == 6  # three images, two segments


def test_it_belongs_to_patient_and_study_and_is_not_for_sure(tmp_path):
    document = kept(report_of(series(PatientSex="F"), masked=True), tmp_path)
    assert (document.PatientName, document.PatientID, document.StudyID) == ("DOE^JANE", "4711-0815", "7")
    assert (document.StudyInstanceUID, document.Modality) == ("1.2.826.0.1.777", "SEG")
    assert document.SeriesInstanceUID != "1.2.826.0.1.777.1" and document.FrameOfReferenceUID == "1.2.3"
    assert document.SeriesDescription == "Coarse masks of a model, unverified. Not a medical device."
    assert "THORAX" not in str(document)
    heart, material = (document.get_segment_description(number) for number in (1, 2))
    assert (heart.segmented_property_type.value, heart.segment_label) == ("8186001", "Cardiomegaly")
    assert material.segmented_property_type.value == CODES["Medical material"].value
    assert material.segmented_property_category.meaning == "Physical object"
    assert heart.algorithm_type.value == "AUTOMATIC" and heart.algorithm_identification.version == "4f5e"


@pytest.mark.parametrize(("name", "encoding"), [("王^小东", "GB18030"), ("Müller^Jörg", "ISO_IR 100")])
def test_a_name_in_any_script_stays_the_name_of_the_patient(tmp_path, name, encoding):
    document = kept(report_of(series(SpecificCharacterSet=encoding, PatientName=name), masked=True), tmp_path)
    assert document.PatientName == name and document.SpecificCharacterSet == "ISO_IR 192"


def test_dcmtk_reads_it(tmp_path):
    make_segmentation(report_of(series(), masked=True)).save_as(tmp_path / "seg.dcm")
    done = subprocess.run(["dcmdump", tmp_path / "seg.dcm"], capture_output=True, text=True, check=True)
    assert "=SegmentationStorage" in done.stdout and done.stdout.count("[8186001]") == 1 and not done.stderr


def test_what_cannot_have_one_is_refused_without_a_word_of_the_patient(caplog):
    with pytest.raises(ValueError, match="report a DICOM scan"):
        make_segmentation(report_of(series(), masked=True, instances=None))
    with pytest.raises(ValueError, match="has no mask head"):
        make_segmentation(report_of(series()))
    with pytest.raises(ValueError, match="lack a FrameOfReferenceUID"):
        make_segmentation(report_of(series(FrameOfReferenceUID=""), masked=True))
    with pytest.raises(ValueError, match="lack a UID"):
        make_segmentation(report_of(series(StudyInstanceUID=""), masked=True))
    with pytest.raises(ValueError, match="holds a value that a Segmentation may not have") as raised:
        make_segmentation(report_of(series(PatientSex="DOE"), masked=True))
    assert not [word for word in PLANTED if word in str(raised.value) + caplog.text]


def test_without_a_mask_there_is_no_segmentation():
    report = report_of(series(), masked=True)
    assert make_segmentation(replace(report, masks=replace(report.masks, shown={}))) is None
