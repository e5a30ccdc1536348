"""What reaches the model: the very pixels, physical depth, labels on the answer alone."""

import copy
import re

import numpy as np
import pytest
import torch
from datasets import Dataset, Features, List
from datasets import Image as ImageFeature
from PIL import Image

from ct_rate_pairs.trainer import PairCollator
from ct_rate_pairs.trainer.tiny import make_tiny_qwen
from ct_rate_pairs.volumes.planes import choose_planes


REPORTS = ["Heart size is normal.", "There is a pleural effusion on the right. A nodule of 8 mm.", "Emphysema."]
PROMPT = "Describe the findings."


def make_images(seed, width, height, num_slices):
    rng = np.random.default_rng(seed)
    return [Image.fromarray(rng.integers(0, 256, (height, width), dtype=np.uint8)) for _ in range(num_slices)]


def make_row(index, size=(84, 84), num_slices=10, gap=30.0, negative=True):
    return {
        "volume": f"train_{index}_a_1.nii.gz",
        "images": make_images(index, *size, num_slices),
        "negative_images": make_images(100 + index, *size, num_slices) if negative else [],
        "negative_volume": "train_9_a_1.nii.gz" if negative else "",
        "prompt": [{"role": "user", "content": PROMPT}],
        "completion": [{"role": "assistant", "content": REPORTS[index % 3]}],
        "slice_mm": [gap * i for i in range(num_slices)],
    }


@pytest.fixture(scope="module")
def tiny():
    model, processor = make_tiny_qwen([*REPORTS, PROMPT], hidden_size=32, num_layers=2, vision_depth=1)
    return model.eval(), processor


@pytest.fixture(scope="module")
def collator(tiny):
    return PairCollator(tiny[1])


def pixels_back(processor, pixel_values, grid):
    """Undo patches and normalisation: `[T, 3, H, W]` in 0..255."""
    t, h, w = grid.tolist()
    video = processor.video_processor
    x = pixel_values.view(t, h // 2, w // 2, 2, 2, 3, 2, 14, 14)
    x = x.permute(0, 6, 5, 1, 3, 7, 2, 4, 8).reshape(2 * t, 3, h * 14, w * 14)
    mean, std = (torch.tensor(v)[:, None, None] for v in (video.image_mean, video.image_std))
    return (x * std + mean) * 255


def temporal_positions(model, batch):
    """Positions along depth of the first row's visual tokens, one a frame pair, from the first pair's."""
    positions, _ = model.model.get_rope_index(
        batch["input_ids"],
        batch["mm_token_type_ids"],
        video_grid_thw=batch["video_grid_thw"],
        second_per_grid_ts=batch["second_per_grid_ts"],
        attention_mask=batch["attention_mask"],
    )
    visual = positions[0, 0, batch["mm_token_type_ids"][0] == 2]
    return (visual.unique() - visual[0]).tolist()


@pytest.mark.parametrize("side", [28, 56, 84, 112, 140, 336, 420, 504])
def test_pixels_reach_the_model_untouched(collator, side):
    row = make_row(0, (side, side), num_slices=2)
    batch = collator([row])
    for images, key in (("images", "pixel_values_videos"), ("negative_images", "negative_pixel_values_videos")):
        pixels = pixels_back(collator.processor, batch[key], batch["video_grid_thw"][0])
        expected = torch.from_numpy(np.stack([np.asarray(image) for image in row[images]]))
        assert torch.equal(pixels.round().to(torch.uint8), expected[:, None].expand(-1, 3, -1, -1))
        assert (pixels - pixels.round()).abs().max() < 1e-2


def test_sides_between_patches_are_padded_with_air_around_the_centre(collator):
    row = make_row(0, (100, 70), num_slices=2)  # width, height
    batch = collator([row])
    assert batch["video_grid_thw"].tolist() == [[1, 84 // 14, 112 // 14]]
    pixels = pixels_back(collator.processor, batch["pixel_values_videos"], batch["video_grid_thw"][0]).round()
    expected = np.pad(np.asarray(row["images"][0]), ((7, 7), (6, 6)))
    assert np.array_equal(pixels[0, 0].numpy(), expected)


def test_colour_windows_keep_their_channels(collator):
    row = make_row(0, num_slices=2, negative=False)
    rng = np.random.default_rng(0)
    row["images"] = [Image.fromarray(rng.integers(0, 256, (84, 84, 3), dtype=np.uint8)) for _ in range(2)]
    batch = collator([row])
    pixels = pixels_back(collator.processor, batch["pixel_values_videos"], batch["video_grid_thw"][0]).round()
    assert np.array_equal(pixels[1].permute(1, 2, 0).numpy(), np.asarray(row["images"][1]))


def test_an_empty_answer_is_its_end_of_turn_alone(collator):
    row = make_row(0, num_slices=2) | {"completion": [{"role": "assistant", "content": ""}]}
    labels, tokenizer = collator([row])["labels"], collator.processor.tokenizer
    assert tokenizer.decode(labels[labels != -100]) == tokenizer.eos_token


def test_depth_positions_are_physical(tiny, collator):
    assert temporal_positions(tiny[0], collator([make_row(0, gap=30.0)])) == [0, 12, 24, 36, 48]
    assert temporal_positions(tiny[0], collator([make_row(0, gap=15.0)])) == [0, 6, 12, 18, 24]
    assert temporal_positions(tiny[0], collator.prompts([make_row(0, gap=30.0)])) == [0, 12, 24, 36, 48]
    assert temporal_positions(tiny[0], PairCollator(tiny[1], mm_per_second=20.0)([make_row(0)])) == [0, 6, 12, 18, 24]


@pytest.mark.parametrize("gap", [5.0, 10.0, 12.5, 22.5, 27.5, 31.5, 35.0])
def test_depth_positions_do_not_lose_a_step_to_rounding(tiny, collator, gap):
    expected = [int(i * 2 * gap / 10 * 2) for i in range(5)]
    assert temporal_positions(tiny[0], collator([make_row(0, gap=gap)])) == expected


UNEVEN = [0.0, 55.0, 62.0, 110.0, 115.0, 170.0, 180.0, 200.0, 251.0, 270.0]
CENTRES = [27.5, 86.0, 142.5, 190.0, 260.5]  # of the pairs, in mm: positions are steps of 5 mm


def test_uneven_slices_are_told_at_their_depths(tiny, collator):
    row, even = make_row(0) | {"slice_mm": UNEVEN}, make_row(1)
    expected = [int((centre - CENTRES[0]) / 5) for centre in CENTRES]
    assert expected == [0, 11, 23, 32, 46]
    for batch in (collator([row]), collator.prompts([row]), collator([row, even])):
        assert temporal_positions(tiny[0], batch) == expected
    assert temporal_positions(tiny[0], collator([even, row])) == [0, 12, 24, 36, 48]
    assert temporal_positions(tiny[0], PairCollator(tiny[1], mm_per_second=20.0)([row])) == [0, 5, 11, 16, 23]


@pytest.mark.parametrize("num_slices", [3, 4, 9, 10])
def test_slices_that_are_a_little_uneven_are_told_nearly_as_even_ones(tiny, collator, num_slices):
    def positions(off: float) -> np.ndarray:
        """Of a row whose second slice lies `off` mean distances too deep."""
        row = make_row(0, gap=30.0, num_slices=num_slices)
        row["slice_mm"][1] += off * 30.0
        return np.array(temporal_positions(tiny[0], collator([row])))

    even, just_even, just_uneven = positions(0), positions(0.33), positions(0.34)
    assert np.array_equal(even, just_even)
    # The first pair lies 5.1 mm deeper, so that all others lie as much nearer to it. A position is 5 mm.
    assert (even - just_uneven)[1:].tolist() == [2] * (len(even) - 1)


def test_uneven_slices_change_nothing_else(collator):
    even, row = collator([make_row(0)]), collator([make_row(0) | {"slice_mm": UNEVEN}])
    assert even.keys() == row.keys() and row.pop("second_per_grid_ts").shape == (1, 5)
    assert even.pop("second_per_grid_ts").shape == (1,) and even.pop("volumes") == row.pop("volumes")
    assert all(torch.equal(even[name], row[name]) for name in even)


def test_a_model_writes_and_is_trained_on_uneven_slices(tiny, collator):
    rows = [make_row(0) | {"slice_mm": UNEVEN}, make_row(1)]
    model = tiny[0]
    together = model.generate(**collator.prompts(rows), max_new_tokens=8, min_new_tokens=8)[:, -8:]
    alone = [model.generate(**collator.prompts([row]), max_new_tokens=8, min_new_tokens=8)[0, -8:] for row in rows]
    assert torch.equal(together, torch.stack(alone))
    losses = []
    for row in (rows[0], rows[0] | {"slice_mm": rows[1]["slice_mm"]}):
        batch = {name: value for name, value in collator([row]).items() if not name.startswith(("vol", "neg"))}
        losses.append(model(**batch).loss.item())
    assert losses[0] != losses[1]  # the depths reach the model


def test_uneven_slices_are_not_collated_with_another_number(collator):
    with pytest.raises(ValueError, match="Uneven slices.*other numbers"):
        collator([make_row(0) | {"slice_mm": UNEVEN}, make_row(1, num_slices=4)])


@pytest.mark.parametrize(("num_slices", "share"), [(4, 0.6), (10, 0.95), (20, 0.99)])
def test_planes_that_are_rounded_to_the_grid_count_as_even_and_random_ones_do_not(collator, num_slices, share):
    for depth in range(2 * num_slices, 400):
        places = np.array(choose_planes(depth, num_slices)) * 1.5
        assert not collator._uneven_places(places.tolist())
    rng = np.random.default_rng(0)
    drawn = [1.5 * np.array(choose_planes(200, num_slices, fractions=rng.random(num_slices))) for _ in range(200)]
    uneven = [collator._uneven_places(places.tolist()) for places in drawn]
    assert np.mean([bool(places) for places in uneven]) > share


def test_odd_number_of_slices_repeats_the_last(collator):
    row = make_row(0, num_slices=3)
    batch = collator([row])
    assert batch["video_grid_thw"].tolist() == [[2, 6, 6]]
    pixels = pixels_back(collator.processor, batch["pixel_values_videos"], batch["video_grid_thw"][0]).round()
    assert np.array_equal(pixels[2, 0].numpy(), np.asarray(row["images"][2]))
    assert torch.equal(pixels[2], pixels[3])
    assert batch["second_per_grid_ts"].tolist() == pytest.approx([6.0])


def test_labels_are_the_answer_and_its_end_of_turn(collator):
    rows = [make_row(i) for i in range(3)]
    batch = collator(rows)
    decode = collator.processor.tokenizer.decode
    for i, row in enumerate(rows):
        labelled = batch["labels"][i] != -100
        assert torch.equal(batch["input_ids"][i][labelled], batch["labels"][i][labelled])
        assert decode(batch["labels"][i][labelled]) == row["completion"][0]["content"] + "<|im_end|>"
        prompt = decode(batch["input_ids"][i][: labelled.nonzero()[0, 0]])
        assert prompt.endswith(f"<|vision_end|>{PROMPT}<|im_end|>\n<|im_start|>assistant\n")
        assert prompt.count("<|video_pad|>") == 5 * 3 * 3
        assert (batch["attention_mask"][i].sum() == labelled.nonzero()[-1, 0] + 1).all()  # padding on the right


def test_text_occurs_once_and_the_negative_shares_the_grid(collator):
    with_negative = collator([make_row(0), make_row(1)])
    without = collator([make_row(0, negative=False), make_row(1, negative=False)])
    negative = with_negative.pop("negative_pixel_values_videos")
    assert with_negative.keys() == without.keys() and with_negative.pop("volumes") == without.pop("volumes")
    assert all(torch.equal(with_negative[key], without[key]) for key in without)
    assert negative.shape == without["pixel_values_videos"].shape
    assert not torch.equal(negative, without["pixel_values_videos"])


def test_collated_row_is_the_same_alone_and_in_a_batch_of_other_sizes(collator):
    rows = [make_row(0, (84, 84)), make_row(1, (56, 112), num_slices=4), make_row(2, (28, 28), gap=20.0)]
    batch = collator(rows)
    patches = batch["video_grid_thw"].prod(-1).tolist()
    for key in ("pixel_values_videos", "negative_pixel_values_videos"):
        for row, pixels in zip(rows, batch[key].split(patches), strict=True):
            assert torch.equal(collator([row])[key], pixels)


def test_rows_are_left_as_they_were(collator):
    rows = [make_row(0, (100, 70)), make_row(1, (100, 70))]
    before = copy.deepcopy(rows)
    collator(rows)
    collator.prompts(rows)
    assert rows == before


def test_a_batch_cannot_mix_rows_with_and_without_negatives(collator):
    with pytest.raises(ValueError, match=r"train_1_a_1\.nii\.gz has no negative_images"):
        collator([make_row(0), make_row(1, negative=False)])


def test_a_row_that_cannot_be_read_is_refused_by_name(collator):
    with pytest.raises(ValueError, match=r"train_1_a_1\.nii\.gz cannot be read.*ReadableRows"):
        collator([make_row(0), make_row(1) | {"images": None}])


def test_negative_of_another_size_is_refused_by_name(collator):
    row = make_row(0) | {"negative_images": make_images(0, 84, 56, 10)}
    with pytest.raises(ValueError, match=r"train_0_a_1\.nii\.gz.*\(84, 84\).*train_9_a_1\.nii\.gz.*\(84, 56\)"):
        collator([row])
    row = make_row(0) | {"negative_images": make_images(0, 84, 84, 9)}
    with pytest.raises(ValueError, match="10 slices.*9 of"):
        collator([row])


def parts(*texts):
    return [{"type": "text", "text": text} for text in texts]


def test_texts_in_trl_s_form_of_parts_are_the_same_texts(collator):
    row = make_row(0)
    in_parts = {
        "prompt": [{"role": "user", "content": parts(PROMPT[:8], PROMPT[8:])}],
        "completion": [{"role": "assistant", "content": parts(REPORTS[0])}],
    }
    batch, expected = collator([row | in_parts]), collator([row])
    assert torch.equal(batch["input_ids"], expected["input_ids"])
    assert torch.equal(batch["labels"], expected["labels"])
    assert torch.equal(collator.prompts([row | in_parts])["input_ids"], collator.prompts([row])["input_ids"])


@pytest.mark.parametrize("column", ["prompt", "completion"])
@pytest.mark.parametrize(
    ("content", "told"),
    [
        ([{"type": "image", "text": None}, *parts("Hi")], "type 'image'.*column `images`"),
        ([{"type": "video"}], "type 'video'.*column `images`"),
        (parts(None), "has no text"),
        (None, "is NoneType: give a string"),
        ([], "is empty: give a string"),
    ],
)
def test_parts_that_are_no_text_are_refused(collator, column, content, told):
    row = make_row(0)
    with pytest.raises(ValueError, match=told):
        collator([row | {column: [row[column][0] | {"content": content}]}])


@pytest.mark.parametrize("column", ["prompt", "completion"])
def test_texts_without_turns_are_refused(collator, column):
    with pytest.raises(ValueError, match=rf"train_0_a_1\.nii\.gz: its {column} is str.*turns of a dialogue"):
        collator([make_row(0) | {column: "Describe."}])


NAN = float("nan")


@pytest.mark.parametrize(
    ("slice_mm", "told"),
    [
        (None, "holds no number"),
        ([0.0, None, 60.0, 90.0], "holds no number (0, None, 60, 90)"),
        ([0.0, 30.0, 60.0], "holds 3 numbers for 4 slices (0, 30, 60)"),
        ([], "holds 0 numbers for 4 slices"),
        ([0.0, NAN, 60.0, 90.0], "holds a number that is NaN or infinite (0, nan, 60, 90)"),
        ([0.0, 30.0, 60.0, float("inf")], "holds a number that is NaN or infinite"),
        ([5.0, 5.0, 5.0, 5.0], "does not rise from slice to slice (5, 5, 5, 5)"),
        ([0.0, 60.0, 30.0, 90.0], "does not rise"),
        ([90.0, 60.0, 30.0, 0.0], "does not rise"),
        ([0.0, 30.0, 30.0, 90.0], "does not rise"),
    ],
)
def test_depths_that_tell_no_depth_are_refused(collator, slice_mm, told):
    row = make_row(7, num_slices=4) | {"slice_mm": slice_mm}
    for collate in (collator, collator.prompts):
        with pytest.raises(ValueError, match=rf"train_7_a_1\.nii\.gz: its slice_mm {re.escape(told)}.*load_dataset"):
            collate([make_row(0, num_slices=4), row])


def test_one_slice_has_no_depth(collator):
    with pytest.raises(ValueError, match="one slice, which has no distance"):
        collator([make_row(0, num_slices=1)])
    with pytest.raises(ValueError, match="hold no slice"):
        collator([make_row(0) | {"images": [], "slice_mm": []}])


@pytest.mark.parametrize("mm_per_second", [0, -10.0, NAN, float("inf")])
def test_a_second_of_no_depth_is_refused(tiny, mm_per_second):
    with pytest.raises(ValueError, match="mm_per_second=.*above 0"):
        PairCollator(tiny[1], mm_per_second)


@pytest.mark.parametrize("kind", ["torch", "numpy"])
def test_rows_in_a_format_of_datasets_are_refused_with_the_remedy(collator, kind):
    features = Features({"images": List(ImageFeature()), "negative_images": List(ImageFeature())})
    rows = Dataset.from_list([make_row(0, num_slices=2)])
    rows = rows.cast(Features(rows.features | features))
    assert collator([rows[0]])["video_grid_thw"].tolist() == [[1, 6, 6]]
    with pytest.raises(ValueError, match=r"its (negative_)?images are .*not a list of PIL.*with_format\(None\)"):
        collator([rows.with_format(kind)[0]])


def test_columns_that_a_trainer_has_dropped_are_told_with_the_remedy(collator):
    kept = {name: value for name, value in make_row(0).items() if name in ("images", "prompt", "completion")}
    with pytest.raises(ValueError, match="no column slice_mm and no volume.*remove_unused_columns=False"):
        collator([kept])
    with pytest.raises(ValueError, match="no column slice_mm,.*remove_unused_columns=False"):
        collator.prompts([kept])


def test_prompts_end_where_the_answer_begins(collator):
    rows = [make_row(0), make_row(1, (56, 56))]
    batch, prompts = collator(rows), collator.prompts(rows)
    assert "labels" not in prompts and "negative_pixel_values_videos" not in prompts
    for i in range(2):
        length = int((batch["labels"][i] != -100).nonzero()[0, 0])
        assert torch.equal(prompts["input_ids"][i][-length:], batch["input_ids"][i][:length])
        assert prompts["attention_mask"][i].sum() == length  # padding on the left


def test_generation_does_not_depend_on_the_batch(tiny, collator):
    rows = [make_row(0), make_row(1, (56, 56)), make_row(2, (28, 28), gap=20.0)]
    together = tiny[0].generate(**collator.prompts(rows), max_new_tokens=8, min_new_tokens=8)[:, -8:]
    alone = [tiny[0].generate(**collator.prompts([row]), max_new_tokens=8, min_new_tokens=8)[0, -8:] for row in rows]
    assert torch.equal(together, torch.stack(alone))
