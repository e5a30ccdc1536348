"""The training rows of several tasks as one stream."""

from collections import Counter

import pytest
from helpers.tree import SPACING, write_tree

from ct_rate_pairs.trainer.task_mixture import mix_tasks


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    return write_tree(tmp_path_factory.mktemp("tasks"), scans=8)


def kind_of(row) -> str:
    return "vqa" if row.get("question_type") else "matching" if row.get("options") else "report"


@pytest.mark.slow
def test_a_mixture_has_the_tasks_by_weight_for_as_long_as_it_is_asked_for(tree):
    options = {"data_dir": str(tree), "spacing": SPACING, "validation_size": 0.0, "negative": "gauss", "seed": 3}
    weights, num_rows = {"report": 0.5, "vqa": 0.3, "matching": 0.2}, {"report": 8, "vqa": 32, "matching": 8}
    rows = [
        (kind_of(row), row["volume"], row["prompt"][0]["content"], row["negative_images"][0].tobytes())
        for row in mix_tasks(weights, num_rows, 100, **options).take(100)
    ]
    kinds = Counter(kind for kind, *_ in rows)
    assert len(rows) == 100 and all(abs(kinds[task] - 100 * weights[task]) < 15 for task in weights)
    again = [row["prompt"][0]["content"] for row in mix_tasks(weights, num_rows, 100, **options).take(10)]
    assert again == [prompt for _, _, prompt, _ in rows[:10]]
    # Every epoch of a task has each volume once, and noise of its own.
    reports = [row for row in rows if row[0] == "report"][:16]
    for epoch in (reports[:8], reports[8:]):
        assert len({volume for _, volume, _, _ in epoch}) == 8
    assert len({noise for *_, noise in reports}) == 16


@pytest.mark.slow
def test_one_task_is_its_own_stream(tree):
    options = {"data_dir": str(tree), "spacing": SPACING, "validation_size": 0.0, "negative": "none", "seed": 0}
    kinds = {kind_of(row) for row in mix_tasks({"vqa": 1.0}, {"vqa": 32}, 40, **options)}
    assert kinds == {"vqa"}
