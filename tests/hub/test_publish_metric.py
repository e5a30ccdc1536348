"""Metrics as Spaces, loaded by `evaluate` alone from a Hub on loopback."""

import os
import re
import subprocess
import sys

import pytest
import yaml
from helpers.command import call
from helpers.writable_hub import READ, WRITE, WritableHub, client_environment

from ct_rate_pairs.eval.metrics.install import METRICS, metric_files
from ct_rate_pairs.hub import publish_metric as module
from ct_rate_pairs.hub.publish_metric import publish_metric, space_files
from ct_rate_pairs.hub.repository import PublishError


# A process in which nothing of ours, and nothing big that `evaluate` does not need, is installed.
BARE = """
import sys
ABSENT = {"ct_rate_pairs", "torch", "transformers", "trl", "peft", "accelerate", "nibabel", "pydicom"}
ABSENT |= {"bert_score", "pycocoevalcap"}

class Without:
    def __init__(self, finder):
        self.finder = finder

    def find_spec(self, name, *where):
        return None if name.partition(".")[0] in ABSENT else self.finder.find_spec(name, *where)

    def __getattr__(self, name):
        return getattr(self.finder, name)

sys.meta_path[:] = map(Without, sys.meta_path)
try:
    import ct_rate_pairs
except ModuleNotFoundError:
    pass
else:
    sys.exit("ct_rate_pairs can be imported")
"""


def run(code: str, hub: WritableHub, tmp_path, token: str | None = None) -> str:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
    environment |= client_environment(hub.url, token, tmp_path / "fresh")
    (tmp_path / "empty").mkdir(exist_ok=True)
    command = [sys.executable, "-c", BARE + code]
    done = subprocess.run(
        command, cwd=tmp_path / "empty", env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
def test_every_space_runs_where_only_evaluate_is_installed(hub, tmp_path):
    addresses = [publish_metric(name, f"alice/{name}") for name in METRICS]
    assert addresses == [f"{hub.url}/spaces/alice/{name}" for name in METRICS]
    codes = []
    for name in METRICS:  # the code of each card, as printed
        card = hub.repo(f"alice/{name}", "spaces").files()["README.md"].decode()
        codes.append(re.search(r"```python\n(.*?)```", card, re.DOTALL)[1])
    coverage, accuracy, crg, dice, text = map(eval, run("\n".join(codes), hub, tmp_path).splitlines())
    assert (coverage["coverage"], coverage["labeler"]) == (0.5, "rules")
    assert (dice["dice"], dice["lesion_recall"], dice["lesion_precision"]) == (0.5, 0.5, 1.0)
    assert accuracy["precision_micro"] == 1.0 and 0.2 <= crg["crg"] <= 1 and text["recipe"] == "lower"


@pytest.mark.slow
def test_a_newer_space_is_what_a_fresh_process_runs(hub, tmp_path):
    publish_metric("ct_coverage", "alice/ct_coverage")
    code = "import evaluate; print(evaluate.load('alice/ct_coverage').info.description)"
    assert "A newer one" not in run(code, hub, tmp_path)
    newer = space_files("ct_coverage", "alice/ct_coverage")
    newer["ct_coverage.py"] = newer["ct_coverage.py"].replace(b"Coverage = ", b"A newer one. Coverage = ")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "space_files", lambda *_: newer)
        publish_metric("ct_coverage", "alice/ct_coverage")
    assert "A newer one" in run(code, hub, tmp_path)


@pytest.mark.parametrize("name", METRICS)
def test_a_space_holds_the_metric_its_app_and_a_card_that_evaluate_s_list_finds(hub, name):
    publish_metric(name, f"alice/{name}", private=True)
    space = hub.repo(f"alice/{name}", "spaces")
    assert space.private and space.sdk == "gradio"
    files = space.files()
    assert set(files) == {*metric_files(name), "README.md", "app.py", "requirements.txt", ".gitattributes"}
    assert all(files[file] == text for file, text in metric_files(name).items())
    card = files["README.md"].decode()
    metadata = yaml.safe_load(card.split("---")[1])
    assert {"evaluate", "metric"} <= set(metadata["tags"]) and metadata["sdk"] == "gradio"
    assert metadata["app_file"] == "app.py" and metadata["description"]
    assert f'evaluate.load("alice/{name}")' in files["app.py"].decode() and "Args:" in card
    assert WRITE.encode() not in b"".join(files.values())


def test_the_card_comes_last_and_the_same_call_completes_it(hub):
    hub.faults = [{"path": "/commit/", "status": 400, "after": 1}]
    with pytest.raises(PublishError, match="400"):
        publish_metric("ct_crg", "alice/ct_crg")
    assert "README.md" not in hub.repo("alice/ct_crg", "spaces").files()
    publish_metric("ct_crg", "alice/ct_crg")
    assert "README.md" in hub.repo("alice/ct_crg", "spaces").files()


def test_a_space_of_another_name_would_not_load_and_is_refused(hub):
    with pytest.raises(PublishError, match=r"looks for coverage\.py in alice/coverage: name the Space ct_coverage"):
        publish_metric("ct_coverage", "alice/coverage")
    assert hub.log == []


def test_the_command_tells_a_name_that_cannot_be_one(hub, capsys):
    assert call(module.main, "ct_crg", "a b/ct_crg") == 2
    assert "Repo id must use alphanumeric chars" in capsys.readouterr().err


def test_the_command_tells_a_read_only_token(hub, monkeypatch, tmp_path, capfd):
    hub.connect(monkeypatch, READ, tmp_path / "other")
    assert call(module.main, "ct_crg", "alice/ct_crg") == 2
    said = capfd.readouterr()
    assert "this token may not write there" in said.err and READ not in said.out + said.err
