"""`sheet.png`: both windows at the scan's own resolution, frames, sides, and texts that are never over each other."""

from dataclasses import replace

import numpy as np
import pytest
from helpers.scan_reports import full_report, grey_pictures, with_patches, without_patches
from helpers.tiny_reader import save_nifti
from PIL import Image

from ct_rate_pairs.hub import load_reporter
from ct_rate_pairs.hub.reporting import sheet
from ct_rate_pairs.hub.reporting.sheet import EVIDENCE, draw_sheet, font_of, lines_of, save_sheet
from ct_rate_pairs.volumes.native_slices import NativeSlices


pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def report(reader_dir, tmp_path_factory):
    scan = save_nifti(tmp_path_factory.mktemp("sheet") / "DOE.nii.gz", (1, 0, 1))
    return load_reporter(reader_dir, device="cpu").report(scan, name="case 7")


@pytest.fixture
def texts(monkeypatch):
    """What is written on the sheets, in order, with the width that it may take."""
    written, texts = sheet.written, []

    def record(text, width, *args, **kwargs):
        texts.append((text, width))
        return written(text, width, *args, **kwargs)

    monkeypatch.setattr(sheet, "written", record)
    return texts


def windows_of(size: int) -> NativeSlices:
    """Two slices of noise of a size in pixels of 0.7 mm."""
    values = np.random.default_rng(0).integers(-1000, 400, (6, size, size), dtype=np.int16)
    return NativeSlices(values, (0.7, 0.7))


def find(drawn: np.ndarray, image: Image.Image) -> int:
    """How often an image lies in a drawn sheet, pixel by pixel, by its upper third, which has no marks."""
    part = np.asarray(image)[: image.height // 3]
    height, width = part.shape
    starts = np.logical_and.reduce([drawn[:, x : drawn.shape[1] - 16 + x] == part[0, x] for x in range(16)])
    return sum(np.array_equal(drawn[y : y + height, x : x + width], part) for y, x in np.argwhere(starts))


def test_each_slice_is_there_in_both_windows_at_its_own_resolution(report):
    native = windows_of(400)
    drawn = np.asarray(draw_sheet(replace(without_patches(report), native=native)))[..., 1]
    assert [find(drawn, image) for window in native.windows for image in native.images(window)] == [1] * 12


def test_slice_number_and_mm_are_on_every_tile_and_r_and_l_beside_it(report, texts, monkeypatch):
    sides = []
    monkeypatch.setattr(sheet, "mark_sides", sides.append)
    draw_sheet(report)
    captions = [text for text, _ in texts if text.startswith("slice ") and text.endswith(("lung", "mediastinum"))]
    assert captions == [
        f"slice {place.number}, {place.mm:.0f} mm below the first, {window}"
        for place in report.slices
        for window in ("lung", "mediastinum")
    ]
    assert len(sides) == 12


def test_the_patient_s_right_is_marked_on_the_left():
    image = Image.new("RGB", (400, 400))
    sheet.mark_sides(image)
    lit = np.asarray(image)[..., 0] > 128
    left, right = lit[:, :40], lit[:, -40:]
    assert left.any() and right.any() and not lit[:, 40:-40].any()
    letters = {name: np.asarray(font_of(sheet.BODY + 5, bold=True).getmask(name)).sum() for name in "RL"}
    assert letters["R"] > letters["L"] and left.sum() > right.sum()  # an R has more ink than an L


def test_frames_and_names_mark_the_slices_that_a_finding_rests_on(report, texts):
    drawn = np.asarray(draw_sheet(report))
    # A frame is the only thing that is orange over the width of a whole slice: an upper and a lower edge each.
    orange = (drawn == EVIDENCE).all(axis=-1).sum(axis=1)
    rests = [text for text, _ in texts if text.startswith("rests here")]
    assert rests == [f"rests here: {name}" for name in ("Emphysema",) * 2 + ("Pleural effusion",) * 2]
    framed = sum(1 for row in orange if row > 2 * sheet.LEAST_WIDTH) / sheet.FRAME / 2
    assert framed >= 2
    plain = replace(report, findings=[replace(finding, slices=[]) for finding in report.findings])
    assert not ((np.asarray(draw_sheet(plain)) == EVIDENCE).all(axis=-1).sum(axis=1) > 2 * sheet.LEAST_WIDTH).any()


def test_a_finding_is_outlined_on_its_slice_in_the_colour_in_which_it_is_named(report, monkeypatch):
    blocks, written = [], sheet.slice_block

    def record(*args):
        blocks.append(written(*args))
        return blocks[-1]

    monkeypatch.setattr(sheet, "slice_block", record)
    native = windows_of(400)
    draw_sheet(replace(with_patches(report, patch=(1, 2)), native=native))
    outlined = {}
    for number, block in enumerate(np.asarray(block) for block in blocks):
        tiles = block[: -3 * sheet.BODY]
        found = [(tiles == colour).all(axis=-1) for colour in sheet.COLOURS[:2]]
        outlined |= {(number + 1, place): mask for place, mask in enumerate(found) if mask.sum() > 200}
    first, second = (finding.slices[0] for finding in report.findings if finding.stated)
    assert set(outlined) == {(first, 0), (second, 1)}
    for mask in outlined.values():
        left = np.flatnonzero(mask[:, :400].any(axis=0))  # of the first window
        assert (left.min(), left.max()) == pytest.approx((200, 300), abs=2)
        rows = np.flatnonzero(mask.any(axis=1))
        assert rows.max() - rows.min() == pytest.approx(100, abs=3)


@pytest.mark.parametrize(("slices", "stated"), [(1, 18), (10, 5), (40, 0)])
def test_every_text_has_its_own_room_whatever_the_number_of_findings_and_the_length_of_names(
    report, texts, slices, stated
):
    name = f"$x_1$ {'long ' * 60}{'y' * 300} 病例{'长' * 200}"
    drawn = draw_sheet(full_report(report, slices, stated, name=name, told=["a warning " * 50]))
    assert sum(text.startswith("slice ") for text, _ in texts) >= 2 * slices
    told = "\n".join(text for text, _ in texts)
    assert name in told and "a warning" in told
    assert all(finding.label in told for finding in full_report(report, slices, stated).findings)
    for text, width in texts:
        assert width <= drawn.width
        font = font_of(sheet.BODY)
        lines = lines_of(text, font, width)
        assert all(font.getlength(line) <= width for line in lines)
        assert "".join("".join(lines).split()) == "".join(text.split())  # no letter is lost


def test_a_slice_has_the_shape_of_the_body(report):
    wide = replace(report.native, pixel_mm=(2.0, 1.0))
    size = np.array(draw_sheet(replace(report, native=wide)).size)
    tall = np.array(draw_sheet(replace(report, native=replace(wide, pixel_mm=(1.0, 2.0)))).size)
    assert wide.size[0] == 2 * wide.size[1] and size[0] * tall[1] > size[1] * tall[0]


def test_so_many_slices_are_drawn_smaller_which_is_told(report, texts, monkeypatch):
    monkeypatch.setattr(sheet, "MOST_PIXELS", 6 * 2 * 400 * 400)
    drawn = draw_sheet(replace(report, native=windows_of(800)))
    assert drawn.width * drawn.height < 6 * 2 * 800 * 800
    assert any("at 50% of their resolution" in text for text, _ in texts)


def test_pictures_have_no_sides_and_no_windows(report, texts, monkeypatch):
    sides = []
    monkeypatch.setattr(sheet, "mark_sides", sides.append)
    draw_sheet(grey_pictures(report))
    assert not sides and any("which side of these pictures" in text for text, _ in texts)
    assert sum(text.startswith("slice ") and text.endswith(" mm below the first") for text, _ in texts) == 6


def test_of_a_slice_that_is_a_projection_its_planes_are_told(report, texts):
    places = [replace(place, first=place.index - 1, last=place.index + 2) for place in report.slices]
    draw_sheet(replace(report, slices=places))
    told = [text for text, _ in texts if "the model saw planes" in text]
    assert len(told) == 6 and f"plane {places[1].index} of 12" in told[1]
    assert f"planes {places[1].first} to {places[1].last}" in told[1]


def test_what_must_be_known_stands_above_the_slices(report, texts):
    worst = {"trained_on": "phantoms", "unlike": ["voxels of 9 mm"], "forced": True}
    draw_sheet(replace(report, cut=True, unread="It is empty.", line_set_by="given findings", told=["told"], **worst))
    heading = [text for text, _ in texts if text.startswith("Warning: ")]
    parts = ("was forced", "voxels of 9 mm", "trained on phantoms", "It is empty.", "limit", "given findings", "told")
    assert all(part in text for part, text in zip(parts, heading, strict=True))
    assert any("Not a medical device." in text for text, _ in texts)


def test_only_the_name_the_warnings_and_labels_are_written_of_the_texts(report, texts, tmp_path):
    save_sheet(report, tmp_path / "sheet.png")
    told = "\n".join(text for text, _ in texts)
    assert "case 7" in told and "Pleural effusion" in told and "DOE" not in told and "is seen" not in told
    assert not Image.open(tmp_path / "sheet.png").info
