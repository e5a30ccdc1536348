"""Reinforcement shows a model the very inputs of its supervised training, when it draws and when it learns."""

from itertools import chain

import pytest
import torch
from accelerate.utils import DistributedType
from datasets import Dataset
from helpers.pair_trainer import ROWS, make_dataset, make_model, options
from helpers.tiny_image_models import make_tiny_llava
from helpers.tiny_models import make_tiny_gemma3, make_tiny_qwen3, make_tiny_qwen3_5
from trl import GRPOConfig

from ct_rate_pairs.trainer import PairCollator
from ct_rate_pairs.trainer.encoder_decoder import make_encoder_decoder
from ct_rate_pairs.trainer.grpo_trainer import ReportGRPOTrainer, check_whole
from ct_rate_pairs.trainer.tiny import make_tiny_qwen


REPORTS = [row["completion"][0]["content"] for row in ROWS[:4]]
TEXTS = [*REPORTS, ROWS[0]["prompt"][0]["content"]]
FAMILIES = {
    "qwen2.5-vl": lambda: make_tiny_qwen(TEXTS, hidden_size=32, num_layers=2, vision_depth=1, vision_hidden_size=32),
    "qwen3-vl": lambda: make_tiny_qwen3(TEXTS),
    "qwen3.5": lambda: make_tiny_qwen3_5(TEXTS),
    "gemma3": lambda: make_tiny_gemma3(TEXTS),
    "llava": lambda: make_tiny_llava(TEXTS),
    "encoder of volumes": lambda: make_encoder_decoder("resnet3d", "biogpt", TEXTS, (28, 28), 4),
}


class Recording(ReportGRPOTrainer):
    """Keeps the ratio of new and old probabilities of each drawn token, and the texts of each step."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.log_probs, self.ratios, self.volumes = [], [], []

    def _get_per_token_logps_and_entropies(self, *args, **kwargs):
        scored = super()._get_per_token_logps_and_entropies(*args, **kwargs)
        self.log_probs.append(scored[0].detach())
        return scored

    def _compute_loss(self, model, inputs):
        loss = super()._compute_loss(model, inputs)
        drawn = inputs["completion_mask"].bool()
        self.ratios.append((self.log_probs[-1] - inputs["old_per_token_logps"])[drawn].exp())
        self.volumes.append([row["volume"] for row in inputs["rows"]])
        return loss


def no_reward(completions, **kwargs):
    return [0.0] * len(completions)


def make_trainer(tmp_path, reward=no_reward, made=None, trainer=ReportGRPOTrainer, rows=ROWS, **changes):
    model, processor = made or make_model()
    changes = {"per_device_train_batch_size": 4, "num_generations": 4, "max_completion_length": 8} | changes
    return trainer(
        model,
        [reward],
        GRPOConfig(**options(tmp_path, **{"per_device_eval_batch_size": 4} | changes)),
        train_dataset=make_dataset(rows, negatives=False),
        data_collator=PairCollator(processor),
    )


def letters_reward(completions, **kwargs):
    """More for a text with more of the letter e."""
    texts = [turns[0]["content"] for turns in completions]
    return [text.count("e") / max(1, len(text)) for text in texts]


@pytest.mark.parametrize("family", FAMILIES)
def test_log_probabilities_are_those_of_the_supervised_forward(tmp_path, family):
    model, processor = FAMILIES[family]()
    trainer = make_trainer(tmp_path, made=(model, processor))
    collator = trainer.data_collator
    shorter = ROWS[1] | {"images": ROWS[1]["images"][:2], "slice_mm": [0.0, 20.0]}  # so prompts differ in length
    if collator.stacked:
        shorter = ROWS[1]
    rows = [{**row, "negative_images": []} for row in (ROWS[0], shorter, ROWS[2])]
    batch = collator(rows)
    del batch["volumes"]
    labels = batch.pop("labels")
    model.eval()
    with torch.no_grad():
        expected = model(**batch).logits[:, :-1].float().log_softmax(-1)
    scored = labels[:, 1:] != -100
    expected = expected.gather(-1, labels[:, 1:].clamp(min=0)[..., None])[..., 0]

    # As the trainer has them after drawing: prompts padded on the left, texts on the right.
    prompts = collator.prompts(rows)
    texts = [own[own != -100] for own in labels]
    longest = max(map(len, texts))
    padded = torch.stack([torch.nn.functional.pad(text, (0, longest - len(text)), value=0) for text in texts])
    there = torch.stack([torch.arange(longest) < len(text) for text in texts])
    trainer._rows = rows
    with torch.no_grad():
        found, _, _ = trainer._get_per_token_logps_and_entropies(
            model,
            torch.cat([prompts["input_ids"], padded], dim=1),
            torch.cat([prompts["attention_mask"], there.long()], dim=1),
            longest,
            batch_size=2,
        )
    assert scored.any(dim=1).all()
    torch.testing.assert_close(found[there], expected[scored], atol=1e-5, rtol=0)


def test_the_ratio_is_one_until_a_step_is_taken_and_each_text_keeps_its_row(tmp_path):
    told = []

    def reward(completions, completion_ids, reference, cut, volume, log_metric, **kwargs):
        told.extend(zip(volume, reference, cut, map(len, completion_ids), strict=True))
        return letters_reward(completions)

    trainer = make_trainer(
        tmp_path, reward, trainer=Recording, steps_per_generation=2, num_generations=2, max_steps=2, learning_rate=0.1
    )
    trainer.train()
    first, second = trainer.ratios  # of texts that were drawn, and shuffled, together
    torch.testing.assert_close(first, torch.ones_like(first), atol=1e-5, rtol=0)
    assert (second - 1).abs().max() > 0.01  # one step has changed the model
    assert sorted(chain(*trainer.volumes)) == sorted(volume for volume, *_ in told) and len(told) == 8
    written = {row["volume"]: row["completion"][0]["content"] for row in ROWS}
    for volume, reference, cut, tokens in told:
        assert reference == written[volume]
        assert cut or tokens < 8
    assert any(cut for _, _, cut, _ in told)


def test_a_reward_rises_that_the_model_can_earn(tmp_path):
    schedule = {"max_steps": 10, "learning_rate": 2e-2, "lr_scheduler_type": "constant"}
    trainer = make_trainer(tmp_path, letters_reward, per_device_train_batch_size=8, **schedule)
    trainer.train()
    rewards = [entry["reward"] for entry in trainer.state.log_history if "reward" in entry]
    assert sum(rewards[-3:]) > 1.5 * sum(rewards[:3])


def test_no_token_that_stands_for_slices_can_be_drawn(tmp_path):
    model, processor = make_model()
    with torch.no_grad():  # now these tokens are by far the likeliest
        embedding = model.get_output_embeddings().weight
        wanted = [model.config.image_token_id, model.config.video_token_id]
        embedding.zero_()
        embedding[wanted] = 1.0
    drawn = []

    def reward(completions, completion_ids, **kwargs):
        drawn.extend(chain(*completion_ids))
        return [0.0] * len(completions)

    make_trainer(tmp_path, reward, made=(model, processor), max_steps=1).train()
    assert drawn and not {*drawn} & {*wanted}


def test_a_scan_whose_reports_are_drawn_together_is_read_once(tmp_path):
    read = []

    def transform(batch):
        read.extend(batch["index"])
        rows = [ROWS[index] | {"negative_images": []} for index in batch["index"]]
        return {name: [row[name] for row in rows] for name in rows[0]}

    trainer = make_trainer(tmp_path, max_steps=1)
    trainer.train_dataset = Dataset.from_dict({"index": list(range(8))}).with_transform(transform)
    rows = next(iter(trainer.get_train_dataloader()))  # which may have read the batch after it, too
    assert len(rows) == 4 and 1 <= len(read) == len({*read}) <= 2


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"use_vllm": True}, "`use_vllm`.*Leave the option out"),
        ({"use_transformers_continuous_batching": True}, "`use_transformers_continuous_batching`.*another model"),
        ({"beta": -0.1}, "`beta` is -0.1.*no negatives"),
        ({"beta": float("nan")}, "`beta` is nan"),
        ({"remove_unused_columns": True}, "slice_mm"),
        ({"push_to_hub": True}, "ct-rate-pairs publish"),
        ({"log_completions": True, "log_completions_hub_repo": "alice/texts"}, "would publish the drawn reports"),
    ],
)
def test_options_that_cannot_be_followed_are_refused(tmp_path, changes, told):
    with pytest.raises(ValueError, match=told):
        make_trainer(tmp_path, **changes)


@pytest.mark.parametrize("sharded", [DistributedType.FSDP, DistributedType.DEEPSPEED])
def test_a_sharded_model_is_refused_with_the_remedy(sharded):
    check_whole(DistributedType.MULTI_GPU)
    with pytest.raises(ValueError, match=f"{sharded.value} shards the model.*--use_peft true"):
        check_whole(sharded)
