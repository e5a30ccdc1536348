"""Answers questions about a scan: each alone as in the training of `task="vqa"`, or as turns of one dialogue."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field

from ct_rate_pairs.eval.generate import batched
from ct_rate_pairs.eval.tasks.vqa_answers import parse_answer
from ct_rate_pairs.reports.prompt_lines import write_turns
from ct_rate_pairs.reports.readable import is_missing
from ct_rate_pairs.tasks.vqa_wording import DEFAULT_TYPES, find_question, write_question
from ct_rate_pairs.trainer.generation import write_batch

from .domain import in_short


TASKS = ("vqa", "own_questions")  # those that teach a model to answer questions
AT_ONCE = 8  # questions per batch

CUT = "The answer to question {number} is cut at its limit of {limit} tokens: raise the limit (max_new_tokens)."
UNREAD = "The answer to question {number} is none of the answers that such a question has."
OTHER_WORDING = (
    "Question {number} is in other words than those of the training, so its answer may mean little. The training has "
    "the questions of task='vqa', such as {example!r}."
)
UNLIKE = "The scan is unlike those of the training, and the answers may be wrong for it: {listed}."
OTHER_TYPE = "Question {number} is of the type {kind!r}, and the training had {types} only."
AFTER_REPORT = "The model was never trained on questions after a report, so its answers may be worse than without one."
ONE_DIALOGUE = (
    "The model was never trained on a question after other questions, so all but the first answer may be worse."
)
STEPS = (
    "In the training, the questions that lead to a question stood before it (steps): ask them first, and all as one "
    "dialogue (dialogue=True)."
)
SHOTS = "In the training, each prompt showed {number} examples of other patients (num_shots). There are none here."


@dataclass(frozen=True)
class Answer:
    """
    The answer to a question.

    Args:
        question (`str`):
            The question as the model was asked it.
        text (`str`):
            The answer.
        cut (`bool`):
            Whether the answer met its limit of tokens before its end.
        question_type (`str`, *optional*):
            The type of the question in `task="vqa"`; `None` for a question in other words than those of that task.
    """

    question: str
    text: str
    cut: bool
    question_type: str | None


@dataclass(frozen=True)
class ScanAnswers:
    """
    The answers of a model about one scan. Like a report, they hold neither the path nor the header of the scan.

    Args:
        name (`str`):
            Name of the scan, as given to [`~ct_rate_pairs.hub.reporting.reporter.Reporter.ask`].
        answers (`list[Answer]`):
            The answers, in the order of the questions.
        report (`str`, *optional*):
            The report that the questions were asked after.
        seconds (`dict[str, float]`):
            Time of `reading` the scan and of `answering`, in seconds.
        model (`str`), version (`str`):
            Name and commit of the model on the Hub, or name of its folder and hash of its weights.
        told (`list[str]`):
            Warnings of the reader of the scan, and what is doubtful about questions and answers.
        prompt_metadata (`list[str]`):
            The names of what the prompt told of the patient and the scan. The values are not kept.
    """

    name: str
    answers: list[Answer]
    report: str | None
    seconds: dict[str, float]
    model: str
    version: str
    told: list[str] = field(default_factory=list)
    prompt_metadata: list[str] = field(default_factory=list)

    def to_dict(self) -> dict:
        """The answers, ready for `json.dump`."""
        return asdict(self)


def read_questions(questions: str | Sequence[str], language: str) -> list[tuple[str, str | None]]:
    """
    Questions as the model is asked them, and their types in `task="vqa"`; see [`Answer`].

    Raises:
        `ValueError`: for no question, and for an empty one.
    """
    questions = [questions] if isinstance(questions, str) else list(questions)
    if not questions or any(map(is_missing, questions)):
        raise ValueError("Give at least one question, and no empty one.")
    return [find_question(question, language) or (question.strip(), None) for question in questions]


def write_answers(
    reporter,
    row: Mapping,
    questions: Sequence[tuple[str, str | None]],
    *,
    report: str | None,
    dialogue: bool,
    lines: Mapping[str, str],
    max_new_tokens: int,
) -> list[Answer]:
    """
    The answers of a model about one scan.

    Args:
        reporter ([`~ct_rate_pairs.hub.reporting.reporter.Reporter`]):
            The model.
        row (`Mapping`):
            The row of the scan, from [`~ct_rate_pairs.hub.reporting.reporter.Reporter.row`].
        questions (`Sequence[tuple[str, str]]`):
            From [`read_questions`].
        report (`str`, *optional*), dialogue (`bool`), max_new_tokens (`int`):
            See [`~ct_rate_pairs.hub.reporting.reporter.Reporter.ask`]. The report is whole, with its findings line.
        lines (`Mapping[str, str]`):
            What the prompt tells of the patient, see [`~ct_rate_pairs.reports.prompt_lines`].

    Returns:
        `list[Answer]`: the answers, in the order of the questions.
    """
    before, replies = ([], []) if report is None else ([reporter.question], [report])
    answers: list[Answer] = []
    # In a dialogue, each question waits for the answer to the one before it.
    for batch in batched(questions, 1 if dialogue else AT_ONCE):
        prompts = [write_turns([*before, question], replies, lines, reporter.language) for question, _ in batch]
        rows = [row | {"prompt": prompt} for prompt in prompts]
        written = write_batch(reporter.model, reporter.collator, rows, max_new_tokens=max_new_tokens)
        for (question, kind), answer in zip(batch, written, strict=True):
            answers.append(Answer(question, answer.text, answer.cut, kind))
        if dialogue:
            before.append(answers[-1].question)
            replies.append(answers[-1].text)
    return answers


def example_question(language: str) -> str:
    """A question of `task="vqa"`."""
    return write_question("presence", language, 0, "Cardiomegaly")


def doubts(
    reporter,
    answers: Sequence[Answer],
    unlike: Sequence[str],
    *,
    after_report: bool,
    dialogue: bool,
    max_new_tokens: int,
) -> list[str]:
    """What makes the answers of a model doubtful, in words: what its training had not, odd answers, and cut ones."""
    settings = reporter.settings
    told = [UNLIKE.format(listed=in_short(unlike))] if unlike else []
    steps, shots = settings.get("steps", False), settings.get("num_shots", 0)
    if reporter.tasks and "own_questions" not in reporter.tasks:  # which has questions in any words
        types = settings.get("question_types", DEFAULT_TYPES)
        for number, answer in enumerate(answers, start=1):
            if answer.question_type is None:
                told.append(OTHER_WORDING.format(number=number, example=example_question(reporter.language)))
            elif answer.question_type not in types:
                told.append(OTHER_TYPE.format(number=number, kind=answer.question_type, types=", ".join(types)))
    for number, answer in enumerate(answers, start=1):
        if answer.question_type and parse_answer(answer.text, answer.question_type, reporter.language) is None:
            told.append(UNREAD.format(number=number))
    told += [AFTER_REPORT] * after_report
    told += [ONE_DIALOGUE] * (dialogue and len(answers) > 1 and not steps)
    told += [STEPS] * (steps and not dialogue)
    told += [SHOTS.format(number=shots)] * (shots > 0)
    cut = [number for number, answer in enumerate(answers, start=1) if answer.cut]
    return told + [CUT.format(number=number, limit=max_new_tokens) for number in cut]
