"""The wheel: an explicit list of packages silently drops what it does not name, and so does one of dependencies."""

import ast
import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from importlib.metadata import packages_distributions

from helpers.paths import ROOT


FOLDERS = {"ct_rate_pairs": "ct_rate_pairs", "trainer": "ct_rate_pairs/trainer"}
FOLDERS |= {"eval": "ct_rate_pairs/eval", "hub": "ct_rate_pairs/hub", "recipes": "ct_rate_pairs/recipes"}
# What only some need: the extra, and what of it is imported.
OPTIONAL = {"bertscore": {"bert-score"}, "dicom": {"pydicom"}, "metaimage": {"simpleitk"}, "meteor": {"pycocoevalcap"}}


def test_the_wheel_holds_every_module(tmp_path):
    source = tmp_path / "source"
    for folder in FOLDERS:
        shutil.copytree(ROOT / folder, source / folder, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation"]
    built = subprocess.run(
        [*command, "--wheel-dir", str(tmp_path), str(source)], capture_output=True, text=True, check=False
    )
    assert built.returncode == 0, built.stderr
    with zipfile.ZipFile(next(tmp_path.glob("*.whl"))) as wheel:
        packed = set(wheel.namelist())
    modules = {
        f"{package}/{path.relative_to(ROOT / folder).as_posix()}"
        for folder, package in FOLDERS.items()
        for path in (ROOT / folder).rglob("*.py")
    }
    assert "ct_rate_pairs/eval/metrics/ct_coverage/ct_coverage.py" in modules
    assert not modules - packed

    # What is installed works without the checkout: the dataset and the metrics are registered from the wheel.
    installed = tmp_path / "installed"
    install = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "--quiet",
        "--no-deps",
        "--no-index",
        "--target",
        str(installed),
    ]
    subprocess.run([*install, str(next(tmp_path.glob("*.whl")))], check=True)
    code = (
        "import ct_rate_pairs, evaluate; print(ct_rate_pairs.__file__); "
        "print(evaluate.load('ct_coverage').compute(predictions=['A nodule.'], references=['Nodules.'])['coverage'])"
    )
    used = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(installed), "HF_HOME": str(tmp_path / "hf")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert used.stdout.split() == [str(installed / "ct_rate_pairs" / "__init__.py"), "1.0"], used.stderr


def imported(folder: str) -> set[str]:
    """The packages of others that the modules of a folder import, wherever in them."""
    found = set()
    for path in (ROOT / folder).rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                found |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and not node.level:
                found.add(node.module.split(".")[0])
    return found - sys.stdlib_module_names - {"ct_rate_pairs"}


def declared(requirements: list[str]) -> set[str]:
    return {re.match(r"[\w.-]+", line)[0].lower().replace("_", "-") for line in requirements}


def test_what_is_imported_is_declared_and_nothing_else():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    names = {name: of[0].lower().replace("_", "-") for name, of in packages_distributions().items()}
    used = {names[name] for folder in FOLDERS for name in imported(folder)}
    extras = {name: declared(project["optional-dependencies"][name]) for name in OPTIONAL}
    assert {name: extra & used for name, extra in extras.items()} == OPTIONAL
    # qwen-vl-utils and transformers import torchvision without asking for it.
    assert declared(project["dependencies"]) == used - set.union(*OPTIONAL.values()) | {"torchvision"}


def test_all_takes_what_every_other_extra_takes_but_the_developers():
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    (every,) = extras["all"]
    assert set(re.search(r"\[(.*)\]", every)[1].split(",")) == set(extras) - {"all", "bench", "docs", "test"}
