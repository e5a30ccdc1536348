"""A model sharded over two processes by FSDP2 trains as it does in one, and where it would not, that is said."""

import pytest
import torch
from helpers.pair_trainer import ROWS, logged, make_dataset, make_model, options
from helpers.two_processes import run_as_two

from ct_rate_pairs.trainer import NegativeSFTConfig, NegativeSFTTrainer, PairCollator
from ct_rate_pairs.trainer.preconditions import check_embeddings


CAPS = (100.0, 5.6)  # no pair capped, and some


def make_untied_model():
    """As Qwen2.5-VL-7B: the output embedding is a matrix of its own."""
    tied, processor = make_model()
    config = tied.config
    config.tie_word_embeddings = config.text_config.tie_word_embeddings = False
    torch.manual_seed(0)
    model = type(tied)(config)
    assert model.lm_head.weight is not model.get_input_embeddings().weight
    return model, processor


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory):
    """A file for each cap, of a run of two processes."""
    folder = tmp_path_factory.mktemp("fsdp")
    for part in make_untied_model():
        part.save_pretrained(folder / "model")
    run_as_two("fsdp_run.py", folder / "model", folder, *CAPS)
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("cap", CAPS)
def test_two_sharded_processes_with_accumulation_equal_one(outcomes, tmp_path, cap):
    model, processor = make_untied_model()
    two = torch.load(outcomes / f"{cap}.pt")
    trainer = NegativeSFTTrainer(
        model=model,
        args=NegativeSFTConfig(**options(tmp_path, per_device_train_batch_size=4, max_negative_loss=cap)),
        train_dataset=make_dataset(ROWS),
        data_collator=PairCollator(processor),
        processing_class=processor,
    )
    trainer.train()
    for key in ("loss", "loss_pos", "loss_neg", "margin", "capped_share"):
        assert [entry[key] for entry in two["log"] if key in entry] == pytest.approx(logged(trainer, key), abs=2e-5)
    shares = logged(trainer, "capped_share")
    assert max(shares) == 0 if cap == 100.0 else 0 < sum(shares) < len(shares)
    # A step moves a weight by up to 1e-2
    for name, weight in trainer.model.named_parameters():
        torch.testing.assert_close(two["weights"][name], weight, rtol=0, atol=2e-4)


def test_tied_embeddings_are_refused_where_transformers_shards_them():
    with pytest.raises(ValueError, match=r"ties its input and output embeddings.*fsdp2.yaml"):
        check_embeddings(make_model()[0])
    check_embeddings(make_untied_model()[0])
