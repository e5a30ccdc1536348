"""A stream renews its negatives each epoch, in any composition of calls and in workers."""

import pytest
from datasets import Features, Value, concatenate_datasets, interleave_datasets
from helpers.few_slices import load, pixels
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch.utils.data import DataLoader

from ct_rate_pairs.readers import has_reader, reader_of


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
    alone = negatives_of(stream, 1)  # a worker that knew no epoch would read those of epoch 0
    shared = negatives_of(stream, 1, num_workers=2, multiprocessing_context="spawn", collate_fn=lambda_free)
    assert shared.keys() & alone.keys()
    assert all(shared[name] == alone[name] for name in shared.keys() & alone.keys())


def lambda_free(row):
    """A row as it is; a lambda cannot be pickled for a spawned worker."""
    return row
