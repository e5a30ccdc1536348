"""Mutual partners: who serves whom in a batch, and the rows of a dataset whose partners are found in the batch."""

from itertools import permutations

import numpy as np
import pytest
from datasets import load_dataset
from helpers.tree import SPACING
from hypothesis import given, settings
from hypothesis import strategies as st

from ct_rate_pairs.partners import match_mutually, mutual_statistics
from ct_rate_pairs.readers import reader_of


def batch(number, seed, used=18):
    rng = np.random.default_rng(seed)
    labels = np.zeros((number, 18), dtype=np.int8)
    labels[:, :used] = rng.integers(0, 2, (number, used))
    patients = [f"train_{patient}" for patient in rng.integers(0, 1 + number, number)]
    return labels, patients, [(int(side), 28) for side in rng.choice([28, 56], number)]


@settings(max_examples=100, deadline=None)
@given(number=st.integers(1, 12), seed=st.integers(0, 10**6), used=st.sampled_from([0, 1, 3, 18]))
def test_partners_share_no_patient_and_serve_at_most_once(number, seed, used):
    labels, patients, sizes = batch(number, seed, used)
    partners = match_mutually(labels, patients, sizes)
    serving = [partner for partner in partners if partner is not None]
    assert len(set(serving)) == len(serving)
    for volume, partner in enumerate(partners):
        if partner is not None:
            assert patients[partner] != patients[volume] and (labels[partner] != labels[volume]).any()
    assert match_mutually(labels, patients, sizes) == partners


@settings(max_examples=60, deadline=None)
@given(number=st.integers(2, 6), seed=st.integers(0, 10**6), used=st.sampled_from([1, 3, 18]))
def test_no_other_matching_has_more_pairs_a_larger_distance_or_more_equal_sizes(number, seed, used):
    labels, patients, sizes = batch(number, seed, used)

    def worth(partners):
        pairs = [(volume, partner) for volume, partner in enumerate(partners) if partner is not None]
        distance = sum(int((labels[volume] != labels[partner]).sum()) for volume, partner in pairs)
        return len(pairs), distance, sum(sizes[volume] == sizes[partner] for volume, partner in pairs)

    def allowed(volume, partner):
        return patients[volume] != patients[partner] and (labels[volume] != labels[partner]).any()

    others = (
        [partner if allowed(volume, partner) else None for volume, partner in enumerate(order)]
        for order in permutations(range(number))
    )
    assert worth(match_mutually(labels, patients, sizes)) == max(map(worth, others))


def test_two_reconstructions_of_a_patient_are_no_pair():
    labels = np.eye(18, dtype=np.int8)[:2]
    assert match_mutually(labels, ["train_1", "train_1"]) == [None, None]
    assert match_mutually(labels, ["train_1", "train_2"]) == [1, 0]


def test_larger_batches_find_more_distant_partners():
    rng = np.random.default_rng(0)
    labels, patients = (rng.random((300, 18)) < 0.2).astype(np.int8), [f"train_{i}" for i in range(300)]
    small, large = (mutual_statistics(labels, patients, size, 10) for size in (2, 8))
    assert small["share_with_a_partner"] > 0.9 and large["share_with_a_partner"] == 1
    assert large["mean_label_distance"] > small["mean_label_distance"] + 0.5
    assert large["share_at_10_or_more"] >= small["share_at_10_or_more"]


def load(tree, **options):
    return load_dataset("ct_rate_pairs", data_dir=str(tree), spacing=SPACING, num_slices=4, **options)


@pytest.mark.slow_but_first
@pytest.mark.parametrize("streaming", [False, True])
def test_training_rows_have_no_negative_and_held_out_rows_have_those_of_uniform(tree, streaming):
    options = {"negative": "heter", "min_label_distance": 6, "validation_size": 0.3, "streaming": streaming}
    mutual, uniform = (load(tree, **options, partner_sampling=sampling) for sampling in ("mutual", "uniform"))
    for row in mutual["train"]:
        assert (row["negative_images"], row["negative_volume"], row["label_distance"]) == ([], "", 0)
        assert len(row["images"]) == 4
    for split in ("validation", "test"):
        for row, other in zip(mutual[split], uniform[split], strict=True):
            assert row["negative_volume"] == other["negative_volume"] != ""
            assert [i.tobytes() for i in row["negative_images"]] == [i.tobytes() for i in other["negative_images"]]


def test_training_rows_read_each_volume_once(tree, monkeypatch):
    rows = load(tree, negative="heter", partner_sampling="mutual", split="train")
    source, seen = reader_of(rows).source, []
    read = source.read_slices
    monkeypatch.setattr(source, "read_slices", lambda scan, *rest: seen.append(scan.name) or read(scan, *rest))
    for row in rows:
        assert row["negative_images"] == []
    assert sorted(seen) == sorted(rows["volume"])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"negative": "hard"}, "pass negative='heter', or partner_sampling='uniform'"),
        ({"negative": "heter", "task": "vqa"}, "the task 'vqa' restricts the partners"),
        ({"negative": "heter", "task": "matching"}, "the task 'matching' restricts the partners"),
    ],
)
def test_mutual_partners_that_would_break_another_rule_are_refused(tree, options, message):
    with pytest.raises(ValueError, match=message):
        load(tree, partner_sampling="mutual", **options)
