"""The sections on the Hub in README.md and README.zh.md run as printed, against a Hub on loopback."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from helpers.paths import ROOT
from helpers.writable_hub import WRITE, WritableHub, client_environment


# A few steps of training in place of 1,700, and a cohort that is no larger than they need
SHORT = " --max_steps 4 --eval_scans 2 --max_new_tokens 20 --confidence_scans 20"


@pytest.fixture(scope="module")
def hub():
    hub = WritableHub()
    yield hub
    hub.stop()


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A checkout with the demo's cohort, and a scan of it."""
    folder = tmp_path_factory.mktemp("readme")
    (folder / "recipes").symlink_to(ROOT / "recipes")
    command = [sys.executable, "-m", "ct_rate_pairs.phantom", "--out", "runs/phantom_cohort", "--scans", "160"]
    subprocess.run([*command, "--valid-scans", "2"], cwd=folder, check=True, capture_output=True)
    scan = next((folder / "runs/phantom_cohort/dataset/valid_fixed").rglob("*.nii.gz"))
    shutil.copy(scan, folder / "scan.nii.gz")
    return folder


def blocks(readme: str, title: str) -> list[str]:
    """The blocks of code in a section, with the name of a user."""
    section = re.search(rf"^## {title}\n(.*?)^## ", (ROOT / readme).read_text(), re.DOTALL | re.MULTILINE)[1]
    return [block.replace("USER", "alice") for block in re.findall(r"```(?:python)?\n(.*?)```", section, re.DOTALL)]


def run(command: list[str] | str, folder: Path, hub: WritableHub, home: str) -> str:
    """What a command prints; a text is one for the shell."""
    environment = os.environ | client_environment(hub.url, WRITE, folder / home)
    environment |= {"OMP_NUM_THREADS": "1", "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    options = {"cwd": folder, "env": environment, "capture_output": True, "text": True}
    done = subprocess.run(command, shell=isinstance(command, str), check=False, **options)
    assert done.returncode == 0, f"{command}: {done.stderr[-3000:]}"
    return done.stdout


@pytest.fixture(scope="module")
def published(hub, folder) -> list[str]:
    """What the commands of the section on publishing print."""
    (commands,) = blocks("README.md", "Publish a run")
    train, *others = commands.splitlines()
    return [run(train + SHORT, folder, hub, "publisher"), *(run(line, folder, hub, "publisher") for line in others)]


@pytest.mark.slow
def test_publish_a_run_as_printed(hub, published):
    trained, again, variant, metric, index = published
    assert f"Published: {hub.url}/alice/phantom/tree/main" in trained
    assert again.endswith("/alice/phantom/tree/v1\n") and variant.endswith("/alice/phantom/tree/heter-v1\n")
    assert "alice/ct_coverage" in metric and "alice/phantom-negatives" in index
    repo = hub.repo("alice/phantom")
    assert repo.private and set(repo.branches) == {"main", "heter"} and set(repo.tags) == {"v1", "heter-v1"}
    assert {"README.md", "model.safetensors", "confidence.json"} < set(repo.files("heter-v1"))
    assert list(hub.collections.values()) == [[{"id": "alice/phantom", "type": "model"}]]


@pytest.mark.slow
def test_use_a_released_model_as_printed(hub, folder, published):
    code, command, _ = blocks("README.md", "Use a released model")
    code += "\nprint([finding.confidence is None for finding in report.findings])"
    shown = run([sys.executable, "-c", code], folder, hub, "user")
    assert shown.splitlines()[-1] == str([False] * 18)
    told = run(command, folder, hub, "user")
    report = json.loads((folder / "report" / "report.json").read_text())
    assert shown.startswith(report["text"]) and report["model"] == "alice/phantom"
    assert report["text"] in told and "Not a medical device" in told
    assert {path.name for path in (folder / "report").iterdir()} == {"report.md", "report.json", "sheet.png"}


def test_the_chinese_readme_prints_the_same_code():
    assert blocks("README.zh.md", "发布一次训练") == blocks("README.md", "Publish a run")
    without_comments = [re.sub(r" *#.*", "", block) for block in blocks("README.md", "Use a released model")]
    assert [re.sub(r" *#.*", "", block) for block in blocks("README.zh.md", "使用已发布的模型")] == without_comments
