"""Scans of a few pixels, and what asks a server on loopback for their reports."""

from datasets import Dataset

from ct_rate_pairs.eval.predictions.endpoint import Endpoint
from ct_rate_pairs.eval.predictions.endpoint_predictions import write_endpoint_predictions

from .eval_rows import make_row


KEY = "sk-secretSECRETsecret"


def make_scans(number=3):
    rows = [make_row(seed, f"Reference {seed}.", prompt=f"Prompt {seed}.") for seed in range(number)]
    scans = Dataset.from_dict({"volume": [row["volume"] for row in rows]})
    by_name = {row["volume"]: row for row in rows}
    return scans.with_transform(
        lambda batch: {name: [by_name[volume][name] for volume in batch["volume"]] for name in rows[0]}
    )


def connect(server, **options):
    return Endpoint(server.url, "some-model", **{"deidentified": True, "backoff": 0.01, "timeout": 5.0} | options)


def write(server, path, scans=None, concurrency=1, **options):
    return write_endpoint_predictions(
        connect(server, **options), scans or make_scans(), path, max_new_tokens=50, concurrency=concurrency
    )
