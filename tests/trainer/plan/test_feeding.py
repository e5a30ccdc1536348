"""What feeds the GPUs: by hand, in what may never happen, and against a loader on a virtual clock."""

import math
from heapq import heappop, heappush

from hypothesis import given, settings
from hypothesis import strategies as st

from ct_rate_pairs.trainer.plan.feeding import Site, cores_per_gpu, feeding, worker_seconds, workers_per_gpu
from ct_rate_pairs.trainer.plan.unit_costs import RowCost


SECONDS = st.floats(0.01, 10)
COST = st.builds(RowCost, SECONDS, st.floats(1e5, 1e9))
SITE = st.builds(Site, st.integers(1, 64), st.integers(1, 32), st.floats(1e7, 1e11), st.floats(1e7, 1e10))


def rows_per_second(gpu_seconds: float, cost: RowCost, site: Site, rows: int = 400) -> float:
    """A loader on a virtual clock: the workers take turns, the store serves one after the other, one GPU computes."""
    idle = [(0.0, worker) for worker in range(site.workers)]
    store = 0.0
    ready, taken = [], []  # when each row is there, and when the GPU has taken it
    computed = 0.0
    first = 0.0
    for row in range(rows):
        begin, worker = heappop(idle)
        if row >= 2 * site.workers:  # each worker makes two rows ahead
            begin = max(begin, taken[row - 2 * site.workers])
        store = max(store, begin) + cost.bytes / site.store_rate
        there = max(store, begin + cost.bytes / site.stream_rate) + cost.seconds
        heappush(idle, (there, worker))
        ready.append(there)
        begun = max(computed, there)
        taken.append(begun)
        computed = begun + gpu_seconds
        if row == rows // 2:
            first = computed
    return (rows - 1 - rows // 2) / (computed - first)


@settings(max_examples=60, deadline=None)
@given(SECONDS, COST, st.integers(1, 12), st.floats(1e7, 1e10), st.floats(1e7, 1e10))
def test_a_loader_on_a_virtual_clock_gives_the_predicted_rows_within_10_percent(gpu, cost, workers, store, stream):
    site = Site(1, workers, store, stream)
    predicted = feeding(gpu, cost, site).rate
    assert math.isclose(rows_per_second(gpu, cost, site), predicted, rel_tol=0.1)


def test_by_hand():
    cost = RowCost(seconds=0.5, bytes=100e6)
    rates = feeding(0.2, cost, Site(gpus=2, workers=4, store_rate=1e9))
    assert rates.gpu == 10 and rates.store == 10
    assert math.isclose(rates.workers, 8 / 0.6)  # 0.5 s of work and 0.1 s until the bytes are there
    assert rates.bottleneck == "gpu" and rates.rate == 10  # at a tie the GPUs are fed
    assert feeding(0.2, cost, Site(2, 1, 1e9)).bottleneck == "workers"
    assert feeding(0.2, cost, Site(4, 4, 1e9)).bottleneck == "store"
    assert cores_per_gpu(0.2, cost) == 2.5
    assert workers_per_gpu(0.2, cost, Site(1, 1, math.inf)) == 3
    assert workers_per_gpu(0.2, cost, Site(1, 1, math.inf, 50e6)) == 13  # 2.5 s for a row
    assert workers_per_gpu(0.25, cost, Site(1, 1, math.inf)) == 2  # exactly enough


@given(SECONDS, COST, SITE)
def test_more_of_anything_never_makes_an_epoch_longer(gpu, cost, site):
    rate = feeding(gpu, cost, site).rate
    for more in (
        site._replace(gpus=site.gpus + 1),
        site._replace(workers=site.workers + 1),
        site._replace(store_rate=2 * site.store_rate),
        site._replace(stream_rate=2 * site.stream_rate),
    ):
        assert feeding(gpu, cost, more).rate >= rate
    assert feeding(2 * gpu, cost, site).rate <= rate
    assert feeding(gpu, cost._replace(bytes=2 * cost.bytes), site).rate <= rate


@given(SECONDS, COST, SITE)
def test_the_planned_workers_feed_a_gpu_and_one_less_does_not(gpu, cost, site):
    wanted = workers_per_gpu(gpu, cost, site)
    assert wanted * gpu >= worker_seconds(cost, site) * (1 - 1e-8)
    assert wanted == 1 or (wanted - 1) * gpu < worker_seconds(cost, site)
    assert wanted >= cores_per_gpu(gpu, cost) - 1e-8
