"""Each wrong setting is refused when the configuration is made, and the message says what to do."""

import pytest

from ct_rate_pairs.trainer import NegativeSFTConfig


def test_defaults_keep_visual_tokens_and_negatives(tmp_path):
    config = NegativeSFTConfig(output_dir=str(tmp_path), bf16=False)
    assert config.max_length is None
    assert config.remove_unused_columns is False
    assert (config.alpha, config.beta) == (1.0, 0.1)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"alpha": -1.0}, "`alpha` must not be negative"),
        ({"beta": -0.1}, "minus sign is already there"),
        ({"max_negative_loss": 0.0}, "set `beta=0`"),
        ({"negative_start_ratio": 1.5}, "`negative_start_ratio` is a share"),
        ({"negative_warmup_ratio": -0.1}, "`negative_warmup_ratio` is a share"),
        ({"negative_start_ratio": 0.8, "negative_warmup_ratio": 0.3}, "would never be reached"),
        ({"max_length": 512}, "visual tokens"),
        ({"remove_unused_columns": True}, "negative_images"),
        ({"loss_type": "dft"}, "loss_type='nll'"),
        ({"global_batch_size": 3, "per_device_train_batch_size": 2}, "must be a multiple"),
        ({"global_batch_size": 16, "gradient_accumulation_steps": 4}, "Give one of the two"),
        ({"assistant_only_loss": True}, "completion alone"),
        ({"completion_only_loss": False}, "completion alone"),
        ({"label_smoothing_factor": 0.1}, "label_smoothing_factor=0"),
    ],
)
def test_wrong_setting_is_refused(tmp_path, options, message):
    with pytest.raises(ValueError, match=message):
        NegativeSFTConfig(output_dir=str(tmp_path), bf16=False, **options)


def test_global_batch_size_sets_the_accumulation(tmp_path):
    config = NegativeSFTConfig(
        output_dir=str(tmp_path), bf16=False, global_batch_size=16, per_device_train_batch_size=2
    )
    assert config.gradient_accumulation_steps == 8
