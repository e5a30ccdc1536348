"""The page of a model as a Space: what goes up, and that it runs from the files that went up."""

import ast
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml
from datasets import load_dataset
from helpers.chromium import needs_chromium, started
from helpers.command import call
from helpers.paths import ROOT
from helpers.tree import SPACING
from helpers.writable_hub import WRITE, client_environment
from huggingface_hub import snapshot_download
from packaging.requirements import Requirement

from ct_rate_pairs.hub.publish import main, publish
from ct_rate_pairs.hub.publish_space import space_files
from ct_rate_pairs.hub.references import keep_references
from ct_rate_pairs.hub.repository import PublishError


@pytest.fixture
def run(reader_dir, tree, tmp_path) -> Path:
    """A finished run, with a model that reads."""
    return make_run(reader_dir, tree, tmp_path / "run")


def make_run(model: Path, tree: Path, folder: Path) -> Path:
    folder.mkdir()
    for file in model.iterdir():
        (folder / file.name).symlink_to(file)
    (folder / "README.md").write_text("---\ntags: [phantom]\n---\n# A reader\n")
    keep_references(folder, load_dataset("ct_rate_pairs", data_dir=str(tree), split="train", spacing=SPACING))
    return folder


@pytest.mark.slow
def test_a_space_goes_up_beside_its_model_and_shows_what_was_published(hub, run, capsys):
    words = (run, "alice/reader", "--private", "--revision", "heter", "--space", "alice/page")
    assert call(main, *words) == 0
    assert f"Its page is at {hub.url}/spaces/alice/page." in capsys.readouterr().err
    model, space = hub.repo("alice/reader"), hub.repo("alice/page", "spaces")
    assert space.private and space.sdk == "gradio"
    files = space.files()
    assert f'load_reporter("alice/reader", "{model.branches["heter"]}")' in files["app.py"].decode()
    metadata = yaml.safe_load(files["README.md"].decode().split("---")[1])
    assert (metadata["sdk"], metadata["app_file"], metadata["models"]) == ("gradio", "app.py", ["alice/reader"])
    assert metadata["python_version"] == f"{sys.version_info.major}.{sys.version_info.minor}"
    assert "Not a medical device." in files["README.md"].decode() and b"Apache License" in files["LICENSE"]
    assert WRITE.encode() not in b"".join(files.values())
    commits = len(space.commits)
    publish(run, "alice/reader", revision="heter", space="alice/page")  # nothing has changed
    assert len(space.commits) == commits
    publish(run, "alice/reader", revision="heter", space="alice/second")
    assert hub.repo("alice/second", "spaces").private  # as the model is


def test_a_space_has_the_packages_and_modules_that_its_page_imports():
    files = space_files("alice/reader", "0" * 40)
    needed = {Requirement(line).name for line in files["requirements.txt"].decode().splitlines()}
    assert {"gradio", "pydicom", "torch", "transformers"} <= needed and "ct-rate-pairs" not in needed
    assert not needed & {"pytest", "bert-score", "deepspeed"}
    for room in ("trainer", "eval", "hub", "ct_rate_pairs"):
        there = "ct_rate_pairs" if room == "ct_rate_pairs" else f"ct_rate_pairs/{room}"
        ours = {f"{there}/{path.relative_to(ROOT / room)}" for path in (ROOT / room).rglob("*.py")}
        assert ours <= files.keys()
    assert not [name for name in files if "__pycache__" in name or name.startswith("ct_rate_pairs/recipes")]
    imported = [node.module for node in ast.walk(ast.parse(files["app.py"])) if isinstance(node, ast.ImportFrom)]
    assert all(
        f"{name.replace('.', '/')}.py" in files or f"{name.replace('.', '/')}/__init__.py" in files
        for name in imported
    )


@pytest.mark.slow
def test_a_space_that_cannot_be_made_is_told_before_the_model_goes_up(hub, run):
    hub.faults = [{"path": "/api/repos/create", "after": 1, "status": 403}]
    with pytest.raises(PublishError, match="may not write there"):
        publish(run, "alice/reader", space="bob/page")
    assert "model.safetensors" not in hub.repo("alice/reader").files()


@pytest.mark.slow
@needs_chromium
def test_the_page_runs_from_the_files_that_went_up(hub, talker_dir, tree, tmp_path):
    publish(make_run(talker_dir, tree, tmp_path / "run"), "alice/talker", space="alice/page")
    folder = Path(snapshot_download("alice/page", repo_type="space", local_dir=tmp_path / "space"))
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "PYTHON"))}
    environment |= client_environment(hub.url, None, tmp_path / "fresh") | {"PYTHONUNBUFFERED": "1"}
    with (tmp_path / "said").open("w+") as said:
        process = subprocess.Popen([sys.executable, "app.py"], cwd=folder, env=environment, stdout=said, stderr=said)
        try:
            while not (found := re.search(r"The page is at (\S+)", Path(said.name).read_text())):
                assert process.poll() is None, Path(said.name).read_text()
                time.sleep(0.2)
            with started() as browser:
                tab = browser.new_page()
                tab.set_default_timeout(60_000)
                tab.goto(found[1])
                tab.get_by_text("Model alice/talker, version").wait_for()
                tab.get_by_role("button", name="Phantom 1").click()
                tab.locator("#slice img").wait_for()
                tab.get_by_role("button", name="Write the report").click()
                tab.get_by_text("Time: writing").wait_for()
                # The talker has never seen a phantom: what it writes may hold no report, which the page then says.
                text = tab.locator("#report textarea").input_value()
                assert text or tab.get_by_text("The model wrote no report").is_visible()
        finally:
            process.terminate()
            process.wait()
    assert list((folder / "ct_rate_pairs/hub/app/__pycache__").glob("page.*"))  # it was this copy that ran
