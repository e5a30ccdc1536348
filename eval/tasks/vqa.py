"""The task `vqa`: scores answers by question type, beside the answers of baselines that do not look."""

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
from ct_rate_pairs.readable_rows import is_readable
from ct_rate_pairs.readers import reader_of
from ct_rate_pairs.reports.texts import text_of
from ct_rate_pairs.shown_text import to_json
from ct_rate_pairs.tasks.vqa_wording import ANSWER_TYPES, CHOICES, QUESTION_TYPES, SIDE_NAMES, YES_NO
from ct_rate_pairs.trainer import PairCollator
from ct_rate_pairs.trainer.generation import cut_warning, write_batch
from ct_rate_pairs.whole_files import write_whole

from .settings import TaskSettings
from .vqa_answers import parse_answer


CLASSES = {
    language: {"presence": YES_NO[language], "side": tuple(SIDE_NAMES[language].values()), **CHOICES[language]}
    for language in YES_NO
}
ROWS = {
    "model": "model",
    "blank": "model, blank volume",
    "text_only": "most common answer to the question",
    "most_common": "most common answer of the type",
}


def set_f1(answer: frozenset[str] | None, reference: frozenset[str]) -> float:
    """F1 of an answer against the reference list; 1 if both are empty, 0 for an answer that could not be read."""
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
    Accuracy and F1 of parsed answers, by question type. An answer that could not be read counts as wrong.

    Args:
        answers (`Sequence[frozenset[str] | None]`), references (`Sequence[frozenset[str]]`):
            Answers and references of `N` questions, from
            [`~ct_rate_pairs.eval.tasks.vqa_answers.parse_answer`].
        question_types (`Sequence[str]`):
            Types of the questions.
        language (`str`, *optional*, defaults to `"en"`):
            Language of the answers.
        volumes (`Sequence[str]`, *optional*), ci (`float`, *optional*):
            Volume names and level of the bootstrap intervals by patient, see
            [`~ct_rate_pairs.eval.metrics.bootstrap.estimate`].

    Returns:
        `dict`: ready for `json.dump`, with these keys:

        - `accuracy`: share of right answers over all questions. A list is right only if the whole list is.
        - `n`: the number of questions.
        - `per_type`: maps each question type that occurs to `accuracy`, `f1`, `n` and `unread`, the number of answers
          that could not be read. For yes/no, sides and choices, `f1` is the mean over the answers that occur in the
          references. For lists, `f1` is the mean of [`set_f1`] over the questions. For `"size"` there is no `f1` but
          `within_2mm`, the share of answers that are at most 2 mm off.

        With `ci` also the interval of each number, `accuracy_ci` and so on.

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
        elif ANSWER_TYPES[kind] == "number":
            statistics["near"] = np.array([answer is not None and _mm(answer, truth) <= 2 for answer, truth in pairs])
            of_type = number_scores
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
    """The share of right answers, from sums over questions; leading axes are kept."""
    return {"accuracy": divide(sums["right"], sums["questions"])}


def list_scores(sums: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Accuracy and mean F1 of lists, from sums over questions; leading axes are kept."""
    return accuracy(sums) | {"f1": divide(sums["set_f1"], sums["questions"])}


def _mm(answer: frozenset[str], truth: frozenset[str]) -> int:
    """By how many mm two lengths differ."""
    first, second = (int(next(iter(length)).split()[0]) for length in (answer, truth))
    return abs(first - second)


def number_scores(sums: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Accuracy of numbers, and the share that is nearly right, from sums over questions; leading axes are kept."""
    return accuracy(sums) | {"within_2mm": divide(sums["near"], sums["questions"])}


def class_scores(sums: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Accuracy, and macro F1 over the answers that occur, from sums over questions; leading axes are kept."""
    f1 = precision_recall_f1(sums["hits"], sums["predicted"], sums["support"])["f1"]  # [..., answers]
    return accuracy(sums) | {"f1": mean_known(np.where(sums["support"] > 0, f1, np.nan))}


def common_answers(train: Iterable[Mapping], rows: Sequence[Mapping]) -> dict[str, list[str]]:
    """
    Answers without a volume: the most common answers of the training questions.

    The wording of a question does not depend on the answer, so the text tells only type and finding of the question.
    `text_only` is therefore the best that a model without a volume can do. With `steps`, the answers to the earlier
    questions are a part of the text, and `text_only` knows them. With `num_shots`, a prompt also shows answers of
    other patients, which say nothing about this one.

    Args:
        train (`Iterable[Mapping]`):
            Training questions with `question_type`, `label`, `prompt` and `completion`.
        rows (`Sequence[Mapping]`):
            Questions to answer, with `question_type`, `label` and `earlier`, the answers to the questions before.

    Returns:
        `dict[str, list[str]]`: answers to `rows` under `text_only`, by type and finding, and under `most_common`, by
        type alone. An answer is `""` if the training split has no such question.
    """
    of_type, of_question = defaultdict(Counter), defaultdict(Counter)
    for row in train:
        answer = text_of(row["completion"][-1])
        of_type[row["question_type"]][answer] += 1
        of_question[row["question_type"], row["label"], earlier_answers(row["prompt"])][answer] += 1
    most_common = [_first(of_type[row["question_type"]], "") for row in rows]
    text_only = [
        _first(of_question[row["question_type"], row["label"], tuple(row["earlier"])], fallback)
        for row, fallback in zip(rows, most_common, strict=True)
    ]
    return {"text_only": text_only, "most_common": most_common}


def earlier_answers(prompt: Sequence[Mapping]) -> tuple[str, ...]:
    """The answers in the turns before a question, with `steps`."""
    return tuple(text_of(turn) for turn in prompt if turn["role"] == "assistant")


def _first(counts: Counter, fallback: str) -> str:
    """The most common entry, or `fallback` without any entry."""
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
    Answers each question of `task="vqa"` twice: given its volume (`answer`), and given a blank volume (`blank`). `cut`
    and `blank_cut` tell whether an answer met the limit of tokens before its end.

    Questions about a volume that cannot be read are left out (`on_error="skip"`).
    """
    answered = []
    with tqdm(total=len(rows), desc="Answering questions", unit="question") as bar:
        for asked in batched(rows, batch_size):
            batch = [row for row in asked if is_readable(row)]
            bar.update(len(asked))
            if not batch:
                continue
            blank = [row | {"images": blank_slices(row)} for row in batch]
            answers, blank_answers = (
                write_batch(model, collator, shown, max_new_tokens=max_new_tokens) for shown in (batch, blank)
            )
            for row, answer, blank_answer in zip(batch, answers, blank_answers, strict=True):
                kept = {name: row[name] for name in ("volume", "question_number", "question_type", "label")}
                kept["earlier"] = list(earlier_answers(row["prompt"]))
                texts = {"question": text_of(row["prompt"][-1]), "reference": text_of(row["completion"][-1])}
                given = {"answer": answer.text, "cut": answer.cut}
                answered.append(kept | texts | given | {"blank": blank_answer.text, "blank_cut": blank_answer.cut})
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
    Measures the answers of a model, and writes `results.json`, `table.md` and `answers.jsonl`.

    Args:
        model ([`~transformers.PreTrainedModel`]), collator ([`~ct_rate_pairs.trainer.PairCollator`]):
            The model and its collator.
        rows ([`~datasets.Dataset`]), train ([`~datasets.Dataset`]):
            Rows of `task="vqa"`: a held-out split, and the training split. No volume of `train` is read.
        out (`str` or `Path`):
            Folder to write to.
        settings ([`~ct_rate_pairs.eval.tasks.settings.TaskSettings`]):
            How much is measured.

    Returns:
        `dict[str, dict]`: the contents of `results.json`: scores from [`score_answers`] under `model`, `blank` (the
        same model, given a blank volume), `text_only` and `most_common` (see [`common_answers`]). `model` also holds
        `language`, and `scans`, the fingerprint of volumes and answers. `model` and `blank` hold `cut`, the number of
        answers that met the limit of tokens before their end.
    """
    language = reader_of(rows).config.prompt
    rows = first_volumes(rows, settings.max_samples) if settings.max_samples else rows
    sizes = {"batch_size": settings.batch_size, "max_new_tokens": settings.max_new_tokens}
    answered = answer_questions(model, collator, rows, **sizes)
    questions = train.with_format(None).select_columns(["question_type", "label", "prompt", "completion"])
    given = {"model": [row["answer"] for row in answered], "blank": [row["blank"] for row in answered]}
    given |= common_answers(questions, answered)

    types, volumes = ([row[name] for row in answered] for name in ("question_type", "volume"))

    def parse(texts: Sequence[str]) -> list[frozenset[str] | None]:
        """Reads one answer per question."""
        return [parse_answer(text, kind, language) for text, kind in zip(texts, types, strict=True)]

    references = parse([row["reference"] for row in answered])
    results = {
        name: score_answers(parse(texts), references, types, language=language, volumes=volumes, ci=settings.ci)
        for name, texts in given.items()
    }
    results["model"] |= {"language": language, "scans": fingerprint(rows)}
    results["model"]["cut"] = sum(row["cut"] for row in answered)
    results["blank"]["cut"] = sum(row["blank_cut"] for row in answered)
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    lines = [to_json(row) + "\n" for row in answered]
    write_whole(out / "answers.jsonl", "".join(lines))
    write_table(results | settings.told, vqa_table(results), out)
    if warning := cut_warning(results["model"]["cut"], len(answered), settings.max_new_tokens, "answers"):
        print(warning)
    return results


def vqa_table(results: Mapping[str, Mapping]) -> list[list[str]]:
    """A table of the results of [`evaluate_vqa`] by question type, for `write_markdown`."""
    lines = [["question type", "answers of", "questions", "accuracy", "F1", "not read", "cut"]]
    for kind, first in results["model"]["per_type"].items():
        for name, title in ROWS.items():
            scores = results[name]["per_type"][kind]
            # A size has no F1, and the share of answers within 2 mm in its place.
            numbers = [format_number(scores, key) for key in ("accuracy", "within_2mm" if kind == "size" else "f1")]
            lines.append([kind, title, str(first["n"]), *numbers, str(scores["unread"]), "-"])
    for name, title in ROWS.items():
        scores = results[name]
        accuracy_cell, cut = format_number(scores, "accuracy"), str(scores.get("cut", "-"))
        lines.append(["all", title, str(scores["n"]), accuracy_cell, "-", "-", cut])
    return lines
