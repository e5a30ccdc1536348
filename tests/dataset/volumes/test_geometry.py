"""Headers that are right, odd, or contradict themselves: what SimpleITK, nibabel and this package read from each."""

import re

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
from helpers.dicom_series import slices, write

from ct_rate_pairs.volumes.nifti import read_volume
from ct_rate_pairs.volumes.scan_files import read_scan
from ct_rate_pairs.volumes.slicing import Volume, VolumeError


SHAPE = (20, 16, 12)
RAMP = np.arange(np.prod(SHAPE), dtype=np.int16).reshape(SHAPE, order="F")  # each voxel tells its own place
AFFINE = np.diag([-2.0, -3.0, 4.0, 1.0])  # left, posterior, superior


def nifti(kind=nib.Nifti1Header, endianness="<", **fields) -> bytes:
    """A file with sform and qform of `AFFINE`, and `fields` of the header as they are: nothing makes them agree."""
    header = kind(endianness=endianness)
    header.set_data_dtype(np.dtype(np.int16).newbyteorder(endianness))
    header.set_data_shape(SHAPE)
    header.set_xyzt_units("mm")
    header.set_sform(AFFINE, 1)
    header.set_qform(AFFINE, 1)
    header["vox_offset"] = header.single_vox_offset
    for field, value in fields.items():
        header[field] = value
    block = header.binaryblock.ljust(header.single_vox_offset, b"\0")
    return block + RAMP.astype(header.get_data_dtype()).tobytes(order="F")


def sform(matrix: np.ndarray) -> dict:
    return {f"srow_{axis}": [*row[:3], 0] for axis, row in zip("xyz", np.asarray(matrix, float), strict=True)}


def pixdim(x, y, z, qfac=1) -> dict:
    return {"pixdim": [qfac, x, y, z, 1, 1, 1, 1]}


def turned(degrees: float) -> np.ndarray:
    cos, sin = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    return np.array([[cos, -sin, 0], [sin, cos, 0], [0, 0, 1]]) @ AFFINE[:3, :3]


def sheared(degrees: float) -> np.ndarray:
    matrix = AFFINE[:3, :3].copy()
    matrix[1, 2] = 4 * np.tan(np.radians(degrees))
    return matrix


def reading(axes: str, spacing) -> str:
    return f"{axes} " + " ".join(f"{size:.4g}" for size in spacing)


def axes_of(directions: np.ndarray) -> str:
    """The axes of a matrix in RAS."""
    affine = np.eye(4)
    affine[:3, :3] = directions
    return "".join(nib.aff2axcodes(affine))


def itk(path) -> str:
    sitk.ProcessObject.SetGlobalWarningDisplay(False)
    try:
        image = sitk.ReadImage(str(path))
    except RuntimeError:
        return "refused"
    directions = np.diag([-1, -1, 1]) @ np.reshape(image.GetDirection(), (3, 3))
    return reading(axes_of(directions), image.GetSpacing()) if np.isfinite(directions).all() else "NaN"


def nibabel(path) -> str:
    try:
        affine = nib.load(path).affine
        return reading(axes_of(affine[:3, :3]), np.linalg.norm(affine[:3, :3], axis=0))
    except (TypeError, ValueError, np.linalg.LinAlgError):
        return "refused"


def ours(volume: Volume) -> str:
    """Where the axes of the array run to, from the places of the voxels in display order, and their sizes."""
    axis_of = [SHAPE.index(count) for count in volume.stored.shape[::-1]]  # of the array, for x, y and z
    origin = np.unravel_index(int(volume.stored[0, 0, 0]), SHAPE, order="F")
    axes, spacing = ["", "", ""], [0.0, 0.0, 0.0]
    for axis, along, against, size in zip(axis_of, "LPI", "RAS", volume.spacing, strict=True):
        axes[axis] = against if origin[axis] else along
        spacing[axis] = size
    return reading("".join(axes), spacing)


ONLY_SFORM, ONLY_QFORM, NEITHER = {"qform_code": 0}, {"sform_code": 0}, {"sform_code": 0, "qform_code": 0}
RAS = sform(np.diag([2, 3, 4]))
ZEROS, NANS = sform(np.zeros((3, 3))), sform(np.full((3, 3), np.nan))
FLAT = sform([[-2, -2, 0], [0, 0, 0], [0, 0, 4]])
LONG = {"quatern_b": 2.0}  # no unit quaternion
PERMUTED = sform([[0, -3, 0], [0, 0, 4], [-2, 0, 0]])
STANDARD = "LPS 2 3 4"
SAYS_NOTHING = "does not say where its axes point.*left, posterior, superior"

# What the header says                     SimpleITK        nibabel          ours, or why refused      what is told
NIFTI = {
    "both alike": ({}, STANDARD, STANDARD, STANDARD, None),
    "only an sform": (ONLY_SFORM, STANDARD, STANDARD, STANDARD, None),
    "only a qform": (ONLY_QFORM, STANDARD, STANDARD, STANDARD, None),
    "sform of code 100": (ONLY_SFORM | {"sform_code": 100}, STANDARD, "LAS 2 3 4", STANDARD, None),
    "sform of code -1": ({"sform_code": -1}, STANDARD, STANDARD, STANDARD, None),
    "third axis mirrored": (ONLY_QFORM | pixdim(2, 3, 4, -1), "LPI 2 3 4", "LPI 2 3 4", "LPI 2 3 4", None),
    "qfac 0": (ONLY_QFORM | pixdim(2, 3, 4, 0), STANDARD, STANDARD, STANDARD, None),
    "axes in another order": (ONLY_SFORM | PERMUTED, "ILA 2 3 4", "ILA 2 3 4", "ILA 2 3 4", None),
    "turned by 8 degrees": (ONLY_SFORM | sform(turned(8)), STANDARD, STANDARD, STANDARD, None),
    "turned by 25 degrees": (ONLY_SFORM | sform(turned(25)), STANDARD, STANDARD, "tilted by 25 degrees", None),
    "a little sheared": (ONLY_SFORM | sform(sheared(0.5)), "refused", STANDARD, STANDARD, None),
    "sheared": (ONLY_SFORM | sform(sheared(5)), "refused", "LPS 2 3 4.015", "its sform.*5 degrees off", None),
    "sheared beside a qform": (sform(sheared(5)), STANDARD, "LPS 2 3 4.015", "its sform.*5 degrees off", None),
    "sform of half a degree more": (sform(turned(0.5)), STANDARD, STANDARD, STANDARD, None),
    "sform of 8 degrees more": (sform(turned(8)), STANDARD, STANDARD, STANDARD, "sform and its qform differ by 8.0"),
    "sform mirrored": (RAS, "RAS 2 3 4", "RAS 2 3 4", "its sform says.*to RAS, but its qform to LPS", None),
    "sform of 0.5 % more": (sform(np.diag([-2, -3, 4.02])), STANDARD, "LPS 2 3 4.02", "LPS 2 3 4.02", None),
    "sform of 2 % more": (sform(np.diag([-2, -3, 4.08])), STANDARD, "LPS 2 3 4.08", "2 x 3 x 4.08 mm.* x 4 mm", None),
    "sform of thickness": (sform(np.diag([-2, -3, 5])), STANDARD, "LPS 2 3 5", "sform.*x 5 mm.*pixdim.*x 4", None),
    "pixdim never set": (ONLY_SFORM | pixdim(1, 1, 1), "LPS 1 1 1", STANDARD, "x 4 mm.*pixdim 1 x 1 x 1", None),
    "sform never set": (sform(np.eye(3)), "RAS 2 3 4", "RAS 1 1 1", "1 x 1 x 1 mm.*pixdim 2 x 3 x 4|RAS.*LPS", None),
    "pixdim zero": (pixdim(2, 0, 4), "LPS 2 1 4", STANDARD, "its pixdim is 2 x 0 x 4 mm", None),
    "pixdim below zero": (pixdim(2, 3, -4), "LPI 2 3 4", STANDARD, "its pixdim is 2 x 3 x -4 mm", None),
    "pixdim NaN": (ONLY_QFORM | pixdim(2, 3, np.nan), "LPS 2 3 1", "refused", "its pixdim is 2 x 3 x nan mm", None),
    "pixdim infinite": (ONLY_SFORM | pixdim(np.inf, 3, 4), "LPS 1 3 4", STANDARD, "its pixdim is inf x 3", None),
    "sform of zeros": (ZEROS, STANDARD, "refused", STANDARD, "its sform holds NaN or zeros.*its qform"),
    "sform of NaN": (NANS, "NaN", "refused", STANDARD, "its sform holds NaN or zeros.*its qform"),
    "flat sform": (FLAT, STANDARD, "refused", STANDARD, "its sform holds no three directions.*its qform"),
    "sform of zeros alone": (ONLY_SFORM | ZEROS, "refused", "refused", STANDARD, "sform holds NaN or zeros.*LPS"),
    "sform of NaN alone": (ONLY_SFORM | NANS, "NaN", "refused", STANDARD, "sform holds NaN or zeros.*LPS"),
    "flat sform alone": (ONLY_SFORM | FLAT, "refused", "refused", "its sform holds no three directions", None),
    "long quaternion": (ONLY_QFORM | LONG, "SPR 2 3 4", "refused", "its qform holds no three directions", None),
    "long quaternion beside an sform": (LONG, STANDARD, STANDARD, STANDARD, "qform holds no three.*its sform"),
    "quaternion NaN": (ONLY_QFORM | {"quatern_c": np.nan}, STANDARD, "refused", STANDARD, "qform holds NaN.*LPS"),
    "both broken": (ZEROS | LONG, "SPR 2 3 4", "refused", "sform holds NaN or zeros and its qform", None),
    "neither": (NEITHER, STANDARD, "LAS 2 3 4", STANDARD, SAYS_NOTHING),
    "neither, pixdim below zero": (NEITHER | pixdim(-2, 3, 4), "RPS 2 3 4", "LAS 2 3 4", "pixdim is -2 x 3", None),
    "no unit": ({"xyzt_units": 0}, STANDARD, STANDARD, STANDARD, None),
    "mm and seconds": ({"xyzt_units": 2 + 8}, STANDARD, STANDARD, STANDARD, None),
    "metres": (
        {"xyzt_units": 1} | sform(AFFINE[:3] / 1000) | pixdim(0.002, 0.003, 0.004),
        STANDARD, "LPS 0.002 0.003 0.004", STANDARD, None,
    ),
    "microns": (
        {"xyzt_units": 3} | sform(AFFINE[:3] * 1000) | pixdim(2000, 3000, 4000),
        STANDARD, "LPS 2000 3000 4000", STANDARD, None,
    ),
    "mm that are called metres": ({"xyzt_units": 1}, "LPS 2000 3000 4000", STANDARD, "cannot be a chest", None),
    "a unit that does not exist": ({"xyzt_units": 5}, STANDARD, STANDARD, STANDARD, "unknown code 5: mm is taken"),
}  # fmt: skip
FORMS = {
    "NIfTI-1": {},
    "big-endian": {"endianness": ">"},
    "NIfTI-2": {"kind": nib.Nifti2Header},
    "big-endian NIfTI-2": {"kind": nib.Nifti2Header, "endianness": ">"},
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("header", NIFTI)
def test_a_header_is_read_as_other_readers_read_it_or_told_or_refused(tmp_path, caplog, header, form):
    fields, by_itk, by_nibabel, by_us, told = NIFTI[header]
    path = tmp_path / "v.nii"
    path.write_bytes(nifti(**FORMS[form], **fields))
    assert nibabel(path) == by_nibabel  # the table is true
    assert itk(path) == ("refused" if "NIfTI-2" in form else by_itk)  # SimpleITK reads no NIfTI-2
    caplog.clear()
    if re.fullmatch(r"[LRAPSI]{3}( [\d.]+){3}", by_us):
        assert ours(read_volume(path)) == by_us
        assert told or by_us in (by_itk, by_nibabel)  # no third reading without a word
        assert re.search(f"v.nii: .*{told}", caplog.text) if told else not caplog.records
        caplog.clear()
        assert ours(read_scan(path)) == by_us  # a scan for the reporter
        assert re.search(f"the scan: .*{told}", caplog.text) if told else not caplog.records
    else:
        with pytest.raises(VolumeError, match=f"v.nii: .*({by_us}).*([Cc]orrect|Resample)"):
            read_volume(path)
        with pytest.raises(VolumeError, match=f"the scan: .*({by_us})"):
            read_scan(path)


# scl_slope, scl_inter           slope and intercept, or why refused
RESCALING = {
    (np.nan, np.nan): (1, 0),
    (0, 0): (1, 0),
    (0, np.nan): (1, 0),
    (np.nan, 0): (1, 0),
    (1, -1024): (1, -1024),
    (0.5, 0): (0.5, 0),
    (0, -1024): "scl_slope is 0, which means no rescaling, but its scl_inter is -1024. ITK adds",
    (np.nan, -1024): "scl_slope is nan.*scl_inter is -1024",
    (1, np.nan): r"damaged \(slope 1, intercept nan\)",
    (1, np.inf): r"damaged \(slope 1, intercept inf\)",
    (np.inf, 0): r"damaged \(slope inf, intercept 0\)",
    (0, np.inf): "scl_inter is inf",
}


@pytest.mark.parametrize("header", RESCALING)
def test_values_are_rescaled_as_other_readers_do_or_refused(tmp_path, header):
    path = tmp_path / "v.nii"
    path.write_bytes(nifti(scl_slope=header[0], scl_inter=header[1]))
    expected = RESCALING[header]
    if isinstance(expected, str):
        with pytest.raises(VolumeError, match=f"v.nii: .*{expected}"):
            read_volume(path)
    else:
        volume = read_volume(path)
        assert (volume.slope, volume.intercept) == expected
        values = expected[0] * volume.stored[::-1].transpose(2, 1, 0) + expected[1]
        np.testing.assert_array_equal(values, nib.load(path).get_fdata())
        np.testing.assert_array_equal(values, sitk.GetArrayFromImage(sitk.ReadImage(path)).T)


def metaimage(body: bytes = RAMP.tobytes(order="F"), **fields) -> bytes:
    """A MetaImage in the order of `AFFINE`. Fields are set, or left out where they are `None`."""
    header = {
        "ObjectType": "Image", "NDims": "3", "BinaryData": "True", "BinaryDataByteOrderMSB": "False",
        "TransformMatrix": "1 0 0 0 1 0 0 0 1", "Offset": "0 0 0", "AnatomicalOrientation": "RAI",
        "ElementSpacing": "2 3 4", "DimSize": "20 16 12",
    }  # fmt: skip
    header |= fields
    header |= {"ElementType": "MET_SHORT", "ElementDataFile": "LOCAL"}
    return "".join(f"{field} = {value}\n" for field, value in header.items() if value is not None).encode() + body


NO_MATRIX, PRONE = {"TransformMatrix": None}, "-1 0 0 0 -1 0 0 0 1"
SLOPE, OFFSET = "ElementToIntensityFunctionSlope", "ElementToIntensityFunctionOffset"
# What the header says              SimpleITK    ours, or why refused    what is told
METAIMAGE = {
    "as SimpleITK writes": ({}, STANDARD, STANDARD, None),
    "letters of where axes run to": ({"AnatomicalOrientation": "LPS"}, STANDARD, STANDARD, None),
    "unknown letters": ({"AnatomicalOrientation": "???"}, STANDARD, STANDARD, None),
    "no letters": ({"AnatomicalOrientation": None}, STANDARD, STANDARD, None),
    "other letters": (
        {"AnatomicalOrientation": "RPI"}, STANDARD, STANDARD, "Orientation is RPI, but by its TransformMatrix.* LPS",
    ),
    "prone": ({"TransformMatrix": PRONE, "AnatomicalOrientation": "LPI"}, "RAS 2 3 4", "RAS 2 3 4", None),
    "an older name": (NO_MATRIX | {"Orientation": PRONE, "AnatomicalOrientation": "LPI"}, *["RAS 2 3 4"] * 2, None),
    "no matrix": (NO_MATRIX, STANDARD, STANDARD, r"no TransformMatrix \(and AnatomicalOrientation RAI\).*LPS"),
    "no matrix, other letters": (NO_MATRIX | {"AnatomicalOrientation": "RPI"}, STANDARD, STANDARD, "RPI.*LPS"),
    "matrix of columns that are not of length 1": (
        {"TransformMatrix": "2 0 0 0 3 0 0 0 4"}, STANDARD, "not of length 1.*ElementSpacing of 2 x 3 x 4", None,
    ),
    "sheared": ({"TransformMatrix": "1 0 0 0 1 0 0 0.1 0.995"}, STANDARD, "6 degrees off a right angle", None),
    "flat": ({"TransformMatrix": "1 0 0 1 0 0 0 0 1"}, "refused", "TransformMatrix holds no three dir", None),
    "no spacing": ({"ElementSpacing": None}, "LPS 1 1 1", "no ElementSpacing, so the size", None),
    "spacing by another name": ({"ElementSpacing": None, "Spacing": "2 3 4"}, "LPS 1 1 1", "no ElementSpacing", None),
    "size in the place of spacing": ({"ElementSpacing": None, "ElementSize": "2 3 4"}, STANDARD, STANDARD, None),
    "size beside spacing": ({"ElementSize": "2 3 4"}, STANDARD, STANDARD, None),
    "other size beside spacing": ({"ElementSize": "2 3 5"}, STANDARD, STANDARD, "is 2 x 3 x 5.*Spacing 2 x 3 x 4"),
    "size of too many numbers": ({"ElementSize": "2 3 4 1"}, STANDARD, STANDARD, "is 2 x 3 x 4 x 1 mm.*Spacing"),
    "two spacings": ({"Offset": "0 0 0\nElementSpacing = 2 3 5"}, STANDARD, "two values of ElementSpacing", None),
    "spacing below zero": ({"ElementSpacing": "2 3 -4"}, "LPI 2 3 4", "LPI 2 3 4", "is RAI, but.*to LPI"),
    "spacing zero": ({"ElementSpacing": "2 3 0"}, "refused", "not a MetaImage", None),
    "size below zero in the place of spacing": (
        {"ElementSpacing": None, "ElementSize": "2 3 -4"}, "LPI 2 3 4", "LPI 2 3 4", "is RAI, but.*to LPI",
    ),
    "two names of the matrix": ({"Rotation": PRONE}, STANDARD, "values of TransformMatrix and Rotation", None),
    "axes in another order": (
        {"TransformMatrix": "0 1 0 0 0 -1 1 0 0", "AnatomicalOrientation": "???"}, "PIL 2 3 4", "PIL 2 3 4", None,
    ),
    "too few numbers": ({"TransformMatrix": "1 0 0"}, "refused", "other numbers than 3 above 0, 9 and 3", None),
    "numbers as Python writes them": ({"ElementSpacing": "2 3 0_4"}, "refused", "no numbers in ElementSpac", None),
    "infinite": ({"ElementSpacing": "2 3 1e999"}, "refused", "no numbers in ElementSpacing", None),
    "in other letters": ({"elementspacing": "2 3 5"}, STANDARD, "ElementSpacing in other letters", None),
    "mm": ({"DistanceUnits": "mm"}, STANDARD, STANDARD, None),
    "microns": ({"DistanceUnits": "um"}, STANDARD, "um as its unit of length", None),
    "values as they are": ({SLOPE: "1.0", OFFSET: "0"}, STANDARD, STANDARD, None),
    "values to be rescaled": ({SLOPE: "1", OFFSET: "-1024"}, STANDARD, r"slope \[1.0\] and offset \[-1024.0\]", None),
    "no number": ({"ElementSize": "thin"}, STANDARD, "no numbers in ElementSize", None),
}  # fmt: skip


@pytest.mark.parametrize("header", METAIMAGE)
def test_a_metaimage_is_read_as_simpleitk_reads_it_or_told_or_refused(tmp_path, caplog, header):
    fields, by_itk, by_us, told = METAIMAGE[header]
    path = tmp_path / "v.mha"
    path.write_bytes(metaimage(**fields))
    assert itk(path) == by_itk  # the table is true
    if re.fullmatch(r"[LRAPSI]{3}( [\d.]+){3}", by_us):
        assert ours(read_scan(path)) == by_us == by_itk
        assert re.search(f"the scan: .*{told}", caplog.text) if told else not caplog.records
    else:
        with pytest.raises(VolumeError, match=f"the scan: .*{by_us}"):
            read_scan(path)


@pytest.mark.parametrize(
    ("affine", "told"),
    [
        (np.eye(4), "axes RAS and voxels of 1 x 1 x 1 mm"),  # as nibabel's users write an array
        (np.diag([-1, -1, 1, 1]), "axes LPS and voxels of 1 x 1 x 1 mm"),  # as SimpleITK's users do
        (np.diag([-1, -1, 1.25, 1]), None),
        (np.array([[-1, 0, 0, 90], [0, -1, 0, 80], [0, 0, 1, -300], [0, 0, 0, 1]]), None),
    ],
)
def test_a_geometry_that_nobody_set_is_told_in_every_format(tmp_path, caplog, affine, told):
    nib.save(nib.Nifti1Image(np.zeros((48, 48, 48), np.int16), affine), tmp_path / "v.nii")
    sitk.WriteImage(sitk.ReadImage(tmp_path / "v.nii"), tmp_path / "itk.nii.gz")
    sitk.WriteImage(sitk.ReadImage(tmp_path / "v.nii"), tmp_path / "v.mha")
    for name in ("v.nii", "itk.nii.gz", "v.mha"):
        caplog.clear()
        read_scan(tmp_path / name)
        if told:
            assert f"the scan: its header has {told} from the origin 0" in caplog.text
        else:
            assert not caplog.records


def test_voxels_beyond_those_that_a_header_promises_are_told(tmp_path, caplog):
    (tmp_path / "v.mha").write_bytes(metaimage(DimSize="20 16 11"))
    (tmp_path / "v.nii").write_bytes(nifti(dim=[3, 20, 16, 11, 1, 1, 1, 1]))
    for name in ("v.mha", "v.nii"):
        caplog.clear()
        assert read_scan(tmp_path / name).stored.shape == (11, 16, 20)
        assert re.search("the scan: 640 bytes follow.*voxels", caplog.text)


def test_a_size_of_many_decimals_gives_the_same_grid_in_every_format(tmp_path):
    size = 2.5703125  # 16 voxels are exactly 32 pixels of half the size: any rounding below it makes 31
    affine = np.diag([-size, -size, 4, 1])
    hu = np.random.default_rng(0).integers(-1000, 1000, SHAPE, dtype=np.int16)
    nib.save(nib.Nifti1Image(hu, affine), tmp_path / "v.nii")
    image = sitk.GetImageFromArray(hu.T)
    image.SetSpacing((size, size, 4))
    sitk.WriteImage(image, tmp_path / "v.mha")
    for scan in (tmp_path / "v.nii", tmp_path / "v.mha", write(tmp_path / "d", slices(hu, affine))):
        assert read_scan(scan).slices(4, (size / 2, size / 2, 4))[0].shape == (4, 32, 40)
