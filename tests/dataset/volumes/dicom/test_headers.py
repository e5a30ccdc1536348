"""Enhanced CT and deflated files: read as the single, plain files that they stand for."""

import gzip
import io

import numpy as np
import pytest
from helpers.dicom_series import ROOT, assert_refused, enhanced, hu, read, series, store, write
from helpers.marked_volume import marked_volume
from pydicom import Dataset, dcmwrite
from pydicom.dataelem import RawDataElement
from pydicom.uid import DeflatedExplicitVRLittleEndian, LegacyConvertedEnhancedCTImageStorage, RLELossless

from ct_rate_pairs.volumes.dicom import headers, plain_files
from ct_rate_pairs.volumes.scan_files import find_scans


def test_an_enhanced_ct_is_read_as_its_slices_one_by_one(tmp_path):
    single = read(write(tmp_path / "single", series()))
    stack = read(write(tmp_path / "enhanced", [enhanced(series())]))
    np.testing.assert_array_equal(hu(stack), marked_volume())
    np.testing.assert_allclose(stack.affine, single.affine)
    assert stack.stored.dtype == np.int16


def test_the_frames_of_an_enhanced_ct_are_sorted_by_their_places(tmp_path):
    datasets = series()
    mixed = [datasets[k] for k in np.random.default_rng(0).permutation(12)]
    np.testing.assert_array_equal(hu(read(write(tmp_path, [enhanced(mixed)]))), marked_volume())


def test_an_enhanced_ct_in_several_files_is_one_volume(tmp_path):
    parts = [enhanced(series()[:5]), enhanced(series()[5:])]
    np.testing.assert_array_equal(hu(read(write(tmp_path, parts))), marked_volume())


def test_each_frame_is_rescaled_by_its_own_slope(tmp_path):
    file = enhanced(series())
    del file.SharedFunctionalGroupsSequence[0].PixelValueTransformationSequence
    values = []
    for k, frame in enumerate(file.PerFrameFunctionalGroupsSequence):
        frame.PixelValueTransformationSequence = [item := Dataset()]
        item.RescaleSlope, item.RescaleIntercept, item.RescaleType = 1 + k % 2, -1000, "HU"
        values.append((marked_volume()[:, :, k].T.astype(np.int64) + 1000) // (1 + k % 2))
    file.PixelData = np.stack(values).astype(np.int16).tobytes()
    np.testing.assert_array_equal(hu(read(write(tmp_path, [file]))), marked_volume())


def test_two_acquisitions_in_one_enhanced_ct_are_told_apart(tmp_path):
    both = [*series(AcquisitionNumber=1), *series(AcquisitionNumber=2)]
    for dataset in both[12:]:
        store(dataset, np.frombuffer(dataset.PixelData, np.int16).reshape(16, 20) + np.int16(7))
    folder = write(tmp_path, [enhanced(both)])
    assert_refused(folder, r"several volumes(.|\n)*AcquisitionNumber 1\n(.|\n)*AcquisitionNumber 2$")
    np.testing.assert_array_equal(hu(read(folder, 2)), marked_volume() + 7)


def test_localizer_frames_and_missing_frames_are_found(tmp_path, caplog):
    datasets = series()
    datasets[0].ImageType = ["ORIGINAL", "PRIMARY", "LOCALIZER", "NONE"]
    assert len(read(write(tmp_path / "localizer", [enhanced(datasets)])).stored) == 11
    assert "localizers (1)" in caplog.text
    assert_refused(write(tmp_path / "gap", [enhanced(series()[:4] + series()[5:])]), "1 missing slices")
    short = enhanced(series())
    short.NumberOfFrames = 11
    assert_refused(write(tmp_path / "short", [short]), "NumberOfFrames is 11, but .* describes 12 frames")
    cut = enhanced(series())
    cut.PixelData = cut.PixelData[: 11 * 16 * 20 * 2]
    assert_refused(write(tmp_path / "cut", [cut]), "has 7040 bytes of pixels, but its header describes 7680: 12 x 16")


def test_a_converted_series_keeps_its_elements_in_groups_of_its_own(tmp_path):
    file = enhanced(series())
    file.SOPClassUID = LegacyConvertedEnhancedCTImageStorage
    for number, frame in enumerate(file.PerFrameFunctionalGroupsSequence):
        frame.UnassignedPerFrameConvertedAttributesSequence = [item := Dataset()]
        item.AcquisitionNumber, item.ImagePositionPatient = number, frame.PlanePositionSequence[0].ImagePositionPatient
        del frame.PlanePositionSequence
    np.testing.assert_array_equal(hu(read(write(tmp_path, [file]))), marked_volume())


@pytest.mark.parametrize("frames", [2, 12])
def test_frames_without_places_are_refused(tmp_path, frames):
    """As some programs export a volume: one file of the single-frame class, with many frames."""
    file = series(NumberOfFrames=frames)[0]
    file.PixelData *= frames
    del file.ImagePositionPatient, file.ImageOrientationPatient
    assert_refused(write(tmp_path, [file]), f"a file holds {frames} frames, but not where each frame lies")


def deflated(folder):
    datasets = series()
    for dataset in datasets:
        dataset.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    return write(folder, datasets)


def test_a_deflated_series_is_read_like_the_plain_one(tmp_path):
    np.testing.assert_array_equal(hu(read(deflated(tmp_path))), marked_volume())


def test_a_deflated_file_that_inflates_without_end_is_refused_before(tmp_path, monkeypatch):
    """Its header is read, and then no more than its pixels can have."""
    inflated = series(AdditionalPatientHistory="Y" * 10_000)
    for dataset in inflated:
        dataset.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
        dataset.add_new(0xFFFCFFFC, "OB", bytes(2**20))
    monkeypatch.setattr(headers, "_MOST_BESIDE", 2**19)
    monkeypatch.setattr(plain_files, "MOST_HEADER", 12_000)
    assert_refused(
        write(tmp_path, inflated), r"file \d+ of the scan has more than \d+ MB, but its header", of_file=True
    )
    monkeypatch.setattr(plain_files, "MOST_HEADER", 2**20)
    monkeypatch.setattr(headers, "_MOST_BESIDE", 2**21)
    np.testing.assert_array_equal(hu(read(tmp_path)), marked_volume())


def test_a_deflated_file_that_is_cut_is_refused(tmp_path):
    folder = deflated(tmp_path)
    for path in folder.iterdir():
        path.write_bytes(path.read_bytes()[:-40])
    assert_refused(folder, r"file 1 of the scan is damaged \(EOFError\)")


@pytest.mark.parametrize("keyword", ["AcquisitionNumber", "SeriesNumber", "SliceThickness", "KVP"])
def test_a_number_that_nothing_needs_may_be_unreadable(tmp_path, keyword):
    folder = write(tmp_path, series(**{keyword: 4711}))
    for path in folder.iterdir():
        path.write_bytes(path.read_bytes().replace(b"4711", b"x7x1"))
    np.testing.assert_array_equal(hu(read(folder)), marked_volume())


def test_a_file_of_more_frames_than_it_says_is_refused(tmp_path):
    datasets = series()
    for dataset in datasets:
        dataset.compress(RLELossless, generate_instance_uid=False)
    two = enhanced(series()[:2])
    two.compress(RLELossless, generate_instance_uid=False)
    datasets[3].PixelData = two.PixelData
    folder = write(tmp_path, datasets)
    assert_refused(folder, "the compressed pixels of slice 4 are 2 images, but its header describes 1")


@pytest.mark.parametrize(
    ("keyword", "value", "other", "taken"),
    [
        ("PixelSpacing", [5, 5], "5\\5", "3\\2"),
        ("RescaleIntercept", -1024, "-1024", "0"),
        ("RescaleSlope", 2, "2", "1"),
        ("ImageOrientationPatient", [1, 0, 0, 0, -1, 0], "1\\0\\0\\0\\-1\\0", "1\\0\\0\\0\\1\\0"),
        ("ImagePositionPatient", [0, 0, 0], "0\\0\\0", "-30\\-20\\-120"),
        ("SliceThickness", 8, "8", "4"),
    ],
)
def test_what_an_enhanced_ct_says_otherwise_at_its_top_is_told(tmp_path, caplog, keyword, value, other, taken):
    file = enhanced(series(SliceThickness=4))
    setattr(file, keyword, value)
    np.testing.assert_array_equal(hu(read(write(tmp_path, [file]))), marked_volume())
    assert caplog.messages == [
        f"series 1 of the scan: {keyword} is {other} in one place of the header of an Enhanced CT, but {taken} in the "
        "functional group of its frame 1, and that is taken. Check the size of its voxels, its place and its HU."
    ]


@pytest.mark.parametrize(
    ("keyword", "value"),
    [
        ("PixelSpacing", ["3.0000001", "2.00"]),
        ("PixelSpacing", None),
        ("RescaleSlope", "1.0"),
        ("ImagePositionPatient", [-30, -20, -120]),  # that of the first frame, as programs that convert leave it
    ],
)
def test_what_an_enhanced_ct_says_once_more_is_not_told(tmp_path, caplog, keyword, value):
    file = enhanced(series())
    setattr(file, keyword, value)
    np.testing.assert_array_equal(hu(read(write(tmp_path, [file]))), marked_volume())
    assert not caplog.messages


def test_a_group_of_one_frame_that_contradicts_the_shared_one_is_told(tmp_path, caplog):
    file = enhanced(series())
    for frame in file.PerFrameFunctionalGroupsSequence:
        frame.PixelMeasuresSequence = [item := Dataset()]
        item.PixelSpacing = [6, 4]
    assert read(write(tmp_path, [file])).affine[0, 0] == -4
    assert "PixelSpacing is 3\\2 in one place of the header of an Enhanced CT, but 6\\4 in the" in caplog.text


def test_a_name_in_the_place_of_a_number_at_the_top_is_not_shown(tmp_path, caplog):
    file = enhanced(series())
    file["RescaleIntercept"] = RawDataElement(0x00281052, "DS", 8, b"DOE^JANE", 0, False, True)
    np.testing.assert_array_equal(hu(read(write(tmp_path, [file]))), marked_volume())
    assert "RescaleIntercept is a text of 8 characters in one place" in caplog.text


def concatenation(parts: list[list[Dataset]], total: int | None = None) -> list[Dataset]:
    """One Enhanced CT in several files, as PS3.3 C.7.6.16.1.3 has it."""
    files, before = [], 0
    for number, part in enumerate(parts, start=1):
        file = enhanced(part)
        file.ConcatenationUID, file.InConcatenationNumber = f"{ROOT}.77", number
        file.ConcatenationFrameOffsetNumber = before
        file.SOPInstanceUID = f"{ROOT}.77.{number}"
        if total is not None:
            file.InConcatenationTotalNumber = total
        files.append(file)
        before += len(part)
    return files


@pytest.mark.parametrize("cuts", [[6], [4, 8], [5], [1], [3, 6, 9]])
@pytest.mark.parametrize("down", [False, True])
def test_a_concatenation_is_one_volume(tmp_path, caplog, cuts, down):
    datasets = series()[::-1] if down else series()
    parts = [datasets[start:end] for start, end in zip([0, *cuts], [*cuts, 12], strict=True)]
    folder = write(tmp_path, concatenation(parts, len(parts)))
    np.testing.assert_array_equal(hu(read(folder)), marked_volume())
    assert not caplog.messages


@pytest.mark.parametrize("offsets", ["missing", "wrong"])
def test_a_concatenation_without_its_offsets_is_one_volume(tmp_path, offsets):
    files = concatenation([series()[:6], series()[6:]])
    for file in files:
        if offsets == "missing":
            del file.ConcatenationFrameOffsetNumber
        else:
            file.ConcatenationFrameOffsetNumber = 0
    np.testing.assert_array_equal(hu(read(write(tmp_path, files))), marked_volume())


@pytest.mark.parametrize("lacking", [0, 2])
def test_a_concatenation_without_one_of_its_files_is_refused(tmp_path, lacking):
    """The one at an end: no gap shows it."""
    files = concatenation([series()[:4], series()[4:8], series()[8:]], total=3)
    del files[lacking]
    assert_refused(write(tmp_path, files), "is an Enhanced CT in 3 files .InConcatenationTotalNumber.*1 are not there")


def test_two_enhanced_files_one_below_the_other_are_one_volume(tmp_path, caplog):
    parts = [enhanced(series()[:6]), enhanced(series()[6:])]
    np.testing.assert_array_equal(hu(read(write(tmp_path, parts))), marked_volume())
    assert "6 values of InstanceNumber belong to several slices each" in caplog.text


class Counted(io.BytesIO):
    """A file that counts the bytes that are read of it."""

    def __init__(self, content: bytes, counts: list[int]):
        super().__init__(content)
        self.counts = counts

    def read(self, size: int | None = -1) -> bytes:
        piece = super().read(size)
        self.counts.append(len(piece))
        return piece


def with_items(dataset: Dataset, tag: bytes, count: int, first: bool, undefined: bool) -> bytes:
    """A file with a sequence of empty items before its other elements or in the place of its pixels."""
    del dataset.PixelData
    buffer = io.BytesIO()
    dcmwrite(buffer, dataset, enforce_file_format=True)
    written = buffer.getvalue()
    end_of_meta = 144 + int.from_bytes(written[140:144], "little")
    items = b"\xfe\xff\x00\xe0\0\0\0\0" * count
    size = b"\xff" * 4 if undefined else len(items).to_bytes(4, "little")
    sequence = tag + b"SQ\0\0" + size + items + (b"\xfe\xff\xdd\xe0\0\0\0\0" if undefined else b"")
    place = end_of_meta if first else len(written)
    return written[:place] + sequence + written[place:]


@pytest.mark.slow
@pytest.mark.parametrize("undefined", [True, False])
@pytest.mark.parametrize(
    ("tag", "first", "is_known"),
    [
        (b"\x00\x52\x30\x92", False, True),  # of the frames
        (b"\x00\x52\x29\x92", False, True),  # that all frames share
        (b"\x08\x00\x40\x11", True, False),  # ReferencedImageSequence
        (b"\x09\x00\x10\x10", True, False),  # of a manufacturer
    ],
)
def test_to_find_a_study_only_the_start_of_a_file_is_read(tmp_path, tag, first, is_known, undefined):
    dataset = series()[0]
    dataset.SOPClassUID = LegacyConvertedEnhancedCTImageStorage
    study, counts = dataset.StudyInstanceUID, []
    content = with_items(dataset, tag, 300_000, first, undefined)
    assert headers.study_of(lambda: Counted(content, counts)) == (study if is_known else "")
    assert sum(counts) <= 2**18
    (tmp_path / "DOE.dcm.gz").write_bytes(gzip.compress(content, 1))
    assert find_scans([tmp_path]) == ([tmp_path], False)


def test_a_study_is_found_however_its_file_is_written(tmp_path):
    for name, syntax in (("plain", None), ("deflated", DeflatedExplicitVRLittleEndian)):
        datasets = [enhanced(series())]
        for dataset in datasets:
            dataset.file_meta.TransferSyntaxUID = syntax or dataset.file_meta.TransferSyntaxUID
        (file,) = write(tmp_path / name, datasets).iterdir()
        assert headers.study_of(lambda file=file: file.open("rb")) == datasets[0].StudyInstanceUID
    (plain,) = (tmp_path / "plain").iterdir()
    without_preamble = plain.read_bytes()[132:]
    assert headers.study_of(lambda: io.BytesIO(without_preamble)) == datasets[0].StudyInstanceUID
