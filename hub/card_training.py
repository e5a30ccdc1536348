"""What a model card says of the training: its objective, and the model that it started from."""

from collections.abc import Sequence
from pathlib import Path

from trl import GRPOConfig

from ct_rate_pairs.json_files import read_json
from ct_rate_pairs.json_schemas.run import Environment
from ct_rate_pairs.trainer import NegativeSFTConfig
from ct_rate_pairs.trainer.run_record import ENVIRONMENT, base_of_run, read_run

from .templates import read_template


CONSTRAINED = "whose loss makes a report unlikely where its visual evidence is absent"
UNCONSTRAINED = "without its negative constraint (beta 0): a baseline"
REINFORCED = "by rewards on the reports that it writes (GRPO)"

NEGATIVES = {
    "none": "none; the model is trained only on volumes with their own reports.",
    "gauss": "standard normal noise of the volume's size, clipped to [-1, 1], drawn anew in each epoch.",
    "heter": "a volume of another patient with at least {min_label_distance} of 18 labels different, or if there is\n"
    "  none, with as many different as possible; drawn `{partner_sampling}`, and cropped or padded with air to the\n"
    "  volume's size.",
    "mutual": "a volume of the same training batch, of another patient and with other labels. The volumes of a batch\n"
    "  are matched so that as many labels as possible differ; a volume without a partner has no negative.",
    "hard": "a volume of another patient with at most {max_label_distance} of 18 labels different that lacks a\n"
    "  finding of the report; drawn `{partner_sampling}`, and cropped or padded with air to the volume's size.",
    "rewards": "none; the model learnt from the reports that it drew itself, by the rewards below.",
}
REWARDS = {
    "label_f1": "F1 of the 18 labels that a report states, by the rule labeler",
    "crg": "share of the 18 labels that are right, weighed as in CRG",
    "place": "share of the reference's findings that are placed on the same side",
    "agreement": "F1 of the labels of a report and those of its own findings line",
    "length": "1 up to the length of the reference, and less the longer a report is",
}


def trained_text(config: NegativeSFTConfig | GRPOConfig, reward_funcs: Sequence[str]) -> str:
    """How the model was trained, in a few words."""
    return REINFORCED if reward_funcs else CONSTRAINED if config.beta > 0 else UNCONSTRAINED


def objective_text(config: NegativeSFTConfig | GRPOConfig, reward_funcs: Sequence[str]) -> str:
    """The loss or the rewards of a training, with the first rows of the table of its settings."""
    if not reward_funcs:
        return read_template("model_card_training_negatives").format(config=config)
    weights = config.reward_weights or [1.0] * len(reward_funcs)
    told = [f"- `{name}`, {weight:g}: {REWARDS[name]}." for name, weight in zip(reward_funcs, weights, strict=True)]
    return read_template("model_card_training_rewards").format(config=config, rewards="\n".join(told))


def negative_text(negative: str, partner_sampling: str, reward_funcs: Sequence[str], **distances: int) -> str:
    """The negative of a pair, in words."""
    mutual = partner_sampling == "mutual" and negative == "heter"
    kind = "rewards" if reward_funcs else "mutual" if mutual else negative
    return NEGATIVES[kind].format(partner_sampling=partner_sampling, **distances)


def base_text(names: Sequence[str], commits: dict[str, str]) -> str:
    """The models that a training started from, in words. `commits` are those of the models on the Hub."""
    told = [_run_text(Path(name)) if Path(name).is_dir() else _hub_text(name, commits.get(name)) for name in names]
    return " and ".join(told) or "none, trained from scratch"


def commits_of(base: str | None) -> dict[str, str]:
    """The commits of the models that an `environment.json` names as `base`."""
    return dict(one.split("@") for one in base.split(", ")) if base else {}


def _hub_text(name: str, commit: str | None) -> str:
    at = f" at commit `{commit[:12]}`" if commit else ""
    return f"[{name}](https://huggingface.co/{name}){at}"


def _run_text(folder: Path) -> str:
    """A model in a folder of this machine, whose name is not told: how it was trained, and what from."""
    path, run = folder / ENVIRONMENT, read_run(folder)
    if not path.is_file():
        return "a local checkpoint"
    options, commit = run.get("settings", run), read_json(path, Environment).get("commit")  # a study keeps settings
    names = ("negative", "findings_line", "reward_funcs", "beta", "max_steps", "seed")
    told = [f"{name} {_plain(options[name])}" for name in names if options.get(name) is not None]
    told += [f"commit {commit[:12]}"] if commit else []
    bases = [_hub_text(*one) for one in commits_of(base_of_run(folder)).items()]
    return f"a run of `ct-rate-pairs` ({', '.join(told)}), itself from {' and '.join(bases) or 'scratch'}"


def _plain(value: object) -> str:
    return " and ".join(map(str, value)) if isinstance(value, list) else str(value)
