"""What sets a findings line in the place of the model's own choice: an operating point, or a reader's findings."""

from collections.abc import Sequence

from transformers import PreTrainedModel

from ct_rate_pairs.eval.looking.line_probabilities import LineReading, read_findings_lines
from ct_rate_pairs.eval.scoring.operating_points import OperatingPoint
from ct_rate_pairs.reports.findings_line import Named, findings_named
from ct_rate_pairs.trainer import PairCollator
from ct_rate_pairs.trainer.generation import write_batch

from .confidence import Confidence, choose_point


def check_line(
    operating_point: str | float | None,
    findings: Sequence[str] | None,
    *,
    kind: str,
    in_prompt: bool,
    confidence: Confidence | None,
) -> tuple[Named | None, OperatingPoint | None]:
    """
    What sets the findings line of a report.

    Args:
        operating_point (`str` or `float`, *optional*), findings (`Sequence[str]`, *optional*):
            As for [`~ct_rate_pairs.hub.reporting.reporter.Reporter.report`].
        kind (`str`):
            The form of the findings line that the model was trained with; `"none"` for none.
        in_prompt (`bool`):
            Whether the model was trained with findings in its prompts.
        confidence ([`~ct_rate_pairs.hub.reporting.confidence.Confidence`], *optional*):
            The confidence of the model.

    Returns:
        `tuple`: the findings that a reader gives, and the operating point that decides. Both are `None` if the model
        decides.

    Raises:
        `ValueError`: if both are given, if one of them is malformed, or if the model was not trained for it.
    """
    if operating_point is not None and findings is not None:
        raise ValueError("operating_point and findings both tell what sets the findings line: give one of the two.")
    if findings is not None:
        named = findings_named(findings)
        if named.sides and (in_prompt or kind != "sides"):
            raise ValueError(
                "findings names a side, and this model was not trained to read one. Leave sides out, or train it with "
                "findings_line sides."
            )
        if kind == "none" and not in_prompt:
            raise ValueError(
                "findings sets the findings line, and this model was not trained to write one. Train it with "
                "findings_line names, yes_no or sides, or with prompt_findings."
            )
        return named, None
    return None, choose_point(confidence, operating_point)


def read_own_line(
    model: PreTrainedModel, collator: PairCollator, row: dict, max_new_tokens: int
) -> tuple[str | None, LineReading]:
    """The findings line that a model writes by itself, and what the model holds probable there."""
    (first,) = write_batch(model, collator, [row], max_new_tokens=max_new_tokens, line_only=True)
    (reading,) = read_findings_lines(model, collator, [row], [first.line])
    return first.line, reading


def no_point_holds(own: str | None) -> str:
    """That an operating point sets nothing, because the model's own line is malformed, in words."""
    wrote = f": {own!r:.200}" if own else ""
    return f"The model wrote no sound findings line, so no operating point holds{wrote}."
