"""One collator and trainer for all families: Qwen's take a video, Gemma 3 and encoder-decoders take images."""

import re

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from helpers.pair_trainer import make_dataset, options
from helpers.tiny_image_models import make_tiny_idefics3, make_tiny_llava, make_tiny_llava_med, make_tiny_onevision
from helpers.tiny_models import make_tiny_gemma3, make_tiny_qwen3, make_tiny_qwen3_5
from peft import LoraConfig
from PIL import Image

from ct_rate_pairs.eval.generate import generate_reports
from ct_rate_pairs.trainer import NegativeSFTConfig, NegativeSFTTrainer, PairCollator
from ct_rate_pairs.trainer.encoder_decoder import make_encoder_decoder
from ct_rate_pairs.trainer.tiny import make_tiny_qwen


REPORTS = ["Heart size is normal.", "There is a pleural effusion on the right. A nodule of 8 mm.", "Emphysema."]
PROMPT = "Describe the findings."
TEXTS = [*REPORTS, PROMPT]
FAMILIES = {
    "qwen2.5-vl": lambda: make_tiny_qwen(TEXTS, hidden_size=32, num_layers=2, vision_depth=1, vision_hidden_size=32),
    "qwen3-vl": lambda: make_tiny_qwen3(TEXTS),
    "qwen3.5": lambda: make_tiny_qwen3_5(TEXTS),
    "gemma3": lambda: make_tiny_gemma3(TEXTS),
    "encoder-decoder": lambda: make_encoder_decoder("swin", "biogpt", TEXTS, (32, 32), 4),
}
END_OF_TURN = {family: "<end_of_turn>" if family == "gemma3" else "<|im_end|>" for family in FAMILIES}
VISUAL_TOKEN = dict.fromkeys(FAMILIES, "<|video_pad|>") | {
    "gemma3": "<image_soft_token>",
    "encoder-decoder": "<image>",
}
VISION = r".*(visual|vision_tower).*"


def make_row(index, size=(28, 28), num_slices=4, gap=30.0):
    """A dark volume and a bright negative, so that one step can tell them apart."""
    rng = np.random.default_rng(index)
    dark, bright = (
        [Image.fromarray(rng.integers(low, low + 64, size, dtype=np.uint8)) for _ in range(num_slices)]
        for low in (0, 192)
    )
    return {
        "volume": f"train_{index}_a_1.nii.gz",
        "images": dark,
        "negative_images": bright,
        "negative_volume": "train_99_a_1.nii.gz",
        "prompt": [{"role": "user", "content": PROMPT}],
        "completion": [{"role": "assistant", "content": REPORTS[index % 3]}],
        "slice_mm": [gap * i for i in range(num_slices)],
    }


ROWS = [make_row(index) for index in range(4)]
UNEVEN = [make_row(0), make_row(1, num_slices=6), make_row(2, size=(56, 28))]


@pytest.fixture(params=FAMILIES)
def family(request):
    return request.param


@pytest.fixture
def tiny(family):
    model, processor = FAMILIES[family]()
    return model, PairCollator(processor)


def split(batch):
    """What the volumes' forward and the negatives' forward take, by the convention of the names."""
    tensors = {name: value for name, value in batch.items() if name != "volumes"}
    positive = {name: value for name, value in tensors.items() if not name.startswith("negative_")}
    negative = {name[len("negative_") :]: value for name, value in tensors.items() if name.startswith("negative_")}
    return positive, positive | negative


def make_trainer(tiny, tmp_path, peft_config=None, **changes):
    model, collator = tiny
    settings = {"per_device_train_batch_size": 4, "max_steps": 1, "beta": 0.5, "max_negative_loss": 100.0, **changes}
    dataset = make_dataset(ROWS)
    return NegativeSFTTrainer(
        model=model,
        args=NegativeSFTConfig(**options(tmp_path, **settings)),
        train_dataset=dataset,
        eval_dataset=dataset,
        data_collator=collator,
        processing_class=collator.processor,
        peft_config=peft_config,
    )


def weights_of(model):
    return {name: parameter.detach().clone() for name, parameter in model.named_parameters()}


def changed(model, before):
    return {name for name, parameter in model.named_parameters() if not torch.equal(parameter, before[name])}


def test_batch_has_what_the_familys_forward_needs(family, tiny):
    batch = tiny[1](UNEVEN)
    assert batch.pop("volumes") == [row["volume"] for row in UNEVEN]
    length = batch["input_ids"].shape[1]
    along_text = {"input_ids", "attention_mask", "labels"}
    visual = {
        "qwen2.5-vl": {
            "pixel_values_videos": (2 * 4 + 3 * 4 + 2 * 8, 3 * 2 * 14 * 14),
            "video_grid_thw": (3, 3),
            "second_per_grid_ts": (3,),
        },
        # 28 x 28 is padded to 32 x 32, 28 x 56 to 32 x 64
        "qwen3-vl": {"pixel_values_videos": (2 * 4 + 3 * 4 + 2 * 8, 3 * 2 * 16 * 16), "video_grid_thw": (3, 3)},
        "gemma3": {"pixel_values": (4 + 6 + 4, 3, 28, 28)},
        "encoder-decoder": {"pixel_values": (4 + 6 + 4, 3, 32, 32)},
    }["qwen3-vl" if family == "qwen3.5" else family]
    along_text |= {"gemma3": {"token_type_ids"}, "encoder-decoder": set()}.get(family, {"mm_token_type_ids"})
    pixels = next(name for name in visual if name.startswith("pixel_values"))
    shapes = dict.fromkeys(along_text, (3, length)) | visual | {f"negative_{pixels}": visual[pixels]}
    assert {name: tuple(tensor.shape) for name, tensor in batch.items()} == shapes


def test_labels_are_the_answer_and_its_end_of_turn(family, tiny):
    batch = tiny[1](UNEVEN)
    tokenizer = tiny[1].processor.tokenizer
    for i, row in enumerate(UNEVEN):
        labelled = batch["labels"][i] != -100
        assert torch.equal(batch["input_ids"][i][labelled], batch["labels"][i][labelled])
        assert tokenizer.decode(batch["labels"][i][labelled]) == row["completion"][0]["content"] + END_OF_TURN[family]
        assert batch["attention_mask"][i].sum() == labelled.nonzero()[-1, 0] + 1  # padding on the right
        assert batch["attention_mask"][i, 0] == 1
        assert (batch["input_ids"][i][batch["attention_mask"][i] == 0] == tokenizer.pad_token_id).all()


@pytest.mark.parametrize("family", [family for family in FAMILIES if family != "encoder-decoder"])  # has no such types
def test_token_types_mark_the_visual_tokens_and_nothing_of_the_answer(family, tiny):
    batch = tiny[1](UNEVEN)
    types = batch["token_type_ids" if family == "gemma3" else "mm_token_type_ids"]
    visual = batch["input_ids"] == tiny[1].processor.tokenizer.convert_tokens_to_ids(VISUAL_TOKEN[family])
    assert visual.any(dim=1).all()
    assert torch.equal(types != 0, visual)


@pytest.mark.parametrize(
    ("slice_mm", "seconds"),
    [
        ([0, 30, 60, 90], ["1.5", "7.5"]),
        ([0, 31.5, 60, 91.5], ["1.5", "7.6"]),  # rounded to planes of 1.5 mm: as even slices of 30.5 mm
        ([0, 10, 75, 90], ["0.5", "8.2"]),
        ([0, 10, 75], ["0.5", "7.5"]),  # the last slice is repeated, where it lies
        ([0, 37, 75], ["1.9", "7.5"]),  # as it is where slices are even
        ([0, 40, 88], ["2.2", "8.8"]),  # or nearly so
        ([0, 10, 20, 30, 40], ["0.5", "2.5", "4.0"]),
    ],
)
def test_qwen3s_prompt_has_the_depths_of_uneven_slices(slice_mm, seconds):
    collator = PairCollator(FAMILIES["qwen3-vl"]()[1])
    rows = [make_row(0), make_row(1, num_slices=len(slice_mm)) | {"slice_mm": slice_mm}]
    for batch in (collator(rows), collator.prompts(rows)):
        told = [
            re.findall(r"<([\d.]+) seconds>", text) for text in collator.processor.batch_decode(batch["input_ids"])
        ]
        assert told == [["1.5", "7.5"], seconds]


@pytest.mark.parametrize("num_slices", [3, 4, 7, 8])
def test_qwen3s_last_time_is_that_of_the_last_slice_or_pair_for_all_draws(num_slices):
    collator = PairCollator(FAMILIES["qwen3-vl"]()[1])
    rng = np.random.default_rng(0)
    for _ in range(5):
        drawn = (np.arange(num_slices) + 0.5 + rng.uniform(-0.3, 0.3, num_slices)) * 20
        row = make_row(0, num_slices=num_slices) | {"slice_mm": (drawn - drawn[0]).tolist()}
        (text,) = collator.processor.batch_decode(collator.prompts([row])["input_ids"])
        told = [float(time) for time in re.findall(r"<([\d.]+) seconds>", text)]
        last = row["slice_mm"][-1] if num_slices % 2 else np.mean(row["slice_mm"][-2:])
        # Slices that count as even are told as if each had its even place.
        assert abs(told[-1] * 10 - last) <= (0.6 if num_slices % 2 else 20 / 3)


def test_gemmas_text_begins_once():
    _, processor = FAMILIES["gemma3"]()
    tokenizer = processor.tokenizer
    assert tokenizer("No nodule.")["input_ids"][0] == tokenizer.bos_token_id  # of itself, beside the template
    assert (PairCollator(processor)(UNEVEN)["input_ids"] == tokenizer.bos_token_id).sum(dim=1).tolist() == [1, 1, 1]


def test_a_pair_shares_its_text_and_the_negative_is_as_if_it_were_the_volume(tiny):
    collator = tiny[1]
    positive, negative = split(collator(UNEVEN))
    rows = [row | {"images": row["negative_images"], "negative_images": []} for row in UNEVEN]
    as_volumes, _ = split(collator(rows))
    assert negative.keys() == as_volumes.keys()
    assert all(torch.equal(negative[name], as_volumes[name]) for name in as_volumes)
    assert not torch.equal(positive[collator.pixels], negative[collator.pixels])


def test_a_row_is_the_same_alone_and_in_a_batch(tiny):
    model, collator = tiny
    model.eval()
    with torch.no_grad():
        together = model(**split(collator(UNEVEN))[0]).logits
        for i, row in enumerate(UNEVEN):
            alone = model(**split(collator([row]))[0]).logits[0]
            torch.testing.assert_close(together[i, : len(alone)], alone, rtol=1e-4, atol=1e-5)


def test_prompts_end_where_the_answer_begins_and_reports_are_text(tiny):
    model, collator = tiny
    batch, prompts = collator(UNEVEN), collator.prompts(UNEVEN)
    assert not any(name.startswith("negative_") or name == "labels" for name in prompts)
    for i in range(3):
        length = int((batch["labels"][i] != -100).nonzero()[0, 0])
        assert torch.equal(prompts["input_ids"][i][-length:], batch["input_ids"][i][:length])
        assert prompts["attention_mask"][i].sum() == length  # padding on the left
    model.eval()
    together = model.generate(**prompts, max_new_tokens=6, min_new_tokens=6)[:, -6:]
    alone = [model.generate(**collator.prompts([row]), max_new_tokens=6, min_new_tokens=6)[0, -6:] for row in UNEVEN]
    assert torch.equal(together, torch.stack(alone))
    reports = generate_reports(model, collator, UNEVEN, batch_size=2, max_new_tokens=4, progress=False)
    assert len(reports) == 3 and all(isinstance(report, str) for report in reports)


def test_a_long_report_is_never_cut(tiny):
    report = " ".join(REPORTS * 100)
    batch = tiny[1]([ROWS[0] | {"completion": [{"role": "assistant", "content": report}]}])
    labels = batch["labels"][0]
    assert tiny[1].processor.tokenizer.decode(labels[labels != -100]).startswith(report)


def test_qwen3_reads_physical_depth_in_its_prompt():
    model, processor = FAMILIES["qwen3-vl"]()
    for gap, mm_per_second, times in ((30.0, 10.0, (1.5, 7.5)), (12.5, 10.0, (0.6, 3.1)), (30.0, 20.0, (0.8, 3.8))):
        collator = PairCollator(processor, mm_per_second)
        row = make_row(0, gap=gap)
        for batch in (collator([row]), collator.prompts([row])):
            text = processor.tokenizer.decode(batch["input_ids"][0])
            assert tuple(float(time) for time in re.findall(r"<([\d.]+) seconds>", text)) == times

    # Each frame pair stands in its own plane behind its time, and the answer follows them all.
    batch = split(PairCollator(processor)([make_row(0, size=(64, 64))]))[0]
    positions, _ = model.model.get_rope_index(
        batch["input_ids"], batch["mm_token_type_ids"], video_grid_thw=batch["video_grid_thw"]
    )
    depth, height, width = positions[:, 0, batch["mm_token_type_ids"][0] == 2].unflatten(1, (2, 4))
    assert (depth == depth[:, :1]).all() and depth[0, 0] < depth[1, 0]
    assert (height - height[:, :1]).tolist() == [[0, 0, 1, 1]] * 2
    assert (width - width[:, :1]).tolist() == [[0, 1, 0, 1]] * 2
    answer = positions[:, 0, batch["labels"][0] != -100]
    assert (answer[0] == answer).all() and answer.min() > max(depth.max(), height.max(), width.max())


@pytest.mark.parametrize("side", [32, 64, 480])
def test_slices_reach_qwen3_pixel_for_pixel(side):
    _, processor = FAMILIES["qwen3-vl"]()
    row = make_row(0, size=(side, side), num_slices=2)
    pixels = PairCollator(processor)([row])["pixel_values_videos"]
    n = side // 32
    pixels = pixels.view(n, n, 2, 2, 3, 2, 16, 16).permute(5, 4, 0, 2, 6, 1, 3, 7).reshape(2, 3, side, side)
    expected = torch.from_numpy(np.stack([np.asarray(image) for image in row["images"]])) / 255
    torch.testing.assert_close(pixels / 2 + 0.5, expected[:, None].expand(-1, 3, -1, -1))


def test_gemma_sees_one_whole_image_a_slice_in_order():
    _, processor = FAMILIES["gemma3"]()
    processor.image_processor.do_pan_and_scan = True
    collator = PairCollator(processor)
    rows = [make_row(0, size=(300, 900)), make_row(1, num_slices=6, size=(900, 300))]  # shapes that pan-and-scan cuts
    batch = collator(rows)
    for column, name in (("images", "pixel_values"), ("negative_images", "negative_pixel_values")):
        slices = [
            image.convert("RGB").resize((28, 28), Image.Resampling.BILINEAR) for r in rows for image in r[column]
        ]
        expected = torch.from_numpy(np.stack(slices)).permute(0, 3, 1, 2) / 255
        torch.testing.assert_close(batch[name] / 2 + 0.5, expected, rtol=0, atol=1.5 / 255)


def test_a_template_without_videos_gets_images():
    model, processor = FAMILIES["qwen2.5-vl"]()
    processor.chat_template = processor.chat_template.replace("<|video_pad|>", "")
    collator = PairCollator(processor)
    assert not collator.takes_video
    positive, negative = split(collator(ROWS))
    assert positive["image_grid_thw"].tolist() == [[1, 2, 2]] * 16
    assert negative["pixel_values"].shape == positive["pixel_values"].shape
    assert torch.isfinite(model(**positive).loss)


def test_a_processor_without_images_is_refused():
    _, processor = FAMILIES["gemma3"]()
    with pytest.raises(ValueError, match="GemmaTokenizer reads no images.*image-text-to-text"):
        PairCollator(processor.tokenizer)


def test_a_template_that_goes_on_differently_is_refused():
    _, processor = FAMILIES["qwen3-vl"]()
    processor.chat_template += "{%- if add_generation_prompt %}{{- '<think>' }}{%- endif %}"
    with pytest.raises(ValueError, match="instruct variant"):
        PairCollator(processor)(ROWS)


@pytest.mark.parametrize("pair_mode", ["sequential", "joint"])
def test_loss_is_that_of_plain_logits(tiny, tmp_path, pair_mode):
    trainer = make_trainer(tiny, tmp_path, pair_mode=pair_mode)
    model = trainer.model.train()
    batch = tiny[1](ROWS)
    expected = [
        F.cross_entropy(model(**inputs).logits[:, :-1].flatten(0, 1), inputs["labels"][:, 1:].flatten())
        for inputs in split(batch)
    ]
    assert not torch.isclose(*expected)  # the pixels count
    loss = trainer.compute_loss(model, batch)
    torch.testing.assert_close(loss, expected[0] - 0.5 * expected[1])


@pytest.mark.slow_but_first
def test_a_step_makes_the_report_likelier_given_the_volume_and_less_given_the_negative(tiny, tmp_path):
    trainer = make_trainer(tiny, tmp_path, beta=1.0, optim="sgd")
    before = trainer.evaluate()
    trainer.train()
    after = trainer.evaluate()
    assert after["eval_loss_pos"] < before["eval_loss_pos"]
    assert after["eval_loss_neg"] > before["eval_loss_neg"]


@pytest.mark.slow_but_first
def test_lora_trains_and_the_vision_tower_can_be_left_out(tiny, tmp_path):
    lora = LoraConfig(target_modules="all-linear", exclude_modules=VISION)
    trainer = make_trainer(tiny, tmp_path, peft_config=lora, max_steps=2)
    before = weights_of(trainer.model)
    trainer.train()
    trained = changed(trainer.model, before)
    assert trained and all("lora_" in name for name in trained)
    assert not any(re.fullmatch(VISION, name) for name in trained)


@pytest.mark.slow_but_first
def test_a_frozen_vision_tower_stays_as_it_was(tiny, tmp_path):
    model = tiny[0]
    model.get_encoder("image").requires_grad_(False)
    before = weights_of(model)
    make_trainer(tiny, tmp_path, max_steps=2).train()
    trained = changed(model, before)
    vision = {name for name in before if re.fullmatch(VISION, name)}
    assert trained and vision and not trained & vision


@pytest.mark.slow_but_first
@pytest.mark.parametrize("make", [make_tiny_llava, make_tiny_llava_med, make_tiny_onevision, make_tiny_idefics3])
def test_other_families_that_are_shown_images_learn_by_the_same_loss(make, tmp_path):
    model, processor = make(TEXTS)
    collator = PairCollator(processor)
    trainer = make_trainer((model, collator), tmp_path, per_device_train_batch_size=2)
    batch = collator(ROWS[:2])
    expected = [
        F.cross_entropy(model.eval()(**inputs).logits[:, :-1].flatten(0, 1), inputs["labels"][:, 1:].flatten())
        for inputs in split(batch)
    ]
    assert abs(expected[0] - expected[1]) > 1e-4  # the pixels count
    torch.testing.assert_close(trainer.compute_loss(model, batch), expected[0] - 0.5 * expected[1])
    before = weights_of(model)
    trainer.train()
    trained = changed(model, before)
    assert {"vision" in name for name in trained} == {True, False}  # the tower and what reads its features
