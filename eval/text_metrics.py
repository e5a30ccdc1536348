"""Word overlap of generated and reference reports under a named recipe: BLEU-1 of one text is .51 or .63 by recipe."""

import re
from collections.abc import Sequence

from pycocoevalcap.bleu.bleu import Bleu
from pycocoevalcap.rouge.rouge import Rouge


# A number keeps its decimals and its unit ("5.5mm"); any other mark is a token of its own.
TOKEN = re.compile(r"\d+[.,]\d+\w*|\w+|[^\w\s]")


def tokenize_lower(text: str) -> str:
    """The recipe `"lower"`: lower case, punctuation split off, tokens joined by single spaces."""
    return " ".join(TOKEN.findall(text.lower()))


def text_scores(
    predictions: Sequence[str], references: Sequence[str], recipe: str = "lower"
) -> dict[str, float | str]:
    """
    BLEU-1 to BLEU-4 and ROUGE-L of generated reports, by pycocoevalcap.

    Args:
        predictions (`Sequence[str]`):
            Generated reports. An empty one scores 0 in ROUGE-L and adds its reference's length to BLEU's brevity
            penalty.
        references (`Sequence[str]`):
            Reference reports, one a prediction, none empty.
        recipe (`str`, *optional*, defaults to `"lower"`):
            How the texts are made comparable. `"lower"`: lower case, punctuation split off ([`tokenize_lower`]); BLEU
            over the whole corpus with the closest reference length, ROUGE-L as the mean over reports with beta 1.2.

    Returns:
        `dict`: `bleu1`, `bleu2`, `bleu3`, `bleu4`, `rouge_l`, all in [0, 1], and `recipe`.

    Raises:
        `ValueError`: for an unknown recipe, no reports, unequal numbers of reports, or an empty reference.
    """
    if recipe != "lower":
        raise ValueError(f"Unknown recipe {recipe!r}; choose `recipe='lower'`.")
    if len(predictions) != len(references):
        raise ValueError(
            f"{len(predictions)} predictions for {len(references)} references: pass one prediction a reference, in "
            "the same order."
        )
    if len(references) == 0:
        raise ValueError("`references` is empty: there is no report to score.")
    hypotheses = {index: [tokenize_lower(text)] for index, text in enumerate(predictions)}
    truths = {index: [tokenize_lower(text)] for index, text in enumerate(references)}
    for index, (truth,) in truths.items():
        if not truth:
            raise ValueError(
                f"`references` row {index} is an empty report: leave it out together with its prediction."
            )
    bleu, _ = Bleu(4).compute_score(truths, hypotheses, verbose=0)
    rouge, _ = Rouge().compute_score(truths, hypotheses)
    return {**{f"bleu{n}": float(score) for n, score in enumerate(bleu, 1)}, "rouge_l": float(rouge), "recipe": recipe}
