"""`ct-rate-pairs plan`: what it prints is what it writes, and options without effect are refused."""

import io
import json
import re
from contextlib import redirect_stdout

import pytest
from helpers.paths import ROOT

from ct_rate_pairs.recipes.plan import main


SMALL = ["--model", "3B", "--num_slices", "2", "--side", "56", "--report_tokens", "8", "--gpus", "8", "1", "2", "64"]


@pytest.fixture(scope="module")
def plan(tmp_path_factory) -> dict:
    path = tmp_path_factory.mktemp("plan") / "new" / "plan.json"
    main([*SMALL, "--negative", "none", "heter", "mutual", "--store", "fixed", "prepared", "--output_file", str(path)])
    return json.loads(path.read_text())


@pytest.fixture(scope="module")
def sharded(tmp_path_factory) -> tuple[str, dict]:
    """What is printed and written of a model that fits on no GPU whole, because a GPU takes many rows at once."""
    path = tmp_path_factory.mktemp("plan") / "plan.json"
    words = ["--negative", "none", "heter", "mutual", "--store", "prepared", "--per_device_train_batch_size", "700"]
    with redirect_stdout(io.StringIO()) as told:
        main([*SMALL, *words, "--output_file", str(path)])
    return told.getvalue(), json.loads(path.read_text())


def hours(plan: dict, **of) -> list[float]:
    return [one["hours"] for one in plan["epochs"] if of.items() <= one.items()]


@pytest.mark.slow
def test_an_epoch_by_hand(plan):
    stock = plan["operations"][0]
    seconds = stock["needed"] / (0.3 * 989e12)
    assert stock["way"] == "stock" and stock["gpu_seconds"]["0.3"] == pytest.approx(seconds)
    one = next(one for one in plan["epochs"] if one["store"] == "prepared" and one["mfu"] == 0.3)
    cost = next(one for one in plan["feeding"] if one["way"] == "stock" and one["store"] == "prepared")
    assert one["gpus"] == 1 and cost["cores_per_gpu"]["0.3"] == pytest.approx(cost["processor_seconds"] / seconds)
    waits = cost["bytes"] / 1e9
    assert one["rows_per_second"]["workers"] == pytest.approx(8 / (cost["processor_seconds"] + waits))
    assert one["hours"] == pytest.approx(24128 / min(one["rows_per_second"].values()) / 3600)


def test_more_gpus_never_take_more_hours(plan):
    for mfu in (0.3, 0.4):
        for way in ("stock", "heter", "mutual"):
            for store in ("fixed", "prepared"):
                told = hours(plan, way=way, store=store, mfu=mfu)
                assert len(told) == 4 and told == sorted(told, reverse=True)


def test_a_negative_never_takes_less_and_a_prepared_copy_never_more(plan):
    for mfu in (0.3, 0.4):
        for store in ("fixed", "prepared"):
            stock, mutual, heter = (hours(plan, way=way, store=store, mfu=mfu) for way in ("stock", "mutual", "heter"))
            assert stock <= mutual <= heter
        assert hours(plan, store="prepared", mfu=mfu) <= hours(plan, store="fixed", mfu=mfu)
    assert hours(plan, mfu=0.4) <= hours(plan, mfu=0.3)


def test_memory_is_told_by_way_and_sharded_pairs_are_joint(plan):
    memory = {(one["way"], one["shards"]): one for one in plan["memory"]}
    assert list(memory) == [(way, shards) for way in ("stock", "heter", "mutual") for shards in (1, 2, 8, 64)]
    assert all(one["joint"] == (way != "stock" and shards > 1) for (way, shards), one in memory.items())
    assert all(one["fits"] == (one["total"] <= 80e9) for one in memory.values())
    volume = memory["stock", 1]["activations"]
    for way, rows in (("stock", 1), ("heter", 1), ("mutual", 2)):  # a batch of one volume has no partner
        assert memory[way, 1]["rows"] == rows and memory[way, 1]["activations"] == rows * volume
        assert memory[way, 8]["activations"] == rows * volume * (1 if way == "stock" else 2)


def test_a_model_that_fits_whole_is_not_sharded(plan):
    assert all(one["shards"] == 1 and one["fits"] for one in plan["epochs"])
    assert [one["way"] for one in plan["operations"]] == ["stock", "heter", "mutual"]


def test_mutual_costs_what_heter_costs_where_the_model_is_sharded(sharded):
    _, plan = sharded
    needed = {one["way"]: one["needed"] for one in plan["operations"]}
    assert needed["mutual"] < needed["mutual, sharded"] == needed["heter"]
    computed = {(one["way"], one["gpus"]): one["rows_per_second"]["gpu"] for one in plan["epochs"]}
    assert computed["mutual", 1] > computed["heter", 1]
    assert all(computed["mutual", gpus] == computed["heter", gpus] for gpus in (2, 8, 64))


def test_hours_on_gpus_that_shard_the_model_or_cannot_hold_it_are_marked(sharded):
    told, plan = sharded
    assert [(one["gpus"], one["shards"], one["fits"]) for one in plan["epochs"][:4]] == [
        (1, 1, False), (2, 2, True), (8, 8, True), (64, 64, True),
    ]  # fmt: skip
    assert "\n!: does not fit" in told and "\ns: sharded" in told
    assert len(re.findall(r"^mutual  prepared +[\d.]+ \w+ !( +[\d.]+ \w+ s){3}$", told, re.MULTILINE)) == 2


def test_what_was_measured_is_told_apart(plan, capsys):
    main([*SMALL, "--negative", "none", "--store", "hub", "--mfu", "0.35"])
    told = capsys.readouterr().out
    assert f"Measured: processor seconds, and bytes of a prepared row ({plan['measured']['command']}" in told
    assert "nothing was measured on a GPU" in told and "GPU s at 35%" in told and "stock" in told
    assert "are those of slices of 480 pixels, not 56" in told


@pytest.mark.slow
def test_the_document_shows_the_tables_as_they_are_printed(capsys):
    main([])
    told = capsys.readouterr().out
    blocks = (ROOT / "docs" / "scale.md").read_text().split("```")[1::2]
    tables = [block for block in blocks if block.startswith(("\nway", "\nHours", "\nwhat"))]
    assert len(tables) == 4 and all(block in told for block in tables)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--negative", "none", "--negative_share", "0.5"], "--negative_share has no effect here: no way of training"),
        (["--store", "prepared", "--volume_mb", "90"], "--volume_mb has no effect here: a prepared copy"),
        (["--store", "prepared", "--stored", "int16"], "--stored has no effect here"),
        (["--stored", "int8"], "--stored int8: measured were int16, float64"),
        (["--mfu", "30"], "--mfu 30.0: choose above 0, and at most 1"),
        (["--negative_share", "0"], "--negative_share 0.0: choose above 0"),
        (["--gpus", "0"], "--gpus 0: choose 1 or more"),
        (["--workers", "0"], "--workers 0: choose 1 or more"),
        (["--store_gb_s", "0"], "--store_gb_s 0.0: choose above 0"),
        (["--unit_costs", "none.json"], "none.json"),
    ],
)
def test_a_value_that_cannot_be_is_refused_by_its_option(words, told):
    with pytest.raises((ValueError, OSError), match=told):
        main(words)
