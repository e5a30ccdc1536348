"""The mask head: what it is to predict, its loss, and that every kind of model trains, saves and resumes it."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from helpers.masked_rows import ALIKE, MASKED, NAMES, with_masks
from helpers.pair_trainer import (
    PROMPT,
    REPORTS,
    ROWS,
    assert_same,
    gradients,
    logged,
    make_model,
    make_trainer,
    weights_of,
)
from helpers.tiny_models import make_tiny_qwen3, make_tiny_qwen3_5
from helpers.two_processes import run_as_two
from hypothesis import given
from hypothesis import strategies as st
from peft import LoraConfig
from PIL import Image
from safetensors.torch import load_file
from transformers import AutoModelForImageTextToText, AutoProcessor, Qwen2VLConfig

from ct_rate_pairs.eval.load_model import load_model
from ct_rate_pairs.eval.predictions.masks import predict_masks
from ct_rate_pairs.trainer import PairCollator
from ct_rate_pairs.trainer.mask_head import (
    CELLS,
    FILE,
    MaskHead,
    attach_mask_head,
    mask_loss,
    read_mask_head,
)
from ct_rate_pairs.trainer.mask_shares import mask_shares, masks_of_shares
from ct_rate_pairs.trainer.tiny import make_tiny_qwen


def make_masked(tmp_path, rows=MASKED, weight=1.0, **changes):
    trainer = make_trainer(tmp_path, rows, mask_loss_weight=weight, mask_names=NAMES, **changes)
    return trainer


FAMILIES = {"qwen2.5-vl": make_tiny_qwen, "qwen3-vl": make_tiny_qwen3, "qwen3.5": make_tiny_qwen3_5}
TEXTS = [*REPORTS, PROMPT]


@pytest.fixture(scope="module", params=["qwen2.5-vl", "qwen3-vl"])  # Qwen3.5 has the processor of Qwen3-VL
def family_collator(request):
    return PairCollator(FAMILIES[request.param](TEXTS)[1], mask_names=NAMES)


@pytest.mark.slow_but_first
@given(st.integers(1, 6), st.integers(5, 70), st.integers(5, 70), st.integers(0, 9))
def test_the_shares_are_those_of_the_pixels_that_the_tower_sees(family_collator, slices, height, width, seed):
    """A mask that is drawn as an image, too: the mean of each cell of each patch must be its share."""
    slices = max(slices, 2)  # a depth between slices needs two
    masks = np.random.default_rng(seed).integers(0, 2, (slices, height, width), dtype=np.uint8)
    images = [Image.fromarray(plane * 255) for plane in masks]
    row = ROWS[0] | {"images": images, "negative_images": [], "slice_mm": [10.0 * i for i in range(slices)]}
    batch, video = family_collator([with_masks(row, masks)]), family_collator.processor.video_processor
    depth, rows, columns = batch["video_grid_thw"][0].tolist()
    size, side = video.patch_size, 2 * video.patch_size  # of a patch and of a merged one
    pixels = batch["pixel_values_videos"].view(depth, rows // 2, columns // 2, 2, 2, 3, 2, size, size)[..., 0, :, :, :]
    pixels = pixels.permute(0, 1, 2, 5, 3, 6, 4, 7).reshape(-1, 2, side, side)  # [patches, slices, side, side]
    seen = F.avg_pool2d(pixels * video.image_std[0] + video.image_mean[0], side // CELLS)
    torch.testing.assert_close(batch["mask_shares"][:, 0], seen)
    assert batch["mask_shares"][:, 1].abs().max() == 0  # the volume is known not to have it


COLLATOR = PairCollator(make_model()[1], mask_names=NAMES)


@pytest.mark.parametrize("size", [(28, 28), (30, 40)], ids=["whole patches", "padded"])
def test_masks_that_are_not_known_are_not_learnt(size):
    images = [image.resize(size) for image in ROWS[0]["images"]]
    unknown = COLLATOR([ROWS[0] | {"images": images, "negative_images": [], "masks": None, "mask_findings": None}])
    unknown = unknown["mask_shares"]
    assert unknown.isnan().all()
    logits = torch.randn(unknown.shape, requires_grad=True)
    loss = mask_loss(logits, unknown, [len(unknown)])
    loss.backward()
    assert loss == 0 and logits.grad.abs().max() == 0


def test_several_masks_of_a_finding_are_one():
    masks = np.zeros((2, 4, 28, 28), np.uint8)
    masks[0, :, :10], masks[1, :, 5:20] = 1, 1
    first, second, both = (with_masks(ROWS[0], m) for m in (masks[0], masks[1], masks.max(axis=0)))
    joined = first | {name: first[name] + second[name] for name in ("masks", "mask_findings")}
    torch.testing.assert_close(COLLATOR([joined])["mask_shares"], COLLATOR([both])["mask_shares"])


def test_rows_without_masks_are_measured_and_not_trained_on(tmp_path):
    trainer = make_masked(tmp_path)
    assert trainer.evaluate(trainer.eval_dataset.select([0]))["eval_loss_mask"] > 0
    without = make_masked(tmp_path, [ROWS[0]])
    assert "eval_loss_mask" not in without.evaluate()
    with pytest.raises(ValueError, match=r"train_0_a_1.nii.gz: no column masks. Load the dataset with `masks`"):
        without.train()


def test_the_loss_is_least_for_the_true_masks_and_worse_for_shifted_or_mirrored_ones():
    masks = np.zeros((4, 56, 84), np.uint8)
    masks[1:3, 5:30, 3:30] = 1
    images = [Image.fromarray(plane) for plane in masks]
    row = ROWS[0] | {"images": images, "negative_images": []}

    def shares(masks):
        return COLLATOR([with_masks(row, masks)])["mask_shares"]

    def loss(predicted):
        return mask_loss(torch.logit(predicted, eps=1e-3), shares(masks), [len(predicted)]).item()

    own = loss(shares(masks))
    wrong = {
        "a slice lower": np.roll(masks, 1, axis=0),
        "a cell lower": np.roll(masks, 28 // CELLS, axis=1),
        "mirrored": masks[:, :, ::-1],
        "upside down": masks[::-1, ::-1],
        "empty": np.zeros_like(masks),
    }
    losses = {name: loss(shares(np.ascontiguousarray(other))) for name, other in wrong.items()}
    assert min(losses.values()) > own + 0.05, (own, losses)


def test_the_loss_is_that_of_its_formula():
    torch.manual_seed(0)
    logits, shares = torch.randn(6, 2, 2, CELLS, CELLS), torch.rand(6, 2, 2, CELLS, CELLS)
    shares[:4, 1], shares[4:, 0] = 0, float("nan")  # the first volume lacks the second finding
    known = ~shares.isnan()
    entropy = F.binary_cross_entropy_with_logits(logits[known], shares[known])
    p = logits.sigmoid()
    dice = [
        1
        - (2 * (p[rows, label] * shares[rows, label]).sum() + 1)
        / (p[rows, label].sum() + shares[rows, label].sum() + 1)
        for rows, label in ((slice(0, 4), 0), (slice(4, 6), 1))
    ]
    torch.testing.assert_close(mask_loss(logits, shares, [4, 2]), entropy + sum(dice) / 2)


@pytest.mark.slow
@pytest.mark.parametrize("changes", [{"beta": 0.0}, {"pair_mode": "sequential"}, {"pair_mode": "joint"}], ids=str)
def test_the_head_learns_where_the_finding_is(tmp_path, changes):
    trainer = make_masked(tmp_path, max_steps=40, **changes)
    trainer.train()
    losses = logged(trainer, "loss_mask")
    assert losses[-1] < 0.6 * losses[0]
    model, batch = trainer.model, trainer.data_collator(MASKED[:2])
    model.train()
    logits = model(
        **{n: v for n, v in batch.items() if n not in ("mask_shares", "volumes")}, fused_lm_head=True
    ).mask_logits
    inside = batch["mask_shares"] > 0.5
    assert logits[inside].mean() > logits[~inside].mean() + 1


@pytest.mark.parametrize(
    ("family", "pair_mode"),
    [("qwen2.5-vl", "sequential"), ("qwen2.5-vl", "joint"), ("qwen3-vl", "sequential"), ("qwen3.5", "joint")],
)
def test_the_gradient_is_that_of_the_reports_and_the_masks_together(tmp_path, family, pair_mode):
    rows, weight = MASKED[:3], 0.7
    made = FAMILIES[family](TEXTS)
    trainer = make_masked(tmp_path, weight=weight, pair_mode=pair_mode, beta=0.3, made=made)
    torch.nn.init.normal_(trainer.mask_head.project.weight)  # at 0 it would send nothing to the tower
    found, loss = gradients(trainer, rows, num_items=torch.tensor(40))

    head, trainer.mask_head = trainer.mask_head, None
    reports, loss_of_reports = gradients_or_zero(trainer, rows)
    batch = trainer.data_collator(rows)
    shares = batch["mask_shares"]
    trainer.model.zero_grad()
    inputs = {name: value for name, value in batch.items() if name not in ("mask_shares", "volumes")}
    features = trainer.model.get_video_features(inputs["pixel_values_videos"], inputs["video_grid_thw"])
    alone = mask_loss(head(torch.cat(features.pooler_output)), shares, [len(shares) // 3] * 3)
    tokens = (batch["labels"] != -100).sum()
    (weight * tokens / 40 * alone).backward()
    torch.testing.assert_close(loss, loss_of_reports + weight * tokens / 40 * alone.detach())
    masks = {n: torch.zeros_like(p) if p.grad is None else p.grad for n, p in trainer.model.named_parameters()}
    assert_same(found, {name: reports[name] + masks[name] for name in found}, rtol=1e-4, atol=1e-6)
    assert masks["model.visual.patch_embed.proj.weight"].abs().max() > 0


def gradients_or_zero(trainer, rows):
    found, loss = gradients_or_none(trainer, rows)
    return {name: found.get(name, torch.zeros_like(p)) for name, p in trainer.model.named_parameters()}, loss


def test_the_head_is_saved_beside_the_weights_and_not_among_them(tmp_path):
    trainer = make_masked(tmp_path)
    trainer.train()
    trainer.save_model()
    assert not [name for name in load_file(tmp_path / "model.safetensors") if "mask_head" in name]
    model, _ = load_model(str(tmp_path), device="cpu")
    other = read_mask_head(tmp_path / FILE, model)
    assert other.names == NAMES
    assert_same(dict(other.state_dict()), dict(trainer.mask_head.state_dict()), rtol=0, atol=0)


@pytest.mark.parametrize("lora", [False, True], ids=["whole", "lora"])
def test_under_a_frozen_tower_the_masks_teach_the_head_alone(tmp_path, lora):
    for part in make_model():
        part.save_pretrained(tmp_path / "base")
    made = tuple(of.from_pretrained(tmp_path / "base") for of in (AutoModelForImageTextToText, AutoProcessor))
    peft = LoraConfig(target_modules=r".*language_model.*_proj") if lora else None
    trainer = make_masked(tmp_path / "run", freeze_vision=True, made=made, peft_config=peft)
    torch.nn.init.normal_(trainer.mask_head.project.weight)  # at 0 it would send nothing to the tower

    head, rows = trainer.mask_head, MASKED[:3]
    trainer.model.train()
    found, _ = gradients_or_none(trainer, rows)
    trainer.mask_head = None
    reports, _ = gradients_or_none(trainer, rows)
    trainer.mask_head = head
    of_head = {name for name in found if "mask_head" in name}
    assert len(of_head) == 2 and all(found[name].abs().max() > 0 for name in of_head)
    assert {name for name in found if name not in of_head} == reports.keys()
    assert not [name for name in reports if "visual" in name or (lora and "lora_" not in name)]
    assert_same({name: found[name] for name in reports}, reports, rtol=0, atol=0)

    before = weights_of(trainer)
    trainer.train()
    after = weights_of(trainer)
    changed = {name for name in after if not torch.equal(after[name], before[name])}
    assert of_head < changed <= found.keys()
    trainer.save_model()
    model, collator = load_model(str(tmp_path / "run"), device="cpu")
    loaded = read_mask_head(tmp_path / "run" / FILE, model)
    own = (of.model.visual for of in (model, trainer.model.get_base_model() if lora else trainer.model))
    assert_same(*(tower.state_dict() for tower in own), rtol=0, atol=0)
    masks = (predict_masks(of, own, collator, rows[1]) for of, own in ((model, loaded), (trainer.model.eval(), head)))
    np.testing.assert_array_equal(*masks)


def gradients_or_none(trainer, rows):
    """Gradients of one micro-batch, of those parameters that get one."""
    trainer.model.zero_grad()
    loss = trainer.compute_loss(trainer.model, dict(trainer.data_collator(rows)), num_items_in_batch=torch.tensor(40))
    loss.backward()
    parameters = trainer.model.named_parameters()
    return {name: weight.grad.clone() for name, weight in parameters if weight.grad is not None}, loss.detach()


def test_a_head_for_other_findings_or_of_another_model_is_refused(tmp_path):
    model, _ = make_model()
    MaskHead(32, ("Emphysema",), 2).save(tmp_path)
    with pytest.raises(ValueError, match="predicts Emphysema, and this training Lung nodule, Pleural effusion"):
        attach_mask_head(model, NAMES).load(tmp_path)
    MaskHead(64, NAMES, 2).save(tmp_path)
    with pytest.raises(ValueError, match="holds no mask head of this model"):
        read_mask_head(tmp_path / FILE, model)


@pytest.mark.slow
@pytest.mark.parametrize("lora", [False, True], ids=["whole", "lora"])
def test_a_resumed_training_ends_at_the_same_head(tmp_path, lora):
    def trainer(folder):
        peft = LoraConfig(target_modules=r".*language_model.*_proj") if lora else None
        return make_masked(tmp_path / folder, save_strategy="steps", save_steps=2, peft_config=peft)

    whole, parted = trainer("whole"), trainer("parted")
    whole.train()
    parted.train(resume_from_checkpoint=str(tmp_path / "whole" / "checkpoint-2"))
    assert_same(weights_of(parted), weights_of(whole), rtol=0, atol=0)
    assert any("mask_head" in name for name in weights_of(whole))
    assert whole.mask_head.project.weight.abs().max() > 0


@pytest.mark.slow
@pytest.mark.parametrize("lora", [False, True], ids=["whole", "lora"])
def test_the_head_at_the_end_is_that_of_the_best_checkpoint(tmp_path, lora):
    peft = LoraConfig(target_modules=r".*language_model.*_proj") if lora else None
    best = {"load_best_model_at_end": True, "metric_for_best_model": "eval_loss", "greater_is_better": True}
    each = {"save_strategy": "steps", "save_steps": 2, "eval_strategy": "steps", "eval_steps": 2}
    trainer = make_masked(tmp_path, **best, **each, peft_config=peft)
    trainer.train()  # the loss falls, so the first checkpoint has the greatest
    assert trainer.state.best_model_checkpoint.endswith("checkpoint-2") and trainer.state.global_step == 4
    saved, last = (load_file(tmp_path / folder / FILE) for folder in ("checkpoint-2", "checkpoint-4"))
    assert_same(dict(trainer.mask_head.state_dict()), saved, rtol=0, atol=0)
    assert (saved["project.weight"] - last["project.weight"]).abs().max() > 0


def test_a_checkpoint_without_a_head_is_refused(tmp_path):
    make_trainer(tmp_path, MASKED, save_strategy="steps", save_steps=4).train()
    with pytest.raises(ValueError, match=r"checkpoint-4 has no mask_head.safetensors: .* without `mask_loss_weight`"):
        make_masked(tmp_path).train(resume_from_checkpoint=True)


@pytest.mark.slow
def test_two_processes_train_the_head_of_one_and_one_of_them_saves_it(tmp_path):
    run_as_two("masks_run.py", tmp_path)
    two = torch.load(tmp_path / "weights.pt")
    saved = load_file(tmp_path / "saved" / "mask_head.safetensors")
    assert_same(saved, {name: two[f"mask_head.{name}"] for name in saved}, rtol=0, atol=0)
    trainer = make_masked(tmp_path, ALIKE, per_device_train_batch_size=4)
    trainer.train()
    weights = weights_of(trainer)
    assert weights["mask_head.project.weight"].abs().max() > 1e-3
    assert_same(two, weights, rtol=0, atol=1e-4)  # a step moves a weight by up to 1e-2


@pytest.mark.slow
@pytest.mark.parametrize("lora", [False, True], ids=["whole", "lora"])
def test_two_processes_that_shard_the_model_train_save_and_resume_the_head_of_one(tmp_path, lora):
    run_as_two("fsdp_masks_run.py", tmp_path, *["lora"] * lora)
    whole, resumed = (torch.load(tmp_path / f"{name}.pt") for name in ("whole", "resumed"))
    saved = load_file(tmp_path / "whole" / FILE)
    assert_same(
        saved, {name.split("mask_head.")[1]: w for name, w in whole.items() if "mask_head" in name}, atol=0, rtol=0
    )
    assert_same(resumed, whole, rtol=0, atol=1e-6)
    peft = LoraConfig(target_modules=r".*language_model.*_proj") if lora else None
    trainer = make_masked(tmp_path / "one", ALIKE, per_device_train_batch_size=4, peft_config=peft)
    trainer.train()
    assert trainer.mask_head.project.weight.abs().max() > 1e-3
    assert_same(whole, weights_of(trainer), rtol=0, atol=2e-4)  # a step moves a weight by up to 1e-2


def test_a_model_whose_tower_does_not_merge_patches_is_refused():
    class Tower(torch.nn.Module):
        config = type("Config", (), {"vision_config": object()})

    with pytest.raises(ValueError, match="needs a vision tower that merges patches .* `mask_loss_weight=0`"):
        attach_mask_head(Tower(), NAMES)


def test_qwen2_vl_is_refused_because_its_config_does_not_tell_the_width_of_merged_patches():
    class Model(torch.nn.Module):
        config = Qwen2VLConfig()

    with pytest.raises(ValueError, match="has no out_hidden_size: set `mask_loss_weight=0`"):
        attach_mask_head(Model(), NAMES)


def test_a_head_without_names_is_refused(tmp_path):
    with pytest.raises(ValueError, match="the collator has no `mask_names`"):
        make_trainer(tmp_path, MASKED, mask_loss_weight=1.0)


def test_a_new_head_says_that_nothing_is_anywhere():
    head = MaskHead(8, NAMES, 2)
    assert head(torch.randn(3, 8)).sigmoid().max() < 0.05


@given(st.integers(2, 6), st.integers(5, 70), st.integers(5, 70), st.integers(0, 9), st.sampled_from([28, 32]))
def test_masks_come_back_from_their_shares_in_their_places(slices, height, width, seed, side):
    """The centre of gravity of a box moves by less than a cell."""
    rng = np.random.default_rng(seed)
    masks = np.zeros((1, slices, height, width), np.float32)
    top, left = rng.integers(0, height), rng.integers(0, width)
    masks[0, rng.integers(0, slices), top : top + 21, left : left + 21] = 1
    back = masks_of_shares(mask_shares(masks, side, 2), masks.shape[1:], side)
    assert back.shape == masks.shape

    def centre(values):
        return [(np.indices(values.shape)[axis] * values).sum() / values.sum() for axis in range(1, 4)]

    slice_of, *place = np.subtract(centre(back), centre(masks))
    assert abs(slice_of) < 1e-3 and max(map(abs, place)) < side / CELLS
