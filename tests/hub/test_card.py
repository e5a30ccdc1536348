import io
import json
import re
from contextlib import redirect_stdout
from pathlib import Path

import pytest
import torch
import yaml
from datasets import load_dataset
from huggingface_hub import ModelCard, parse_eval_result_entries

from ct_rate_pairs.eval.metrics.install import METRICS
from ct_rate_pairs.hub import write_model_card
from ct_rate_pairs.phantom.cohort import write_cohort
from ct_rate_pairs.readers import reader_of
from ct_rate_pairs.trainer import NegativeSFTConfig, PairCollator, save_row_settings
from ct_rate_pairs.trainer.tiny import make_tiny_qwen


KEYS = ("coverage", "precision_micro", "f1_micro", "accuracy", "crg", "bleu1", "bleu4", "rouge_l", "side_accuracy")
TOKEN = "hf_secretSECRETsecretSECRET"


@pytest.fixture
def results():
    scores = {key: 0.9 - 0.1 * index for index, key in enumerate(KEYS)} | {"labeler": "rules", "recipe": "lower"}
    trivial = dict.fromkeys(KEYS, 0.1) | {"labeler": "rules", "recipe": "lower"}
    return {
        "model": scores | {"loss_gap": 0.4321},
        "shuffled": trivial | {"coverage": 0.25},
        "all_negative": trivial | {"coverage": 0.0, "precision_micro": None},
        "most_common": trivial,
        "all_positive": trivial | {"coverage": 1.0},
    }


@pytest.fixture
def run_dir(tmp_path):
    (tmp_path / "my-run").mkdir()
    show(tmp_path / "my-run")
    return tmp_path / "my-run"


def show(run_dir, **options):
    """What the model was shown, as the recipe leaves it there."""
    shown = {"num_slices": 10, "spacing": [0.75, 0.75, 1.5], "window": "paper", "z_range": [0.0, 1.0]}
    shown |= {"target": "findings+impression", "prompt": "en", "prompt_metadata": False}
    (run_dir / "row_settings.json").write_text(json.dumps(shown | options))


def write(run_dir, results, beta=0.1, resumed=None, **overrides):
    config = NegativeSFTConfig(
        output_dir=run_dir,
        bf16=False,
        beta=beta,
        max_negative_loss=0.35,
        negative_start_ratio=0.7,
        negative_warmup_ratio=0.05,
        hub_token=TOKEN,
        resume_from_checkpoint=resumed,
    )
    facts = {
        "phantom": True,
        "negative": "heter",
        "num_train": 2000,
        "num_test": 150,
        "steps": 1200,
        "hardware": "2 CPU cores",
        "minutes": 4.2,
    }
    return write_model_card(run_dir, results, config, **facts | overrides)


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("none", "Text: findings and impression"),
        ("names", "Text: a line with the names of the abnormalities, then findings and"),
        ("yes_no", "Text: a line that says yes or no to each of the 18 abnormalities, then findings and"),
    ],
)
def test_the_findings_line_is_told(run_dir, results, line, told):
    show(run_dir, findings_line=line)
    assert told in write(run_dir, results).read_text()


def test_what_prompts_tell_and_what_they_give_alone_is_told(run_dir, results):
    plain = write(run_dir, results).read_text()
    assert "asked for with the prompt in `en`.\n" in plain and "The three columns on the right never look" in plain
    show(run_dir, prompt_metadata=["age", "clinical_information"], prompt_findings=True, prompt_dropout=0.3)
    results["prompt_only"] = {
        "f1_micro": 0.2,
        "f1_micro_common": 0.1,
        "coverage": 0.3,
        "prompt_metadata": ["age", "clinical_information"],
    }
    told = write(run_dir, results).read_text()
    assert "in `en`, after lines with age, clinical information.\n  In training, prompts named the findings" in told
    assert "30% of the training prompts told nothing of this" in told and "The four columns on the right never" in told
    alone = columns_of(told)["prompt alone"]
    assert (alone["Coverage"], alone["Precision (micro)"], alone["F1 (micro)"]) == ("0.300", "-", "0.200")
    assert "need not come from the scan" not in told
    results["prompt_only"]["f1_micro"] = results["model"]["f1_micro"] + 0.01
    assert "gives 0.100 without either. The model's is 0.700: its findings need not come from the scan.**" in (
        write(run_dir, results).read_text()
    )


def code_blocks(text):
    return re.findall(r"```python\n(.*?)```", text, re.DOTALL)


def table_of(text):
    rows = [line.strip("|").split("|") for line in text.splitlines() if line.startswith("|")]
    return {row[0].strip(" *"): [cell.strip() for cell in row[1:]] for row in rows}


def columns_of(text):
    """The columns of the table of results by their titles, each with its value of each metric."""
    start = text.index("## Results")
    lines = text[text.index("\n|", start) + 1 : text.index("\n\n", text.index("\n|", start))].splitlines()
    (_, *titles), _, *rows = ([cell.strip(" *") for cell in line.strip("|").split("|")] for line in lines)
    return {title: {row[0]: row[place + 1] for row in rows} for place, title in enumerate(titles)}


def test_metadata_survives_the_round_trip(run_dir, results):
    data = ModelCard.load(write(run_dir, results)).data
    assert (data.library_name, data.pipeline_tag, data.language) == ("transformers", "image-text-to-text", "en")
    assert data.model_name == "my-run" and data.license == "apache-2.0"
    assert data.datasets is None and data.base_model is None and "phantom" in data.tags
    assert set(data.metrics) == set(METRICS) - {"ct_dice"}  # of masks, and not of reports
    values = {result.metric_type: result.metric_value for result in data.eval_results}
    assert values == {key: round(results["model"][key], 4) for key in (*KEYS, "loss_gap")}


def test_the_card_tells_how_many_reports_are_cut(run_dir, results):
    assert "tokens before" not in write(run_dir, results).read_text()
    results["model"] |= {"cut": 0, "cut_share": 0.0, "max_new_tokens": 1200}
    assert "\nNo report met the limit of 1,200 tokens before its end.\n" in write(run_dir, results).read_text()
    results["model"] |= {"cut": 3, "cut_share": 0.02}
    told = write(run_dir, results).read_text()
    assert "**3 reports (2.0%) met the limit of 1,200 tokens before their end.**" in told


def test_ct_rate_s_licence_and_a_hub_base_are_carried(run_dir, results):
    card = ModelCard.load(write(run_dir, results, phantom=False, base_model="Qwen/Qwen2.5-VL-3B-Instruct"))
    assert card.data.license == "cc-by-nc-sa-4.0" and card.data.datasets == ["ibrahimhamamci/CT-RATE"]
    assert card.data.base_model == "Qwen/Qwen2.5-VL-3B-Instruct" and card.data.base_model_relation == "finetune"
    assert "phantom" not in card.data.tags
    assert "phantom" not in card.text.lower() and "gated" in card.text
    for block in code_blocks(card.text):
        compile(block, "card", "exec")


def test_ct_rate_s_results_are_there_in_the_hub_s_own_form(run_dir, results):
    write(run_dir, results, phantom=False)
    entries = parse_eval_result_entries(yaml.safe_load((run_dir / ".eval_results" / "ct_rate.yaml").read_text()))
    assert {entry.task_id: entry.value for entry in entries} == {
        key: round(results["model"][key], 4) for key in (*KEYS, "loss_gap")
    }
    assert {entry.dataset_id for entry in entries} == {"ibrahimhamamci/CT-RATE"}
    assert entries[0].notes == "labeler rules, recipe lower, 150 scans"


def test_a_cohort_of_one_s_own_is_private_and_has_no_licence_of_ct_rate(run_dir, results):
    card = ModelCard.load(write(run_dir, results, phantom=False, own=True))
    assert card.data.license is None and card.data.datasets is None
    assert "a private cohort" in card.text and "ibrahimhamamci" not in card.text and "gated" not in card.text
    assert "phantom" not in card.text.lower() and not (run_dir / ".eval_results").exists()
    for block in code_blocks(card.text):
        compile(block, "card", "exec")


def test_the_phantom_has_no_dataset_on_the_hub_to_give_results_for(run_dir, results):
    write(run_dir, results)
    assert not (run_dir / ".eval_results").exists()


def test_no_token_and_no_place_on_this_machine_is_written(run_dir, results):
    write(run_dir, results, phantom=False, base_model="Qwen/Qwen2.5-VL-3B-Instruct")
    settings = json.loads((run_dir / "training_config.json").read_text())
    assert settings["max_negative_loss"] == 0.35 and settings["negative_loss"] == "capped"
    for path in run_dir.rglob("*.*"):
        if path.is_file():
            text = path.read_text()
            assert TOKEN not in text and str(run_dir.parent) not in text, path


def test_intervals_and_looking_are_told_where_they_were_measured(run_dir, results):
    assert "interval" not in (text := write(run_dir, results).read_text()) and "Does it look" not in text
    matching = {"num_options": 4, "top1": 0.58, "top1_pmi": 0.73, "top1_chance": 0.25, "top1_text_only": 0.21}
    results["model"] |= {"coverage_ci": [0.8512, 0.9481], "crg_ci": [0.31, 0.52], "ci_level": 0.95}
    results["model"] |= {"gap_positive_share": 0.97, "loss_gap_noise": 1.2898, "gap_positive_share_noise": 1.0}
    results["model"] |= {"matching": {"hard": matching}}
    text = write(run_dir, results).read_text()
    bounds = columns_of(text)["its 95% interval"]
    assert (bounds["Coverage"], bounds["CRG"], bounds["Accuracy"]) == ("0.851–0.948", "0.310–0.520", "-")
    table = table_of(text)
    assert table["its negative"] == ["0.432", "97%"] and table["noise"] == ["1.290", "100%"]
    assert "air" not in table and "another patient's" not in table
    assert table["hard, 1 of 4"] == ["0.58", "0.73", "0.25", "0.21"]


def test_the_calibration_error_is_told_where_confidences_were_fitted(run_dir, results):
    assert "Confidence" not in write(run_dir, results).read_text()
    errors = {"ece": 0.0209, "brier": 0.11, "nll": 0.344}
    measured = {"calibrated": errors, "uncalibrated": errors | {"ece": 0.0604}, "prevalence": errors | {"brier": 0.17}}
    (run_dir / "confidence.json").write_text(json.dumps({"measured": measured | {"n": 100, "folds": 5}}))
    text = write(run_dir, results).read_text()
    assert "calibrated on 100 scans" in text
    table = table_of(text)
    assert table["calibrated"] == ["0.021", "0.110", "0.344"]
    assert table["the model's own probabilities"][0] == "0.060" and table["prevalence"][1] == "0.170"


def test_both_ways_to_read_a_confidence_and_the_operating_curve_are_told(run_dir, results):
    assert "Findings lines" not in write(run_dir, results).read_text()
    way = {"ece": 0.02, "brier": 0.08, "nll": 0.3, "auroc": 0.881, "brier_ratio": 0.56, "seconds": 0.04}
    sentences = way | {"brier": 0.1, "auroc": None, "seconds": 0.5}
    errors = {"ece": 0.02, "brier": 0.08, "nll": 0.3}
    measured = {"calibrated": errors, "uncalibrated": errors, "prevalence": errors}
    measured |= {"n": 100, "folds": 5, "ways": {"sentences": sentences, "line": way}}
    (run_dir / "confidence.json").write_text(json.dumps({"measured": measured}))
    point = {"coverage": 0.764, "precision_micro": None, "f1_micro": 0.7, "f1_macro": 0.688}
    lines = {
        "line_auroc": 0.88,
        "line_brier": 0.08,
        "line_brier_ratio": 0.56,
        "line_ece": 0.0,
        "line_calibrated": True,
    }
    results["model"] |= lines | {"operating_curve": {"f1": point, "0.9": point}}
    text = write(run_dir, results).read_text()
    table = table_of(text)
    assert table["line"] == ["0.881", "0.080", "0.560", "0.020", "0.04"] and table["sentences"][0] == "-"
    assert "The way `line` is used." in text and "calibrated on validation scans: mean AUROC 0.880" in text
    assert table["sensitivity 0.9"] == table["f1"] == ["0.764", "-", "0.700", "0.688"]
    assert "were set at" not in text and 'operating_point="none"' not in text
    results["model"] |= {"operating_point": "f1", "line_followed": 0.975}
    assert "both place" not in text
    sides = {"line_side": 0.9, "line_sides": 30, "line_side_common": None}
    results["model"] |= sides | {"line_side_followed": 0.5, "line_sides_placed": 20}
    told = write(run_dir, results).read_text()
    assert "Of 30 findings that line and reference both place, the share with the right side is 0.900." in told
    assert "line and report both place, the share with the same side is 0.500." in told
    assert "most common side of the training reports would give -." in told
    text = write(run_dir, results).read_text()
    assert "set at the operating point f1, which is also the default of `report`. 97.5% of the reports state" in text
    # The code of the card says what it does, before it does so.
    use = text[text.index("## Use") :]
    assert use.index("at the operating point f1 as in the results above:") < use.index('.report("scan.nii.gz")')
    assert use.index('operating_point="none")`, the model decides') < use.index("generate_reports(")


def test_a_local_base_is_not_taken_for_a_repository(run_dir, results):
    (run_dir / "base").mkdir()
    card = ModelCard.load(write(run_dir, results, base_model=str(run_dir / "base")))
    assert card.data.base_model is None
    assert table_of(card.text)["base model"] == ["a local checkpoint"] and str(run_dir) not in card.text


def test_the_table_holds_the_model_beside_the_trivial_and_shuffled_rows(run_dir, results):
    columns = columns_of(ModelCard.load(write(run_dir, results)).text)
    assert list(columns) == ["this model", "shuffled", "deny all", "most common", "state all"]
    told = {"Coverage": "0.900", "Precision (micro)": "0.800", "F1 (micro)": "0.700", "Accuracy": "0.600"}
    told |= {"CRG": "0.500", "BLEU-1": "0.400", "BLEU-4": "0.300", "ROUGE-L": "0.200", "Side accuracy": "0.100"}
    assert columns["this model"] == told | {"Loss gap": "0.432"}  # nobody has a lobe accuracy
    assert (columns["deny all"]["Coverage"], columns["deny all"]["Precision (micro)"]) == ("0.000", "-")
    assert [columns[name]["Coverage"] for name in ("most common", "state all")] == ["0.100", "1.000"]
    assert columns["shuffled"]["Coverage"] == "0.250" and columns["shuffled"]["Loss gap"] == "-"
    del results["shuffled"]
    text = ModelCard.load(write(run_dir, results)).text
    assert "huffled" not in text


def test_the_number_of_places_is_told_beside_what_needs_no_look(run_dir, results):
    assert "Side accuracy is measured on" not in write(run_dir, results).read_text()  # of an earlier release
    places = {"sides": 120, "lobes": 40, "side_accuracy_common": 0.5, "lobe_accuracy_common": None}
    text = write(run_dir, results | {"model": results["model"] | places}).read_text()
    assert "Side accuracy is measured on 120 findings, lobe accuracy on 40." in text
    assert "the most common place of the training reports would give 0.500 and -." in text


def test_labels_that_rules_read_from_the_references_are_told(run_dir, results):
    assert "read from the references by rules" not in write(run_dir, results).read_text()
    results["model"]["labels"] = "rules"
    text = write(run_dir, results, phantom=False).read_text()
    assert "The labels that measure the model are read from the references by rules" in text
    assert "a text classifier predicted" not in text


def test_the_loss_and_the_limits_are_stated(run_dir, results):
    text = ModelCard.load(write(run_dir, results)).text
    table = table_of(text)
    assert table["alpha, beta"] == ["1, 0.1"] and table["cap"] == ["0.35 nats per token"]
    assert table["beta's ramp"] == ["0 for 70% of steps, linear over 5%"]
    assert "Not a medical device" in text and "hallucinate" in text and "not a patient" in text
    assert str(run_dir.parent) not in text


def test_mutual_partners_and_the_share_of_steps_are_told(run_dir, results):
    text = write(run_dir, results, partner_sampling="mutual").read_text()
    assert "Negative (`heter`): a volume of the same training batch, of another patient" in text
    assert "10 of 18 labels" not in text
    assert table_of(text)["steps with negatives"] == ["100%, drawn at random; beta is divided by this share"]


def test_what_the_model_was_shown_is_told_as_it_was(run_dir, results):
    text = write(run_dir, results).read_text()
    assert "resampled to 0.75 x 0.75 x 1.5 mm (x, y, z), 10 axial planes at equal distances, superior" in text
    assert "HU clipped to [-1000, 1000] as grey, 8-bit" in text
    assert "Text: findings and impression of the report, asked for with the prompt in `en`." in text
    show(run_dir, num_slices=6, spacing=[1, 1, 3], window="rgb", z_range=[0.25, 1], target="findings", prompt="zh")
    text = write(run_dir, results, slices="jitter").read_text()
    assert "6 axial planes at random, one of each of as many equal parts from 25% to 100% of the depth" in text
    assert "[-1000, 200], [-160, 240], [-200, 1000] as the three channels" in text and "1 x 1 x 3 mm" in text
    assert "Text: findings of the report, asked for with the prompt in `zh`." in text


def test_slices_by_another_rule_are_told_and_not_imitated(run_dir, results):
    show(run_dir, slices="lung", z_range=[0, 0.5])
    text = write(run_dir, results, slices="lung").read_text()
    assert "10 axial planes at equal distances within the extent of the lungs" in text and "50% of this extent" in text
    assert "With transformers alone, this model cannot be used: its slices are chosen by the rule `lung`" in text
    show(run_dir, slices="mip")
    assert "HU clipped to [-1000, 1000] as the three channels" in write(run_dir, results, slices="mip").read_text()


def test_the_rule_of_the_negatives_is_told(run_dir, results):
    text = write(run_dir, results, min_label_distance=7, partner_sampling="balanced").read_text()
    assert "at least 7 of 18 labels different" in text and "`balanced`" in text
    assert "at most 2 of 18" in write(run_dir, results, negative="hard", max_label_distance=2).read_text()


def test_the_time_of_a_resumed_run_is_not_passed_off_as_the_whole(run_dir, results):
    assert table_of(write(run_dir, results).read_text())["training time"] == ["4.2 minutes"]
    resumed = table_of(write(run_dir, results, resumed="true").read_text())
    assert resumed["training time"] == ["4.2 minutes, from the last resumption on"]


def test_the_code_for_an_adapter_asks_for_its_own_revision_only(run_dir, results):
    whole = code_blocks(write(run_dir, results).read_text())[1]
    (run_dir / "adapter_config.json").write_text("{}")
    adapter = code_blocks(write(run_dir, results).read_text())[1]
    assert "(model_id, revision=revision)" in whole and 'pipeline("image-text-to-text", model_id' in whole
    assert "adapter_kwargs=on" in adapter and 'pipeline("image-text-to-text", model=model' in adapter
    compile(adapter, "card", "exec")


def test_the_card_tells_in_which_form_the_model_gets_the_slices(run_dir, results):
    video = write(run_dir, results).read_text()
    images = write(run_dir, results, takes_video=False).read_text()
    assert "frames of a video" in video and "video_metadata" in code_blocks(video)[2]
    assert "Each plane is an image." in images and "video" not in images.split("## Data")[1]
    assert '"images": [list(slices)]' in code_blocks(images)[2] and "video" not in code_blocks(images)[2]
    for text in (video, images):
        compile(code_blocks(text)[2], "card", "exec")


def test_a_baseline_is_not_called_constrained(run_dir, results):
    assert "visual evidence" in ModelCard.load(write(run_dir, results)).text
    text = ModelCard.load(write(run_dir, results, beta=0.0, negative="none")).text
    assert "visual evidence" not in text and "without its negative constraint" in text


def run(code: str, names: dict) -> str:
    """What a block of code prints; its names are left in `names`."""
    printed = io.StringIO()
    with redirect_stdout(printed):
        exec(compile(code, "card", "exec"), names)
    return printed.getvalue()


@pytest.mark.slow
def test_the_card_s_code_runs_in_the_run_folder(run_dir, results, monkeypatch):
    monkeypatch.chdir(run_dir)
    write_cohort("phantom", 4, workers=1)
    options = {"data_dir": "phantom", "spacing": (4.0, 4.0, 8.0), "num_slices": 6, "prompt": "zh"}
    rows = load_dataset("ct_rate_pairs", split="test", **options)
    save_row_settings([reader_of(rows)], run_dir)
    report = "Cardiomegaly is observed."
    row = rows[0] | {"completion": [{"role": "assistant", "content": report}]}
    model, processor = make_tiny_qwen([report], seed=0)
    batch = PairCollator(processor)([row])
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    for _ in range(40):  # learns the one report by heart, so that the code has something to print
        model(**batch).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    model.save_pretrained(run_dir)
    processor.save_pretrained(run_dir)

    of_a_scan, of_a_row, alone = code_blocks(write(run_dir, results).read_text())
    names = {}
    assert run(of_a_row, names).splitlines() == [report, report]  # by the model and by the pipeline
    assert names["row"]["slice_mm"] == pytest.approx(row["slice_mm"]) and names["row"]["prompt"] == row["prompt"]
    Path("scan.nii.gz").symlink_to(next(Path("phantom").rglob(row["volume"])))
    text, finding = run(of_a_scan, {}).splitlines()
    assert text == report and finding.startswith("Cardiomegaly None slices [")
    assert run(alone, {}).strip() == report
