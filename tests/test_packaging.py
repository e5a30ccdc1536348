"""The wheel: an explicit list of packages silently drops what it does not name. Installed, it needs no checkout."""

import os
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest
import yaml
from helpers.paths import ROOT
from helpers.shared import made_once

from ct_rate_pairs.__main__ import COMMANDS


FOLDERS = {"ct_rate_pairs": "ct_rate_pairs", "trainer": "ct_rate_pairs/trainer"}
FOLDERS |= {"eval": "ct_rate_pairs/eval", "hub": "ct_rate_pairs/hub", "recipes": "ct_rate_pairs/recipes"}
# The tests' own environment has the checkout as an editable install, which would stand in for what the wheel lacks.
SITE = """
import sys
sys.meta_path[:] = [finder for finder in sys.meta_path if "editable" not in getattr(finder, "__module__", "")]
"""


def build(folder: Path) -> None:
    """The wheel, and what it holds installed into an empty folder."""
    source, site = folder / "source", folder / "site"
    for name in FOLDERS:
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    alone = ["--no-deps", "--no-build-isolation"]
    built = [*pip, "wheel", *alone, "--wheel-dir", str(folder), str(source)]
    done = subprocess.run(built, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (wheel,) = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder / "unpacked")
    subprocess.run([*pip, "install", "--no-deps", "--no-index", "--target", str(site), str(wheel)], check=True)
    (folder / "sitecustomize.py").write_text(SITE)


@pytest.fixture(scope="session")
def built(tmp_path_factory) -> Path:
    return made_once(tmp_path_factory, "wheel", build)


def use(built: Path, folder: Path, *command: str) -> str:
    """What Python prints where only the wheel is installed."""
    (folder / "empty").mkdir()
    environment = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
    environment |= {"PYTHONPATH": f"{built / 'site'}{os.pathsep}{built}", "HF_HOME": str(folder / "hf")}
    environment["HF_HUB_OFFLINE"] = "1"
    used = subprocess.run(
        [sys.executable, *command], cwd=folder / "empty", env=environment, capture_output=True, text=True, check=False
    )
    assert used.returncode == 0, used.stderr[-3000:]
    return used.stdout


@pytest.mark.slow
def test_the_wheel_holds_every_module_config_and_template(built):
    packed = {path.relative_to(built / "unpacked").as_posix() for path in (built / "unpacked").rglob("*")}
    kinds = {".py", ".yaml", ".md", ".html", ".css", ".js", ".typed"}
    files = {
        f"{package}/{path.relative_to(ROOT / folder).as_posix()}"
        for folder, package in FOLDERS.items()
        for path in (ROOT / folder).rglob("*")
        if path.suffix in kinds
    }
    expected = (
        "eval/metrics/ct_coverage/ct_coverage.py",
        "recipes/configs/phantom.yaml",
        "hub/templates/model_card.md",
    )
    assert {f"ct_rate_pairs/{file}" for file in expected} <= files
    assert not files - packed
    assert {f"{package}/py.typed" for package in FOLDERS.values()} <= packed


@pytest.mark.slow
def test_the_literal_uses_work_from_an_empty_folder_and_a_run_finds_its_config_and_template(built, phantom, tmp_path):
    train = ("train", "--config", "phantom", "--data_dir", str(phantom), "--output_dir", "run", "--max_steps", "1")
    train += ("--max_eval_samples", "2", "--max_new_tokens", "4", "--confidence_scans", "0")
    train += ("--operating_point", "none")
    code = f"""
import ct_rate_pairs
from datasets import load_dataset
import evaluate

rows = load_dataset("ct_rate_pairs", data_dir={str(phantom)!r}, negative="heter")
row = rows["train"][0]
print(len(row["images"]), len(row["negative_images"]))
print(evaluate.load("ct_coverage").compute(predictions=["A nodule."], references=["Nodules."])["coverage"])
import sys
from ct_rate_pairs.__main__ import main
main({[*train]})
print({{module.__file__ for name, module in sys.modules.items() if name.split(".")[0] == "ct_rate_pairs"}})
"""
    slices, coverage, *_, files = use(built, tmp_path, "-c", code).splitlines()
    assert (slices, coverage) == ("10 10", "1.0")
    assert all(file.startswith(str(built / "site")) for file in eval(files))
    card = (tmp_path / "empty" / "run" / "README.md").read_text()
    assert card.startswith("---") and "phantom" in card
    assert (tmp_path / "empty" / "run" / "results.json").exists()


@pytest.mark.slow
def test_the_command_lists_the_others(built, tmp_path):
    told = use(built, tmp_path, "-m", "ct_rate_pairs", "--help")
    assert all(f"  {command} " in told for command in COMMANDS)


def test_the_linter_of_the_commits_is_that_of_the_tests():
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    (hook,) = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"]
    assert f"ruff=={hook['rev'].removeprefix('v')}" in extras["test"]
