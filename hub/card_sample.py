"""A report of the model beside its reference in a model card. Only for the phantom: no other reference may go up."""

from pathlib import Path

from ct_rate_pairs.shown_text import for_markdown

from .guard import PIXELS
from .references import read_references
from .templates import read_template


def sample_text(run_dir: Path, sample: tuple[str, str]) -> str:
    """
    The section with a report of the model and the reference of the same scan, and with their figure if there is one.

    Raises:
        `ValueError`: if `reference_hashes.json` of the run does not say that the cohort is the phantom.
    """
    if not read_references(run_dir).phantom:
        raise ValueError(f"{run_dir} is a run on real scans, whose reference reports must not be shown in a card.")
    written, reference = (for_markdown(text).replace("\n", "<br>") for text in sample)
    figure = f"\n![Slices, references and reports]({PIXELS})\n" if (run_dir / PIXELS).is_file() else ""
    return read_template("model_card_sample").format(written=written, reference=reference, figure=figure)
