"""
Publishes which volume is the negative of which, as a small dataset on the Hub. The dataset holds names and numbers,
and neither scans nor reports.

`ct-rate-pairs negative-index REPO_ID` publishes the dataset for CT-RATE.
"""

import io
from collections.abc import Sequence

import numpy as np
import pandas as pd

from ct_rate_pairs.command_line import CommandParser, add_data_dir, run
from ct_rate_pairs.config import LABEL_DISTANCE, CTRatePairsConfig
from ct_rate_pairs.eval.tables import format_markdown
from ct_rate_pairs.random_streams import draw_rng
from ct_rate_pairs.volumes.settings import VolumeSettings

from .repository import HubRepository
from .templates import CT_RATE, read_template


SPLITS = ("train", "validation", "test")
RULES = {
    "heter": "another patient's volume with at least {config.min_label_distance} of 18 labels different, or if there "
    "is none, with as many different as possible",
    "hard": "another patient's volume that lacks a finding of the report, with at most {config.max_label_distance} of "
    "18 labels different, or if there is none, with as few different as possible",
}
COHORTS = {  # key: whether the cohort is the phantom
    False: {
        "license": "cc-by-nc-sa-4.0",
        "cohort": f"[CT-RATE](https://huggingface.co/datasets/{CT_RATE})",
        "options": "",
        "access": """\
CT-RATE is gated: accept its terms on the Hub and run `hf auth login`. Its repository holds the file of the volume
`train_1_a_1.nii.gz` as `dataset/train_fixed/train_1/train_1_a/train_1_a_1.nii.gz`. `volume` and `partner` match the
column `VolumeName` of its tables. The splits `train` and `validation` divide the patients of CT-RATE's training set;
`test` is CT-RATE's validation set. The licence is that of CT-RATE.""",
    },
    True: {
        "license": "apache-2.0",
        "cohort": "a synthetic phantom cohort of `ct-rate-pairs`",
        "options": ', data_dir="phantom"',
        "access": "The scans come from a phantom cohort in the folder `phantom`: see `ct-rate-pairs phantom --help`.",
    },
}


def negative_index(config: CTRatePairsConfig, splits: Sequence[str] = ("train",)) -> dict[str, pd.DataFrame]:
    """
    Draws the partners of the first epoch. No volume is read.

    Args:
        config ([`~ct_rate_pairs.config.CTRatePairsConfig`]):
            Options of the dataset: `data_dir`, `negative` (`"heter"` or `"hard"`), `seed` and the options of the rule.
        splits (`Sequence[str]`, *optional*, defaults to `("train",)`):
            Splits to draw partners for.

    Returns:
        `dict[str, pd.DataFrame]`: one table per split, with the columns `volume`, `partner`, `distance` and `seed`.

    Raises:
        `ValueError`: for a split with volumes of fewer than two patients.
    """
    # Imported here, because these modules import torch, and `--help` should answer at once.
    from ct_rate_pairs.rows import RowReader
    from ct_rate_pairs.sources import open_source

    source = open_source(config.data_dir, **config.settings)
    if source.is_own:
        raise ValueError(f"{config.data_dir} is a table of your own scans: nobody else has the volumes of its index.")
    reader = RowReader(config, source)
    return {split: _draw(reader, split) for split in splits}


def _draw(reader, split: str) -> pd.DataFrame:
    """The table of one split."""
    partners, volumes, seed = reader.partners(split), list(reader.tables[split].index), reader.config.seed
    drawn = [  # as `RowReader.read` draws in epoch 0
        partners.draw(index, draw_rng(seed, 0, volume)) for index, volume in enumerate(volumes)
    ]
    return pd.DataFrame(
        {
            "volume": volumes,
            "partner": [volumes[partner] for partner, _ in drawn],
            "distance": np.array([distance for _, distance in drawn], dtype=np.int8),
            "seed": seed,
        }
    )


def _card(index: dict[str, pd.DataFrame], config: CTRatePairsConfig, source, repo_id: str) -> str:
    """The card of the dataset, as Markdown. `source` is the [`~ct_rate_pairs.sources.Source`] of the volumes."""
    rows = sum(len(table) for table in index.values())
    sizes = {1_000: "n<1K", 10_000: "1K<n<10K", 100_000: "10K<n<100K"}
    titles = ["split", "volumes", "mean distance", "different partners", "draws of the most frequent partner"]
    statistics = [
        [
            split,
            f"{len(table):,}",
            f"{table['distance'].mean():.2f}",
            f"{table['partner'].nunique():,}",
            f"{table['partner'].value_counts().iloc[0]:,}",
        ]
        for split, table in index.items()
    ]
    defaults = CTRatePairsConfig()
    rule_options = "".join(
        f", {name}={getattr(config, name)!r}"
        for name in ("min_label_distance", "max_label_distance", "partner_sampling", "target", "validation_size")
        if getattr(config, name) != getattr(defaults, name)
    )
    rule_options += "".join(  # a prepared copy may have other volumes than the source has by default
        f", {name}={getattr(source.settings, name)!r}"
        for name in ("files", "reconstructions")
        if getattr(source.settings, name) != getattr(VolumeSettings(), name)
    )
    return read_template("negative_index").format(
        **COHORTS[source.is_phantom],
        size=next(size for limit, size in sizes.items() if rows < limit),
        data_files="\n".join(f"  - split: {split}\n    path: data/{split}.parquet" for split in index),
        config=config,
        rule=RULES[config.negative].format(config=config),
        statistics=format_markdown([titles, *statistics]).rstrip(),
        repo_id=repo_id,
        split=next(iter(index)),
        rule_options=rule_options,
    )


def publish_negative_index(
    repo_id: str,
    config: CTRatePairsConfig,
    splits: Sequence[str] = ("train",),
    *,
    private: bool = False,
) -> str:
    """
    Publishes the partners of the first epoch as a dataset. Its card describes how to join the partners to the scans.

    Args:
        repo_id (`str`):
            `USER/NAME` of the dataset. A missing repository is created.
        config ([`~ct_rate_pairs.config.CTRatePairsConfig`]), splits (`Sequence[str]`, *optional*):
            See [`negative_index`].
        private (`bool`, *optional*, defaults to `False`):
            Creates the repository as private. An existing public repository is refused.

    Returns:
        `str`: address of the dataset.

    Raises:
        [`~ct_rate_pairs.hub.repository.PublishError`]: if the Hub refuses a request.
    """
    index = negative_index(config, splits)
    from ct_rate_pairs.sources import open_source

    source = open_source(config.data_dir, **config.settings)
    hub = HubRepository(repo_id, kind="dataset", private=private)
    files = {}
    for split, table in index.items():
        buffer = io.BytesIO()
        table.to_parquet(buffer, index=False)
        files[f"data/{split}.parquet"] = buffer.getvalue()
    files["README.md"] = _card(index, config, source, hub.repo_id).encode()
    hub.upload(files, last=["README.md"], ours=["data/*.parquet"])
    return hub.url


def main(argv: Sequence[str]) -> None:
    """The command `ct-rate-pairs negative-index`."""
    parser = CommandParser(
        "ct-rate-pairs negative-index", description="Publish which volume is the negative of which."
    )
    add = parser.add_argument
    add("repo_id", help="USER/NAME of the dataset on the Hub; created if there is none")
    add_data_dir(parser)
    add("--splits", nargs="+", choices=SPLITS, default=["train"], help="(default: train)")
    add("--negative", choices=sorted(RULES), default="heter", help="the rule (default: %(default)s)")
    distance = {"type": int, "range": LABEL_DISTANCE, "metavar": "N"}
    add("--min_label_distance", **distance, default=10, help="for heter, 1 to 18 (default: %(default)s)")
    add("--max_label_distance", **distance, default=3, help="for hard, 1 to 18 (default: %(default)s)")
    add("--partner_sampling", choices=("uniform", "balanced"), default="uniform", help="(default: %(default)s)")
    add("--seed", type=int, default=0, metavar="N", help="(default: %(default)s)")
    add("--private", action="store_true", help="create the dataset as private")
    options = vars(parser.parse_args(argv))
    unused = {"heter": "max_label_distance", "hard": "min_label_distance"}[options["negative"]]
    if options[unused] != parser.get_default(unused):
        parser.error(f"--{unused} has no effect here: negative={options['negative']} does not use it. Leave it out.")
    repo_id, splits, private = (options.pop(name) for name in ("repo_id", "splits", "private"))
    print(publish_negative_index(repo_id, CTRatePairsConfig(**options), splits, private=private))


if __name__ == "__main__":
    run(main)
