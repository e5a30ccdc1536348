"""Answers to the questions of `task="vqa"`, scored by question type and set beside answers without a look."""

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
from datasets import Dataset
from tqdm.auto import tqdm
from transformers import PreTrainedModel

from ct_rate_pairs.eval.generate import batched
from ct_rate_pairs.eval.looking.other_volumes import blank_slices
from ct_rate_pairs.eval.metrics.bootstrap import divide, estimate
from ct_rate_pairs.eval.metrics.label_metrics import mean_known, precision_recall_f1
from ct_rate_pairs.eval.predictions.provenance import fingerprint
from ct_rate_pairs.eval.rows import first_volumes
from ct_rate_pairs.eval.tables import format_number, write_table
from ct_rate_pairs.rows import reader_of
from ct_rate_pairs.tasks.vqa_wording import ANSWER_TYPES, QUESTION_TYPES, SIDE_NAMES, YES_NO
from ct_rate_pairs.trainer import PairCollator, generate_batch

from .settings import TaskSettings
from .vqa_answers import parse_answer


CLASSES = {
    language: {"presence": YES_NO[language], "side": tuple(SIDE_NAMES[language].values())} for language in YES_NO
}
ROWS = {
    "model": "model",
    "blank": "model, blank volume",
    "text_only": "most common answer to the question",
    "most_common": "most common answer of the type",
}


def set_f1(answer: frozenset[str] | None, reference: frozenset[str]) -> float:
    """F1 of one list against another; 1 where both are empty, 0 for an answer that could not be read."""
    if answer is None:
        return 0.0
    sizes = len(answer) + len(reference)
    return 2 * len(answer & reference) / sizes if sizes else 1.0


def score_answers(
    answers: Sequence[frozenset[str] | None],
    references: Sequence[frozenset[str]],
    question_types: Sequence[str],
    *,
    language: str = "en",
    volumes: Sequence[str] | None = None,
    ci: float | None = None,
) -> dict:
    """
    Accuracy and F1 of parsed answers, by question type. What could not be read is wrong.

    Args:
        answers (`Sequence[frozenset[str] | None]`), references (`Sequence[frozenset[str]]`):
            From [`~ct_rate_pairs.eval.tasks.vqa_answers.parse_answer`], of `N` questions.
        question_types (`Sequence[str]`):
            Their types.
        language (`str`, *optional*, defaults to `"en"`):
            Of the answers.
        volumes (`Sequence[str]`, *optional*), ci (`float`, *optional*):
            For bootstrap intervals by patient: [`~ct_rate_pairs.eval.metrics.bootstrap.estimate`].

    Returns:
        `dict`: `accuracy` over all questions, a list being right if all of it is; `n`; and `per_type`, for each type
        that is asked for `accuracy`, `f1`, `n` and `unread`, the number of answers that could not be read. `f1` of
        yes/no and sides is the mean over the answers that occur in the references, that of lists the mean over the
        questions of [`set_f1`]. With `ci` each number's interval, `accuracy_ci` and so on. Ready for `json.dump`.

    Raises:
        `ValueError`: if there is no question.
    """
    if not len(answers):
        raise ValueError("There are no questions to score answers to.")
    types, volumes = np.asarray(question_types), None if volumes is None else np.asarray(volumes)
    right = np.array([answer == reference for answer, reference in zip(answers, references, strict=True)], float)
    per_type = {}
    for kind in QUESTION_TYPES:
        places = np.flatnonzero(types == kind)
        if not len(places):
            continue
        pairs = [(answers[i], references[i]) for i in places]
        statistics = {"right": right[places], "questions": np.ones(len(places))}
        if ANSWER_TYPES[kind] == "list":
            statistics["set_f1"] = np.array([set_f1(*pair) for pair in pairs])
            of_type = list_scores
        else:
            said, true = (
                np.array(
                    [[side is not None and answer in side for answer in CLASSES[language][kind]] for side in sides]
                )
                for sides in zip(*pairs, strict=True)
            )  # [n, answers] each
            statistics |= {"hits": said & true, "predicted": said, "support": true}
            of_type = class_scores
        of_patients = None if volumes is None else volumes[places].tolist()
        per_type[kind] = estimate(statistics, of_type, of_patients, ci) | {
            "n": len(places),
            "unread": sum(answer is None for answer, _ in pairs),
        }
    everything = {"right": right, "questions": np.ones(len(right))}
    return {**estimate(everything, accuracy, volumes, ci), "n": len(right), "per_type": per_type}


def accuracy(sums: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The share of right answers, from sums over questions; leading axes stay."""
    return {"accuracy": divide(sums["right"], sums["questions"])}


def list_scores(sums: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    return accuracy(sums) | {"f1": divide(sums["set_f1"], sums["questions"])}


def class_scores(sums: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    f1 = precision_recall_f1(sums["hits"], sums["predicted"], sums["support"])["f1"]  # [..., answers]
    return accuracy(sums) | {"f1": mean_known(np.where(sums["support"] > 0, f1, np.nan))}


def common_answers(train: Iterable[Mapping], rows: Sequence[Mapping]) -> dict[str, list[str]]:
    """
    What can be answered without a volume: the most common answer of the training questions.

    A question's type and finding are all that its text tells, as its wording does not depend on the answer. So
    `text_only` is the best that a model of the text alone could do.

    Args:
        train (`Iterable[Mapping]`):
            Training questions: `question_type`, `label`, `completion`.
        rows (`Sequence[Mapping]`):
            Questions to answer: `question_type`, `label`.

    Returns:
        `dict[str, list[str]]`: answers to `rows`: `text_only`, by type and finding, and `most_common`, by type alone.
        `""` where training asks nothing like it.
    """
    of_type, of_question = defaultdict(Counter), defaultdict(Counter)
    for row in train:
        answer = row["completion"][-1]["content"]
        of_type[row["question_type"]][answer] += 1
        of_question[row["question_type"], row["label"]][answer] += 1
    most_common = [_first(of_type[row["question_type"]], "") for row in rows]
    text_only = [
        _first(of_question[row["question_type"], row["label"]], fallback)
        for row, fallback in zip(rows, most_common, strict=True)
    ]
    return {"text_only": text_only, "most_common": most_common}


def _first(counts: Counter, fallback: str) -> str:
    return counts.most_common(1)[0][0] if counts else fallback


def answer_questions(
    model: PreTrainedModel,
    collator: PairCollator,
    rows: Dataset,
    *,
    batch_size: int = 8,
    max_new_tokens: int = 96,
) -> list[dict]:
    """
    Answers each question twice: shown its volume, and shown a blank one of the same size.

    Args:
        model ([`~transformers.PreTrainedModel`]), collator ([`~ct_rate_pairs.trainer.PairCollator`]):
            The model and what feeds it.
        rows ([`~datasets.Dataset`]):
            Rows of `task="vqa"`.
        batch_size (`int`, *optional*, defaults to `8`):
            Questions at a time.
        max_new_tokens (`int`, *optional*, defaults to `96`):
            Longest answer in tokens.

    Returns:
        `list[dict]`: for each question `volume`, `question_number`, `question_type`, `label`, `question`, `reference`,
        `answer` and `blank`. A volume that cannot be read, in whose place `on_error="skip"` puts another, is left out.
    """
    volumes = rows.with_format(None)["volume"]
    answered = []
    with tqdm(total=len(rows), desc="Answering questions", unit="question") as bar:
        for numbered in batched(zip(rows, volumes, strict=True), batch_size):
            batch = [row for row, volume in numbered if row["volume"] == volume]
            bar.update(len(numbered))
            if not batch:
                continue
            blank = [row | {"images": blank_slices(row)} for row in batch]
            answers, blank_answers = (
                generate_batch(model, collator, shown, max_new_tokens=max_new_tokens) for shown in (batch, blank)
            )
            for row, answer, blank_answer in zip(batch, answers, blank_answers, strict=True):
                kept = {name: row[name] for name in ("volume", "question_number", "question_type", "label")}
                texts = {"question": row["prompt"][-1]["content"], "reference": row["completion"][-1]["content"]}
                answered.append(kept | texts | {"answer": answer, "blank": blank_answer})
    return answered


def evaluate_vqa(
    model: PreTrainedModel,
    collator: PairCollator,
    rows: Dataset,
    train: Dataset,
    out: str | Path,
    settings: TaskSettings,
) -> dict[str, dict]:
    """
    Measures a model's answers and writes `results.json`, `table.md` and `answers.jsonl`.

    Args:
        model ([`~transformers.PreTrainedModel`]), collator ([`~ct_rate_pairs.trainer.PairCollator`]):
            The model and what feeds it.
        rows ([`~datasets.Dataset`]), train ([`~datasets.Dataset`]):
            Rows of `task="vqa"`, of a held-out split and of the training split. Of `train` no volume is read.
        out (`str` or `Path`):
            Folder to write to.
        settings ([`~ct_rate_pairs.eval.tasks.settings.TaskSettings`]):
            How much is measured.

    Returns:
        `dict[str, dict]`: the contents of `results.json`: [`score_answers`] under `model`, `blank` (the same model,
        shown a blank volume), `text_only` and `most_common` (see [`common_answers`]); under `model` also `language`
        and `scans`, the fingerprint of volumes and answers.
    """
    language = reader_of(rows).config.prompt
    rows = first_volumes(rows, settings.max_samples) if settings.max_samples else rows
    sizes = {"batch_size": settings.batch_size, "max_new_tokens": settings.max_new_tokens}
    answered = answer_questions(model, collator, rows, **sizes)
    questions = train.with_format(None).select_columns(["question_type", "label", "completion"])
    given = {"model": [row["answer"] for row in answered], "blank": [row["blank"] for row in answered]}
    given |= common_answers(questions, answered)

    types, volumes = ([row[name] for row in answered] for name in ("question_type", "volume"))

    def parse(texts: Sequence[str]) -> list[frozenset[str] | None]:
        return [parse_answer(text, kind, language) for text, kind in zip(texts, types, strict=True)]

    references = parse([row["reference"] for row in answered])
    results = {
        name: score_answers(parse(texts), references, types, language=language, volumes=volumes, ci=settings.ci)
        for name, texts in given.items()
    }
    results["model"] |= {"language": language, "scans": fingerprint(rows)}
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    lines = [json.dumps(row, ensure_ascii=False) + "\n" for row in answered]
    (out / "answers.jsonl").write_text("".join(lines), encoding="utf-8")
    write_table(results | settings.told, vqa_table(results), out)
    return results


def vqa_table(results: Mapping[str, Mapping]) -> list[list[str]]:
    """The rows of [`evaluate_vqa`] by question type, for [`~ct_rate_pairs.eval.tables.write_markdown`]."""
    lines = [["question type", "answers of", "questions", "accuracy", "F1", "not read"]]
    for kind, first in results["model"]["per_type"].items():
        for name, title in ROWS.items():
            scores = results[name]["per_type"][kind]
            numbers = [format_number(scores, key) for key in ("accuracy", "f1")]
            lines.append([kind, title, str(first["n"]), *numbers, str(scores["unread"])])
    for name, title in ROWS.items():
        lines.append(["all", title, str(results[name]["n"]), format_number(results[name], "accuracy"), "-", "-"])
    return lines
