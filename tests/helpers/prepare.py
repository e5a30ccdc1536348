"""Prepared copies in tests."""

from concurrent.futures import ThreadPoolExecutor


def use_a_thread(monkeypatch):
    """The pool is a thread: what its processes do is tested where a run is killed."""

    def pool(workers, context, start, arguments):
        return ThreadPoolExecutor(1, initializer=start, initargs=arguments)

    monkeypatch.setattr("ct_rate_pairs.prepare.shards.ProcessPoolExecutor", pool)
    monkeypatch.setattr("ct_rate_pairs.prepare.shards.end_with_parent", lambda: None)
