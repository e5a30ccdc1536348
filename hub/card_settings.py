"""What a model card says of the software and the settings of a run, so that another one can repeat it."""

from importlib.metadata import metadata
from pathlib import Path

import yaml

from ct_rate_pairs.builder import CITATION
from ct_rate_pairs.trainer.run_record import PACKAGES, read_run, versions

from .templates import read_template
from .tokens_and_paths import find_path


# Training arguments that are secrets or belong to one machine.
NOT_TOLD = (
    "hub_token",
    "output_dir",
    "logging_dir",
    "run_name",
    "resume_from_checkpoint",
    "chat_template_path",
    "deepspeed",
    "fsdp_config",
    "local_rank",
    "trackio_space_id",
)
# A run that is repeated goes to another folder, and not over what this run has published.
NOT_REPEATED = (*NOT_TOLD, "data_dir", "push_to_hub", "hub_model_id", "hub_private_repo", "hub_revision")

GRPO = """\
@article{shao2024deepseekmath,
  title={DeepSeekMath: Pushing the Limits of Mathematical Reasoning in Open Language Models},
  author={Shao, Zhihong and Wang, Peiyi and Zhu, Qihao and Xu, Runxin and Song, Junxiao and Bi, Xiao and
    Zhang, Haowei and Zhang, Mingchuan and Li, Y. K. and Wu, Y. and Guo, Daya},
  journal={arXiv preprint arXiv:2402.03300},
  year={2024}
}"""


def repeatable_settings(run_dir: Path) -> tuple[dict, list[str]]:
    """
    The options in `run.yaml` of a run without paths of its machine, and the names of options that are left out because
    they hold such a path. Both are empty without this file.
    """
    options = {name: value for name, value in read_run(run_dir).items() if name not in NOT_REPEATED}
    local = [name for name, value in options.items() if find_path(yaml.safe_dump([value]), run_dir, settings=True)]
    return {name: value for name, value in options.items() if name not in local}, local


def settings_text(run_dir: Path, command: str) -> str:
    """All settings of a run, as a folded block of YAML for `command`; an empty string without `run.yaml`."""
    settings, local = repeatable_settings(run_dir)
    if not settings:
        return ""
    missing = f" Pass also {', '.join(f'`--{name}`' for name in local)}: a path here." if local else ""
    block = yaml.safe_dump(settings, sort_keys=False, allow_unicode=True)
    return read_template("model_card_settings").format(command=command, settings=block, missing=missing)


def software_text(environment: dict) -> str:
    """The versions and the commit in `environment.json`, in words."""
    if "versions" not in environment:
        return "not recorded"
    told = ", ".join(f"{package} {number}" for package, number in environment["versions"].items())
    commit = environment["commit"]
    return told + (f"; commit {commit[:12]}{', with changes' * environment['dirty']}" if commit else "")


def install_text(environment: dict) -> str:
    """
    How to install the version of this package that a run was trained with. The address is that of the package's own
    metadata; without one, a checkout is installed.
    """
    version = environment.get("versions", versions())[PACKAGES[0]]
    commit = environment.get("commit")
    addresses = dict(line.split(", ", 1) for line in metadata(PACKAGES[0]).get_all("Project-URL", []))
    if source := addresses.get("Source"):
        at = f"@{commit}" if commit else ""
        return f'[`ct-rate-pairs`]({source}) {version}: `pip install "ct-rate-pairs[dicom] @ git+{source}{at}"`.'
    where = f"commit {commit[:12]} of its repository" if commit else "its source"
    return (
        f"`ct-rate-pairs` {version}: `pip install '.[dicom]'` in a checkout of {where}. It has no public address yet."
    )


def citation_text(of_ct_rate: bool, of_grpo: bool) -> str:
    """BibTeX of the method, of this package, of GRPO, and of CT-RATE if the labels or scans are from there."""
    software = {"version": versions()[PACKAGES[0]], "data": f"\n{CITATION.strip()}" * of_ct_rate}
    software["grpo"] = f"\n{GRPO}" * of_grpo
    text = read_template("model_card_citation")
    for name, value in software.items():
        text = text.replace(f"<{name}>", value)
    return text
