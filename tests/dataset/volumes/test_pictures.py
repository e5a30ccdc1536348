"""A scan of pictures: in the order of their numbers, with their grey values as they are; and what is no such scan."""

import numpy as np
import pytest
from helpers.dicom_series import slices, write
from helpers.marked_volume import marked_volume
from PIL import Image

from ct_rate_pairs.volumes.pictures import DEPTH_MM
from ct_rate_pairs.volumes.scan_files import read_scan
from ct_rate_pairs.volumes.slicing import VolumeError
from ct_rate_pairs.volumes.windows import to_uint8


AFFINE = np.array([[-2.0, 0, 0, 30], [0, -3.0, 0, 20], [0, 0, 4.0, -120], [0, 0, 0, 1]])


def write_pictures(folder, pictures, name="slice {}.png", mode="L"):
    folder.mkdir(parents=True)
    for number, picture in enumerate(pictures, start=1):
        Image.fromarray(picture).convert(mode).save(folder / name.format(number))
    return folder


def noise(count=12, shape=(9, 8)):
    return np.random.default_rng(0).integers(0, 256, (count, *shape), dtype=np.uint8)


@pytest.mark.parametrize("mode", ["L", "LA", "RGB", "RGBA"])
def test_pictures_are_shown_as_they_are_in_the_order_of_their_numbers(tmp_path, mode, caplog):
    folder = write_pictures(tmp_path / "p", noise(), mode=mode)
    (folder / "notes.txt").write_text("DOE")
    shown, slice_mm = read_scan(folder).slices(num_slices=4)
    np.testing.assert_array_equal(to_uint8(shown), noise()[[1, 4, 7, 10]])  # the middle of each quarter
    assert slice_mm == [0, DEPTH_MM / 4, DEPTH_MM / 2, 3 * DEPTH_MM / 4]
    told = caplog.text
    assert "no HU and no size" in told and "1 of the scan's 13 files are no pictures" in told and "DOE" not in told


def test_jpeg_with_three_channels_is_grey(tmp_path):
    smooth = np.tile(np.linspace(0, 255, 64, dtype=np.uint8), (2, 64, 1))
    folder = write_pictures(tmp_path / "p", smooth, "{}.JPG", mode="RGB")
    np.testing.assert_allclose(to_uint8(read_scan(folder).slices(num_slices=2)[0]), smooth, atol=3)


def test_parts_of_the_depth_and_drawn_planes_are_those_of_volumes(tmp_path):
    scan = read_scan(write_pictures(tmp_path / "p", noise()))
    drawn = scan.slices(num_slices=3, z_range=(0.5, 1.0), fractions=np.array([0, 0.9, 0.5]))[0]
    np.testing.assert_array_equal(to_uint8(drawn), noise()[[6, 9, 11]])


def colourful(folder):
    picture = np.zeros((9, 8, 3), np.uint8)
    picture[..., 0] = 200
    Image.fromarray(picture).save(folder / "slice 1.png")


def in_two_folders(folder):
    (folder / "more").mkdir()
    (folder / "slice 1.png").rename(folder / "more" / "slice 1.png")


@pytest.mark.parametrize(
    "damage, options, match",
    [
        (lambda folder: None, {"window": "rgb"}, "window='rgb' has no effect on pictures"),
        (lambda folder: None, {"window": (-1000, 400)}, "has no effect on pictures"),
        (lambda folder: None, {"num_slices": 13}, "12 pictures, but 13 slices"),
        (colourful, {}, "picture 1 is in colour"),
        (in_two_folders, {}, "several folders"),
        (lambda f: Image.new("I;16", (8, 9)).save(f / "slice 1.png"), {}, "kind I;16, but a picture has 8 bits"),
        (lambda f: Image.new("L", (7, 9)).save(f / "slice 1.png"), {}, "different sizes"),
        (lambda f: (f / "slice 1.png").write_bytes(b"DOE"), {}, "neither PNG nor JPEG"),
        (lambda f: (f / "slice 1.png").write_bytes((f / "slice 2.png").read_bytes()[:60]), {}, "picture 1"),
        (lambda f: (f / "slice 1.png").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(40)), {}, "picture 1|damaged"),
    ],
)
def test_pictures_that_are_no_scan_are_refused(tmp_path, damage, options, match):
    folder = write_pictures(tmp_path / "DOE", noise())
    damage(folder)
    with pytest.raises(VolumeError, match=match) as raised:
        read_scan(folder, use=lambda scan: scan.slices(**({"num_slices": 12} | options)))
    assert "DOE" not in str(raised.value)


def test_pictures_beside_dicom_are_no_slices(tmp_path):
    folder = write(tmp_path / "d", slices(marked_volume(), AFFINE))
    Image.new("L", (8, 9)).save(folder / "key image.png")
    assert read_scan(folder).stored.shape == (12, 16, 20)


def test_pictures_have_no_series(tmp_path):
    with pytest.raises(VolumeError, match="series=1 chooses among DICOM series"):
        read_scan(write_pictures(tmp_path / "p", noise()), series=1)


def test_a_folder_of_pictures_is_read_apart_too(tmp_path, reads_apart):
    folder = write_pictures(tmp_path / "p", noise())
    assert read_scan(folder, use=lambda scan: scan.slices(4)[0]).shape == (4, 9, 8)
