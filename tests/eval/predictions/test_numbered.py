"""MedGemma 1.5 is shown a CT as in its own notebook: up to 85 slices in three windows, numbered, the question last."""

import re

import numpy as np
import pytest
from helpers.eval_rows import REPORTS, make_row
from helpers.tiny_image_models import make_tiny_llava
from helpers.tiny_models import make_tiny_gemma3, make_tiny_qwen3
from PIL import Image

from ct_rate_pairs.eval.generate import generate_reports
from ct_rate_pairs.eval.load_model import check_model, load_model
from ct_rate_pairs.eval.looking.loss_gap import loss_gap
from ct_rate_pairs.eval.predictions.numbered import NumberedCollator
from ct_rate_pairs.trainer import PairCollator
from ct_rate_pairs.volumes.windows import to_uint8, windowed


TEXTS = [*REPORTS, "Write the report.", "SLICE 0123456789"]
WINDOWS = ((-1024, 1024), (-135, 215), (0, 80))
IMAGE = "<start_of_image>" + "<image_soft_token>" * 4 + "<end_of_image>"


def colour_row(seed, number):
    rng = np.random.default_rng(seed)
    slices = [Image.fromarray(rng.integers(0, 256, (28, 28, 3), dtype=np.uint8)) for _ in range(number)]
    return make_row(seed, REPORTS[0]) | {"images": slices, "slice_mm": [3.0 * place for place in range(number)]}


def test_each_of_85_slices_stands_before_its_number_and_the_question_is_last(tmp_path):
    for part in make_tiny_gemma3(TEXTS):
        part.save_pretrained(tmp_path)
    model, collator = load_model(str(tmp_path), slices_as="numbered")
    row = colour_row(0, 85)
    batch = collator.prompts([row])
    told = re.sub(r"\n\n", "", collator.processor.tokenizer.decode(batch["input_ids"][0]))
    shown = "".join(f"{IMAGE}SLICE {place}" for place in range(1, 86))
    assert f"user\n{shown}Write the report.<end_of_turn>\n<start_of_turn>model" in told
    assert batch["pixel_values"].shape == (85, 3, 28, 28)
    for place in (0, 84):  # the three windows are the channels
        seen = (batch["pixel_values"][place] / 2 + 0.5) * 255
        assert np.array_equal(seen.round().permute(1, 2, 0).numpy(), np.asarray(row["images"][place]))
    check_model(model, collator, row, 4, with_losses=True)
    assert len(generate_reports(model, collator, [row], max_new_tokens=4, progress=False)) == 1
    gaps = loss_gap(model, collator, [colour_row(1, 4)], volumes=("noise",), progress=False)
    assert gaps["pair_gaps_noise"][0] != 0


def test_the_windows_give_the_values_of_the_notebook():
    hu = np.arange(-1500, 1500, dtype=np.float32)
    expected = [np.round((hu.clip(low, high) - low) / np.float32(high - low) * 255) for low, high in WINDOWS]
    off = to_uint8(windowed(hu, WINDOWS)).astype(int) - np.stack(expected, axis=-1)
    assert np.abs(off).max() <= 1 and (off != 0).mean() < 0.001


def test_a_family_that_takes_videos_is_shown_numbered_images_too():
    collator = NumberedCollator(make_tiny_qwen3(TEXTS)[1])
    batch = collator.prompts([make_row(0, REPORTS[0])])
    assert len(batch["image_grid_thw"]) == 4 and "pixel_values_videos" not in batch
    told = collator.processor.tokenizer.decode(batch["input_ids"][0])
    assert re.findall(r"<\|vision_end\|>(SLICE \d)", told) == ["SLICE 1", "SLICE 2", "SLICE 3", "SLICE 4"]
    assert PairCollator(collator.processor).takes_video


def test_a_template_that_puts_all_images_first_is_refused():
    with pytest.raises(ValueError, match=r"LlavaProcessor does not keep images between texts.*--slices_as slices"):
        NumberedCollator(make_tiny_llava(TEXTS)[1])
