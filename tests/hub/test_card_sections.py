"""The sections of a model card that are unfolded or copied: labels, settings, a sample, citations; and its width."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
import yaml
from helpers.card_page import opened, wide_elements, write_page
from helpers.finished_run import PNG
from helpers.writable_hub import WRITE
from huggingface_hub import ModelCard
from PIL import Image

from ct_rate_pairs.eval.figures.evaluation import plot_reliability
from ct_rate_pairs.eval.scoring.label_calibration import judge_each
from ct_rate_pairs.hub import card_settings, write_model_card
from ct_rate_pairs.hub.card_results import METRICS
from ct_rate_pairs.hub.card_settings import NOT_REPEATED, repeatable_settings
from ct_rate_pairs.hub.guard import publishable_files
from ct_rate_pairs.hub.references import keep_reference_hashes
from ct_rate_pairs.hub.reporting.domain import Domain
from ct_rate_pairs.recipes.sft_neg import make_parser, parse
from ct_rate_pairs.reports.labels import LABELS
from ct_rate_pairs.trainer import NegativeSFTConfig
from ct_rate_pairs.trainer.run_record import write_run_config
from ct_rate_pairs.trainer.tiny import make_tiny_qwen


SHOWN = {"num_slices": 10, "spacing": [0.75, 0.75, 1.5], "window": "rgb", "z_range": [0.0, 1.0]}
SHOWN |= {
    "target": "findings+impression",
    "prompt": "en",
    "prompt_metadata": ["age", "sex"],
    "findings_line": "yes_no",
}
REFERENCE = "Findings: Heart size is increased. The aorta is wide.\nImpression: Cardiomegaly."


@pytest.fixture
def run_dir(tmp_path):
    folder = tmp_path / "a-model-with-rather-a-long-name-on-two-gpus"
    folder.mkdir()
    (folder / "row_settings.json").write_text(json.dumps(SHOWN))
    return folder


def whole_results() -> dict:
    """Results in which everything was measured that a card can tell."""
    scores = dict.fromkeys(METRICS, 0.5) | {"labeler": "radbert", "recipe": "paper", "ci_level": 0.95, "n": 1564}
    trivial = dict(scores)
    scores |= {f"{key}_ci": [0.41234, 0.61234] for key in METRICS}
    of_a_label = {"support": 1234, "f1": 0.5, "recall": 0.5, "precision": None}
    scores["per_label"] = dict.fromkeys(LABELS, of_a_label)
    scores |= {"sides": 1234, "lobes": 234, "side_accuracy_common": 0.5, "lobe_accuracy_common": 0.5}
    scores |= {f"gap_positive_share{kind}": 0.97 for kind in ("", "_noise", "_shuffled", "_blank")}
    scores |= {f"loss_gap{kind}": 1.2345 for kind in ("", "_noise", "_shuffled", "_blank")}
    matching = {"num_options": 4, "top1": 0.58, "top1_pmi": 0.73, "top1_chance": 0.25, "top1_text_only": 0.21}
    scores["matching"] = {"random": matching, "hard": matching}
    point = {"coverage": 0.764, "precision_micro": 0.5, "f1_micro": 0.7, "f1_macro": 0.688}
    scores |= {f"line_{key}": 0.5 for key in ("auroc", "brier", "brier_ratio", "ece", "followed")}
    scores |= {"line_calibrated": True, "operating_curve": {"f1": point, "0.9": point}, "operating_point": "f1"}
    results = dict.fromkeys(("shuffled", "all_negative", "most_common", "all_positive"), trivial)
    alone = {"f1_micro": 0.6, "f1_micro_common": 0.1, "coverage": 0.3, "prompt_metadata": ["age", "sex"]}
    return {"model": scores, **results, "prompt_only": alone}


def write_confidence(folder: Path, scans: int = 150) -> dict:
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(scans, 18))
    p = 1 / (1 + np.exp(-logits))
    labels = (rng.random(p.shape) < p).astype(int)
    errors = {"ece": 0.02, "brier": 0.08, "nll": 0.3}
    way = errors | {"auroc": 0.881, "brier_ratio": 0.56, "seconds": 12.345}
    measured = dict.fromkeys(("calibrated", "uncalibrated", "prevalence"), errors) | {"n": scans, "folds": 5}
    measured |= {"ways": {"sentences": way, "line": way}, "per_label": judge_each(p, labels, logits)}
    (folder / "confidence.json").write_text(json.dumps({"measured": measured}))
    return measured["per_label"]


def write(run_dir: Path, results: dict, phantom: bool = True, **options) -> str:
    config = NegativeSFTConfig(output_dir=run_dir, bf16=False, use_cpu=True, beta=0.1, hub_token=WRITE)
    facts = {"negative": "heter", "num_train": 46_000, "num_test": 1564, "steps": 1200, "minutes": 4.2}
    facts |= {"hardware": "64 x NVIDIA H100 80GB HBM3", "slices": "mip"} | options
    write_model_card(run_dir, results, config, phantom=phantom, **facts)
    return ModelCard.load(run_dir / "README.md").text


def block(text: str, language: str) -> str:
    (found,) = re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)
    return found


def test_each_label_has_its_scans_its_scores_and_its_calibration(run_dir):
    per_label = write_confidence(run_dir)
    (run_dir / "figures").mkdir()
    text = write(run_dir, whole_results())
    line = next(line for line in text.splitlines() if line.startswith("| Cardiomegaly"))
    own = per_label["Cardiomegaly"]
    told = ["1234", "0.500", "0.500", "-", f"{own['auroc']:.3f}", f"{own['ece']:.3f}"]
    assert [cell.strip() for cell in line.strip("|").split("|")[1:]] == told
    assert sum(line.startswith(tuple(f"| {label} |" for label in LABELS)) for line in text.splitlines()) == 18
    assert "on 150 scans of the validation split; the error by" in text and "figures/" not in text
    (run_dir / "confidence.json").unlink()
    plot_reliability(per_label, run_dir / "figures" / "reliability.png")
    text = write(run_dir, whole_results())
    assert "AUROC" not in text.split("<details>")[1].split("</details>")[0]
    assert "![Calibration of each label](figures/reliability.png)" in text and "labels.png" not in text
    keep_reference_hashes(run_dir, [REFERENCE], phantom=True)
    assert "figures/reliability.png" in publishable_files(run_dir)


def test_the_auroc_of_a_label_is_that_of_its_order_before_calibration():
    logits, labels = np.tile(np.linspace(-1, 1, 10)[:, None], 18), np.tile(np.arange(10)[:, None] >= 6, 18).astype(int)
    shifted = 1 / (1 + np.exp(-logits + 3 * (np.arange(10) % 2)[:, None]))  # as two folds shift it
    judged = judge_each(shifted, labels, logits)["Cardiomegaly"]
    assert (judged["auroc"], judged["support"]) == (1.0, 4)
    assert sum(one["n"] for one in judged["bins"]) == 10
    assert all(0 <= one["p"] <= 1 and 0 <= one["share"] <= 1 for one in judged["bins"])
    assert judge_each(shifted, labels * 0, logits)["Cardiomegaly"]["auroc"] is None


@pytest.mark.parametrize("config", ["phantom", "heter"])
def test_the_block_of_settings_gives_the_recipe_the_configuration_of_the_run(run_dir, tmp_path, config):
    parser = make_parser()
    given = ["--config", config, "--data_dir", str(tmp_path), "--output_dir", str(run_dir), "--seed", "7"]
    given += ["--push_to_hub", "true", "--hub_model_id", "alice/model", "--hub_token", WRITE]
    parse([*given, "--beta", "0.2", "--negative", "heter"], parser)
    write_run_config("ct-rate-pairs train", parser.values, parser.given, run_dir)
    text = write(run_dir, whole_results())
    settings = block(text, "yaml")
    assert str(tmp_path) not in text and WRITE not in text and "alice/model" not in text
    (tmp_path / "copied.yaml").write_text(settings)
    again = make_parser()
    parse(["--config", str(tmp_path / "copied.yaml"), "--data_dir", str(tmp_path), "--output_dir", "other"], again)
    changed = {name for name, value in again.values.items() if parser.values[name] != value}
    assert changed <= {"config", *NOT_REPEATED} - {"data_dir"} and again.values["seed"] == 7


def test_an_option_with_a_path_is_left_out_and_named(run_dir, tmp_path):
    options = {"beta": 0.1, "model_name_or_path": str(tmp_path), "fsdp": "full_shard", "output_dir": "runs/a"}
    write_run_config("ct-rate-pairs train", options, {"beta"}, run_dir)
    assert repeatable_settings(run_dir) == ({"beta": 0.1, "fsdp": "full_shard"}, ["model_name_or_path"])
    text = write(run_dir, whole_results())
    assert yaml.safe_load(block(text, "yaml")) == {"beta": 0.1, "fsdp": "full_shard"}
    assert "Pass also `--model_name_or_path`: a path here." in text and str(tmp_path) not in text


def test_a_report_stands_beside_its_reference_only_for_the_phantom(run_dir):
    sample = ("Heart <b>size</b> | is normal.", REFERENCE)
    keep_reference_hashes(run_dir, [REFERENCE], phantom=False)
    for phantom in (True, False):  # whatever the caller says
        with pytest.raises(ValueError, match="a run on real scans, whose reference reports must not be shown"):
            write(run_dir, whole_results(), phantom, sample=sample)
    assert not (run_dir / "README.md").exists()
    keep_reference_hashes(run_dir, [REFERENCE], phantom=True)
    text = write(run_dir, whole_results(), sample=sample)
    reference = "Findings: Heart size is increased. The aorta is wide.<br>Impression: Cardiomegaly."
    assert f"| Heart &lt;b&gt;size&lt;/b&gt; &#124; is normal. | {reference} |" in text and "reports.png" not in text
    (run_dir / "figures").mkdir()
    (run_dir / "figures" / "reports.png").write_bytes(PNG)
    assert "![Slices, references and reports](figures/reports.png)" in write(run_dir, whole_results(), sample=sample)
    assert "beside its reference" not in write(run_dir, whole_results(), phantom=False)


def test_the_card_tells_how_to_install_the_version_of_the_run(run_dir, monkeypatch):
    versions = {"ct-rate-pairs": "0.3.1", "torch": "2.14.1"}
    environment = {"versions": versions, "commit": "0123456789abcdef" * 2, "dirty": False}
    (run_dir / "environment.json").write_text(json.dumps(environment))
    text = write(run_dir, whole_results())
    assert "`ct-rate-pairs` 0.3.1: `pip install '.[dicom]'` in a checkout of commit 0123456789ab of" in text
    address = {"Project-URL": "Source, https://example.org/ct-rate-pairs"}
    monkeypatch.setattr(card_settings, "metadata", lambda name: Headers(address))
    text = write(run_dir, whole_results())
    where = "https://example.org/ct-rate-pairs"
    assert f"[`ct-rate-pairs`]({where}) 0.3.1: " in text
    assert f'`pip install "ct-rate-pairs[dicom] @ git+{where}@{environment["commit"]}"`.' in text


class Headers(dict):
    """As `importlib.metadata` gives them, of which each may stand several times."""

    def get_all(self, name, default):
        return [self[name]] if name in self else default


def test_method_software_and_data_can_be_cited(run_dir):
    def entries(**options) -> list[str]:
        return re.findall(
            r"^@(\w+)\{(\w+),$", block(write(run_dir, whole_results(), **options), "bibtex"), re.MULTILINE
        )

    ours = [("article", "gao_negative_constraints"), ("software", "ct_rate_pairs")]
    assert entries() == entries(phantom=False) == [*ours, ("article", "hamamci2024ctrate")]
    assert entries(phantom=False, own=True) == ours
    text = block(write(run_dir, whole_results()), "bibtex")
    assert text.count("{") == text.count("}") and "面向胸部 CT 报告生成" in text and "2403.17834" in text


def test_the_memory_of_the_weights_is_told(run_dir):
    assert "**Memory.**" not in write(run_dir, whole_results())
    model, _ = make_tiny_qwen(["Heart size is increased."], seed=0)
    model.save_pretrained(run_dir)
    number, size = model.num_parameters(), 2 * model.num_parameters() / 1e6
    text = write(run_dir, whole_results())
    assert f"The {number:,} weights take {size:.1f} MB in bfloat16, and {2 * size:.1f} MB in float32." in text
    assert "Measured on the machine" not in text
    told = " ".join(write(run_dir, whole_results(), peak_memory=1_234_000_000).split())
    assert "Measured on the machine of the training (64 x NVIDIA H100 80GB HBM3): the process that trained" in told
    assert "took 1.2 GB at most, all libraries included." in told
    (run_dir / "model.safetensors").rename(run_dir / "adapter_model.safetensors")
    (run_dir / "adapter_config.json").write_text("{}")
    assert f"The {number:,} weights of the adapter take" in write(run_dir, whole_results())


@pytest.mark.slow
def test_no_table_figure_or_text_of_a_card_is_cut_off_at_760_pixels(run_dir):
    write_confidence(run_dir)
    (run_dir / "figures").mkdir()
    for name in ("labels", "reliability", "reports"):
        Image.new("RGB", (1600, 400)).save(run_dir / "figures" / f"{name}.png")
    keep_reference_hashes(run_dir, [REFERENCE], phantom=True)
    write_run_config("ct-rate-pairs train", {"beta": 0.1, "seed": 0}, {"beta"}, run_dir)
    make_tiny_qwen(["Heart size is increased."], seed=0)[0].save_pretrained(run_dir)
    write(run_dir, whole_results(), sample=(REFERENCE * 20, REFERENCE * 20))
    with opened(write_page(run_dir / "README.md")) as page:
        assert page.locator("table").count() >= 9 and page.locator("img").count() == 3
        assert wide_elements(page) == []
    columns = "| " + " | ".join(["Precision"] * 12) + " |\n"
    (run_dir / "README.md").write_text(f"---\na: b\n---\n{columns}{'|---' * 12}|\n{columns}")
    with opened(write_page(run_dir / "README.md")) as page:  # what the test is for
        assert [words.split()[0] for words in wide_elements(page)] == ["TABLE"]


@pytest.mark.parametrize(("trained_on", "told"), [("phantom", "is refused"), ("own", "is told in its report")])
def test_what_becomes_of_a_scan_unlike_those_of_the_training_is_told(run_dir, trained_on, told):
    text = write(run_dir, whole_results())
    assert "domain.json" not in text
    Domain(trained_on, {"depth (mm)": {"low": 1.0, "high": 2.0}}, 1234, 0.017).save(run_dir)
    text = " ".join(write(run_dir, whole_results()).split())
    assert f"A scan that is unlike those of the training {told}. 1 measures" in text and "1,234 scans" in text
    assert "1.7% are taken for others." in text
