"""Columns that are read when a row is looked at: they outlive every call of `datasets`, and stay new each epoch."""

import pickle

import numpy as np
import pyarrow as pa
import pytest
from datasets import Dataset, Features, Value, concatenate_datasets, interleave_datasets
from helpers.few_slices import READ, agrees, comparable, load, pixels
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch.utils.data import DataLoader

from ct_rate_pairs.config import CTRatePairsConfig
from ct_rate_pairs.pair_column import PairColumn
from ct_rate_pairs.readers import has_reader, reader_of


CALLS = {
    "select": lambda rows: rows.select(range(1, len(rows), 2)),
    "shuffle": lambda rows: rows.shuffle(seed=1),
    "shard": lambda rows: rows.shard(2, 1),
    "sort": lambda rows: rows.sort("volume", reverse=True),
    "filter by label": lambda rows: rows.filter(lambda row: sum(row["labels"]) >= 0),
    "filter by what is read": lambda rows: rows.filter(lambda row: row["label_distance"] >= 1 and row["images"]),
    "map": lambda rows: rows.map(lambda row: {"n": len(row["volume"])}),
    "map of what is read": lambda rows: rows.map(lambda row: {"d": row["label_distance"], "n": len(row["images"])}),
    "map in batches": lambda rows: rows.map(lambda rows: {"n": [len(i) for i in rows["images"]]}, batched=True),
    "map of two processes": lambda rows: rows.map(lambda row: {"n": len(row["images"])}, num_proc=2),
    "map that gives the row back": lambda rows: rows.map(dict),
    "add_column": lambda rows: rows.add_column("weight", list(range(len(rows)))),
    "remove_columns": lambda rows: rows.remove_columns(["labels", "prompt"]),
    "flatten_indices": lambda rows: rows.shuffle(seed=2).flatten_indices(),
    "flatten": lambda rows: rows.flatten(),
    "train_test_split": lambda rows: rows.train_test_split(0.5, seed=0)["train"],
    "concatenate": lambda rows: concatenate_datasets([rows.select([0, 2]), rows.select([1])]),
    "interleave": lambda rows: interleave_datasets([rows.select([0, 2]), rows.select([1])]),
    "cast": lambda rows: rows.cast(rows.features),
    "cast_column": lambda rows: rows.cast_column("age", Value("int64")),
    "with_format": lambda rows: rows.with_format("numpy").with_format(None),
    "reset_format": lambda rows: rows.with_format("torch").with_format(),
    "repeat": lambda rows: rows.repeat(2),
    "pickle": lambda rows: pickle.loads(pickle.dumps(rows)),
}


@pytest.mark.slow_but_first
@pytest.mark.parametrize("call", CALLS)
def test_a_call_of_datasets_keeps_the_slices_and_their_epochs(tree, call):
    rows = CALLS[call](load(tree))
    assert len(rows) and set(READ) <= set(rows.column_names) == set(rows.features)
    reader = reader_of(rows)
    for epoch in (1, 0):
        reader.set_epoch(epoch)
        for row in rows:
            agrees(row, epoch, reader)


@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(calls=st.lists(st.sampled_from([call for call in CALLS if call != "map of two processes"]), max_size=4))
@pytest.mark.slow
def test_so_does_any_composition_of_calls(tree, calls):
    rows = load(tree)
    for call in calls:
        if len(rows) < 3 or (call == "remove_columns" and "labels" not in rows.column_names):
            continue
        if call == "filter by label" and "labels" not in rows.column_names:
            continue
        if call == "add_column" and "weight" in rows.column_names:
            continue
        rows = CALLS[call](rows)
    reader = reader_of(rows)
    for epoch in (2, 0):
        reader.set_epoch(epoch)
        for row in rows:
            agrees(row, epoch, reader)


def test_each_way_to_look_at_a_row_gives_the_same(tree):
    rows = load(tree)
    expected = [comparable(row) for row in rows]
    assert [comparable({"images": images})["images"] for images in rows["images"]] == [r["images"] for r in expected]
    assert list(rows["negative_volume"]) == [row["negative_volume"] for row in expected]
    batch = rows[:3]
    assert [pixels(images) for images in batch["negative_images"]] == [row["negative_images"] for row in expected[:3]]
    assert [pixels(row["images"]) for row in rows.select_columns(["images"])] == [row["images"] for row in expected]
    assert [comparable(row) for row in rows.__getitems__([2, 0])] == [expected[2], expected[0]]
    (first, *_), *_ = (batch["images"] for batch in rows.iter(batch_size=2))
    assert pixels(first) == expected[0]["images"]
    renamed = rows.rename_column("images", "slices")
    assert pixels(renamed[1]["slices"]) == expected[1]["images"]
    stream = rows.to_iterable_dataset(num_shards=2)
    assert [comparable(row) for row in stream] == expected
    shuffled = {row["volume"]: comparable(row) for row in stream.shuffle(seed=0)}
    assert shuffled == {row["volume"]: row for row in expected}
    transformed = rows.with_transform(lambda batch: {"sizes": [images[0].size for images in batch["images"]]})
    assert transformed[0]["sizes"] == rows[0]["images"][0].size


@pytest.mark.parametrize("kind", ["torch", "numpy"])
def test_a_tensor_format_stacks_the_slices(tree, kind):
    rows = load(tree)
    row = rows.with_format(kind)[0]
    stacked = np.stack([np.asarray(image) for image in rows[0]["images"]])
    np.testing.assert_array_equal(np.asarray(row["images"]).reshape(stacked.shape), stacked)
    assert row["negative_images"].shape == row["images"].shape and row["negative_volume"] == rows[0]["negative_volume"]


@pytest.mark.slow_but_first
@pytest.mark.parametrize("workers", [0, 2])
def test_an_epoch_reaches_rows_of_a_composition_in_workers(tree, workers):
    rows = concatenate_datasets([load(tree).select([0, 1]), load(tree).select([2, 3])]).map(lambda row: {"n": 1})
    loader = DataLoader(rows, batch_size=2, num_workers=workers, persistent_workers=workers > 0, collate_fn=list)
    seen = []
    for epoch in (0, 1, 0):
        reader_of(rows).set_epoch(epoch)
        seen.append([(row["volume"], row["negative_volume"]) for batch in loader for row in batch])
        for batch in loader:
            for row in batch:
                agrees(row, epoch, reader_of(rows))
    assert seen[0] == seen[2] != seen[1]


@pytest.mark.slow
def test_an_epoch_reaches_spawned_workers(tree):
    rows = load(tree, "gauss").map(lambda row: {"n": len(row["images"])})
    loader = DataLoader(rows, batch_size=None, num_workers=1, persistent_workers=True, multiprocessing_context="spawn")
    for epoch in (0, 1, 2):
        reader_of(rows).set_epoch(epoch)
        for row in loader:
            agrees(row, epoch, reader_of(rows))
    reader_of(rows).set_epoch(0)


def test_values_of_a_reader_win_and_stay_beside_what_is_read(tree):
    rows = load(tree, "heter")
    half = rows.map(lambda row: {"images": [image.resize((8, 6)) for image in row["images"]]})
    assert half.features["images"] == rows.features["images"]
    assert {image.size for row in half for image in row["images"]} == {(8, 6)}
    assert pixels(half[1]["negative_images"]) == pixels(rows[1]["negative_images"])
    mine = rows.map(lambda row: {"negative_volume": "mine", "label_distance": 3})
    assert (mine[0]["negative_volume"], mine[0]["label_distance"]) == ("mine", 3)
    assert pixels(mine[0]["negative_images"]) == pixels(rows[0]["negative_images"])


@pytest.mark.slow
def test_rows_in_a_new_dataset_are_all_of_one_epoch(tree):
    rows = load(tree)
    expected = [comparable(row) for row in rows]
    copies = [
        Dataset.from_list(list(rows), features=rows.features),
        Dataset.from_dict(rows[:], features=rows.features),
        Dataset.from_generator(lambda: iter(rows), features=rows.features),
    ]
    for epoch in (0, 1):
        reader_of(rows).set_epoch(epoch)
        for copy in copies:
            assert [comparable(row) for row in copy] == expected
    reader_of(rows).set_epoch(0)


def test_what_is_drawn_cannot_be_sorted_by_its_place(tree):
    with pytest.raises(pa.ArrowTypeError, match="Unsupported type"):
        load(tree).sort("label_distance")


def test_a_message_that_is_changed_in_place_is_kept(tree):
    def shorten(row):
        row["prompt"][0]["content"] += " Be brief."
        return row

    rows = load(tree, "none", task="vqa").map(shorten)
    assert all(row["prompt"][0]["content"].endswith(" Be brief.") for row in rows)


def test_no_volume_is_opened_for_names_labels_texts_and_partners(tree, monkeypatch):
    rows = load(tree)
    monkeypatch.setattr("ct_rate_pairs.sources.tree.read_volume", None)
    assert rows["volume"][:] and rows.select_columns(["labels", "completion"])[0]["labels"]
    assert rows.filter(lambda labels: labels[9] == 1, input_columns=["labels"], load_from_cache_file=False) is not None
    assert set(rows["negative_volume"]) <= set(rows["volume"]) and min(rows["label_distance"]) >= 1
    assert rows.to_pandas()["volume"][0] == rows["volume"][0]


def test_features_survive_json_and_arrow(tree):
    features = load(tree, "heter", task="vqa").features
    assert Features.from_dict(features.to_dict()) == features
    assert Features.from_arrow_schema(features.arrow_schema) == features
    assert {name for name, feature in features.items() if isinstance(feature, PairColumn)} == {
        *READ, "prompt", "completion", "question_type", "answer_type", "label", "proof"
    }  # fmt: skip


def test_parts_with_other_settings_are_not_mixed(tree):
    with pytest.raises(ValueError, match="can't be aligned"):
        concatenate_datasets([load(tree, "heter"), load(tree, "gauss")])


def test_a_dataset_of_another_kind_has_no_reader(tree):
    plain = Dataset.from_dict({"text": ["a"]})
    assert not has_reader(plain) and has_reader(load(tree))
    with pytest.raises(ValueError, match=r"\(text\).*ct_rate_pairs"):
        reader_of(plain)


def test_the_options_in_a_schema_are_those_of_the_dataset(tree):
    config = CTRatePairsConfig(data_dir=str(tree), window=((40, 400), (-600, 1500), (50, 350)), z_range=(0.1, 0.9))
    again = CTRatePairsConfig.from_json(config.to_json())
    assert again.to_json() == config.to_json() and again.task == "report"
