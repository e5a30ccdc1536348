"""A row's cost is composed of what was measured; a file of costs that is none is refused."""

import json

import pytest

from ct_rate_pairs.json_files import JSONFileError
from ct_rate_pairs.json_schemas.unit_costs import UnitCosts
from ct_rate_pairs.trainer.plan.unit_costs import NEGATIVES, SHIPPED, STORES, read_unit_costs, row_cost


COSTS = {
    "command": "python benchmarks/bench_unit_costs.py", "date": "2026-01-01", "machine": "of this test",
    "volumes": {"int16": {"bytes": 90, "voxels": 80, "fixed": 0.5, "hub": 0.75}},
    "prepared": {"bytes": 1e6, "read": 0.25},
    "rows": {"none": 0.25, "gauss": 0.375, "heter": 0.5}, "collate": {"volume": 1.0, "pair": 2.0},
    "side": 480,
}  # fmt: skip


def cost(store, negative):
    return row_cost(UnitCosts.model_validate(COSTS), store, negative, "int16", 209e6)


def test_a_row_by_hand():
    assert cost("prepared", "none") == (1.25, 1e6)
    assert cost("prepared", "heter") == (2.5, 2e6)
    assert cost("prepared", "gauss") == (2.375, 1e6)  # drawn and collated, but not read
    assert cost("fixed", "none") == (1.5, 209e6)  # 0.25 s more than from the copy
    assert cost("fixed", "heter") == (3.0, 418e6)
    assert cost("hub", "heter") == (3.5, 418e6)


@pytest.mark.parametrize("store", ["fixed", "hub", "prepared"])
def test_mutual_negatives_cost_no_more_than_none(store):
    assert cost(store, "mutual") == cost(store, "none")
    assert cost(store, "heter").seconds > cost(store, "gauss").seconds > cost(store, "none").seconds


def test_a_store_that_was_not_measured_is_refused_with_the_remedy():
    with pytest.raises(ValueError, match="no store 'original'.*--unit_costs"):
        cost("original", "none")


def test_the_costs_that_come_with_the_package_have_each_store_and_say_where_they_are_from():
    costs = read_unit_costs()
    assert "benchmarks/bench_unit_costs.py" in costs.command and costs.date and costs.machine
    for stored in ("int16", "float64"):
        assert costs.volumes[stored].voxels == 512 * 512 * 300
        for store in STORES:
            for negative in NEGATIVES:
                assert all(value > 0 for value in row_cost(costs, store, negative, stored, 209e6))
    assert SHIPPED.parent.name == "plan"


@pytest.mark.parametrize(("change", "told"), [({"rows": {}}, "rows"), ({"side": 0}, "side"), ({"more": 1}, "more")])
def test_a_file_that_is_none_is_refused_by_name_and_field(change, told, tmp_path):
    path = tmp_path / "costs.json"
    path.write_text(json.dumps(COSTS | change))
    with pytest.raises(JSONFileError, match=rf"costs\.json.*{told}"):
        read_unit_costs(path)
