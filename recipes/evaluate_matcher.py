"""
Measure a dual encoder from its vectors: CT-CLIP, or a matcher that was trained here.

    ct-rate-pairs export --for ct-clip --data_dir /path/to/CT-RATE --output_dir exports/ct-clip
    ct-rate-pairs evaluate-matcher --embeddings latents --made_by CT-CLIP_v2@COMMIT --data_dir /path/to/CT-RATE

The folder of embeddings has the layout that CT-CLIP's own scripts write: image/NAME.npz and text/NAME.npz, each with
an array `arr`. The numbers and the table are those of `ct-rate-pairs train-matcher`. What the folder lacks, such as
the texts of options, is not measured, and told.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import ct_rate_pairs  # noqa: F401 (registers the dataset)
from ct_rate_pairs.command_line import run
from ct_rate_pairs.folder_lock import folder_lock
from ct_rate_pairs.recipes.arguments import ScanArguments, SharedScansArguments, check_made_by
from ct_rate_pairs.recipes.recipe_parser import RecipeParser


@dataclass
class MatcherEvaluationArguments(SharedScansArguments, ScanArguments):
    """The vectors, the scans, and what stands beside them in the table."""

    embeddings: str = field(kw_only=True, metadata={"help": "Folder of the vectors."})
    made_by: str = field(kw_only=True, metadata={"help": "What has made them, NAME@COMMIT; its name in the table."})
    output_dir: str | None = field(
        default=None, metadata={"help": "Folder to write to; by default evaluation/ in the folder of the vectors."}
    )
    beside: list[str] = field(
        default_factory=list,
        metadata={"help": "Folders of `evaluate-task --task matching` for other models, to add to the table."},
    )
    seed: int = field(default=0, metadata={"help": "Seed of the options."})


def main(argv: Sequence[str]) -> None:
    """The command `ct-rate-pairs evaluate-matcher`."""
    parser = RecipeParser([MatcherEvaluationArguments], "ct-rate-pairs evaluate-matcher", __doc__)
    (args,) = parser.parse(argv)
    check_made_by(args.made_by)

    import numpy as np
    import torch

    from ct_rate_pairs.eval.embeddings import ZERO_SHOT, Embeddings, check_cohort, read_embeddings, read_label_scores
    from ct_rate_pairs.eval.matcher_scores import score_vectors, write_matcher_results
    from ct_rate_pairs.eval.predictions.store import select_shared
    from ct_rate_pairs.eval.rows import references_of, select_volumes
    from ct_rate_pairs.recipes.train_matcher import CHOICES, load_choices, load_split, read_beside

    options = args.dataset_options() | {"seed": args.seed, "negative": "none"}
    scans, train = load_split("test", options), load_split("train", options)
    check_cohort(args.embeddings, scans)
    choices = [load_choices(options | kind) for kind in CHOICES]
    beside = {folder: read_beside(folder, [asked for asked, _ in choices]) for folder in args.beside}
    volumes, reports, _ = references_of(scans)
    asked = select_shared(dict(zip(volumes, reports, strict=True)), args.scans_of)
    scores = read_label_scores(args.embeddings)
    if scores and not Path(args.embeddings, "image").is_dir():
        known = [volume for volume in asked if volume in scores]
        found = Embeddings(known, torch.full((2, len(known), 1), torch.nan), {})
    else:
        found = read_embeddings(args.embeddings, asked)
    print(f"{len(found.volumes)} of {len(asked)} scans of the split test have a vector.")
    label_scores = None
    if scores and all(volume in scores for volume in found.volumes):
        label_scores = np.stack([scores[volume] for volume in found.volumes])
    elif scores:
        print(f"{ZERO_SHOT} is left out: it lacks some of these scans.")
    chosen = select_volumes(scans, found.volumes)
    results = score_vectors(found.vectors, chosen, found.texts, train, choices, label_scores=label_scores)
    out = Path(args.output_dir or Path(args.embeddings, "evaluation"))
    with folder_lock(out, parser.prog):
        name = args.made_by.partition("@")[0]
        write_matcher_results(results | {"made_by": args.made_by}, out, beside=beside, name=name)


if __name__ == "__main__":
    run(main)
