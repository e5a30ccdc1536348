from collections import Counter

import numpy as np
import pytest
import torch.nn.functional as F
from datasets import load_dataset
from helpers.lazy_rows import REPORTS, LazyRows, make_row
from helpers.tiny_models import make_tiny_gemma3, make_tiny_qwen3
from helpers.tree import SPACING
from hypothesis import given
from hypothesis import strategies as st

from ct_rate_pairs.eval.looking.loss_gap import loss_gap
from ct_rate_pairs.eval.looking.other_volumes import (
    VOLUMES,
    TooFewScansError,
    blank_slices,
    derange_by_patient,
    noise_slices,
    shuffle_volumes,
)
from ct_rate_pairs.trainer import PairCollator
from ct_rate_pairs.trainer.tiny import make_tiny_qwen


@pytest.fixture(scope="module")
def model_and_collator():
    model, processor = make_tiny_qwen(REPORTS, seed=0)
    return model, PairCollator(processor)


@pytest.fixture(scope="module")
def rows():
    return [make_row(seed, report) for seed, report in enumerate(REPORTS)]


def plain_loss(model, collator, row):
    """Sum and number of a report's token losses from plain logits, without any padding."""
    batch = collator([row | {"negative_images": []}])
    labels = batch.pop("labels")
    logits = model.eval()(**batch).logits
    losses = F.cross_entropy(logits[0, :-1], labels[0, 1:], ignore_index=-100, reduction="sum")
    return losses.item(), (labels != -100).sum().item()


def test_losses_follow_the_definition_on_plain_logits(model_and_collator, rows):
    model, collator = model_and_collator
    gap = loss_gap(model, collator, rows, batch_size=2, progress=False)
    pos = [plain_loss(model, collator, row) for row in rows]
    neg = [plain_loss(model, collator, row | {"images": row["negative_images"]}) for row in rows]
    counts = [count for _, count in pos]
    assert len(set(counts)) == 3  # or a mean over pairs would pass for one over tokens
    assert gap["loss_pos"] == pytest.approx(sum(total for total, _ in pos) / sum(counts), rel=1e-5)
    assert gap["loss_neg"] == pytest.approx(sum(total for total, _ in neg) / sum(counts), rel=1e-5)
    expected = [(n - p) / count for (p, count), (n, _) in zip(pos, neg, strict=True)]
    assert gap["pair_gaps"] == pytest.approx(expected, abs=1e-5)
    assert gap["loss_gap"] == pytest.approx(np.average(expected, weights=counts), abs=1e-5)
    assert gap["gap_positive_share"] == np.mean(np.array(expected) > 0)


def test_volume_and_negative_exchanged_turn_the_gap_round(model_and_collator, rows):
    model, collator = model_and_collator
    exchanged = [row | {"images": row["negative_images"], "negative_images": row["images"]} for row in rows]
    gap = loss_gap(model, collator, rows, progress=False)
    other = loss_gap(model, collator, iter(exchanged), progress=False)
    assert max(map(abs, gap["pair_gaps"])) > 1e-4  # the tiny model does see its scans
    assert other["pair_gaps"] == pytest.approx([-value for value in gap["pair_gaps"]], abs=1e-6)


def test_a_negative_equal_to_the_volume_has_no_gap(model_and_collator, rows):
    model, collator = model_and_collator
    same = [row | {"negative_images": row["images"]} for row in rows]
    gap = loss_gap(model, collator, same, progress=False)
    assert gap["loss_gap"] == 0 and gap["gap_positive_share"] == 0


def test_losses_are_measured_in_evaluation_mode_and_the_mode_is_restored(model_and_collator, rows):
    model, collator = model_and_collator
    model.train()
    modes = []
    hook = model.register_forward_pre_hook(lambda module, _: modes.append(module.training))
    loss_gap(model, collator, rows, progress=False)
    hook.remove()
    assert modes and not any(modes)
    assert model.training


def test_rows_without_negatives_are_refused_by_name(model_and_collator, rows):
    model, collator = model_and_collator
    with pytest.raises(ValueError, match=r'train_1_a_1\.nii\.gz has no negative.*negative="gauss"'):
        loss_gap(model, collator, [rows[0], rows[1] | {"negative_images": []}], progress=False)
    with pytest.raises(ValueError, match="no rows"):
        loss_gap(model, collator, [], progress=False)


@pytest.mark.slow_but_first
@pytest.mark.parametrize("make", [make_tiny_qwen, make_tiny_qwen3, make_tiny_gemma3])
def test_every_other_volume_is_scored_as_if_it_were_the_negative(make, rows):
    model, processor = make(REPORTS)
    collator = PairCollator(processor)
    gaps = loss_gap(model, collator, rows, volumes=VOLUMES, progress=False)
    others = {
        "": [row["negative_images"] for row in rows],
        "_noise": [noise_slices(row) for row in rows],
        "_shuffled": [row["images"] for row in shuffle_volumes(rows)],
        "_blank": [blank_slices(row) for row in rows],
    }
    for suffix, images in others.items():
        pairs = [row | {"negative_images": slices} for row, slices in zip(rows, images, strict=True)]
        expected = loss_gap(model, collator, pairs, progress=False)
        assert max(map(abs, expected["pair_gaps"])) > 1e-5
        assert gaps[f"pair_gaps{suffix}"] == pytest.approx(expected["pair_gaps"], abs=1e-5)
        for key in ("loss_gap", "gap_positive_share"):
            assert gaps[key + suffix] == pytest.approx(expected[key], abs=1e-5)
        assert gaps[f"loss{suffix or '_neg'}"] == pytest.approx(expected["loss_neg"], rel=1e-5)
        assert gaps["loss_pos"] == pytest.approx(expected["loss_pos"], rel=1e-5)


def test_no_gap_depends_on_the_batch_size(model_and_collator, rows):
    alone, together = (
        loss_gap(*model_and_collator, rows, volumes=VOLUMES, batch_size=size, progress=False) for size in (1, 3)
    )
    for name in VOLUMES:
        key = "pair_gaps" if name == "negative" else f"pair_gaps_{name}"
        assert alone[key] == pytest.approx(together[key], abs=1e-5)


def test_rows_without_negatives_have_gaps_to_the_other_volumes(model_and_collator, rows):
    bare = [rows[0], rows[1] | {"negative_images": []}]
    gaps = loss_gap(*model_and_collator, bare, volumes=("blank", "noise"), progress=False)
    assert len(gaps["pair_gaps_blank"]) == len(gaps["pair_gaps_noise"]) == 2
    assert "loss_gap" not in gaps and "loss_gap_shuffled" not in gaps


def test_noise_is_drawn_from_seed_and_volume_in_the_rows_size_and_mode(rows):
    def draw(row, seed=0):
        return np.stack(noise_slices(row, seed))

    noise = draw(rows[0])
    assert noise.shape == (4, 56, 56) and noise.dtype == np.uint8
    assert (noise == draw(rows[1] | {"volume": rows[0]["volume"]})).all()
    assert (noise != draw(rows[1])).any() and (noise != draw(rows[0], seed=1)).any()
    clipped = (noise == 0) | (noise == 255)  # beyond one standard deviation: .317 of a normal distribution
    assert clipped.mean() == pytest.approx(0.317, abs=0.03) and noise.mean() == pytest.approx(127.5, abs=3)
    rgb = [image.convert("RGB") for image in rows[0]["images"]]
    for other in (noise_slices(rows[0] | {"images": rgb}), blank_slices(rows[0] | {"images": rgb})):
        assert [(image.mode, image.size) for image in other] == [("RGB", (56, 56))] * 4


def test_a_blank_volume_is_air(rows):
    assert len(blank_slices(rows[0])) == 4
    assert not np.stack(blank_slices(rows[0])).any()


def test_no_more_volumes_are_held_than_a_batch_and_its_partners(model_and_collator):
    model, collator = model_and_collator
    rows, alive = LazyRows(12), []
    hook = model.register_forward_pre_hook(lambda *_: alive.append(rows.alive))
    loss_gap(model, collator, rows, volumes=("shuffled", "noise"), batch_size=2, progress=False)
    hook.remove()
    assert len(alive) == 3 * 6
    assert 2 <= max(alive) <= 4


@pytest.mark.slow
def test_a_map_style_dataset_is_measured_under_all_volumes(tree):
    rows = load_dataset("ct_rate_pairs", data_dir=str(tree), negative="heter", spacing=SPACING, split="test[:4]")
    model, processor = make_tiny_qwen(REPORTS, hidden_size=32, num_layers=1, vision_depth=1, vision_hidden_size=32)
    gaps = loss_gap(model, PairCollator(processor), rows, volumes=VOLUMES, progress=False)
    listed = loss_gap(model, PairCollator(processor), list(rows), volumes=VOLUMES, progress=False)
    assert gaps == listed and len(gaps["pair_gaps_shuffled"]) == 4


def test_a_row_that_cannot_be_read_cannot_be_shuffled(model_and_collator, own_tree):
    broken = next(own_tree.glob("dataset/valid_fixed/*/*/valid_3_a_1.nii.gz"))
    broken.write_bytes(b"no volume")
    rows = load_dataset(
        "ct_rate_pairs", data_dir=str(own_tree), negative="none", spacing=SPACING, split="test", on_error="skip"
    )
    with pytest.raises(ValueError, match=r"valid_3_a_1\.nii\.gz cannot be read"):
        list(shuffle_volumes(rows))
    with pytest.raises(ValueError, match=r"valid_3_a_1\.nii\.gz cannot be read"):
        loss_gap(*model_and_collator, rows, volumes=("shuffled",), batch_size=1, progress=False)


def test_other_volumes_that_cannot_be_had_are_refused(model_and_collator, rows):
    with pytest.raises(ValueError, match="'gauss' is none of negative, noise, shuffled, blank"):
        loss_gap(*model_and_collator, rows, volumes=("gauss",), progress=False)
    with pytest.raises(ValueError, match="cannot be read by index"):
        loss_gap(*model_and_collator, iter(rows), volumes=("shuffled",), progress=False)


@given(st.lists(st.integers(1, 6), min_size=1, max_size=40), st.integers(0, 99))
def test_every_volume_is_swapped_for_one_of_another_patient(patients, seed):
    volumes = [f"valid_{patient}_{'abc'[index % 3]}_1.nii.gz" for index, patient in enumerate(patients)]
    if max(Counter(patients).values()) * 2 > len(patients):
        with pytest.raises(TooFewScansError, match="belong to patient valid_"):
            derange_by_patient(volumes, seed)
        return
    order = derange_by_patient(volumes, seed)
    assert sorted(order) == list(range(len(volumes)))
    assert all(patients[index] != patients[partner] for index, partner in enumerate(order))
    assert order == derange_by_patient(volumes, seed)


def test_the_draw_depends_on_the_seed():
    volumes = [f"valid_{patient}_a_1.nii.gz" for patient in range(20)]
    assert derange_by_patient(volumes, 0) != derange_by_patient(volumes, 1)


def test_shuffling_changes_images_alone_and_fits_them_to_the_row():
    large = make_row(0, "One.", size=(60, 56))  # 56 wide, 60 high
    small = make_row(1, "Two.", size=(56, 52))
    shuffled = list(shuffle_volumes([large, small]))
    for row, other, new in ((large, small, shuffled[0]), (small, large, shuffled[1])):
        assert {key: new[key] for key in new if key != "images"} == {key: row[key] for key in row if key != "images"}
        assert {image.size for image in new["images"]} == {row["images"][0].size}
        assert len(new["images"]) == len(other["images"])
    padded = np.asarray(shuffled[0]["images"][1])  # 52 x 56 in 56 x 60
    assert (padded[2:-2, 2:-2] == np.asarray(small["images"][1])).all()
    assert not padded[:2].any() and not padded[-2:].any() and not padded[:, :2].any() and not padded[:, -2:].any()
    assert (np.asarray(shuffled[1]["images"][1]) == np.asarray(large["images"][1])[2:-2, 2:-2]).all()
