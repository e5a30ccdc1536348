"""The wheel: an explicit list of packages silently drops what it does not name."""

import os
import shutil
import subprocess
import sys
import zipfile

from helpers.paths import ROOT


FOLDERS = {"ct_rate_pairs": "ct_rate_pairs", "trainer": "ct_rate_pairs/trainer"}
FOLDERS |= {"eval": "ct_rate_pairs/eval", "hub": "ct_rate_pairs/hub", "recipes": "ct_rate_pairs/recipes"}


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
