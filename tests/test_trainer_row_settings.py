"""A trained model is shown what it was trained on."""

from datasets import load_dataset

import ct_rate_pairs  # noqa: F401
from ct_rate_pairs.trainer import read_row_settings, save_row_settings


def test_rows_read_by_the_saved_settings_are_those_of_training(tree, tmp_path):
    options = {
        "num_slices": 4,
        "spacing": [2.0, 2.0, 3.0],
        "window": [-200, 300],
        "target": "findings",
        "prompt": "zh",
    }
    trained = load_dataset("ct_rate_pairs", data_dir=str(tree), split="train", **options)
    save_row_settings(trained.format["format_kwargs"]["transform"], tmp_path)
    settings = read_row_settings(str(tmp_path))
    shown = load_dataset("ct_rate_pairs", data_dir=str(tree), split="train", **settings)
    assert shown[0] == trained[0]
    assert len(shown[0]["images"]) == 4


def test_a_model_from_elsewhere_has_none(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    assert read_row_settings(str(tmp_path)) == {}
