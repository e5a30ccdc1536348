"""Columns that are read when a row is looked at: they outlive every call of `datasets`, and stay new each epoch."""

import pickle
import subprocess
import sys

import nibabel as nib
import numpy as np
import pyarrow as pa
import pytest
from datasets import (
    Dataset,
    Features,
    List,
    Value,
    concatenate_datasets,
    interleave_datasets,
    load_dataset,
    load_from_disk,
)
from helpers.tree import SPACING, write_tree
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from torch.utils.data import DataLoader

from ct_rate_pairs.config import NEGATIVES, CTRatePairsConfig
from ct_rate_pairs.pair_column import PairColumn, tell_stored
from ct_rate_pairs.readers import has_reader, reader_of, with_data_dir


READ = ("images", "negative_images", "negative_volume", "label_distance", "slice_mm")


def load(tree, negative="heter", split="train", **options):
    options = {"spacing": SPACING, "num_slices": 3, "min_label_distance": 7, "validation_size": 0.3, **options}
    return load_dataset("ct_rate_pairs", data_dir=str(tree), negative=negative, split=split, **options)


def pixels(images) -> bytes:
    return b"".join(np.asarray(image).tobytes() for image in images)


def comparable(row: dict) -> dict:
    """A row whose images are compared by their pixels."""
    return {name: pixels(value) if "images" in name else value for name, value in row.items()}


def agrees(row: dict, epoch: int, reader) -> None:
    """Checks a row against the row that the reader makes for the epoch."""
    expected = comparable(reader.read(row["volume"], epoch if reader.where(row["volume"])[0] == "train" else 0))
    assert {name: comparable(row)[name] for name in READ} == {name: expected[name] for name in READ}


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


def test_files_that_datasets_writes_hold_places_and_no_pixels(tree, tmp_path):
    rows = load(tree)
    rows.save_to_disk(tmp_path / "saved")
    rows.to_parquet(tmp_path / "rows.parquet")
    assert sum(file.stat().st_size for file in tmp_path.rglob("*") if file.is_file()) < 100_000
    parquet = load_dataset("parquet", data_files=str(tmp_path / "rows.parquet"), split="train", cache_dir=tmp_path)
    for again in (load_from_disk(tmp_path / "saved"), parquet):
        reader_of(again).set_epoch(1)
        for row in again:
            agrees(row, 1, reader_of(rows))
        reader_of(again).set_epoch(0)


@pytest.mark.slow
def test_another_process_reads_a_saved_dataset(tree, tmp_path):
    rows = load(tree, "gauss")
    rows.save_to_disk(tmp_path)
    code = (
        "import sys, ct_rate_pairs, datasets; row = datasets.load_from_disk(sys.argv[1])[2]; "
        "print(row['volume'], [sum(image.tobytes()) for image in row['negative_images']])"
    )
    run = subprocess.run([sys.executable, "-c", code, tmp_path], capture_output=True, text=True, check=True)
    row = rows[2]
    assert run.stdout.strip() == f"{row['volume']} {[sum(image.tobytes()) for image in row['negative_images']]}"


@pytest.mark.slow
def test_a_saved_dataset_whose_scans_have_changed_says_so(tmp_path, caplog):
    tree = write_tree(tmp_path / "tree")
    load(tree, "none").save_to_disk(tmp_path / "saved")
    write_tree(tree, scans=13)
    assert load_from_disk(tmp_path / "saved")[0]["images"]
    code = "import sys, ct_rate_pairs, datasets; datasets.load_from_disk(sys.argv[1])[0]['images']"
    run = subprocess.run([sys.executable, "-c", code, tmp_path / "saved"], capture_output=True, text=True, check=True)
    assert f"{tree} has changed" in run.stderr and "load_dataset" in run.stderr


def test_a_saved_dataset_follows_its_scans_to_another_folder(tmp_path):
    tree = write_tree(tmp_path / "tree")
    rows = load(tree).filter(lambda volume: volume > "train_2", input_columns=["volume"])
    rows.save_to_disk(tmp_path / "saved")
    reference = [comparable(row) for row in rows]
    tree.rename(tmp_path / "moved")
    saved = load_from_disk(tmp_path / "saved")
    there = with_data_dir(saved, tmp_path / "moved")
    assert [comparable(row) for row in there] == reference
    assert reader_of(there).config.data_dir == str(tmp_path / "moved")
    there.save_to_disk(tmp_path / "again")
    assert [comparable(row) for row in load_from_disk(tmp_path / "again")] == reference
    assert list(concatenate_datasets([there, load(tmp_path / "moved").select([0])])["volume"])


def test_a_saved_dataset_whose_scans_are_not_there_names_the_remedy(tmp_path, monkeypatch):
    tree = write_tree(tmp_path / "tree")
    load(tree, "none").save_to_disk(tmp_path / "saved")
    tree.rename(tmp_path / "moved")
    monkeypatch.setattr("ct_rate_pairs.rows._readers", {})  # as in a new process
    with pytest.raises(
        FileNotFoundError, match=rf"no folder {tree}\. .*moved: .*with_data_dir\(dataset, NEW_FOLDER\)"
    ):
        load_from_disk(tmp_path / "saved")[0]


@pytest.mark.parametrize(("scans", "told"), [(12, "has other labels for train_"), (1, "has nothing for train_")])
def test_the_scans_of_another_cohort_are_not_those_of_a_saved_dataset(tree, tmp_path, scans, told):
    other = write_tree(tmp_path / "other", scans=scans, seed=1 if scans == 12 else 0)
    with pytest.raises(ValueError, match=told):
        with_data_dir(load(tree, "none").select([0] if scans == 12 else [4]), other)


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


def test_what_describes_stored_slices_is_stored_with_them(tree, caplog):
    tell_stored.cache_clear()
    for options in ({"negative": "heter"}, {"negative": "none", "slices": "jitter"}):
        rows = load(tree, **options)
        first = [comparable(row) for row in rows]
        small = rows.map(lambda row: {k: [i.resize((6, 6)) for i in row[k]] for k in ("images", "negative_images")})
        reader_of(rows).set_epoch(1)
        for row, own in zip(small, first, strict=True):
            described = ("negative_volume", "label_distance", "slice_mm")
            assert [row[name] for name in described] == [own[name] for name in described]
        assert any(comparable(row) != own for row, own in zip(rows, first, strict=True))
        reader_of(rows).set_epoch(0)
    assert "'images'" in caplog.text and "with_transform" in caplog.text


@pytest.mark.slow
def test_slices_that_come_from_elsewhere_are_stored(tree):
    rows, other = load(tree), load(tree, window=(-100, 100))
    swapped = rows.map(lambda row: {"images": row["negative_images"], "negative_images": row["images"]})
    in_batch = rows.map(lambda rows: {"negative_images": rows["images"][1:] + rows["images"][:1]}, batched=True)
    windowed = rows.map(lambda row, i: {"images": other[i]["images"]}, with_indices=True)
    split = rows.map(lambda row: {"images": load(tree, split="test")[0]["images"]})
    for i, row in enumerate(rows):
        assert pixels(swapped[i]["images"]) == pixels(row["negative_images"])
        assert pixels(swapped[i]["negative_images"]) == pixels(row["images"])
        assert pixels(in_batch[i]["negative_images"]) == pixels(rows[(i + 1) % len(rows)]["images"])
        assert pixels(windowed[i]["images"]) == pixels(other[i]["images"])
        assert pixels(split[i]["images"]) == pixels(load(tree, split="test")[0]["images"])


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


def test_a_repaired_volume_is_another_source(tmp_path):
    tree = write_tree(tmp_path)
    count = {"function": lambda row: {"seen": pixels(row["images"]).hex()}}
    before = load(tree, "none").map(**count)
    path = next(tree.glob(f"dataset/*/*/*/{before[0]['volume']}"))
    volume = nib.load(path)
    nib.save(nib.Nifti1Image(np.flip(np.asarray(volume.dataobj), 0), volume.affine), path)
    after = load(tree, "none").map(**count)
    assert before[0]["seen"] != after[0]["seen"] and before[1]["seen"] == after[1]["seen"]


def test_a_message_that_is_changed_in_place_is_kept(tree):
    def shorten(row):
        row["prompt"][0]["content"] += " Be brief."
        return row

    rows = load(tree, "none", task="vqa").map(shorten)
    assert all(row["prompt"][0]["content"].endswith(" Be brief.") for row in rows)


def test_a_saved_value_of_a_reader_needs_no_volume(tmp_path):
    tree = write_tree(tmp_path / "tree")
    rows = load(tree, "none").map(lambda row: {"images": [Image.new("L", (4, 4), 7)]})
    rows.to_parquet(tmp_path / "rows.parquet")
    again = load_dataset("parquet", data_files=str(tmp_path / "rows.parquet"), split="train", cache_dir=tmp_path)
    assert pixels(again[0]["images"]) == bytes([7] * 16)


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
        *READ, "prompt", "completion", "question_type", "answer_type", "label"
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


@pytest.mark.parametrize("negative", NEGATIVES)
def test_a_configuration_is_named_after_its_negative(tree, negative):
    options = {"data_dir": str(tree), "spacing": SPACING, "num_slices": 3, "split": "test", "max_label_distance": 9}
    named = load_dataset("ct_rate_pairs", negative, **options)
    assert named.config_name == negative
    given_ = load_dataset("ct_rate_pairs", negative=negative, **options)
    assert [comparable(row) for row in named] == [comparable(row) for row in given_]
    streamed = load_dataset("ct_rate_pairs", negative, streaming=True, **options)
    assert [comparable(row) for row in streamed] == [comparable(row) for row in named]


def test_what_has_no_effect_is_refused(tree):
    load = {"path": "ct_rate_pairs", "data_dir": str(tree)}
    for options, message in (
        ({"name": "default"}, "none.*gauss.*heter.*hard"),
        ({"name": "gauss", "negative": "heter"}, "'gauss' contradicts negative='heter'"),
        ({"data_files": "x.csv"}, "data_files has no effect"),
        ({"revision": "v2"}, "revision='v2' has no effect"),
        ({"features": Features({"volume": Value("string")})}, "features= cannot change"),
        ({"name": "gauss", "num_slices": 1}, "at least two"),
        ({"nmu_slices": 3}, "nmu_slices"),
    ):
        with pytest.raises((ValueError, TypeError), match=message):
            load_dataset(**load, **options)


def test_the_dataset_describes_itself(tree):
    for streaming in (False, True):
        info = load(tree, streaming=streaming).info
        assert "slices" in info.description and "2403.17834" in info.citation and "CT-RATE" in info.homepage
        assert info.license == "cc-by-nc-sa-4.0" and isinstance(info.features, Features)
    assert load(tree, streaming=True).features["slice_mm"] == List(Value("float32"))


OF_PLACES = {
    "as it is": lambda stream: stream,
    "map": lambda stream: stream.map(lambda row: {"n": len(row["images"])}),
    "map, remove": lambda stream: stream.map(lambda row: {"n": 1}, remove_columns=["labels"]),
    "filter, map, shuffle": lambda stream: stream.filter(lambda row: True).map(lambda row: row).shuffle(seed=1),
    "map, skip, take": lambda stream: stream.map(lambda row: {"n": 1}).skip(1).take(4),
    "map, shard": lambda stream: stream.map(lambda row: {"n": 1}).shard(2, 0),
}


@pytest.mark.parametrize("calls", OF_PLACES.values(), ids=OF_PLACES)
def test_a_stream_made_of_a_dataset_takes_the_epoch_of_its_reader(tree, calls):
    rows = load(tree, "gauss")
    stream = calls(rows.to_iterable_dataset(num_shards=2))
    assert has_reader(stream) and reader_of(stream) is reader_of(rows)
    epochs = []
    for epoch in (1, 0):
        reader_of(stream).set_epoch(epoch)  # as the callback of the trainer does
        epochs.append({row["volume"]: pixels(row["negative_images"]) for row in stream})
    assert epochs[0].keys() == epochs[1].keys() and len(epochs[0]) > 2
    assert all(epochs[0][name] != epochs[1][name] for name in epochs[0])


STREAM_CALLS = {
    "concatenate": lambda stream, other: concatenate_datasets([stream, other]),
    "interleave": lambda stream, other: interleave_datasets(
        [stream, other], stopping_strategy="all_exhausted_without_replacement"
    ),
    "map": lambda stream, other: stream.map(
        lambda row: {"n": len(row["images"])}, features=Features({**stream.features, "n": Value("int64")})
    ),
    "filter": lambda stream, other: stream.filter(lambda row: sum(row["labels"]) >= 0),
    "skip": lambda stream, other: stream.skip(1),
    "take": lambda stream, other: stream.take(5),
    "shard": lambda stream, other: stream.shard(2, 0),
    "shuffle": lambda stream, other: stream.shuffle(seed=4, buffer_size=2),
    "remove_columns": lambda stream, other: stream.remove_columns(["sex"]),
    "repeat": lambda stream, other: stream.repeat(1),
}  # fmt: skip


def negatives_of(stream, epoch, **loading) -> dict[str, bytes]:
    """Volume -> pixels of its negative in an epoch."""
    stream.set_epoch(epoch)
    rows = DataLoader(stream, batch_size=None, **loading) if loading else stream
    seen = [(row["volume"], pixels(row["negative_images"])) for row in rows]
    assert len(seen) == len(dict(seen))
    return dict(seen)


def compose(tree, calls):
    stream = load(tree, "gauss", streaming=True)
    other = load(tree, "gauss", "validation", streaming=True)
    for call in calls:
        stream = STREAM_CALLS[call](stream, other)
        if call in ("concatenate", "interleave"):  # the other part is used once, so that no volume comes twice
            other = load(tree, "gauss", "test", streaming=True)
    return stream


def check_renewal(stream):
    epochs = [negatives_of(stream, epoch) for epoch in range(3)]
    assert epochs[0] and negatives_of(stream, 1) == epochs[1]
    for one, two in ((0, 1), (0, 2), (1, 2)):
        shared = epochs[one].keys() & epochs[two].keys()
        assert shared and all(epochs[one][name] != epochs[two][name] for name in shared)
    return epochs


COMPOSITIONS = st.lists(st.sampled_from(list(STREAM_CALLS)), max_size=3).filter(
    lambda calls: sum(call in ("concatenate", "interleave") for call in calls) < 3 and calls.count("shard") < 2
)


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(calls=COMPOSITIONS)
@pytest.mark.slow
def test_a_stream_renews_its_negatives_in_any_composition(tree, calls):
    check_renewal(compose(tree, calls))


@pytest.mark.slow
@pytest.mark.parametrize("calls", [(), ("concatenate",), ("interleave", "map"), ("skip",), ("take", "filter")])
def test_workers_read_the_negatives_of_the_epoch(tree, calls):
    stream = compose(tree, calls)
    for epoch in range(3):
        alone = negatives_of(stream, epoch)
        shared = negatives_of(stream, epoch, num_workers=2)
        assert shared.keys() & alone.keys()
        assert all(shared[name] == alone[name] for name in shared.keys() & alone.keys())


@pytest.mark.slow
def test_spawned_workers_read_the_negatives_of_the_epoch(tree):
    stream = compose(tree, ("concatenate", "skip"))
    for epoch in (0, 1):
        alone = negatives_of(stream, epoch)
        shared = negatives_of(stream, epoch, num_workers=2, multiprocessing_context="spawn", collate_fn=lambda_free)
        assert shared.keys() & alone.keys()
        assert all(shared[name] == alone[name] for name in shared.keys() & alone.keys())


def lambda_free(row):
    """A row as it is; a lambda cannot be pickled for a spawned worker."""
    return row
