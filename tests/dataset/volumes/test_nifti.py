"""NIfTI files of every bad kind, and of every unusual one that is right."""

import bz2
import gzip
import lzma

import nibabel as nib
import numpy as np
import pytest
from helpers.marked_volume import marked_volume, save
from hypothesis import given, settings
from hypothesis import strategies as st

from ct_rate_pairs.volumes.nifti import read_slices, read_volume
from ct_rate_pairs.volumes.slicing import VolumeError


AFFINE = np.diag([-2.0, -3.0, 4.0, 1.0])


def rotated(degrees: float, axes: tuple[int, int]) -> np.ndarray:
    turn, angle = np.eye(4), np.radians(degrees)
    (i, j) = axes
    turn[i, i] = turn[j, j] = np.cos(angle)
    turn[i, j], turn[j, i] = -np.sin(angle), np.sin(angle)
    return turn @ AFFINE


def test_a_nan_affine_falls_back_to_left_posterior_superior(tmp_path, caplog):
    path = save(tmp_path / "v.nii", marked_volume(), np.diag([-2.0, -3.0, 4.0, 1.0]))
    data = bytearray(path.read_bytes())
    data[280:284] = np.float32("nan").tobytes()  # srow_x[0]
    path.write_bytes(data)
    slices = read_slices(path, num_slices=4, spacing=(2, 3, 4))
    np.testing.assert_allclose(slices[:2, :8, :10], 0.3, atol=1e-6)
    assert "NaN" in caplog.text


@pytest.mark.parametrize("place", ["nan", "inf"])
def test_a_place_that_is_no_number_is_told_and_is_0(tmp_path, caplog, place):
    image = nib.Nifti1Image(np.zeros((20, 16, 12), np.int16), AFFINE)
    data = bytearray(image.to_bytes())
    data[292:296] = np.float32(place).tobytes()  # srow_x[3]
    affine = read_volume(bytes(data), "a").affine
    assert "the place of its first voxel is no number in its sform" in caplog.text
    assert np.isfinite(affine).all() and np.linalg.norm(affine[:3, :3], axis=0).tolist() == [2, 3, 4]


def test_header_scaling_is_applied_once(tmp_path):
    image = nib.Nifti1Image(marked_volume() + 1024, np.diag([-2.0, -3.0, 4.0, 1.0]))
    image.header.set_slope_inter(1, -1024)
    image.to_filename(tmp_path / "v.nii.gz")
    # nibabel stores data to fit the header's scaling: what is read must be what was meant
    expected = nib.load(tmp_path / "v.nii.gz").get_fdata()
    assert read_volume(tmp_path / "v.nii.gz")._planes_hu([0], 12).max() == expected[:, :, -1].max()


def test_unreadable_files_are_named_with_the_cause(tmp_path):
    whole = save(tmp_path / "whole.nii.gz", marked_volume(), np.diag([-2.0, -3.0, 4.0, 1.0])).read_bytes()
    for name, data, cause in (
        ("cut.nii.gz", whole[: len(whole) // 2], "gzip stream is truncated"),
        ("short.nii.gz", gzip.compress(gzip.decompress(whole)[:-100]), "ends early"),
        ("text.nii.gz", b"<html>not found</html>" * 40, "not a NIfTI"),
    ):
        (tmp_path / name).write_bytes(data)
        with pytest.raises(VolumeError, match=f"{name}.*{cause}"):
            read_slices(tmp_path / name)
    with pytest.raises(VolumeError, match="absent.nii.gz"):
        read_slices(tmp_path / "absent.nii.gz")
    save(tmp_path / "4d.nii.gz", np.zeros((4, 4, 4, 2), np.int16), np.eye(4))
    with pytest.raises(VolumeError, match="three dimensions"):
        read_slices(tmp_path / "4d.nii.gz")


def test_a_flipped_byte_is_refused_in_one_member_and_in_several(tmp_path):
    hu = np.random.default_rng(0).integers(-1000, 400, (20, 16, 12), dtype=np.int16)  # little of it compresses
    raw = gzip.decompress(save(tmp_path / "v.nii.gz", hu, AFFINE).read_bytes())
    for name, data in (
        ("one.nii.gz", gzip.compress(raw)),
        ("two.nii.gz", gzip.compress(raw[:3000]) + gzip.compress(raw[3000:])),  # as bgzip writes
        ("longer.nii.gz", gzip.compress(raw + bytes(1 << 21))),  # its checksum comes long after the last voxel
    ):
        (tmp_path / name).write_bytes(data)
        assert read_slices(tmp_path / name, 4, (2, 3, 4)).shape == (4, 16, 20)
        for place in (-6, len(data) * 2 // 3, -2):  # checksum, voxels, length
            damaged = bytearray(data)
            damaged[place] ^= 1
            (tmp_path / name).write_bytes(damaged)
            with pytest.raises(VolumeError, match=f"{name}.*damaged"):
                read_volume(tmp_path / name)


@pytest.mark.slow
def test_bytes_after_a_whole_gzip_stream_are_told_and_the_volume_is_read(tmp_path, caplog):
    hu = np.random.default_rng(0).integers(-1000, 400, (60, 50, 400), dtype=np.int16)
    raw = save(tmp_path / "v.nii", hu, AFFINE).read_bytes()  # of several pieces
    expected = read_volume(raw, "v.nii").stored
    one = gzip.compress(raw, 1)
    two, empty = gzip.compress(raw[:3000], 1) + gzip.compress(raw[3000:], 1), gzip.compress(b"")
    for name, data, told in (
        ("one", one, None),
        ("two", two, None),
        ("many", b"".join(gzip.compress(raw[i : i + 65280], 1) for i in range(0, len(raw), 65280)) + empty, None),
        ("empty_first", empty + one, None),
        ("zeros_between", gzip.compress(raw[:3000]) + bytes(100) + gzip.compress(raw[3000:], 1), None),
        ("zeros", one + bytes(512), "zeros follow"),
        ("many_zeros", two + bytes(2_000_000), "zeros follow"),
        ("text", one + b"tail of a copied block", "22 bytes follow"),
        ("one_byte", two + b"x", "1 bytes follow"),
        ("zeros_and_text", one + bytes(512) + b"x", "513 bytes follow"),
        ("begun_member", one + one[:100], "100 bytes follow"),
        ("magic", one + one[:2], "2 bytes follow"),
        ("damaged_member", one + empty[:-1] + b"x", "20 bytes follow"),
    ):
        (tmp_path / f"{name}.nii.gz").write_bytes(data)
        caplog.clear()
        np.testing.assert_array_equal(read_volume(tmp_path / f"{name}.nii.gz").stored, expected)
        if told:
            assert f"{name}.nii.gz: {told} the gzip stream" in caplog.text
        else:
            assert not caplog.records


def test_what_follows_a_gzip_stream_makes_no_short_volume_whole(tmp_path):
    raw = gzip.decompress(save(tmp_path / "v.nii.gz", marked_volume(), AFFINE).read_bytes())
    first, second = gzip.compress(raw[:3000]), gzip.compress(raw[3000:])
    for data, cause in (
        (first + b"junk", "gzip stream is (truncated|damaged).*Download"),
        (first + second[:-20], "gzip stream is truncated.*Download"),
        (first + second[:-20] + bytes(500), "gzip stream is (truncated|damaged).*Download"),
        (first + bytes(500), "ends early.*Download"),
        (first[:-1], "gzip stream is truncated.*Download"),
        (first[:-5] + b"x" + first[-4:], "gzip stream is damaged.*Download"),
    ):
        with pytest.raises(VolumeError, match=rf"v\.nii\.gz: .*{cause}"):
            read_volume(data, "v.nii.gz")


def test_a_header_of_impossible_size_asks_for_no_memory(tmp_path):
    data = bytearray(save(tmp_path / "v.nii", marked_volume(), AFFINE).read_bytes())
    data[42:48] = np.int16([32000, 32000, 32000]).tobytes()  # dim[1..3]
    (tmp_path / "v.nii").write_bytes(data)
    with pytest.raises(VolumeError, match=r"v\.nii.*more than any CT"):
        read_volume(tmp_path / "v.nii")


@pytest.mark.parametrize(
    ("place", "value", "cause"),
    [
        (108, np.nan, "voxels from byte nan"),  # vox_offset
        (108, 16, "vox offset 16"),
        (108, 1e20, "voxels from byte 1"),
        (116, np.nan, "intercept nan"),  # scl_inter
    ],
)
def test_damaged_numbers_in_the_header_are_refused(place, value, cause):
    data = bytearray(nib.Nifti1Image(marked_volume(), AFFINE).to_bytes())
    data[112:116] = np.float32(1).tobytes()  # scl_slope
    data[place : place + 4] = np.float32(value).tobytes()
    with pytest.raises(VolumeError, match=rf"v\.nii: (the|its) header is damaged.*{cause}.*Download"):
        read_volume(bytes(data), "v.nii")


@settings(deadline=None)
@given(st.integers(0, 347), st.binary(min_size=1, max_size=8), st.booleans())
def test_whatever_its_header_holds_a_volume_is_read_or_refused(place, junk, zipped):
    data = bytearray(nib.Nifti1Image(marked_volume(), AFFINE).to_bytes())
    data[place : place + len(junk)] = junk
    try:
        volume = read_volume(gzip.compress(data, 1) if zipped else bytes(data), "v.nii")
    except VolumeError as error:
        assert str(error).startswith("v.nii: ")
    else:
        assert np.isfinite([*volume.spacing, volume.slope, volume.intercept]).all()


def test_bytes_without_a_name_are_not_spelt_out_in_the_message():
    with pytest.raises(VolumeError, match="volume given as bytes: not a NIfTI") as raised:
        read_volume(b"x" * 10_000)
    assert len(str(raised.value)) < 200


def test_axes_that_point_the_same_way_are_refused(tmp_path):
    affine = AFFINE.copy()
    affine[:3, 1] = affine[:3, 0]
    image = nib.Nifti1Image(marked_volume(), None)
    image.header.set_sform(affine, code=1)
    with pytest.raises(VolumeError, match=r"v\.nii: its sform holds no three directions"):
        read_volume(image.to_bytes(), "v.nii")


def test_a_file_that_ends_within_the_header_is_no_nifti(tmp_path):
    (tmp_path / "v.nii.gz").write_bytes(gzip.compress(b"x" * 100))
    with pytest.raises(VolumeError, match=r"v\.nii\.gz.*not a NIfTI"):
        read_volume(tmp_path / "v.nii.gz")


@pytest.mark.parametrize("pair", [nib.Nifti1Pair, nib.Nifti2Pair])
def test_the_header_of_a_pair_is_told_from_damage(tmp_path, pair):
    nib.save(pair(marked_volume(), AFFINE), tmp_path / "v.img")
    with pytest.raises(VolumeError, match=r"v\.hdr: the header of a pair.*Write both as one \.nii\.gz"):
        read_volume(tmp_path / "v.hdr")


def test_four_dimensions_are_one_volume_or_refused(tmp_path):
    single = save(tmp_path / "single.nii.gz", marked_volume()[..., None], AFFINE)
    np.testing.assert_array_equal(
        read_slices(single, 4, (2, 3, 4)),
        read_slices(save(tmp_path / "v.nii.gz", marked_volume(), AFFINE), 4, (2, 3, 4)),
    )
    for name, shape in (("series", (20, 16, 12, 2)), ("plane", (20, 16))):
        save(tmp_path / f"{name}.nii.gz", np.zeros(shape, np.int16), np.eye(4))
        with pytest.raises(VolumeError, match=f"{name}.nii.gz.*three dimensions"):
            read_volume(tmp_path / f"{name}.nii.gz")


def test_colours_are_refused(tmp_path):
    rgb = np.zeros((20, 16, 12), dtype=[("R", "u1"), ("G", "u1"), ("B", "u1")])
    save(tmp_path / "rgb.nii.gz", rgb, AFFINE)
    with pytest.raises(VolumeError, match=r"rgb\.nii\.gz.*one number per voxel"):
        read_volume(tmp_path / "rgb.nii.gz")


def test_float_voxels_are_read_and_nan_refused(tmp_path):
    array = marked_volume().astype(np.float32)
    assert read_slices(save(tmp_path / "v.nii.gz", array, AFFINE), 4, (2, 3, 4)).max() == pytest.approx(0.3)
    array[0, 0] = np.nan
    with pytest.raises(VolumeError, match=r"v\.nii\.gz: [\d.]+% of the voxels are NaN.*nan_to_num"):
        read_slices(save(tmp_path / "v.nii.gz", array, AFFINE), 4, (2, 3, 4))


LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:0123\nsize 12345678\n"


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"", "not a NIfTI file: it is empty. Download"),
        (LFS, "not a NIfTI file: it is a pointer of Git LFS.*git lfs pull"),
        (b"\n<!DOCTYPE html><title>Sign in</title>" + b" " * 400, "HTML.*with access"),
        (b'{"error": "gated"}', "JSON.*with access"),
        (bytes(128) + b"DICM" + bytes(400), "it is DICOM"),
        (b"no" * 20, "40 bytes are fewer than a header"),
        (b"no" * 400, "no such header.*ending"),
        (bz2.compress(bytes(4000)), "packed once more, as bzip2. Unpack"),
        (gzip.compress(gzip.compress(bytes(4000), mtime=0), mtime=0), "packed once more, as gzip. Unpack"),
        (lzma.compress(bytes(4000)), "packed once more, as xz. Unpack"),
        (b"PK\3\4" + bytes(400), "packed once more, as zip. Unpack"),
        (bytes(257) + b"ustar" + bytes(400), "a tar archive. Unpack"),
    ],
)
@pytest.mark.parametrize("ending", ["nii", "nii.gz"])
@pytest.mark.parametrize("zipped", [False, True])
def test_a_file_that_is_something_else_is_told_with_the_remedy(tmp_path, content, told, ending, zipped):
    (tmp_path / f"v.{ending}").write_bytes(gzip.compress(content) if zipped else content)
    with pytest.raises(VolumeError, match=told):
        read_volume(tmp_path / f"v.{ending}")


@pytest.mark.parametrize("number", [-3, 0, 1, 2, 8, 256, 3840])
@pytest.mark.parametrize("order", ["<", ">"])
def test_a_number_of_dimensions_that_no_volume_has_is_told(tmp_path, number, order):
    header = nib.Nifti1Header(endianness=order)
    nib.save(nib.Nifti1Image(marked_volume(), AFFINE, header), tmp_path / "v.nii")
    data = bytearray((tmp_path / "v.nii").read_bytes())
    data[40:42] = np.array(number, f"{order}i2").tobytes()
    (tmp_path / "v.nii").write_bytes(data)
    with pytest.raises(VolumeError, match=rf"v\.nii: .* says {number} .*\(dim\[0\]\).* to 3"):
        read_volume(tmp_path / "v.nii")


@pytest.mark.parametrize("zipped", [False, True])
def test_where_the_voxels_begin_is_read_from_the_size_of_a_file_whose_header_does_not_say(tmp_path, caplog, zipped):
    path = save(tmp_path / "v.nii", marked_volume(), AFFINE)
    expected = read_slices(path, 4, (2, 3, 4))
    data = bytearray(path.read_bytes())
    data[108:112] = bytes(4)  # vox_offset
    for name, content, told in (
        ("at the end of the header", data[:348] + data[352:], ""),
        ("after four bytes more", data, "begin 4 bytes after the header"),
    ):
        path.write_bytes(gzip.compress(content) if zipped else content)
        caplog.clear()
        np.testing.assert_array_equal(read_slices(path, 4, (2, 3, 4)), expected, err_msg=name)
        assert told in caplog.text and bool(told) == bool(caplog.text)
    for content, told in (
        (data + bytes(2), "Set vox_offset"),
        (data + bytes(9), "Set vox_offset"),
        (data[:-9], "early"),
    ):
        path.write_bytes(gzip.compress(content) if zipped else content)
        with pytest.raises(VolumeError, match=told):
            read_volume(path)


@pytest.mark.parametrize("axes", [(0, 1), (0, 2), (1, 2)])
def test_tilted_planes_are_refused_and_small_angles_pass(tmp_path, axes):
    tilted = save(tmp_path / "tilted.nii.gz", marked_volume(), rotated(25, axes))
    with pytest.raises(VolumeError, match=r"tilted\.nii\.gz.*25 degrees.*not axial"):
        read_volume(tilted)
    straight = read_slices(save(tmp_path / "v.nii.gz", marked_volume(), AFFINE), 4, (2, 3, 4))
    slight = read_slices(save(tmp_path / "s.nii.gz", marked_volume(), rotated(8, axes)), 4, (2, 3, 4))
    assert slight.shape == straight.shape


def test_units_other_than_millimetres_are_converted(tmp_path):
    expected = read_slices(save(tmp_path / "v.nii.gz", marked_volume(), AFFINE), 4, (2, 3, 4))
    for unit, factor in (("meter", 0.001), ("micron", 1000)):
        image = nib.Nifti1Image(marked_volume(), np.diag([*(np.diag(AFFINE)[:3] * factor), 1]))
        image.header.set_xyzt_units(unit)
        nib.save(image, tmp_path / "unit.nii.gz")
        np.testing.assert_allclose(read_slices(tmp_path / "unit.nii.gz", 4, (2, 3, 4)), expected, atol=1e-4)


@pytest.mark.parametrize("spacing", [(2, 3, 0.01), (200, 3, 4), (1, 1, 1), (20, 3, 300)])
def test_sizes_that_no_chest_has_are_refused(tmp_path, spacing):
    path = save(tmp_path / "v.nii.gz", marked_volume(), np.diag([*spacing, 1.0]))
    with pytest.raises(VolumeError, match=r"v\.nii\.gz.*cannot be a chest.*Correct the spacing"):
        read_volume(path)


def test_a_voxel_size_of_zero_or_nan_is_refused(tmp_path):
    path = save(tmp_path / "v.nii", marked_volume(), AFFINE)
    for value in (0.0, np.nan):
        data = bytearray(path.read_bytes())
        data[80:84] = np.float32(value).tobytes()  # pixdim[1]
        (tmp_path / "bad.nii").write_bytes(data)
        with pytest.raises(VolumeError, match=r"bad\.nii"):
            read_volume(tmp_path / "bad.nii")


def test_the_metadata_tables_geometry_replaces_the_headers(tmp_path):
    path = save(tmp_path / "v.nii.gz", marked_volume() + np.int16(1024), np.diag([-1, -1, 1, 1]))
    volume = read_volume(path, rescale=(1, -1024), spacing=(2, 3, 4))
    expected = read_slices(save(tmp_path / "fixed.nii.gz", marked_volume(), AFFINE), 4, (2, 3, 4))
    np.testing.assert_array_equal(volume.slices(4, (2, 3, 4))[0], expected)


def test_an_orientation_that_would_have_no_effect_is_refused(tmp_path):
    path = save(tmp_path / "v.nii.gz", marked_volume(), AFFINE)
    with pytest.raises(ValueError, match="no effect without spacing"):
        read_volume(path, orientation=(1, 0, 0, 0, 1, 0))


def test_header_and_metadata_table_do_not_both_rescale(tmp_path):
    image = nib.Nifti1Image(marked_volume() + np.int16(1024), AFFINE)
    image.header.set_slope_inter(1, -1024)
    nib.save(image, tmp_path / "v.nii.gz")
    with pytest.raises(VolumeError, match=r"v\.nii\.gz.*rescales to HU already.*files='fixed'"):
        read_volume(tmp_path / "v.nii.gz", rescale=(1, -1024))
