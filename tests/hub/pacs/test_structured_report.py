"""A Structured Report says what the report says, of the patient and the images that it is of, and is not for sure."""

import subprocess

import pytest
from helpers.dicom_reports import TEXT, report_of
from helpers.dicom_series import PLANTED, enhanced, slices
from helpers.tiny_reader import AFFINE, make_voxels
from highdicom.sr import ComprehensiveSR
from pydicom import dcmread

from ct_rate_pairs.hub.pacs.finding_codes import CODES
from ct_rate_pairs.hub.pacs.structured_report import make_structured_report
from ct_rate_pairs.reports.labels import LABELS


def datasets(**attributes):
    return slices(make_voxels((1, 0, 1)), AFFINE, **attributes)


def kept(report, tmp_path) -> ComprehensiveSR:
    """The document as it is read back from its file."""
    make_structured_report(report).save_as(tmp_path / "sr.dcm", enforce_file_format=True)
    return ComprehensiveSR.from_dataset(dcmread(tmp_path / "sr.dcm"))


def named(content, meaning: str) -> list:
    """The items below a content item that have a name."""
    return [item for item in content.ContentSequence if item.ConceptNameCodeSequence[0].CodeMeaning == meaning]


def test_it_belongs_to_patient_and_study_and_is_not_for_sure(tmp_path):
    document = kept(report_of(datasets(PatientSex="F", StudyID="7")), tmp_path)
    assert (document.PatientName, document.PatientID, document.PatientBirthDate) == (
        "DOE^JANE",
        "4711-0815",
        "19450102",
    )
    assert (document.StudyInstanceUID, document.StudyDate, document.PatientSex) == ("1.2.826.0.1.777", "20240229", "F")
    assert document.SeriesInstanceUID != "1.2.826.0.1.777.1" and document.Modality == "SR"
    flags = (document.CompletionFlag, document.PreliminaryFlag, document.VerificationFlag)
    assert flags == ("PARTIAL", "PRELIMINARY", "UNVERIFIED")
    root = document.content[0]
    assert named(root, "Comment")[0].value.startswith("Not a medical device.")
    assert named(root, "Observer Type")[0].value.meaning == "Device"
    assert named(root, "Device Observer Model Name")[0].value == "USER/model, version 4f5e"


def test_each_stated_finding_has_its_code_confidence_sentence_and_images(tmp_path):
    report = report_of(datasets())
    (findings,) = named(kept(report, tmp_path).content[0], "Findings")
    text, material, heart = named(findings, "Finding")
    assert text.value.replace("\r\n", "\n") == TEXT
    assert (material.value.scheme_designator, material.value.meaning) == ("99CTRATEPAIRS", "Medical material")
    assert (heart.value.value, heart.value.scheme_designator) == ("8186001", "SCT")
    (certainty,) = named(heart, "Certainty of Finding")
    assert (certainty.value, certainty.unit.value) == (75.0, "%")
    assert named(heart, "Comment")[0].value == "Cardiomegaly is seen."
    images = [item.referenced_sop_instance_uid for item in named(heart, "Best illustration of finding")]
    assert images == [report.instances.images[number - 1].sop_instance_uid for number in (3, 4)]
    (others,) = named(findings, "Comment")
    assert others.value.startswith("Not stated") and "Atelectasis (< 1%)" in others.value
    assert "Cardiomegaly" not in others.value


def test_it_names_the_images_that_the_model_saw_as_its_evidence(tmp_path):
    report = report_of(datasets())
    document = kept(report, tmp_path)
    seen = [image.sop_instance_uid for image in report.instances.images]
    assert [
        item.referenced_sop_instance_uid for item in document.content[0].ContentSequence[-1].ContentSequence
    ] == seen
    assert sorted(uid for *_, uid, _ in document.get_evidence()) == sorted(seen)
    frames = kept(report_of([enhanced(datasets(SliceThickness=8, SpacingBetweenSlices=8))]), tmp_path)
    library = frames.content[0].ContentSequence[-1].ContentSequence
    assert len({item.referenced_sop_instance_uid for item in library}) == 1
    assert len({tuple(item.referenced_frame_numbers) for item in library}) == len(library) == 6


def test_what_makes_a_report_doubtful_stands_at_its_top_and_nothing_counts_as_absent(tmp_path):
    report = report_of(
        datasets(),
        cut=True,
        told=["Its axes are guessed."],
        line_set_by="given findings",
        unlike=["slices of 9 mm"],
        trained_on="phantoms",
        forced=True,
    )
    root = kept(report, tmp_path).content[0]
    told = " ".join(item.value for item in named(root, "Comment"))
    assert "met its limit of tokens" in told and "Its axes are guessed." in told and "set by given findings" in told
    assert (
        "trained on phantoms" in told and "unlike those" in told and "slices of 9 mm" in told and "was forced" in told
    )
    assert named(named(root, "Findings")[0], "Comment") == []


@pytest.mark.parametrize(
    ("name", "encoding"), [("王^小东", "GB18030"), ("Müller^Jörg", "ISO_IR 100"), ("Иванов^Иван", "ISO_IR 144")]
)
def test_a_name_in_any_script_stays_the_name_of_the_patient(tmp_path, name, encoding):
    document = kept(report_of(datasets(SpecificCharacterSet=encoding, PatientName=name), text="肺气肿。"), tmp_path)
    assert document.PatientName == name and document.SpecificCharacterSet == "ISO_IR 192"
    (language,) = named(document.content[0], "Language of Content Item and Descendants")
    assert language.value.value == "zh"
    assert named(named(document.content[0], "Findings")[0], "Finding")[0].value == "肺气肿。"


def test_dcmtk_reads_it(tmp_path):
    make_structured_report(report_of(datasets())).save_as(tmp_path / "sr.dcm", enforce_file_format=True)
    done = subprocess.run(["dsrdump", "+Pl", tmp_path / "sr.dcm"], capture_output=True, text=True, check=True)
    assert "Verification Flag   : UNVERIFIED" in done.stdout and "E:" not in done.stderr
    assert '=(8186001,SCT,"Cardiomegaly")' in done.stdout and "clip" in done.stdout


def test_what_cannot_have_one_is_refused_without_a_word_of_the_patient(caplog):
    with pytest.raises(ValueError, match="report a DICOM scan"):
        make_structured_report(report_of(datasets(), instances=None))
    without = datasets()
    for dataset in without:
        dataset.StudyInstanceUID = ""
    with pytest.raises(ValueError, match="lack a UID"):
        make_structured_report(report_of(without))
    with pytest.raises(ValueError, match="holds a value that a Structured Report may not have") as raised:
        make_structured_report(report_of(datasets(PatientSex="DOE")))
    assert not [word for word in PLANTED if word in str(raised.value) + caplog.text]


def test_the_codes_are_those_of_the_dictionary_of_dicom_where_it_has_them():
    from pydicom.sr._concepts_dict import concepts

    assert list(CODES) == list(LABELS) and len({code.value for code in CODES.values()}) == len(LABELS)
    known = {
        (scheme, value): meaning
        for scheme in ("SCT", "DCM")
        for terms in concepts[scheme].values()
        for value, (meaning, _) in terms.items()
    }
    of_dicom = [code for code in CODES.values() if (code.scheme, code.value) in known]
    assert len(of_dicom) >= 7 and all(known[code.scheme, code.value] == code.meaning for code in of_dicom)
