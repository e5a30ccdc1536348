"""The stream under workers, ranks, epochs and restarts: every row once, the same everywhere, nothing read twice."""

from collections import Counter

import numpy as np
import pytest
from datasets import load_dataset
from datasets.distributed import split_dataset_by_node
from helpers.tree import SPACING
from helpers.two_processes import run_as_two
from torch.utils.data import DataLoader

import ct_rate_pairs.sources.tree
from ct_rate_pairs.readers import reader_of


def stream(tree, negative="gauss", **options):
    options = {"split": "train", "spacing": SPACING, "validation_size": 0.1, **options}
    return load_dataset("ct_rate_pairs", data_dir=str(tree), negative=negative, streaming=True, **options)


def digest(row) -> tuple[str, str, bytes]:
    return row["volume"], row["negative_volume"], b"".join(image.tobytes() for image in row["negative_images"])


def epoch_of(dataset, epoch):
    dataset.set_epoch(epoch)
    return {digest(row) for row in dataset}


@pytest.fixture
def opened(monkeypatch):
    """Paths of the volumes that are opened, in order."""
    paths = []
    real = ct_rate_pairs.sources.tree.read_volume
    monkeypatch.setattr(
        ct_rate_pairs.sources.tree, "read_volume", lambda path, **given: paths.append(path.name) or real(path, **given)
    )
    return paths


def test_there_is_a_shard_a_volume(tree):
    assert stream(tree).num_shards == len(list(stream(tree)))


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1, 3])  # an epoch's generator may be the seed's
@pytest.mark.parametrize(("negative", "slices"), [("gauss", "uniform"), ("heter", "jitter")])
def test_negatives_are_new_each_epoch_and_the_same_for_any_number_of_workers(tree, negative, slices, seed):
    dataset = stream(tree, negative, slices=slices, min_label_distance=7).shuffle(seed=seed, buffer_size=1)
    epochs = [epoch_of(dataset, epoch) for epoch in range(4)]
    for i, first in enumerate(epochs):
        for second in epochs[:i]:
            assert {name for name, *_ in first} == {name for name, *_ in second} and not first & second
    second = epochs[1]
    assert epoch_of(dataset, 1) == second
    dataset.set_epoch(1)
    for workers in (1, 3):
        rows = [digest(row) for row in DataLoader(dataset, batch_size=None, num_workers=workers)]
        assert len(rows) == len(second) and set(rows) == second


@pytest.mark.slow
def test_spawned_workers_read_the_same_rows(tree):
    options = {"batch_size": None, "num_workers": 1, "multiprocessing_context": "spawn", "collate_fn": digest}
    dataset = stream(tree, "heter", min_label_distance=7).shuffle(seed=3, buffer_size=1)
    assert set(DataLoader(dataset, **options)) == {digest(row) for row in dataset}
    rows = load_dataset(
        "ct_rate_pairs", data_dir=str(tree), negative="gauss", spacing=SPACING, validation_size=0.1, split="train"
    )
    reader_of(rows).set_epoch(2)
    assert list(DataLoader(rows, **options)) == [digest(row) for row in rows]


@pytest.mark.slow_but_first
@pytest.mark.parametrize("ranks", [2, 3, 4])
@pytest.mark.parametrize("workers", [0, 2])
def test_ranks_share_the_rows_and_read_no_others(tree, ranks, workers, opened):
    dataset = stream(tree).shuffle(seed=3, buffer_size=1)
    whole = epoch_of(dataset, 1)
    opened.clear()
    seen = Counter()
    for rank in range(ranks):
        part = split_dataset_by_node(dataset, rank, ranks, strategy="shards")
        part.set_epoch(1)
        seen.update(digest(row) for row in DataLoader(part, batch_size=None, num_workers=workers))
    assert set(seen) == whole and set(seen.values()) == {1}
    if not workers:  # in this process, where opened volumes are counted
        assert len(opened) == len(whole)


def test_the_first_row_opens_two_volumes_at_most(tree, opened):
    next(iter(stream(tree, "heter", min_label_distance=1)))
    assert len(opened) == 2


@pytest.mark.slow_but_first
@pytest.mark.parametrize("interleaved", [1, 10])
@pytest.mark.parametrize("epoch", [0, 1])
@pytest.mark.parametrize("taken", [1, 4, 9])
def test_a_restart_goes_on_with_the_same_rows_and_opens_no_earlier_volume(tree, epoch, taken, interleaved, opened):
    shuffle = {"seed": 5, "buffer_size": 1, "max_buffer_input_shards": interleaved}
    dataset = stream(tree).shuffle(**shuffle)
    dataset.set_epoch(epoch)
    rows, state = [], None
    for i, row in enumerate(dataset):
        rows.append(digest(row))
        if i + 1 == taken:
            state = dataset.state_dict()
    opened.clear()
    again = stream(tree).shuffle(**shuffle)
    again.set_epoch(epoch)
    again.load_state_dict(state)
    assert [digest(row) for row in again] == rows[taken:]
    assert Counter(opened) == Counter(name for name, *_ in rows[taken:])


@pytest.mark.slow
def test_accelerate_gives_two_processes_every_row_once(tree, tmp_path):
    run_as_two("stream_ranks.py", tree, tmp_path)
    for epoch in (0, 1):
        parts = [np.load(tmp_path / f"{epoch}-{rank}.npy").tolist() for rank in (0, 1)]
        assert min(map(len, parts)) >= len(list(stream(tree))) // 2
        assert Counter(parts[0] + parts[1]) == Counter(row["volume"] for row in stream(tree))
