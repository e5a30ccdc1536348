"""`ct-rate-pairs plan`: what it prints is what it writes, and options without effect are refused."""

import json

import pytest

from ct_rate_pairs.recipes.plan import main


SMALL = ["--model", "3B", "--num_slices", "2", "--side", "56", "--report_tokens", "8", "--gpus", "8", "1", "2", "64"]


@pytest.fixture(scope="module")
def plan(tmp_path_factory) -> dict:
    path = tmp_path_factory.mktemp("plan") / "new" / "plan.json"
    main([*SMALL, "--negative", "none", "heter", "mutual", "--store", "fixed", "prepared", "--output_file", str(path)])
    return json.loads(path.read_text())


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


def test_sharded_pairs_are_joint_and_a_model_that_does_not_fit_is_told(plan):
    assert [(one["shards"], one["joint"]) for one in plan["memory"]] == [(1, False), (2, True), (8, True), (64, True)]
    assert [one["fits"] for one in plan["memory"]] == [one["total"] <= 80e9 for one in plan["memory"]]


def test_what_was_measured_is_told_apart(plan, capsys):
    main([*SMALL, "--negative", "none", "--store", "hub", "--mfu", "0.35"])
    told = capsys.readouterr().out
    assert f"Measured: processor seconds, and bytes of a prepared row ({plan['measured']['command']}" in told
    assert "nothing was measured on a GPU" in told and "GPU s at 35%" in told and "stock" in told
    assert "are those of slices of 480 pixels, not 56" in told


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
