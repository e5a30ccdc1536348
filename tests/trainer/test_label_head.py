"""The label head: its loss, what it learns, and that it is saved and resumed with the model."""

import numpy as np
import pytest
import torch
from helpers.masked_rows import MASKED, NAMES
from helpers.mutual_run import rows_of, trainer_of
from helpers.pair_trainer import (
    PROMPT,
    REPORTS,
    ROWS,
    assert_same,
    logged,
    make_dataset,
    make_model,
    make_trainer,
    weights_of,
)
from helpers.tiny_image_models import make_tiny_llava
from helpers.tiny_models import make_tiny_gemma3, make_tiny_qwen3_5
from peft import LoraConfig
from PIL import Image
from safetensors.torch import load_file

from ct_rate_pairs.eval.load_model import load_model
from ct_rate_pairs.eval.looking.label_head import label_head_scores
from ct_rate_pairs.trainer import MuonAdamW
from ct_rate_pairs.trainer.label_head import (
    FILE,
    TARGETS,
    LabelHead,
    LabelTargets,
    attach_label_head,
    find_label_head,
    label_loss,
)
from ct_rate_pairs.trainer.tiny import make_tiny_qwen
from ct_rate_pairs.trainer.what_learns import what_learns


WEIGHT = 0.3


def labelled(rows):
    """The rows with labels of their own, and the last row without."""
    drawn = np.random.default_rng(1).integers(0, 2, (len(rows), 18)).tolist()
    return [row | {"labels": labels} for row, labels in zip(rows[:-1], drawn, strict=False)] + [
        rows[-1] | {"labels": None}
    ]


def bright_rows(number):
    """Rows whose first nine labels are 1 if the slices are bright; otherwise the other nine are."""
    rows = []
    for index in range(number):
        bright = index % 3 == 0
        image = Image.fromarray(np.full((28, 28), 200 if bright else 40, np.uint8))
        labels = [int(bright)] * 9 + [int(not bright)] * 9
        rows.append(ROWS[index % 8] | {"images": [image] * 4, "volume": f"train_{index}_a_1.nii.gz", "labels": labels})
    return rows


def with_random_head(trainer):
    with torch.no_grad():
        for parameter in trainer.label_head.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(0)))
    return trainer


def bce_by_hand(trainer, rows):
    """-log of the probability of each label of the rows with labels, from a forward over the prompt alone."""
    weight, bias = trainer.label_head.project.weight, trainer.label_head.project.bias
    losses = []
    for row in rows:
        if row["labels"] is None:
            continue
        outputs = trainer.model(**trainer.data_collator.prompts([row]), output_hidden_states=True)
        logits = weight @ outputs.hidden_states[-1][0, -1] + bias
        signs = 2 * torch.tensor(row["labels"]) - 1
        losses.append(torch.log1p(torch.exp(-signs * logits)))
    return torch.stack(losses).mean()


@pytest.mark.parametrize("pairs", [{"beta": 0.0}, {"beta": 0.3}, {"beta": 0.3, "pair_mode": "joint"}])
def test_a_step_adds_the_cross_entropy_of_the_labels_at_the_end_of_the_prompt(tmp_path, pairs):
    rows = labelled(ROWS[:3])
    trainer = with_random_head(make_trainer(tmp_path, rows=rows, label_loss_weight=WEIGHT, **pairs))
    trainer.model.train()
    batch = LabelTargets(trainer.data_collator)(rows)
    items = (batch["labels"][:, 1:] != -100).sum()

    def gradients(inputs):
        trainer.model.zero_grad()
        loss = trainer.compute_loss(trainer.model, inputs, num_items_in_batch=items)
        loss.backward()
        found = {n: p.grad.clone() for n, p in trainer.model.named_parameters() if p.grad is not None}
        return loss.detach(), found

    loss, found = gradients(dict(batch))
    plain_loss, plain = gradients({name: value for name, value in batch.items() if name != TARGETS})
    trainer.model.zero_grad()
    expected = bce_by_hand(trainer, rows)
    torch.testing.assert_close(loss - plain_loss, WEIGHT * expected.detach(), rtol=1e-4, atol=1e-5)
    assert expected > 1  # a random head is far off, so a missing term would be seen
    (WEIGHT * expected).backward()
    for name, parameter in trainer.model.named_parameters():
        if parameter.grad is not None:
            difference = found[name] - plain.get(name, 0)
            torch.testing.assert_close(difference, parameter.grad, rtol=1e-3, atol=1e-5, msg=name)


def test_rows_without_labels_add_nothing(tmp_path):
    rows = [{name: value for name, value in row.items() if name != "labels"} for row in ROWS[:2]]
    trainer = with_random_head(make_trainer(tmp_path, rows=rows, beta=0.0, label_loss_weight=WEIGHT))
    batch = LabelTargets(trainer.data_collator)(rows)
    trainer.model.train()
    with_targets = trainer.compute_loss(trainer.model, dict(batch))
    batch.pop(TARGETS)
    assert with_targets == trainer.compute_loss(trainer.model, batch)


@pytest.mark.slow
def test_the_head_learns_what_the_slices_show_and_is_saved_as_it_is(tmp_path):
    rows = bright_rows(12)
    dataset = make_dataset(rows, negatives=False)
    trainer = make_trainer(
        tmp_path, dataset=dataset, beta=0.0, label_loss_weight=1.0, max_steps=40, per_device_train_batch_size=4
    )
    trainer.train()
    losses = logged(trainer, "loss_labels")
    assert losses[0] == pytest.approx(np.log(2))  # its first weights are 0
    assert losses[-1] < 0.1

    trainer.save_model()
    assert not [name for name in load_file(tmp_path / "model.safetensors") if "label_head" in name]
    model, _ = load_model(str(tmp_path), device="cpu")
    head = find_label_head(str(tmp_path), model)
    assert_same(dict(head.state_dict()), dict(trainer.label_head.state_dict()), rtol=0, atol=0)
    scored = {"rows": rows, "train_labels": np.array([row["labels"] for row in rows]), "batch_size": 5}
    collator = trainer.data_collator
    scores = label_head_scores(model, head, collator, **scored)
    assert scores == label_head_scores(trainer.model.eval(), trainer.label_head, collator, **scored)
    assert scores["label_head_auroc"] == 1 and scores["label_head_brier_ratio"] < 0.1

    wrong = [row | {"labels": [1 - label for label in row["labels"]]} for row in rows]
    assert label_head_scores(model, head, collator, **scored | {"rows": wrong})["label_head_auroc"] == 0


@pytest.mark.slow
@pytest.mark.parametrize("lora", [False, True], ids=["whole", "lora"])
def test_a_resumed_training_goes_on_with_its_head(tmp_path, lora):
    rows = labelled(ROWS)
    saving = {"beta": 0.0, "label_loss_weight": WEIGHT, "save_strategy": "steps", "save_steps": 2}
    saving["peft_config"] = LoraConfig(target_modules=r".*language_model.*_proj") if lora else None
    whole = make_trainer(tmp_path, rows=rows, **saving)
    whole.train()
    resumed = make_trainer(tmp_path, rows=rows, **saving)
    resumed.train(resume_from_checkpoint=str(tmp_path / "checkpoint-2"))
    assert whole.label_head.project.weight.abs().max() > 0
    assert_same(weights_of(whole), weights_of(resumed), rtol=0, atol=0)


def test_both_heads_are_trained_saved_and_resumed_together(tmp_path):
    both = {"label_loss_weight": WEIGHT, "mask_loss_weight": 1.0, "mask_names": NAMES, "beta": 0.3}
    rows = labelled(MASKED)
    trainer = make_trainer(tmp_path, rows=rows, pair_mode="joint", save_strategy="steps", save_steps=2, **both)
    trainer.train()
    for head in (trainer.label_head, trainer.mask_head):
        assert head.project.weight.abs().max() > 1e-3
    resumed = make_trainer(tmp_path, rows=rows, pair_mode="joint", **both)
    resumed.train(resume_from_checkpoint=str(tmp_path / "checkpoint-2"))
    assert_same(weights_of(trainer), weights_of(resumed), rtol=0, atol=0)


@pytest.mark.parametrize("make_model", [make_tiny_qwen, make_tiny_qwen3_5, make_tiny_gemma3, make_tiny_llava])
def test_the_head_reads_the_end_of_the_prompt_of_each_family(tmp_path, make_model):
    rows = labelled(ROWS[:3])
    made = make_model([*REPORTS, PROMPT])
    trainer = with_random_head(make_trainer(tmp_path, rows=rows, made=made, beta=0.0, label_loss_weight=WEIGHT))
    trainer.model.train()
    batch = LabelTargets(trainer.data_collator)(rows)
    items = (batch["labels"][:, 1:] != -100).sum()
    loss = trainer.compute_loss(trainer.model, dict(batch), num_items_in_batch=items)
    del batch[TARGETS]
    plain = trainer.compute_loss(trainer.model, batch, num_items_in_batch=items)
    with torch.no_grad():
        torch.testing.assert_close(loss - plain, WEIGHT * bce_by_hand(trainer, rows), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("pair_mode", ["sequential", "joint"])
def test_mutual_partners_leave_the_head_the_labels_of_the_volumes(tmp_path, tree, pair_mode):
    trainer = with_random_head(trainer_of(tmp_path, rows_of(tree), label_loss_weight=WEIGHT, pair_mode=pair_mode))
    trainer.model.train()
    batch = next(iter(trainer.get_train_dataloader()))
    ends = (batch["labels"] != -100).int().argmax(dim=1)
    assert batch[TARGETS].shape == (2, 18) and not batch[TARGETS].isnan().any()
    loss = trainer.compute_loss(trainer.model, dict(batch))
    targets = batch.pop(TARGETS)
    plain = trainer.compute_loss(trainer.model, dict(batch))
    inputs = {n: batch[n] for n in ("input_ids", "attention_mask", "pixel_values_videos", "video_grid_thw")}
    kept = {n: batch[n] for n in ("mm_token_type_ids", "second_per_grid_ts") if n in batch}
    with torch.no_grad():
        hidden = trainer.model.base_model(**inputs, **kept).last_hidden_state
        logits = trainer.label_head(hidden[torch.arange(2), ends - 1])
    torch.testing.assert_close(loss - plain, WEIGHT * label_loss(logits, targets), rtol=1e-3, atol=1e-4)


def test_an_evaluation_measures_the_text_alone(tmp_path):
    trainer = with_random_head(make_trainer(tmp_path, rows=labelled(ROWS), beta=0.0, label_loss_weight=WEIGHT))
    plain = make_trainer(tmp_path, rows=ROWS, beta=0.0)
    scores = trainer.evaluate()
    assert scores["eval_loss"] == plain.evaluate()["eval_loss"] and "eval_loss_labels" not in scores


def test_the_head_is_told_among_what_learns(tmp_path):
    trainer = make_trainer(tmp_path, beta=0.0, label_loss_weight=WEIGHT)
    (head,) = [part for part in what_learns(trainer.model) if part.name == "label head"]
    assert head.trainable == 18 * 32 + 18


def test_muon_leaves_the_head_to_adamw():
    model, _ = make_model()
    head = attach_label_head(model)
    muon_group, adamw_group = MuonAdamW(model).param_groups
    assert any(parameter is head.project.weight for parameter in adamw_group["params"])
    assert not any(parameter is head.project.weight for parameter in muon_group["params"])


def test_a_model_without_a_head_has_none_to_find(tmp_path):
    make_trainer(tmp_path, beta=0.0).save_model()
    model, _ = load_model(str(tmp_path), device="cpu")
    assert find_label_head(str(tmp_path), model) is None
    LabelHead(64).save(tmp_path)
    with pytest.raises(ValueError, match=rf"{FILE} holds no label head of this model"):
        find_label_head(str(tmp_path), model)
