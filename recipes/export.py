"""
Write scans as another model's own preprocessing has them, to run that model with its own code; or the vectors of a
matcher that was trained here.

    ct-rate-pairs export --for m3d --data_dir /path/to/CT-RATE --output_dir exports/m3d
    ct-rate-pairs export --for ct-clip --data_dir runs/phantom_cohort --output_dir exports/ct-clip
    ct-rate-pairs export --embeddings runs/matcher --data_dir runs/phantom_cohort --output_dir exports/matcher

Each scan becomes one array. `manifest.json` tells its shape, spacing, window, axes and prompt, and where each number
comes from; beside it are the lists that the model's scripts read. An interrupted export goes on with the same command.
A scan that cannot be read is listed in the manifest, and the others are written.

`ct-rate-pairs evaluate --predictions FILE --made_by NAME@COMMIT` measures the reports that the model writes, and
`ct-rate-pairs evaluate-matcher --embeddings DIR --made_by NAME@COMMIT` the vectors.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import ct_rate_pairs  # noqa: F401 (registers the dataset)
from ct_rate_pairs.command_line import CommandParser, run
from ct_rate_pairs.export import FORMATS
from ct_rate_pairs.folder_lock import folder_lock
from ct_rate_pairs.volumes.settings import FILES, RECONSTRUCTIONS


def main(argv: Sequence[str]) -> None:
    """The command `ct-rate-pairs export`."""
    parser = CommandParser("ct-rate-pairs export", description=__doc__.strip())
    add = parser.add_argument
    add("--for", dest="format", choices=FORMATS, help="the model")
    add("--embeddings", metavar="MATCHER", help="folder of a matcher, whose vectors of the split test are written")
    add("--output_dir", required=True, metavar="DIR", help="folder to write to")
    add("--data_dir", metavar="DIR", help="copy of CT-RATE, phantom cohort or table of own scans (default: the Hub)")
    add("--split", choices=("test", "validation", "train"), default="test", help="scans to write")
    add("--max_eval_samples", type=int, default=0, metavar="N", help="the first N scans of the split; 0: all")
    add("--files", choices=FILES, default="fixed", help="HU from the headers, or from the metadata table")
    add("--reconstructions", choices=RECONSTRUCTIONS, default="first", help="reconstructions of a scan to write")
    args = parser.parse_args(argv)
    if (args.format is None) == (args.embeddings is None):
        parser.error("give either --for MODEL, to write scans, or --embeddings MATCHER, to write vectors.")
    changed = ("split", "max_eval_samples", "files", "reconstructions")
    idle = [name for name in changed if getattr(args, name) != parser.get_default(name)]
    if args.embeddings and idle:
        parser.error(f"--{idle[0]} has no effect with --embeddings, which takes the settings of the matcher.")
    with folder_lock(args.output_dir, parser.prog):
        if args.embeddings:
            export_embeddings(args.embeddings, args.data_dir, Path(args.output_dir))
        else:
            export_scans_for(parser, args)


def export_scans_for(parser: CommandParser, args: argparse.Namespace) -> None:
    """Writes the scans for the model of `--for`."""
    from ct_rate_pairs.config import CTRatePairsConfig
    from ct_rate_pairs.export import ct_clip
    from ct_rate_pairs.export.write import (
        MANIFEST,
        cohort_of,
        export_scans,
        facts_of,
        gigabytes,
        open_manifest,
        save_array,
    )
    from ct_rate_pairs.sources import open_source
    from ct_rate_pairs.sources.prepared import PreparedSource
    from ct_rate_pairs.splits import read_tables

    settings = {"files": args.files, "reconstructions": args.reconstructions}
    source, out = open_source(args.data_dir, **settings), Path(args.output_dir)
    if isinstance(source, PreparedSource):
        parser.error(f"{args.data_dir} is a prepared copy, which lacks the whole volumes: give what it is a copy of.")
    scans = read_tables(source, CTRatePairsConfig(on_error="skip"))[args.split]
    cohort = cohort_of(scans)
    scans = scans.iloc[: args.max_eval_samples or len(scans)]
    open_manifest(out, facts_of(args.format, args.split, cohort))  # refuses a folder before anything is written to it
    print(f"{len(scans)} scans of the split {args.split}: at most {gigabytes(args.format, len(scans)):.2f} GB.")
    if args.format == "ct-clip" and args.split == "test":  # before hours of reading scans
        write_texts_to_embed(out, {"data_dir": args.data_dir, "on_error": "skip", **settings}, list(scans.index))
        save_array(out / "blank.npy", ct_clip.blank())
    manifest = export_scans(source, scans, out, name=args.format, split=args.split, cohort=cohort)
    print(f"{out}: {len(manifest['scans'])} scans for {manifest['model']}, see {MANIFEST}.")
    for told in manifest["not_stated"]:
        print(f"The scripts of {manifest['model']} do not state everything. {told}")
    if failed := manifest["failed"]:
        print(f"{len(failed)} scans could not be read, see `failed` in {MANIFEST}. The first: {next(iter(failed))}.")


def write_texts_to_embed(out: Path, options: dict, volumes: Sequence[str]) -> None:
    """Adds to `texts.jsonl` the texts whose vectors are needed to measure a dual encoder on these scans."""
    from ct_rate_pairs.eval.embeddings import TEXTS, write_texts
    from ct_rate_pairs.eval.matcher_scores import texts_to_embed
    from ct_rate_pairs.eval.rows import select_volumes
    from ct_rate_pairs.recipes.train_matcher import CHOICES, load_choices, load_split

    options |= {"negative": "none"}
    scans = select_volumes(load_split("test", options), volumes)
    choices = [load_choices(options | kind) for kind in CHOICES]
    texts = texts_to_embed(scans, load_split("train", options), choices)
    write_texts(out, texts)
    print(f"{out / TEXTS}: {len(texts)} texts to embed.")


def export_embeddings(matcher: str, data_dir: str | None, out: Path) -> None:
    """Writes the vectors of a matcher for the split `test`, and of the texts that are needed to measure it."""
    from tqdm import tqdm

    from ct_rate_pairs.eval.embeddings import FORMAT, read_texts, write_vectors
    from ct_rate_pairs.eval.load_model import version_of
    from ct_rate_pairs.eval.matcher import embed_scans, embed_texts
    from ct_rate_pairs.eval.predictions.provenance import fingerprint
    from ct_rate_pairs.export.write import open_manifest
    from ct_rate_pairs.recipes.train_matcher import load_split
    from ct_rate_pairs.trainer.generation import evaluating
    from ct_rate_pairs.trainer.matcher import MatcherModel
    from ct_rate_pairs.trainer.matcher_collator import MatcherCollator
    from ct_rate_pairs.trainer.row_settings import options_to_show

    model = MatcherModel.from_pretrained(matcher)
    collator = MatcherCollator.from_pretrained(matcher)
    options = options_to_show(matcher, None, {"data_dir": data_dir, "on_error": "skip"}, "report")
    scans = load_split("test", options | {"negative": "none"})
    facts = {"format": FORMAT, "split": "test", "cohort": fingerprint(scans), "weights": version_of(matcher)}
    open_manifest(out, facts)
    write_texts_to_embed(out, options, scans["volume"][:])
    stems = [volume.removesuffix(".nii.gz") for volume in scans.with_format(None)["volume"]]
    owed = [place for place, stem in enumerate(stems) if not (out / "blank" / f"{stem}.npz").is_file()]
    with evaluating(model):
        texts = read_texts(out)
        write_vectors(out / "text", dict(zip(texts, embed_texts(model, collator, list(texts.values())), strict=True)))
        for start in tqdm(range(0, len(owed), 32), "embedding", unit="batch"):
            some = owed[start : start + 32]
            read, vectors = embed_scans(model, collator, scans.select(some), progress=False)
            names = [stems[some[place]] for place in read]
            for folder, of_kind in zip(("image", "blank"), vectors, strict=True):
                write_vectors(out / folder, dict(zip(names, of_kind, strict=True)))
    missing = [stem for stem in stems if not (out / "blank" / f"{stem}.npz").is_file()]
    print(f"{out}: vectors of {len(stems) - len(missing)} scans and {len(texts)} texts.")
    if missing:
        print(f"{len(missing)} scans could not be read. The first: {missing[0]}.")


if __name__ == "__main__":
    run(main)
