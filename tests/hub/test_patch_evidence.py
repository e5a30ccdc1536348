"""Which patches a finding rests on: with a model that is known to read each finding off a block, and a planted one."""

import json

import numpy as np
import pytest
import torch
from helpers.tiny_reader import INDICES, make_row, save_nifti, with_line, write_report
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from ct_rate_pairs.eval.load_model import load_model
from ct_rate_pairs.hub import load_reporter
from ct_rate_pairs.hub.reporting.patch_evidence import patch_evidence, patches_of
from ct_rate_pairs.hub.reporting.patches import PatchEvidence
from ct_rate_pairs.hub.reporting.seen import see
from ct_rate_pairs.trainer import PairCollator
from ct_rate_pairs.trainer.tiny import make_tiny_qwen
from ct_rate_pairs.volumes.settings import VolumeSettings
from ct_rate_pairs.volumes.slicing import Volume


def in_block(patches: PatchEvidence, third: int) -> bool:
    """Whether the top patch lies in the block of a finding: voxels 6 to 20 of 28, on two of six slices."""
    number, (left, upper, right, lower) = patches.top
    return number in (2 * third + 1, 2 * third + 2) and min(right, lower) > 6 / 28 and max(left, upper) < 20 / 28


@pytest.mark.slow_but_first
def test_the_top_patch_of_each_finding_lies_in_the_block_that_shows_it(reader):
    found = patch_evidence(*reader, make_row((1, 0, 1), seed=900), write_report((1, 0, 1)))
    assert set(found) == {INDICES[0], INDICES[2]}
    assert in_block(found[INDICES[0]], 0) and in_block(found[INDICES[2]], 2)


@pytest.mark.slow
def test_below_a_findings_line_the_entries_of_the_line_rest_on_the_blocks(line_reader_dir):
    model, collator = load_model(str(line_reader_dir), device="cpu")
    text = with_line((1, 1, 0))
    found = patch_evidence(model, collator, make_row((1, 1, 0), seed=900), text, line=text.splitlines()[0])
    assert in_block(found[INDICES[0]], 0) and in_block(found[INDICES[1]], 1)


def test_a_report_without_findings_needs_no_patches(reader):
    assert patch_evidence(*reader, make_row((0, 0, 0)), write_report((0, 0, 0))) == {}


@pytest.mark.parametrize("block", [(3, 10, 60), (7, 49, 18), (0, 12, 40)])
def test_a_planted_block_has_the_same_place_on_the_slices_of_the_model_and_on_the_stored_planes(block):
    """The model's slices are resampled, and padded to whole patches. The stored planes have voxels of other sides."""
    stored = np.full((40, 60, 80), -1000, np.int16)  # [Z, Y, X] of 6 x 5 x 3.5 mm
    place, upper, left = block
    stored[4 * place : 4 * place + 4, upper : upper + 8, left : left + 12] = 1000
    settings = VolumeSettings(spacing=(2.7, 3.3, 6.0))
    seen = see(Volume("a scan", stored, (3.5, 5.0, 6.0), 1.0, 0.0, is_checked=True), settings)
    collator = PairCollator(make_tiny_qwen(["a text"])[1])
    row = {"images": seen.images, "slice_mm": seen.slice_mm, "prompt": [{"role": "user", "content": "a text"}]}
    assert seen.images[0].size == (103, 90)  # which no patch of 28 pixels divides
    batch = collator.prompts([row])
    brightness = batch["pixel_values_videos"] - batch["pixel_values_videos"].min()
    patches = patches_of(collator, row, brightness, batch["video_grid_thw"][0].tolist())
    box = seen.native.box(*patches.top)
    x, y, right, lower = map(round, box["box"])
    assert box["slice"] == place + 1
    assert box["size_mm"] == pytest.approx([3.5 * (right - x), 5.0 * (lower - y)], abs=5)
    shown = seen.native.values[place] == 1000
    assert shown[y:lower, x:right].mean() > 0.5
    inside = np.zeros(shown.shape, bool)  # what the outline goes around, by the number of lines to the left
    lines = np.array(patches.outline(place + 1)) * [80, 60, 80, 60]
    for row_of, column in np.ndindex(*shown.shape):
        crossed = (lines[:, 0] == lines[:, 2]) & (lines[:, 0] <= column + 0.5)
        crossed &= (lines[:, 1] <= row_of + 0.5) & (row_of + 0.5 < lines[:, 3])
        inside[row_of, column] = crossed.sum() % 2
    assert (inside & shown).sum() / (inside | shown).sum() > 0.5 and inside.any()
    assert not any(patches.outline(number) for number in range(1, 11) if number != place + 1)


@given(arrays(np.float32, (2, 3, 4), elements=st.sampled_from([0.0, 0.4, 1.0])))
def test_an_outline_parts_the_patches_that_stand_out_from_all_others(values):
    patches = PatchEvidence(values, np.arange(4) / 3, np.arange(5) / 4)
    for number in (1, 2):
        out = np.pad(values[number - 1] > values.max() / 2, 1)
        across = {(row, column) for row, column in np.argwhere(out[1:] != out[:-1])}
        down = {(row, column) for row, column in np.argwhere(out[:, 1:] != out[:, :-1])}
        for x, y, to_x, to_y in np.rint(np.array(patches.outline(number)).reshape(-1, 4) * [4, 3, 4, 3]).astype(int):
            edges, passed = (
                (across, {(y, column + 1) for column in range(x, to_x)})
                if y == to_y
                else (down, {(row + 1, x) for row in range(y, to_y)})
            )
            assert passed and passed <= edges  # and no line goes over another
            edges -= passed
        assert not across and not down


def test_gradients_are_taken_where_a_caller_needs_none(reader):
    with torch.no_grad():
        assert patch_evidence(*reader, make_row((1, 0, 0), seed=900), write_report((1, 0, 0)))


@pytest.mark.slow
def test_a_report_has_the_patches_and_its_json_the_top_one(reader_dir, tmp_path):
    report = load_reporter(reader_dir, device="cpu").report(save_nifti(tmp_path / "scan.nii.gz", (1, 0, 0)))
    (finding,) = (finding for finding in report.findings if finding.stated)
    assert in_block(finding.patches, 0)
    (told,) = (told for told in json.loads(json.dumps(report.to_dict()))["findings"] if told["stated"])
    assert told["top_patch"] == report.native.box(*finding.patches.top) and "patches" not in told
