"""The trainer: plain TRL without negatives; with them, the sign, the cap, the weights and the scale of the loss."""

import numpy as np
import pytest
import torch
from datasets import Dataset, IterableDataset
from helpers.pair_trainer import (
    ROWS,
    assert_same,
    gradients,
    logged,
    make_dataset,
    make_model,
    make_trainer,
    options,
    plain_cross_entropies,
    weights_of,
)
from peft import LoraConfig
from trl import SFTConfig, SFTTrainer

from ct_rate_pairs.trainer import PairCollator


@pytest.mark.slow
def test_without_beta_it_is_stock_trl_to_the_bit(tmp_path):
    model, processor = make_model()
    stock = SFTTrainer(
        model=model,
        args=SFTConfig(**options(tmp_path, max_steps=20, max_length=None, remove_unused_columns=False)),
        train_dataset=make_dataset(ROWS, negatives=False),
        data_collator=PairCollator(processor),
        processing_class=processor,
    )
    stock.model_accepts_loss_kwargs = True
    stock.train()
    ours = make_trainer(tmp_path, negatives=False, beta=0.0, max_steps=20)
    ours.train()
    with_unused_negatives = make_trainer(tmp_path, beta=0.0, max_steps=20)
    with_unused_negatives.train()

    assert len(logged(stock, "loss")) == 20
    for trainer in (ours, with_unused_negatives):
        assert logged(trainer, "loss") == logged(stock, "loss")
        assert_same(weights_of(trainer), weights_of(stock), rtol=0, atol=0)


def test_loss_and_gradient_are_those_of_the_formula(tmp_path):
    trainer = make_trainer(tmp_path, alpha=0.7, beta=0.3)
    rows, num_items = ROWS[:4], 40
    negative, tokens = plain_cross_entropies(trainer, rows, "negative_pixel_values_videos")
    # A cap between the pairs: two are capped, two are not
    cap = trainer.args.max_negative_loss = float(negative.detach().sort().values[1:3].mean())
    positive, _ = plain_cross_entropies(trainer, rows, "pixel_values_videos")
    capped = torch.where(negative < cap, negative, torch.tensor(cap))
    expected = 0.7 * (positive * tokens).sum() / num_items - 0.3 * (capped * tokens).sum() / num_items
    trainer.model.zero_grad()
    expected.backward()
    expected_gradients = {name: parameter.grad.clone() for name, parameter in trainer.model.named_parameters()}

    found, loss = gradients(trainer, rows, num_items=torch.tensor(num_items))

    torch.testing.assert_close(loss, expected.detach())
    assert_same(found, expected_gradients, rtol=1e-4, atol=1e-6)


@pytest.mark.slow
def test_negative_pushes_its_report_away(tmp_path):
    """A step with beta leaves the report less likely given the negative than the same step without."""
    after = {}
    for beta in (0.0, 0.5):
        trainer = make_trainer(tmp_path, beta=beta, max_negative_loss=100.0, max_steps=1, optim="sgd")
        before = trainer.evaluate()
        trainer.train()
        after[beta] = trainer.evaluate()
    assert after[0.5]["eval_loss_neg"] > after[0.0]["eval_loss_neg"]
    assert after[0.5]["eval_loss_pos"] < before["eval_loss_pos"]
    assert after[0.5]["eval_margin"] > after[0.0]["eval_margin"]


def test_capped_pairs_leave_the_gradient_exactly_alone(tmp_path):
    trainer = make_trainer(tmp_path, beta=0.5)
    without, _ = gradients(make_trainer(tmp_path, beta=0.0), ROWS[:2])
    with torch.no_grad():
        negative, _ = plain_cross_entropies(trainer, ROWS[:2], "negative_pixel_values_videos")

    trainer.args.max_negative_loss = float(negative.min()) / 2
    found, _ = gradients(trainer, ROWS[:2])
    assert_same(found, without, rtol=0, atol=0)

    trainer.args.max_negative_loss = float(negative.max()) * 2
    found, _ = gradients(trainer, ROWS[:2])
    assert any(not torch.allclose(found[name], without[name]) for name in found)


def test_capped_pair_beside_an_uncapped_one_adds_nothing(tmp_path):
    trainer = make_trainer(tmp_path, beta=0.5)
    with torch.no_grad():
        negative, _ = plain_cross_entropies(trainer, ROWS[:2], "negative_pixel_values_videos")
    capped, free = negative.argmax(), negative.argmin()
    trainer.args.max_negative_loss = float(negative.mean())
    together, _ = gradients(trainer, ROWS[:2], num_items=torch.tensor(40))
    free_pair, _ = gradients(trainer, [ROWS[free]], num_items=torch.tensor(40))
    positive_alone, _ = gradients(make_trainer(tmp_path, beta=0.0), [ROWS[capped]], num_items=torch.tensor(40))
    assert_same(together, {n: free_pair[n] + positive_alone[n] for n in together}, rtol=1e-4, atol=1e-6)


def test_row_order_and_padding_do_not_matter(tmp_path):
    trainer = make_trainer(tmp_path, beta=0.5, max_negative_loss=100.0)
    num_items = torch.tensor(40)
    together, loss = gradients(trainer, ROWS[:3], num_items)
    turned, turned_loss = gradients(trainer, [ROWS[2], ROWS[0], ROWS[1]], num_items)
    torch.testing.assert_close(turned_loss, loss)
    assert_same(turned, together, rtol=1e-4, atol=1e-6)
    alone = [gradients(trainer, [row], num_items) for row in ROWS[:3]]  # no padding
    torch.testing.assert_close(sum(loss for _, loss in alone), loss)
    assert_same({n: sum(found[n] for found, _ in alone) for n in together}, together, rtol=1e-4, atol=1e-6)


@pytest.mark.slow
def test_splitting_a_step_into_micro_batches_changes_nothing(tmp_path):
    runs = []
    for size, accumulation in ((4, 1), (2, 2), (1, 4)):
        trainer = make_trainer(
            tmp_path,
            beta=0.3,
            max_negative_loss=100.0,
            optim="sgd",
            per_device_train_batch_size=size,
            gradient_accumulation_steps=accumulation,
        )
        trainer.train()
        runs.append(
            (weights_of(trainer), [logged(trainer, key) for key in ("loss", "loss_pos", "loss_neg", "margin")])
        )
    start = dict(make_model()[0].named_parameters())
    assert any((runs[0][0][name] - start[name]).abs().max() > 1e-3 for name in start)  # it has moved at all
    for weights, logs in runs[1:]:
        assert_same(weights, runs[0][0], rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(logs, runs[0][1], rtol=1e-3, atol=1e-4)


def test_alpha_weighs_the_loss_on_the_volume(tmp_path):
    plain, loss = gradients(make_trainer(tmp_path, beta=0.0), ROWS[:2])
    halved, half_loss = gradients(make_trainer(tmp_path, beta=0.0, alpha=0.5), ROWS[:2])
    assert half_loss == loss / 2
    assert_same(halved, {name: gradient / 2 for name, gradient in plain.items()})


@pytest.mark.slow
def test_before_its_start_the_negative_costs_and_changes_nothing(tmp_path):
    late = make_trainer(tmp_path, beta=0.4, negative_start_ratio=0.5, negative_warmup_ratio=0.5)
    late.train()
    never = make_trainer(tmp_path, beta=0.0)
    never.train()
    assert logged(late, "beta") == pytest.approx([0, 0, 0.2, 0.4])
    assert ["loss_neg" in entry for entry in late.state.log_history if "loss" in entry] == [False, False, True, True]
    assert logged(late, "loss")[:2] == logged(never, "loss")[:2]
    assert logged(late, "loss")[3] != logged(never, "loss")[3]


def test_evaluation_logs_are_means_over_all_tokens_and_pairs(tmp_path):
    """Eight rows in batches of 3, 3 and 2, of reports of different lengths."""
    trainer = make_trainer(tmp_path, beta=0.3)
    with torch.no_grad():
        positive, tokens = plain_cross_entropies(trainer, ROWS, "pixel_values_videos")
        negative, _ = plain_cross_entropies(trainer, ROWS, "negative_pixel_values_videos")
    trainer.args.max_negative_loss = cap = float(negative.sort().values[4:6].mean())  # three of eight at the cap
    metrics = trainer.evaluate()
    assert metrics["eval_loss_pos"] == pytest.approx(float((positive * tokens).sum() / tokens.sum()), rel=1e-5)
    assert metrics["eval_loss_neg"] == pytest.approx(float((negative * tokens).sum() / tokens.sum()), rel=1e-5)
    assert metrics["eval_margin"] == pytest.approx(metrics["eval_loss_neg"] - metrics["eval_loss_pos"], abs=1e-5)
    assert metrics["eval_capped_share"] == 3 / 8
    assert metrics["eval_beta"] == 0.3
    assert (negative < cap).sum() == 5
    assert trainer.evaluate()["eval_loss_pos"] == metrics["eval_loss_pos"]  # nothing is left over


def test_evaluation_takes_the_full_beta_and_leaves_the_gradients_alone(tmp_path):
    trainer = make_trainer(tmp_path, beta=0.3, negative_start_ratio=0.5, max_negative_loss=100.0)
    metrics = trainer.evaluate(make_dataset(ROWS[:3]))
    expected = metrics["eval_loss_pos"] - 0.3 * metrics["eval_loss_neg"]
    assert metrics["eval_loss"] == pytest.approx(expected, rel=1e-5)
    assert all(parameter.grad is None for parameter in trainer.model.parameters())


def test_evaluation_without_beta_still_measures_the_margin(tmp_path):
    metrics = make_trainer(tmp_path, beta=0.0).evaluate()
    assert metrics["eval_margin"] == pytest.approx(metrics["eval_loss_neg"] - metrics["eval_loss_pos"], abs=1e-5)
    assert "eval_loss_neg" not in make_trainer(tmp_path, beta=0.0, negatives=False).evaluate()


def test_beta_without_the_column_is_refused_at_once(tmp_path):
    columns = [{k: v for k, v in row.items() if k not in ("images", "negative_images")} for row in ROWS]
    for dataset in (Dataset.from_list(columns), Dataset.from_list(columns).to_iterable_dataset()):
        with pytest.raises(ValueError, match='no column negative_images: load the dataset with negative="gauss"'):
            make_trainer(tmp_path, dataset=dataset, beta=0.1)


def test_beta_with_empty_negatives_is_refused_at_the_first_batch(tmp_path):
    # Even where the ramp would only look at them much later
    trainer = make_trainer(tmp_path, negatives=False, beta=0.1, negative_start_ratio=0.5)
    with pytest.raises(ValueError, match="a batch has no negatives.*or set `beta=0`"):
        trainer.train()


@pytest.mark.slow
def test_stream_trains_like_the_map_style_dataset(tmp_path):
    stream = IterableDataset.from_generator(lambda: iter(ROWS))
    streamed = make_trainer(tmp_path, dataset=stream, beta=0.3, max_negative_loss=100.0)
    streamed.train()
    mapped = make_trainer(tmp_path, beta=0.3, max_negative_loss=100.0, train_sampling_strategy="sequential")
    mapped.train()
    assert logged(streamed, "loss") == logged(mapped, "loss")
    assert_same(weights_of(streamed), weights_of(mapped))


@pytest.mark.slow
def test_lora_with_gradient_checkpointing(tmp_path):
    runs = []
    for checkpointing in (False, True):
        trainer = make_trainer(
            tmp_path,
            beta=0.3,
            max_negative_loss=100.0,
            gradient_checkpointing=checkpointing,
            peft_config=LoraConfig(r=4, lora_dropout=0.0, target_modules=["q_proj", "v_proj"]),
        )
        before = weights_of(trainer)
        trainer.train()
        runs.append(weights_of(trainer))
        changed = {name for name, weight in runs[-1].items() if not torch.equal(weight, before[name])}
        assert changed and all("lora_" in name for name in changed)
        assert len(logged(trainer, "loss_neg")) == 4
    assert_same(runs[1], runs[0], rtol=1e-4, atol=1e-5)


def test_checkpoints_bring_no_card(tmp_path):
    make_trainer(tmp_path, beta=0.0, max_steps=2, save_strategy="steps", save_steps=1).train()
    assert (tmp_path / "checkpoint-2" / "model.safetensors").is_file()
    assert not list(tmp_path.rglob("README.md"))
