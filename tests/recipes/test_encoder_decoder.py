"""A model of one's own from the same recipe: trained with negatives, measured, published by its card, and asked."""

import json

import pytest
from helpers.command import call
from helpers.launch import SHORT
from transformers import LlavaForConditionalGeneration

from ct_rate_pairs.eval.load_model import load_model
from ct_rate_pairs.hub import load_reporter
from ct_rate_pairs.recipes import sft_neg


OPTIONS = ("--config", "phantom_heter", *SHORT, "--confidence_scans", "0", "--findings_line", "none")
OPTIONS += ("--operating_point", "none", "--model_name_or_path", "encoder-decoder", "--vision_model", "vit")


@pytest.mark.slow
def test_an_encoder_decoder_is_trained_measured_and_reports_like_any_other_model(tmp_path, phantom):
    run = tmp_path / "run"
    sft_neg.main([*OPTIONS, "--data_dir", str(phantom), "--output_dir", str(run)])
    results = json.loads((run / "results.json").read_text())
    assert results["model"]["n"] == 2 and "loss_gap" in results["model"]
    model, collator = load_model(str(run))
    assert type(model) is LlavaForConditionalGeneration and not collator.takes_video
    assert (model.config.vision_config.model_type, model.config.text_config.model_type) == ("vit", "biogpt")
    assert "none, trained from scratch" in (run / "README.md").read_text()
    assert json.loads((run / "environment.json").read_text())["base"] is None

    first = json.loads((run / "predictions.jsonl").read_text().splitlines()[0])
    scan = next((phantom / "dataset" / "valid_fixed").rglob(first["volume"]))
    report = load_reporter(str(run)).report(scan, max_new_tokens=4)
    assert report.text == first["report"] and len(report.slices) == 10


def test_towers_without_effect_are_refused(phantom, tmp_path, capsys):
    given = ("--config", "phantom", "--vision_model", "vit", "--data_dir", phantom, "--output_dir", tmp_path / "run")
    assert call(sft_neg.main, *given) == 2
    assert "--vision_model" in (told := capsys.readouterr().err) and "the model is no encoder-decoder" in told
