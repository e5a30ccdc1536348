"""The task `own_questions`: compares answers with those of a reader's own table, beside baselines that do not look."""

import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from datasets import Dataset
from tqdm.auto import tqdm
from transformers import PreTrainedModel

from ct_rate_pairs.eval.generate import batched
from ct_rate_pairs.eval.looking.other_volumes import blank_slices
from ct_rate_pairs.eval.metrics.bootstrap import divide, estimate
from ct_rate_pairs.eval.predictions.provenance import fingerprint
from ct_rate_pairs.eval.rows import first_volumes, report_prompt
from ct_rate_pairs.eval.scoring.labelers import label_predictions
from ct_rate_pairs.eval.tables import format_number, write_table
from ct_rate_pairs.joins.rad_chestct import LABELS_ASKED
from ct_rate_pairs.readable_rows import is_readable
from ct_rate_pairs.readers import reader_of
from ct_rate_pairs.reports.labels import LABELS
from ct_rate_pairs.reports.texts import same_words, text_of
from ct_rate_pairs.shown_text import to_json
from ct_rate_pairs.tasks.own_questions import question_type
from ct_rate_pairs.tasks.vqa_wording import YES_NO
from ct_rate_pairs.trainer import PairCollator
from ct_rate_pairs.trainer.generation import cut_warning, write_batch
from ct_rate_pairs.trainer.row_settings import has_findings_line
from ct_rate_pairs.whole_files import write_whole

from .settings import TaskSettings
from .vqa import ROWS, answer_questions


YES = ("yes", "是", "有")
_ARTICLES = ("a", "an", "the")
_WORD = re.compile(r"[㐀-鿿぀-ヿ가-힣]|[^\W_㐀-鿿぀-ヿ가-힣]+")


def words_of(answer: str) -> list[str]:
    """
    The words of an answer as SQuAD compares them: in lower case, without punctuation and articles. Each character of
    Chinese, Japanese and Korean is a word. An answer of articles or punctuation alone ("A", the option of a list; "+")
    is kept: otherwise it would equal an empty answer.
    """
    text = unicodedata.normalize("NFKC", answer).strip().lower()
    words = _WORD.findall(text) or text.split()
    return [word for word in words if word not in _ARTICLES] or words


def yes_or_no(answer: str) -> bool | None:
    """Whether an answer is yes or no; `None` if it is neither."""
    if question_type(answer) == "open":
        return None
    return same_words(answer).strip(" .。!") in YES


def word_f1(answer: str, reference: str) -> float:
    """F1 of the words of an answer against those of the reference, as SQuAD counts it."""
    said, true = words_of(answer), words_of(reference)
    shared = (Counter(said) & Counter(true)).total()
    return 2 * shared / (len(said) + len(true)) if said or true else 1.0


def score_own_answers(
    answers: Sequence[str],
    references: Sequence[str],
    question_types: Sequence[str],
    *,
    volumes: Sequence[str] | None = None,
    ci: float | None = None,
) -> dict:
    """
    Accuracy and F1 of answers, by question type.

    Args:
        answers (`Sequence[str]`), references (`Sequence[str]`):
            Answers and references of `N` questions.
        question_types (`Sequence[str]`):
            `"closed"` (the reference is yes or no) or `"open"` for each question.
        volumes (`Sequence[str]`, *optional*), ci (`float`, *optional*):
            Volume names and level of the bootstrap intervals by patient, see
            [`~ct_rate_pairs.eval.metrics.bootstrap.estimate`].

    Returns:
        `dict`: ready for `json.dump`. `accuracy` is the share of answers with the same words as the reference, `f1`
        the mean of [`word_f1`], `n` the number of questions. `per_type` has the same for each type that occurs. With
        `ci` also the interval of each number, `accuracy_ci` and so on.

    Raises:
        `ValueError`: if there is no question.
    """
    if not len(answers):
        raise ValueError("There are no questions to score answers to.")
    pairs = list(zip(answers, references, strict=True))
    right = np.array([words_of(answer) == words_of(reference) for answer, reference in pairs], float)
    f1 = np.array([word_f1(*pair) for pair in pairs])
    types = np.asarray(question_types)

    def scores(places: np.ndarray) -> dict:
        """The numbers of some of the questions."""
        statistics = {"right": right[places], "f1": f1[places], "questions": np.ones(len(places))}
        of_patients = None if volumes is None else [volumes[place] for place in places]
        return estimate(statistics, _means, of_patients, ci) | {"n": len(places)}

    per_type = {kind: scores(np.flatnonzero(types == kind)) for kind in ("closed", "open") if kind in types}
    return scores(np.arange(len(pairs))) | {"per_type": per_type}


def score_closed_questions(
    questions: Sequence[str], answers: Sequence[str], references: Sequence[str]
) -> dict[str, dict | float]:
    """
    Sensitivity and specificity of each question that is answered by yes in some volumes and by no in others. Any
    answer but yes or no is wrong.

    Args:
        questions (`Sequence[str]`), answers (`Sequence[str]`), references (`Sequence[str]`):
            Questions about volumes, answers and references, all of length `N`.

    Returns:
        `dict`: ready for `json.dump`. `per_question` maps such a question to `n`, `positives` (references that are
        yes), `sensitivity` and `specificity`. `balanced_accuracy` is the mean of these two over the questions. Empty
        if there is no such question.
    """
    counts: dict[str, Counter] = defaultdict(Counter)
    for question, answer, reference in zip(questions, answers, references, strict=True):
        true = yes_or_no(reference)
        counts[question][true, yes_or_no(answer) == true] += 1
    per_question = {}
    for question, of_one in counts.items():
        positives, negatives = (sum(of_one[true, right] for right in (True, False)) for true in (True, False))
        if positives and negatives and positives + negatives == of_one.total():
            per_question[question] = {
                "n": of_one.total(),
                "positives": positives,
                "sensitivity": of_one[True, True] / positives,
                "specificity": of_one[False, True] / negatives,
            }
    if not per_question:
        return {}
    both = [(one["sensitivity"] + one["specificity"]) / 2 for one in per_question.values()]
    return {"balanced_accuracy": float(np.mean(both)), "per_question": per_question}


def _means(sums: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {"accuracy": divide(sums["right"], sums["questions"]), "f1": divide(sums["f1"], sums["questions"])}


def common_own_answers(train: Sequence[Mapping], rows: Sequence[Mapping]) -> dict[str, list[str]]:
    """
    Answers without a volume: under `text_only` the most common answer to the same question in the training split (or
    of its type, if the question does not occur there), under `most_common` that of the type.

    Args:
        train (`Sequence[Mapping]`), rows (`Sequence[Mapping]`):
            Questions of the training split, and those to answer, with `question`, `reference` and `question_type`.
    """
    of_type, of_question = defaultdict(Counter), defaultdict(Counter)
    for row in train:
        of_type[row["question_type"]][row["reference"]] += 1
        of_question[same_words(row["question"])][row["reference"]] += 1

    def first(counts: Counter, fallback: str) -> str:
        return counts.most_common(1)[0][0] if counts else fallback

    common = [first(of_type[row["question_type"]], "") for row in rows]
    asked = [first(of_question[same_words(row["question"])], one) for row, one in zip(rows, common, strict=True)]
    return {"text_only": asked, "most_common": common}


def answer_from_reports(
    model: PreTrainedModel,
    collator: PairCollator,
    rows: Dataset,
    *,
    batch_size: int = 8,
    max_new_tokens: int = 1200,
) -> list[dict]:
    """
    Answers questions about labels by what the rule labeler reads in the model's report of the volume, for a model that
    writes reports. The questions are those of [`~ct_rate_pairs.joins.rad_chestct.LABELS_ASKED`]; others are left out,
    which is told. Results are those of [`~ct_rate_pairs.eval.tasks.vqa.answer_questions`], and `report`.

    Raises:
        `ValueError`: if no question is about labels.
    """
    names = rows.with_format(None).select_columns(["volume", "prompt"])
    asked = [text_of(turns[-1]) for turns in names["prompt"]]
    kept = [place for place, question in enumerate(asked) if question in LABELS_ASKED]
    if not kept:
        raise ValueError(
            f"No question is about the 18 labels, in words such as {next(iter(LABELS_ASKED))!r}, so a report does not "
            "answer it. Questions of `ct-rate-pairs join rad-chestct` are. Leave out --answers texts."
        )
    if len(kept) < len(asked):
        print(f"{len(asked) - len(kept)} of {len(asked)} questions are left out: a report does not answer them.")
    first = {names["volume"][place]: place for place in reversed(kept)}
    config, states = reader_of(rows).config, {}
    options = {"max_new_tokens": max_new_tokens, "with_line": has_findings_line(rows)}
    for batch in batched(tqdm(rows.select(first.values()), desc="Writing reports", unit="scan"), batch_size):
        shown = [row | {"prompt": report_prompt(row, config)} for row in batch if is_readable(row)]
        blank = [row | {"images": blank_slices(row)} for row in shown]
        written = (write_batch(model, collator, few, **options) for few in (shown, blank) if few)
        for row, *reports in zip(shown, *written, strict=True):
            states[row["volume"]] = reports
    answered = []
    for row in (
        rows.select(kept)
        .with_format(None)
        .select_columns(["volume", "question_number", "question_type", "label", "prompt", "completion"])
    ):
        if row["volume"] not in states:
            continue
        question, reports = text_of(row["prompt"][-1]), states[row["volume"]]
        places = [LABELS.index(label) for label in LABELS_ASKED[question]]
        answer, blank = (
            YES_NO["en"][int(stated[places].any())] for stated in label_predictions([one.report for one in reports])[0]
        )
        answered.append(
            {name: row[name] for name in ("volume", "question_number", "question_type", "label")}
            | {"question": question, "reference": text_of(row["completion"][-1])}
            | {"answer": answer, "cut": reports[0].cut, "report": reports[0].report}
            | {"blank": blank, "blank_cut": reports[1].cut}
        )
    return answered


def evaluate_own_questions(
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
            Rows of `task="own_questions"`: a held-out split, and the training split. No volume of `train` is read.
        out (`str` or `Path`):
            Folder to write to.
        settings ([`~ct_rate_pairs.eval.tasks.settings.TaskSettings`]):
            How much is measured.

    Returns:
        `dict[str, dict]`: the contents of `results.json`: scores from [`score_own_answers`] and
        [`score_closed_questions`] under `model`, `blank` (the same model, given a blank volume), `text_only` and
        `most_common` (see [`common_own_answers`]). `model`
        also holds `scans`, the fingerprint of volumes and answers. `model` and `blank` hold `cut`, the number of
        answers that met the limit of tokens before their end.
    """
    rows = first_volumes(rows, settings.max_samples) if settings.max_samples else rows
    sizes = {"batch_size": settings.batch_size, "max_new_tokens": settings.max_new_tokens}
    answer = answer_from_reports if settings.answers == "texts" else answer_questions
    answered = answer(model, collator, rows, **sizes)
    texts = train.with_format(None).select_columns(["question_type", "prompt", "completion"])
    known = [
        {
            "question_type": row["question_type"],
            "question": text_of(row["prompt"][-1]),
            "reference": text_of(row["completion"][-1]),
        }
        for row in texts
    ]
    given = {"model": [row["answer"] for row in answered], "blank": [row["blank"] for row in answered]}
    given |= common_own_answers(known, answered)
    references, types, volumes = ([row[name] for row in answered] for name in ("reference", "question_type", "volume"))
    asked = [row["question"] for row in answered]
    results = {
        name: score_own_answers(texts, references, types, volumes=volumes, ci=settings.ci)
        | score_closed_questions(asked, texts, references)
        for name, texts in given.items()
    }
    results["model"] |= {"scans": fingerprint(rows), "cut": sum(row["cut"] for row in answered)}
    results["blank"]["cut"] = sum(row["blank_cut"] for row in answered)
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    write_whole(out / "answers.jsonl", "".join(to_json(row) + "\n" for row in answered))
    write_table(results | settings.told, own_questions_table(results), out)
    if warning := cut_warning(results["model"]["cut"], len(answered), settings.max_new_tokens, "answers"):
        print(warning)
    return results


def own_questions_table(results: Mapping[str, Mapping]) -> list[list[str]]:
    """A table of the results of [`evaluate_own_questions`] by question type, for `write_markdown`."""
    lines = [["question type", "answers of", "questions", "accuracy", "word F1", "balanced accuracy", "cut"]]
    for kind in (*results["model"]["per_type"], "all"):
        for name, title in ROWS.items():
            scores = results[name] if kind == "all" else results[name]["per_type"][kind]
            balanced = results[name] if kind == "closed" else {}
            numbers = [format_number(scores, key) for key in ("accuracy", "f1")]
            numbers += [format_number(balanced, "balanced_accuracy") if "balanced_accuracy" in balanced else "-"]
            lines.append([kind, title, str(scores["n"]), *numbers, str(scores.get("cut", "-"))])
    return lines
