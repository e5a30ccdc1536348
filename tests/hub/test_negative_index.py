"""The negative index as a dataset on a Hub on loopback."""

import io
import os
import re

import pandas as pd
import pytest
import yaml
from datasets import load_dataset
from helpers import programs
from helpers.command import call
from helpers.writable_hub import READ, WRITE, client_environment

from ct_rate_pairs.config import CTRatePairsConfig
from ct_rate_pairs.hub.negative_index import main, negative_index, publish_negative_index
from ct_rate_pairs.hub.repository import PublishError
from ct_rate_pairs.phantom.cohort import write_cohort
from ct_rate_pairs.volume_names import patient_of


def config(tree, **options) -> CTRatePairsConfig:
    return CTRatePairsConfig(data_dir=str(tree), negative="heter", **options)


@pytest.mark.parametrize("options", [{}, {"seed": 3, "min_label_distance": 7}, {"partner_sampling": "balanced"}])
@pytest.mark.parametrize("split", ["train", "test"])
def test_the_index_holds_the_pairs_that_the_dataset_gives_in_its_first_epoch(tree, split, options):
    table = negative_index(config(tree, **options), [split])[split]
    rows = load_dataset("ct_rate_pairs", data_dir=str(tree), split=split, negative="heter", **options)
    given = [(row["volume"], row["negative_volume"], row["label_distance"]) for row in rows]
    assert list(zip(table["volume"], table["partner"], table["distance"], strict=True)) == given
    assert set(table["seed"]) == {options.get("seed", 0)}
    assert not any(patient_of(row.volume) == patient_of(row.partner) for row in table.itertuples())


def test_hard_partners_are_those_of_the_dataset_too(tree):
    options = {"negative": "hard", "data_dir": str(tree)}
    table = negative_index(CTRatePairsConfig(**options), ["train"])["train"]
    rows = load_dataset("ct_rate_pairs", split="train", **options)
    assert table["partner"].tolist() == [row["negative_volume"] for row in rows]


def test_names_and_numbers_alone_are_published_and_the_card_tells_the_rule(hub, tree):
    rule = config(tree, min_label_distance=7)
    address = publish_negative_index("alice/pairs", rule, ["train", "test"], private=True)
    repo = hub.repo("alice/pairs", "datasets")
    assert address == f"{hub.url}/datasets/alice/pairs" and repo.private
    files = repo.files()
    assert set(files) == {".gitattributes", "README.md", "data/test.parquet", "data/train.parquet"}
    for split in ("train", "test"):
        table = pd.read_parquet(io.BytesIO(files[f"data/{split}.parquet"]))
        assert table.columns.tolist() == ["volume", "partner", "distance", "seed"]
        assert table.equals(negative_index(rule, [split])[split])
    stored = b"".join(files.values())
    assert WRITE.encode() not in stored and str(tree).encode() not in stored and b"Finding 3" not in stored
    card = files["README.md"].decode()
    metadata = yaml.safe_load(card.split("---")[1])
    assert metadata["license"] == "cc-by-nc-sa-4.0" and metadata["size_categories"] == ["n<1K"]
    assert "at least 7 of 18 labels" in card and "`VolumeName`" in card
    assert f"| test | {len(table)} | {table['distance'].mean():.2f} | {table['partner'].nunique()} |" in card
    assert re.search(r'negative="heter", seed=0, min_label_distance=7\)', card)


def test_the_card_names_the_options_that_decide_which_volumes_have_partners(hub, tree):
    publish_negative_index("alice/pairs", config(tree, reconstructions="all", target="findings", validation_size=0.1))
    card = hub.repo("alice/pairs", "datasets").files()["README.md"].decode()
    assert "seed=0, target='findings', validation_size=0.1, reconstructions='all')" in card


def test_other_splits_replace_those_that_were_there(hub, tree):
    publish_negative_index("alice/pairs", config(tree), ["train", "test"])
    publish_negative_index("alice/pairs", config(tree), ["test"])
    assert set(hub.repo("alice/pairs", "datasets").files()) == {".gitattributes", "README.md", "data/test.parquet"}


def test_the_card_comes_last_and_the_same_call_completes_it(hub, tree):
    hub.faults = [{"path": "/commit/", "status": 400, "after": 1}]
    with pytest.raises(PublishError, match="400"):
        publish_negative_index("alice/pairs", config(tree))
    assert set(hub.repo("alice/pairs", "datasets").files()) == {".gitattributes", "data/train.parquet"}
    publish_negative_index("alice/pairs", config(tree))
    assert "README.md" in hub.repo("alice/pairs", "datasets").files()


def test_the_command_tells_a_read_only_token(hub, tree, monkeypatch, tmp_path, capfd):
    hub.connect(monkeypatch, READ, tmp_path / "other")
    assert call(main, "alice/pairs", tree) == 2
    said = capfd.readouterr()
    assert "this token may not write there" in said.err and READ not in said.out + said.err


@pytest.mark.parametrize(
    ("repo_id", "options", "message"),
    [
        ("a b/c", [], "Repo id must use alphanumeric chars"),
        ("alice/pairs", ["--min_label_distance", "40"], "--min_label_distance 40: choose 1 or more, and at most 18"),
        ("alice/pairs", ["/nowhere"], "/nowhere"),
        ("alice/pairs", ["--max_label_distance", "2"], "--max_label_distance has no effect here: negative=heter"),
        ("alice/pairs", ["--negative", "hard", "--min_label_distance", "4"], "--min_label_distance has no effect"),
    ],
)
def test_the_command_tells_what_is_wrong_with_its_arguments(hub, tree, capsys, repo_id, options, message):
    place = [] if options == ["/nowhere"] else [tree]
    assert call(main, repo_id, *place, *options) == 2
    assert message in capsys.readouterr().err and not hub.repos


@pytest.mark.slow
def test_the_card_s_code_joins_the_index_to_the_scans_in_a_fresh_process(hub, tmp_path):
    environment = os.environ | client_environment(hub.url, WRITE, tmp_path / "fresh")
    environment["HF_DATASETS_CACHE"] = str(tmp_path / "datasets")

    def run(*command: str) -> str:
        done = programs.run(*command, cwd=tmp_path, env=environment)
        assert done.returncode == 0, done.stderr
        return done.stdout

    write_cohort(tmp_path / "phantom", 8, valid_scans=4, workers=1)
    address = run("-m", "ct_rate_pairs.hub.negative_index", "alice/pairs", "phantom", "--splits", "train", "test")
    assert address == f"{hub.url}/datasets/alice/pairs\n"
    card = hub.repo("alice/pairs", "datasets").files()["README.md"].decode()
    assert "license: apache-2.0" in card
    code = re.search(r"```python\n(.*?)```", card, re.DOTALL)[1]
    table = negative_index(CTRatePairsConfig(data_dir=str(tmp_path / "phantom"), negative="heter"))["train"]
    expected = f"{table['volume'][0]} has the negative {table['partner'][0]}\n"
    assert run("-c", code) == expected
