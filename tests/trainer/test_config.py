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
        ({"label_loss_weight": -0.3}, "`label_loss_weight` must not be negative"),
        ({"max_negative_loss": 0.0}, "set `beta=0`"),
        ({"negative_start_ratio": 1.5}, "`negative_start_ratio` is a share"),
        ({"negative_warmup_ratio": -0.1}, "`negative_warmup_ratio` is a share"),
        ({"negative_start_ratio": 0.8, "negative_warmup_ratio": 0.3}, "would never be reached"),
        ({"negative_share": 0.0}, "set `beta=0`"),
        ({"negative_share": 1.1}, "above 0 and at most 1"),
        ({"max_length": 512}, "visual tokens"),
        ({"remove_unused_columns": True}, "negative_images"),
        ({"loss_type": "dft"}, "loss_type='nll'"),
        ({"global_batch_size": 3, "per_device_train_batch_size": 2}, "must be a multiple"),
        ({"global_batch_size": 16, "gradient_accumulation_steps": 4}, "Give one of the two"),
        ({"assistant_only_loss": True}, "completion alone"),
        ({"completion_only_loss": False}, "completion alone"),
        ({"label_smoothing_factor": 0.1}, "label_smoothing_factor=0"),
        ({"alpha": 0.0, "beta": 0.0}, "nothing learns"),
        ({"negative_start_ratio": 1.0}, "no step would have a negative"),
        ({"global_batch_size": 16, "auto_find_batch_size": True}, "Leave one of the two out"),
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


@pytest.mark.parametrize(
    ("options", "idle"),
    [
        ({"beta": 0.0, "negative_start_ratio": 0.5}, "negative_start_ratio=0.5 has no effect: beta is 0"),
        ({"beta": 0.0, "pair_mode": "joint"}, "pair_mode=joint has no effect"),
        ({"beta": 0.0, "negative_share": 0.5}, "negative_share=0.5 has no effect: beta is 0"),
        ({"negative_temperature": 0.5}, "negative_temperature=0.5 has no effect"),
        ({"negative_loss": "unlikelihood", "max_negative_loss": 1.0}, "max_negative_loss=1.0 has no effect"),
        ({"max_steps": 5, "num_train_epochs": 2}, "num_train_epochs=2 has no effect: max_steps=5"),
        (
            {"gradient_checkpointing": False, "gradient_checkpointing_kwargs": {"use_reentrant": False}},
            "gradient_checkpointing_kwargs={'use_reentrant': False} has no effect",
        ),
        ({"save_strategy": "no", "save_steps": 7}, "save_steps=7 has no effect"),
        ({"pad_to_multiple_of": 8}, "pad_to_multiple_of=8 has no effect"),
    ],
)
def test_a_setting_without_effect_is_told(tmp_path, caplog, options, idle):
    NegativeSFTConfig(output_dir=str(tmp_path), bf16=False, **options)
    assert idle in caplog.text


def test_settings_with_an_effect_and_defaults_are_not_told(tmp_path, caplog):
    joint = {"negative_loss": "info_nce", "pair_mode": "joint", "negative_temperature": 0.5}
    for options in ({}, {"beta": 0.0}, {"negative_start_ratio": 0.8}, joint, {"num_train_epochs": 2}):
        NegativeSFTConfig(output_dir=str(tmp_path), bf16=False, **options)
    assert "no effect" not in caplog.text
