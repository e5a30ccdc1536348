r"""
The probability of each of the 18 labels, read from the findings line that a model writes before its report.

A line is a row of decisions: after each entry, the model decides which entry comes next. At a decision, each choice
leads to another line (see [`~ct_rate_pairs.reports.findings_line.decisions`]). Where the tokens of these lines part,
the model's next-token probabilities are compared, among the tokens of the lines alone. So the tokenizer does not
matter: an answer may be one token, several, or joined with the letters around it.

- `"yes_no"`: the choices of each label are its line with no and its line with yes. All 18 decisions are read from one
  forward pass over scan, prompt and line. The decisions before a label are those that the model has made.
- `"sides"`: the same, with more choices for the findings of the lungs and the pleura: no, yes and the three sides. A
  finding is there with the probability of all choices but no. Its likeliest side is read at the same place.
- `"names"`: a choice is the label that is named next, or the end. Let \\(q_k(m)\\) be the probability that entry
  \\(m\\) comes after the first \\(k\\) names. The list says of each label, in the official order, whether it is there.
  So the probability of label \\(l\\), given the decisions before it, is \\(q_k(l) / \sum_{m \ge l} q_k(m)\\), with the
  end as the last entry: the share of \\(l\\) in what is left when the labels before \\(l\\) were not named. The model
  reads scan and prompt once. Then it reads the line, and the beginnings that several names share (such as "Lung"), in
  one further pass.
"""

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import torch
from transformers import PreTrainedModel

from ct_rate_pairs.reports.findings_line import decisions, form_of, open_text, sides_of
from ct_rate_pairs.reports.labels import LABELS
from ct_rate_pairs.reports.places import SIDES
from ct_rate_pairs.trainer import PairCollator

from .likelihood import answer_logits, logits_after, next_log_probs, on_device, read_prompt, tokens_of


Tokens = tuple[int, ...]


class LineReading(NamedTuple):
    """
    What a model holds probable when it writes its findings line.

    Args:
        logits (`np.ndarray` of shape `[18]`):
            Log-odds of the labels in the official order, before calibration. They are NaN for a scan without a line or
            with a malformed one: what the model holds probable is not known then.
        sides (`dict[int, str]`):
            The likeliest side of each finding that has one, whether the finding is stated or not, by the index of its
            label: `"right"`, `"left"` or `"both"`. Empty for a line without sides.
    """

    logits: np.ndarray
    sides: dict[int, str]


def line_logits(
    model: PreTrainedModel, collator: PairCollator, rows: Sequence[dict], lines: Sequence[str | None]
) -> np.ndarray:
    """The log-odds of [`read_findings_lines`] alone, `[N, 18]`."""
    return np.stack([reading.logits for reading in read_findings_lines(model, collator, rows, lines)])


@torch.no_grad()
def read_findings_lines(
    model: PreTrainedModel, collator: PairCollator, rows: Sequence[dict], lines: Sequence[str | None]
) -> list[LineReading]:
    """
    Reads what a model holds probable when it writes its findings lines.

    Args:
        model ([`~transformers.PreTrainedModel`]):
            Model in evaluation mode.
        collator ([`~ct_rate_pairs.trainer.PairCollator`]):
            Turns rows into inputs of the model.
        rows (`Sequence[dict]`):
            `N` scans, one batch. Only `images`, `slice_mm` and `prompt` are read.
        lines (`Sequence[str | None]`):
            The findings line that the model has written at temperature 0 for each scan.

    Returns:
        `list[LineReading]`: one per scan.
    """
    readings = [LineReading(np.full(len(LABELS), np.nan), {}) for _ in rows]
    forms = [form_of(line) if line else None for line in lines]
    choices = [
        [_tokens_of_choices(collator, each) for each in decisions(open_text(line).labels, *form, sides_of(line))]
        if form
        else []
        for line, form in zip(lines, forms, strict=True)
    ]

    def read_aside(n: int, places: Collection[Tokens]) -> dict[Tokens, torch.Tensor]:
        """The next-token logits after beginnings of lines, which need not be those of the scan's own line."""
        context = read_prompt(model, on_device(collator.prompts([rows[n]]), model))
        return dict(zip(places, logits_after(model, context, list(places)), strict=True))

    whole = [n for n, form in enumerate(forms) if form and form[0] != "names"]  # lines with an entry for each label
    if whole:
        answers = [{"completion": [{"role": "assistant", "content": lines[n]}], "negative_images": []} for n in whole]
        batch = collator([rows[n] | answer for n, answer in zip(whole, answers, strict=True)])
        read, labels = answer_logits(model, on_device(batch, model))
        for n, own, own_labels in zip(whole, read, labels, strict=True):
            first = int((own_labels != -100).int().argmax())
            line = tuple(own_labels[first:].tolist())
            places = {at for choice in choices[n] for at in _forks(choice)}
            after = {at: own[first + len(at)] for at in places if at == line[: len(at)]}
            # Of several sides, two may begin with the same token, which the line need not have.
            if aside := places - after.keys():
                after |= read_aside(n, aside)
            for label, choice in enumerate(choices[n]):
                q = choice_log_probs(choice, after)
                readings[n].logits[label] = np.logaddexp.reduce([q[value] for value in q if value != 0]) - q[0]
                if sides := q.keys() & set(SIDES):
                    readings[n].sides[label] = max(sorted(sides), key=q.get)
    for n, form in enumerate(forms):
        if form and form[0] == "names":
            after = read_aside(n, {at for choice in choices[n] for at in _forks(choice)})
            readings[n].logits[:] = chain_logits([choice_log_probs(choice, after) for choice in choices[n]])
    return readings


def choice_log_probs(
    choice: Mapping[int | str, Tokens], logits: Mapping[Tokens, torch.Tensor]
) -> dict[int | str, float]:
    """
    Log-probabilities of the choices of one decision, among each other.

    Args:
        choice (`Mapping[int | str, tuple[int, ...]]`):
            Maps each choice to the tokens of the line that it leads to.
        logits (`Mapping[tuple[int, ...], torch.Tensor]`):
            The model's next-token logits, `[V]`, after each beginning at which lines part.

    Returns:
        `dict[int | str, float]`: the log-probability of each choice. The probabilities sum to 1: a text that is no
        findings line has none of them.
    """
    total = dict.fromkeys(choice, 0.0)
    for at, following in _forks(choice).items():
        tokens = sorted(following)
        for token, log_prob in zip(tokens, next_log_probs(logits[at], tokens), strict=True):
            for entry in following[token]:
                total[entry] += log_prob
    return total


def chain_logits(boundaries: Sequence[Mapping[int, float]]) -> np.ndarray:
    """
    Log-odds of the 18 labels of a list of names, each given the decisions before it.

    Args:
        boundaries (`Sequence[Mapping[int, float]]`):
            For each boundary, before the first name and after each, the log-probability of each entry that may come
            next: a label's index, or the number of labels for the end. The boundaries are those of one list.

    Returns:
        `np.ndarray` of shape `[18]`, or as many as there are labels: the log-odds. The probabilities of the 18
        decisions of the list (of each name to be there, and of each other label not to be) multiply to the probability
        of the list among all lists.
    """
    end = max(boundaries[0])
    logits = np.empty(end)
    for place, q in enumerate(boundaries):
        # A boundary decides on the labels up to the one that is named there. The next boundary begins after it.
        begin, until = min(q), min(boundaries[place + 1]) if place + 1 < len(boundaries) else end
        left = q[end]  # log-probability of all that comes after a label
        for label in reversed(range(begin, end)):
            if label < until:
                logits[label] = q[label] - left
            left = np.logaddexp(left, q[label])
    return logits


def _tokens_of_choices(collator: PairCollator, lines: Mapping[int | str, str]) -> dict[int | str, Tokens]:
    # With the line break, because a tokenizer may join it with the full stop before it.
    return {entry: tuple(tokens_of(collator, f"{line}\n")[0]) for entry, line in lines.items()}


def _forks(choice: Mapping[int | str, Tokens]) -> dict[Tokens, dict[int, Collection[int | str]]]:
    """Where the lines of a decision part: after which tokens, and which choices go on with each next token."""
    following: dict[Tokens, dict[int, list[int | str]]] = defaultdict(lambda: defaultdict(list))
    for entry, tokens in choice.items():
        for place, token in enumerate(tokens):
            following[tokens[:place]][token].append(entry)
    return {at: tokens for at, tokens in following.items() if len(tokens) > 1}
