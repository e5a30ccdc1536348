"""
Mutual partners in the trainer: gradients are those of two passes of the vision tower over explicit pixels, the tower
runs once, and nothing else changes.
"""

import numpy as np
import pytest
import torch
from helpers.mutual_run import rows_of, trainer_of, with_one_large_family
from helpers.pair_trainer import (
    PROMPT,
    REPORTS,
    assert_same,
    logged,
    make_row,
    make_trainer,
    plain_cross_entropies,
    weights_of,
)
from helpers.tiny_models import make_tiny_gemma3, make_tiny_qwen3, make_tiny_qwen3_5
from helpers.two_processes import run_as_two
from peft import LoraConfig
from PIL import Image

from ct_rate_pairs.trainer.mutual_pairs import PARTNERS, MutualPairs
from ct_rate_pairs.trainer.tiny import make_tiny_qwen
from ct_rate_pairs.trainer.vision_features import volumes_of_pixels


VOLUMES, NEGATIVES = "pixel_values_videos", "negative_pixel_values_videos"
LABELS = np.random.default_rng(0).integers(0, 2, (8, 18))
NUM_ITEMS = torch.tensor(40)


def mutual_row(index, patient=None, size=(28, 28)):
    row = make_row(index)
    images = [image.resize(size) for image in row["images"]]
    volume = row["volume"] if patient is None else f"train_{patient}_a_{index}.nii.gz"
    changed = {"volume": volume, "images": images, "labels": LABELS[index].tolist(), "negative_volume": ""}
    return row | changed | {"negative_images": []}


ROWS = [mutual_row(index) for index in range(4)]
ONE_PATIENT_TWICE = [mutual_row(0, patient=7), mutual_row(1, patient=7), mutual_row(2)]


def collate(trainer, rows):
    return dict(MutualPairs(trainer.data_collator, air=0)(rows))


def gradients_of(trainer, batch, num_items=NUM_ITEMS):
    """Gradients and loss of a batch, as `training_step` makes them; `None` where nothing learns."""
    trainer.model.train()
    trainer.model.zero_grad()
    loss = trainer.compute_loss(trainer.model, dict(batch), num_items_in_batch=num_items)
    loss.backward()
    learning = {name: weight for name, weight in trainer.model.named_parameters() if weight.requires_grad}
    return {name: weight.grad.clone() for name, weight in learning.items()}, loss.detach()


def explicit(trainer, batch):
    """The same batch with the pixels of its negatives, as rows of drawn partners have them."""
    pixels = trainer.data_collator.pixels
    volumes = [*volumes_of_pixels(batch[pixels], batch), *batch.get(f"negative_{pixels}", torch.zeros(0)).split(10**9)]
    negatives = torch.cat([volumes[partner] for partner in batch[PARTNERS]])
    return {name: value for name, value in batch.items() if name != PARTNERS} | {f"negative_{pixels}": negatives}


def assert_equal_gradients(found, wanted):
    """To 1e-5 of each gradient."""
    (found, loss), (wanted, wanted_loss) = found, wanted
    torch.testing.assert_close(loss, wanted_loss, rtol=1e-5, atol=1e-6)
    assert found.keys() == wanted.keys()
    whole = torch.stack([value.norm() for value in wanted.values()]).max()
    for name, value in found.items():
        assert (value - wanted[name]).norm() <= 1e-5 * wanted[name].norm() + 1e-7 * whole, name


def count_passes(trainer, batch):
    """How many volumes the vision tower sees in a step, in one list entry per pass."""
    visual, passes = trainer.model.model.visual, []
    hook = visual.register_forward_pre_hook(
        lambda module, args, kwargs: passes.append(len(kwargs["grid_thw"])), with_kwargs=True
    )
    gradients_of(trainer, batch)
    hook.remove()
    return passes


TERMS = [
    *(("sequential", loss, cap) for loss, cap in (("capped", 100.0), ("capped", 5.95), ("unlikelihood", 100.0))),
    *(("joint", loss, 100.0) for loss in ("capped", "unlikelihood", "hinge", "logistic", "info_nce")),
]


@pytest.mark.slow_but_first
@pytest.mark.parametrize(("pair_mode", "negative_loss", "cap"), TERMS)
def test_shared_features_give_the_gradients_of_two_passes_of_the_tower(tmp_path, pair_mode, negative_loss, cap):
    options = {"pair_mode": pair_mode, "negative_loss": negative_loss, "max_negative_loss": cap}
    trainer = make_trainer(tmp_path, alpha=0.7, beta=0.4, **options)
    batch = collate(trainer, ROWS)
    assert sorted(batch[PARTNERS]) == [0, 1, 2, 3] and NEGATIVES not in batch
    naive = explicit(trainer, batch)
    wanted = gradients_of(trainer, naive)
    assert_equal_gradients(gradients_of(trainer, batch), wanted)
    without, _ = gradients_of(make_trainer(tmp_path, alpha=0.7, beta=0.0), naive)
    visual = [name for name in without if "visual" in name]
    assert any((without[name] - wanted[0][name]).norm() > 1e-3 * wanted[0][name].norm() for name in visual)
    both = [4, 4] if pair_mode == "sequential" else [8]
    assert (count_passes(trainer, naive), count_passes(trainer, batch)) == (both, [4])


@pytest.mark.parametrize("pair_mode", ["sequential", "joint"])
def test_volumes_without_a_partner_have_no_negative(tmp_path, pair_mode):
    trainer = make_trainer(tmp_path, beta=0.4, max_negative_loss=100.0, pair_mode=pair_mode)
    batch = collate(trainer, ONE_PATIENT_TWICE)
    paired = [row for row, partner in enumerate(batch[PARTNERS]) if partner >= 0]
    assert len(paired) == 2 and 2 in paired
    positive, tokens = plain_cross_entropies(trainer, ONE_PATIENT_TWICE, VOLUMES)
    rows = [ONE_PATIENT_TWICE[row] for row in paired]
    swapped = [row | {"negative_images": other["images"]} for row, other in zip(rows, rows[::-1], strict=True)]
    negative, negative_tokens = plain_cross_entropies(trainer, swapped, NEGATIVES)
    loss = ((positive * tokens).sum() - 0.4 * (negative * negative_tokens).sum()) / NUM_ITEMS
    trainer.model.zero_grad()
    loss.backward()
    wanted = {name: weight.grad.clone() for name, weight in trainer.model.named_parameters()}
    found, found_loss = gradients_of(trainer, batch)
    torch.testing.assert_close(found_loss, loss.detach())
    assert_same(found, wanted, rtol=1e-4, atol=1e-6)
    sums = dict(
        zip(("paired_positive", "negative", "paired_tokens"), trainer._sums["train"][4:7].tolist(), strict=True)
    )
    wanted_sum = float((positive.detach() * tokens)[paired].sum())
    assert sums["paired_positive"] == pytest.approx(wanted_sum, rel=1e-4)
    assert sums["paired_tokens"] == int(negative_tokens.sum())


@pytest.mark.parametrize("pair_mode", ["sequential", "joint"])
def test_a_batch_of_one_patient_is_a_plain_step(tmp_path, pair_mode):
    rows = [mutual_row(index, patient=7) for index in range(2)]
    trainer = make_trainer(tmp_path, beta=0.4, max_negative_loss=100.0, pair_mode=pair_mode)
    batch = collate(trainer, rows)
    assert batch[PARTNERS] == [-1, -1]
    plain = make_trainer(tmp_path, beta=0.0)
    assert_equal_gradients(gradients_of(trainer, batch), gradients_of(plain, dict(plain.data_collator(rows))))


@pytest.mark.parametrize("pair_mode", ["sequential", "joint"])
def test_a_partner_on_another_grid_is_fitted_to_its_volume(tmp_path, pair_mode):
    rows = [mutual_row(0), mutual_row(1, size=(84, 56)), mutual_row(2, size=(84, 56))]
    trainer = make_trainer(tmp_path, beta=0.4, max_negative_loss=100.0, pair_mode=pair_mode)
    batch = collate(trainer, rows)
    fitted = [row for row, partner in enumerate(batch[PARTNERS]) if partner >= 3]
    assert len(fitted) == 2  # the small one's partner, and the one that it serves
    sizes = [row["images"][0].size for row in rows]
    assert [int(grid.prod()) for grid in batch["video_grid_thw"]] == [8, 48, 48]
    volumes = [*volumes_of_pixels(batch[VOLUMES], batch)]
    volumes += batch[NEGATIVES].split([int(batch["video_grid_thw"][row].prod()) for row in fitted])
    negatives = torch.cat([volumes[partner] for partner in batch[PARTNERS]])
    naive = {name: value for name, value in batch.items() if name != PARTNERS} | {NEGATIVES: negatives}
    assert_equal_gradients(gradients_of(trainer, batch), gradients_of(trainer, naive))
    # The pixels are those of a row whose negative is the partner, cropped around its centre.
    small = next(row for row in fitted if sizes[row] == (28, 28))
    of_small = batch[NEGATIVES].split([int(batch["video_grid_thw"][row].prod()) for row in fitted])[
        fitted.index(small)
    ]
    candidates = []
    for other in (1, 2):
        cropped = [image.crop((28, 14, 56, 42)) for image in rows[other]["images"]]
        candidates.append(trainer.data_collator.negatives([rows[0] | {"negative_images": cropped}]))
    assert any(torch.equal(of_small, candidate) for candidate in candidates)


@pytest.mark.parametrize("frozen", ["vision", "lora", "lora and checkpointing"])
def test_frozen_towers_and_adapters_have_the_gradients_of_two_passes(tmp_path, frozen):
    lora = LoraConfig(r=4, lora_dropout=0.0, target_modules=["q_proj", "v_proj", "qkv"], init_lora_weights=False)
    options = {
        "vision": {"freeze_vision": True},
        "lora": {"peft_config": lora},
        "lora and checkpointing": {"peft_config": lora, "gradient_checkpointing": True},
    }[frozen]
    trainer = make_trainer(tmp_path, beta=0.4, max_negative_loss=100.0, **options)
    batch = collate(trainer, ROWS)
    found, wanted = gradients_of(trainer, batch), gradients_of(trainer, explicit(trainer, batch))
    assert any("visual" in name for name in found[0]) == (frozen != "vision")
    assert_equal_gradients(found, wanted)


@pytest.mark.slow_but_first
@pytest.mark.parametrize("pair_mode", ["sequential", "joint"])
@pytest.mark.parametrize("make_model", [make_tiny_qwen, make_tiny_qwen3, make_tiny_qwen3_5, make_tiny_gemma3])
def test_each_family_shares_its_features_without_a_change_of_gradients(tmp_path, make_model, pair_mode):
    trainer = make_trainer(
        tmp_path, made=make_model([*REPORTS, PROMPT]), beta=0.4, max_negative_loss=100.0, pair_mode=pair_mode
    )
    rows = [mutual_row(index, size=(32, 32)) for index in range(3)]
    batch = collate(trainer, rows)
    assert sorted(batch[PARTNERS]) == [0, 1, 2] and trainer.shares_features
    wanted = gradients_of(trainer, explicit(trainer, batch))
    assert_equal_gradients(gradients_of(trainer, batch), wanted)
    trainer.shares_features = False  # as for a sharded model
    assert_equal_gradients(gradients_of(trainer, batch), wanted)


def test_a_scaled_loss_scales_the_gradient_of_the_tower_once(tmp_path):
    trainer = make_trainer(tmp_path, beta=0.4, max_negative_loss=100.0)
    batch = collate(trainer, ROWS)
    plain, _ = gradients_of(trainer, batch)
    trainer.accelerator.scaler = torch.amp.GradScaler("cpu", init_scale=64.0)
    trainer.model.zero_grad()
    loss = trainer.compute_loss(trainer.model, dict(batch), num_items_in_batch=NUM_ITEMS)
    trainer.accelerator.backward(loss)
    for name, weight in trainer.model.named_parameters():
        torch.testing.assert_close(weight.grad, 64 * plain[name], rtol=1e-4, atol=1e-4)


def test_uneven_numbers_of_slices_and_rows_without_labels_are_refused(tmp_path):
    trainer = make_trainer(tmp_path, beta=0.4)
    short = ROWS[1] | {"images": ROWS[1]["images"][:2], "slice_mm": [0.0, 30.0]}
    with pytest.raises(ValueError, match="equal numbers of slices"):
        collate(trainer, [ROWS[0], short])
    with pytest.raises(ValueError, match=r"train_0_a_1.nii.gz has no labels"):
        collate(trainer, [{name: value for name, value in ROWS[0].items() if name != "labels"}])


def test_slices_in_colour_are_fitted_with_the_air_of_each_channel(tmp_path):
    trainer = make_trainer(tmp_path, beta=0.4)
    coloured = [
        row | {"images": [Image.merge("RGB", [image] * 3) for image in row["images"]]}
        for row in (mutual_row(0), mutual_row(1, size=(84, 56)))
    ]
    batch = MutualPairs(trainer.data_collator, air=np.array([0, 10, 20]))(coloured)
    assert batch[PARTNERS] == [2, 3] and torch.isfinite(batch[NEGATIVES]).all()


def train(tmp_path, tree, resume=None, **changes):
    trainer = trainer_of(tmp_path, rows_of(tree), **changes)
    trainer.train(resume_from_checkpoint=resume)
    return trainer


@pytest.mark.slow
def test_rows_of_mutual_partners_train_and_tell_what_they_pair(tmp_path, tree):
    trainer = train(tmp_path, tree)
    assert logged(trainer, "paired_share") == [1.0] * len(logged(trainer, "loss_neg")) and logged(trainer, "loss_neg")
    for loss, negative, margin in zip(
        *(logged(trainer, key) for key in ("loss_pos", "loss_neg", "margin")), strict=True
    ):
        assert margin == pytest.approx(negative - loss, abs=1e-4)


@pytest.mark.slow
def test_a_resumed_training_with_a_share_ends_at_the_same_weights(tmp_path, tree):
    options = {"negative_share": 0.5, "save_strategy": "steps", "save_steps": 3}
    whole = train(tmp_path / "whole", tree, **options)
    resumed = train(tmp_path / "resumed", tree, str(tmp_path / "whole" / "checkpoint-3"), **options)
    assert 0 < len(logged(whole, "loss_neg")) < 6
    assert_same(weights_of(resumed), weights_of(whole), rtol=0, atol=0)


@pytest.mark.slow
def test_without_beta_mutual_rows_train_as_rows_without_negatives_to_the_bit(tmp_path, tree):
    runs = []
    for options in ({"negative": "none", "partner_sampling": "uniform"}, {}):
        trainer = trainer_of(tmp_path, rows_of(tree, **options), beta=0.0)
        trainer.train()
        runs.append(weights_of(trainer))
    assert_same(*runs, rtol=0, atol=0)


def test_a_batch_of_one_volume_is_refused_before_the_training(tmp_path, tree):
    with pytest.raises(ValueError, match="`per_device_train_batch_size` is 1: take 2 or more"):
        train(tmp_path, tree, per_device_train_batch_size=1)


@pytest.fixture(scope="module")
def two_processes(tree, tmp_path_factory):
    folder = tmp_path_factory.mktemp("mutual")
    run_as_two("mutual_run.py", tree, folder)
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("pair_mode", ["sequential", "joint"])
def test_two_processes_of_which_one_may_have_no_pair_take_the_steps_of_one(two_processes, tmp_path, tree, pair_mode):
    two = torch.load(two_processes / f"{pair_mode}.pt")
    rows = with_one_large_family(rows_of(tree))
    one = trainer_of(tmp_path, rows, pair_mode=pair_mode, optim="sgd", gradient_accumulation_steps=4)
    one.train()
    assert min(logged(one, "paired_share")) < 1
    for key in ("loss", "loss_pos", "loss_neg", "margin", "paired_share"):
        assert [entry[key] for entry in two["log"] if key in entry] == pytest.approx(logged(one, key), abs=1e-5)
    for name, weight in one.model.state_dict().items():
        torch.testing.assert_close(two["weights"][name], weight, rtol=1e-5, atol=1e-6)
