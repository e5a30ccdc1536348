"""
What other models are shown, checked by the numbers that their scripts state (`ModelInput.sources` names these): shape,
window, values, and where the patient's head, right and front are.
"""

import io
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from ct_rate_pairs.export import FORMATS as NAMES
from ct_rate_pairs.export import ct_clip
from ct_rate_pairs.export.form import turned
from ct_rate_pairs.export.write import FORMATS, gigabytes
from ct_rate_pairs.volumes.pictures import Pictures
from ct_rate_pairs.volumes.slicing import Volume, VolumeError


# A chest of 300 x 320 x 300 mm as x, y, z. Blocks of 60 mm lie at a place in mm as x, y, z from the centre.
SPACING = (6.0, 8.0, 5.0)
SHAPE = (60, 40, 50)  # z, y, x
MARK = (-90.0, -80.0, -75.0)  # the patient's right, the front, the head: 500 HU
METAL = (90.0, 80.0, 75.0)  # the left, the back, the feet: 3000 HU
HOLE = (90.0, -80.0, 0.0)  # padding: -3000 HU
LUNG = (0.0, 0.0, 0.0)  # -900 HU


@pytest.fixture(scope="module")
def volume():
    hu = np.full(SHAPE, -900, np.int16)
    hu[:, ::3] = 40  # soft tissue between the blocks
    for place, value in ((LUNG, -900), (MARK, 500), (METAL, 3000), (HOLE, -3000)):
        middle = [int(n / 2 + mm / size) for n, mm, size in zip(SHAPE, place[::-1], SPACING[::-1], strict=True)]
        half = [int(30 / size) for size in SPACING[::-1]]
        hu[tuple(slice(m - h, m + h) for m, h in zip(middle, half, strict=True))] = value
    return Volume("v", hu, SPACING, 1.0, 0.0)


@pytest.fixture(scope="module")
def arrays(volume):
    """The array of each format. Those of CT-CLIP's kin are made once: they take a second."""
    whole = ct_clip.resampled(volume)
    kin = {"ct-clip": whole[None], "ct-chat": whole[None], "ct2rep": whole}
    return kin | {name: form.array(volume) for name, form in FORMATS.items() if name not in kin}


def along(axes, place):
    """A place in mm as x, y, z (to the left, the back and the feet), along other axes."""
    to = dict(zip("LRPAIS", (place[0], -place[0], place[1], -place[1], place[2], -place[2]), strict=True))
    return [to[letter] for letter in axes]


def at(array, axes, place, spacing):
    """The value of an array at a place in mm from its centre. `spacing` is along its axes."""
    found = [int(n / 2 + mm / mm_per_voxel) for n, mm, mm_per_voxel in zip(
        array.shape, along(axes, place), spacing, strict=True
    )]  # fmt: skip
    return float(array[tuple(found)])


def extent(array, padding):
    """Along each axis, where the values above those of the padding begin, and over how many voxels they go."""
    seen = array > padding
    places = [np.flatnonzero(seen.any(axis=tuple({0, 1, 2} - {axis}))) for axis in range(3)]
    return [(int(place[0]), int(place[-1] - place[0] + 1)) for place in places]


def test_the_command_knows_every_format():
    assert tuple(FORMATS) == NAMES


def test_ct_clip_and_its_kin_share_one_array(monkeypatch):
    monkeypatch.setattr(ct_clip, "resampled", lambda volume: np.ones((2, 3, 4)))
    assert FORMATS["ct-clip"].array(None).shape == FORMATS["ct-chat"].array(None).shape == (1, 2, 3, 4)
    assert FORMATS["ct2rep"].array.__name__ == "resampled"


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_arrays_have_the_shape_and_type_that_is_told(arrays, name):
    array, form = arrays[name], FORMATS[name]
    shape = form.shape if name != "radfm" else (*form.shape[:-1], 60)
    assert array.shape == shape and array.dtype == form.dtype and array.flags.c_contiguous
    told = array.nbytes if name != "radfm" else array.nbytes * 64 / 60
    assert gigabytes(name, 3) == pytest.approx(3 * told / 1e9)


@pytest.mark.slow
def test_ct_clip_s_preprocessing(arrays):
    """240 x 480 x 480 voxels of 1.5 x 0.75 x 0.75 mm, HU / 1000 within -1000 to 1000, -1 around; head, left, back."""
    array = arrays["ct2rep"]
    values = [at(array, "SLP", place, (1.5, 0.75, 0.75)) for place in (LUNG, MARK, METAL, HOLE)]
    assert values == pytest.approx([-0.9, 0.5, 1, -1])
    # 300 x 320 x 300 mm are 400 x 426 x 200 voxels: the rest is padding, half of it on each side.
    assert extent(array, -0.99) == [(20, 200), (40, 400), (27, 426)]


@pytest.mark.slow
def test_ct2rep_s_own_loader_gets_its_window(arrays):
    """-1000 to 200 HU become -1 to 1, and so does the padding, whether cropped here or there."""
    hu = np.array([at(arrays["ct2rep"], "SLP", place, (1.5, 0.75, 0.75)) for place in (LUNG, MARK, HOLE)]) * 1000
    assert (hu.clip(-1000, 200) + 400) / 600 == pytest.approx([-500 / 600, 1, -1], abs=1e-6)
    assert (arrays["ct2rep"][0, 0, 0] * 1000 + 400) / 600 == -1


def test_ct2rep_s_own_loader_finds_a_row_for_each_folder_of_a_scan():
    """A row of `modules/data_ct.py`: the name of a folder, and its findings, "Not given." for no text."""
    form = FORMATS["ct2rep"]
    files = {name: form.place(name) for name in ("valid_1_a_1.nii.gz", "valid_1_a_2.nii.gz", "valid_2_b_1.nii.gz")}
    rows = pd.read_csv(io.StringIO(form.beside(files)["scans.csv"])).to_dict("records")
    assert rows == [{"AccessionNo": name, "Findings_EN": "Not given."} for name in ("valid_1_a", "valid_2_b")]
    assert {Path(file).parent.name for file in files.values()} == {row["AccessionNo"] for row in rows}


@pytest.mark.slow
def test_merlin_s_preprocessing(arrays):
    """224 x 224 x 160 voxels of 1.5 x 1.5 x 3 mm, -1000 to 1000 HU as 0 to 1, 0 around; right, front, head."""
    (array,) = arrays["merlin"]
    values = [at(array, "RAS", place, (1.5, 1.5, 3)) for place in (LUNG, MARK, METAL, HOLE)]
    assert values == pytest.approx([0.05, 0.75, 1, 0])
    # From the first voxel's centre to the last one's: 294 x 312 x 295 mm are 197 x 209 x 99 voxels.
    assert extent(array, 0.01) == [((224 - 197) // 2, 197), ((224 - 209) // 2, 209), ((160 - 99) // 2, 99)]


@pytest.mark.slow
def test_m3d_s_preprocessing(arrays):
    """32 x 256 x 256, 0 to 1 by the volume's lowest and highest value; feet, back, left."""
    (array,) = arrays["m3d"]
    spacing = (300 / 32, 320 / 256, 300 / 256)
    values = [at(array, "IPL", place, spacing) for place in (LUNG, MARK, METAL, HOLE)]
    assert values == pytest.approx([0.05, 0.75, 1, 0]) and (array.min(), array.max()) == (0, 1)


def test_m3d_s_foreground_is_cropped(volume):
    """A border of the lowest value is cut off, as MONAI's CropForeground does."""
    padded = np.pad(volume.stored, ((3, 2), (5, 9), (4, 7)), constant_values=-3024)
    array = FORMATS["m3d"].array(Volume("v", padded, SPACING, 1.0, 0.0))
    assert (array == FORMATS["m3d"].array(volume)).all()


@pytest.mark.slow
def test_radfm_s_preprocessing(arrays):
    """512 x 512 x D in three equal channels, 0 to 1 by the lowest and highest value; back, left, feet."""
    (channels,) = arrays["radfm"]
    values = [at(channels[0], "PLI", place, (320 / 512, 300 / 512, 5)) for place in (LUNG, MARK, METAL, HOLE)]
    assert values == pytest.approx([0.05, 0.75, 1, 0]) and (channels[0] == channels[2]).all()
    # Their loader maps the lowest and highest value once more: nothing changes.
    assert (channels.min(), channels.max()) == (0, 1)


@pytest.mark.parametrize(("slices", "depth"), [(9, 8), (10, 8), (11, 12), (70, 64), (300, 64)])
def test_radfm_s_depth_is_the_nearest_multiple_of_four(volume, slices, depth):
    thin = Volume("v", volume.stored[np.linspace(0, 59, slices).astype(int), :8, :8], (40.0, 40.0, 5.0), 1.0, 0.0)
    assert FORMATS["radfm"].array(thin).shape[-1] == depth


@pytest.mark.parametrize(("axes", "corner"), [("IPL", (0, 0, 0)), ("SLP", (-1, 0, 0)), ("RAS", (-1, -1, -1))])
def test_a_corner_is_where_the_axes_say(axes, corner):
    values = np.zeros((2, 3, 4))
    values[0, 0, 0] = 1  # the head, the front, the patient's right
    assert turned(values, axes)[corner] == 1
    sizes = {"I": 2, "S": 2, "P": 3, "A": 3, "L": 4, "R": 4}
    assert turned(values, axes).shape == tuple(sizes[letter] for letter in axes)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "pixels"), [("med-flamingo", 224), ("qilin", 336), ("minigpt-4", 448)])
def test_the_picture_of_ten_slices_is_a_square_that_no_processor_crops(arrays, name, pixels):
    """Four slices beside each other, from the head to the feet; their right is the patient's left; 8 bits."""
    picture = arrays[name]
    assert picture.shape[0] == picture.shape[1] and picture.shape[0] % pixels == 0
    cells = picture[:, :, 0].reshape(4, 336, 4, 336).swapaxes(1, 2).reshape(16, 336, 336)
    assert (picture[:, :, 0] == picture[:, :, 2]).all() and not cells[10:].any() and cells[:10].any((1, 2)).all()
    # A slice of 300 x 320 mm is 315 x 336 pixels.
    for (x, y, z), grey in ((MARK, 191), (METAL, 255), (HOLE, 0), (LUNG, 13)):
        shown = cells[int((z + 150) / 300 * 10)]
        assert shown[int(168 + y / 320 * 336), int(168 + x / 320 * 336)] == pytest.approx(grey, abs=2)


def test_a_picture_is_asked_with_the_marks_of_its_model():
    prompts = {name: FORMATS[name].prompts[0] for name in ("med-flamingo", "qilin", "minigpt-4")}
    assert prompts["med-flamingo"].startswith("You are a helpful medical assistant. <image>Question: 10 axial slices")
    assert prompts["med-flamingo"].endswith(" Answer:") and prompts["qilin"].startswith("<image>\n10 axial slices")
    assert (
        prompts["minigpt-4"].startswith("[INST] <Img><ImageHere></Img> 10 axial") and "[/INST]" in prompts["minigpt-4"]
    )
    assert all("Write the findings and the impression of this chest CT." in prompt for prompt in prompts.values())


def test_pictures_have_no_hu_to_export():
    with pytest.raises(VolumeError, match="v: pictures have no HU and no size in mm"):
        FORMATS["m3d"].array(Pictures("v", []))


@pytest.mark.parametrize("name", NAMES)
def test_every_number_has_its_source(name):
    form = FORMATS[name]
    assert form.sources and all(commit[-40:].isalnum() and len(commit[-40:]) == 40 for commit in form.sources.values())
    assert form.facts()["prompts"] == list(form.prompts)
