"""What `ct_rate_reports.yaml` calls: lmms-eval imports this file by its path, and finds the dataset by that."""

from collections.abc import Callable

import numpy as np

import ct_rate_pairs  # noqa: F401  `load_dataset("ct_rate_pairs")` is known from here on
from ct_rate_pairs.eval.scoring.scores import score_reports
from ct_rate_pairs.reports.texts import text_of


def slices(doc: dict) -> list:
    """The slices of a scan, for models that lmms-eval hands images and a text."""
    return [image.convert("RGB") for image in doc["images"]]


def prompt(doc: dict) -> str:
    """The prompt of the dataset."""
    return text_of(doc["prompt"][-1])


def messages(doc: dict) -> list[dict]:
    """The slices in their order, and the prompt behind them, for models that lmms-eval hands a chat."""
    shown = [{"type": "image", "url": image} for image in slices(doc)]
    return [{"role": "user", "content": [*shown, {"type": "text", "text": prompt(doc)}]}]


def reference(doc: dict) -> str:
    """The report."""
    return text_of(doc["completion"][-1])


def to_score(doc: dict, results: list[str]) -> dict[str, tuple]:
    """What each metric reads of a scan: the written report, the reference, the labels, and the VolumeName."""
    read = (results[0], reference(doc), doc["labels"], doc["volume"])
    return dict.fromkeys(("coverage", "f1_macro", "crg", "bleu4", "rouge_l"), read)


def _scored(name: str) -> Callable[[list[tuple]], float]:
    def score(read: list[tuple]) -> float:
        written, references, labels, volumes = zip(*read, strict=True)
        return score_reports(written, references, np.array(labels), volumes=volumes)[name]

    return score


coverage, f1_macro, crg, bleu4, rouge_l = map(_scored, ("coverage", "f1_macro", "crg", "bleu4", "rouge_l"))
