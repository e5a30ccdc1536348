"""
Publishes a metric as a Space: `ct-rate-pairs publish-metric ct_coverage USER/ct_coverage`.

`evaluate.load("USER/ct_coverage")` then runs the metric on machines that have `evaluate` but not this package.
"""

import ast
from collections.abc import Sequence

from ct_rate_pairs.command_line import CommandParser, run
from ct_rate_pairs.eval.metrics.install import METRICS, metric_files

from .repository import HubRepository, PublishError
from .templates import read_template


TITLES = {
    "ct_coverage": "CT coverage",
    "ct_label_accuracy": "CT label accuracy",
    "ct_crg": "CT CRG",
    "ct_dice": "CT Dice",
    "ct_report_text": "CT report text",
}
# `evaluate` has `launch_gradio_widget`, but that calls `gradio.inputs`, which gradio dropped in version 4.
APP = """\
import evaluate
import gradio as gr


metric = evaluate.load("{repo_id}")


def compute(predictions, references):
    return metric.compute(predictions=predictions.splitlines(), references=references.splitlines())


gr.Interface(
    compute,
    [gr.Textbox(label="Generated reports, one per line", lines=4), gr.Textbox(label="Reference reports", lines=4)],
    gr.JSON(),
    title="{title}",
    description={description!r},
).launch()
"""
APP_OF_MASKS = """\
import evaluate
import gradio as gr
import nibabel


metric = evaluate.load("{repo_id}")


def compute(prediction, reference):
    prediction, reference = (nibabel.load(file).get_fdata() for file in (prediction, reference))
    return metric.compute(predictions=[prediction], references=[reference])


gr.Interface(
    compute,
    [gr.File(label="Predicted mask (NIfTI)"), gr.File(label="Reference mask on the same grid (NIfTI)")],
    gr.JSON(),
    title="{title}",
    description={description!r},
).launch()
"""
GRADIO = "6.31.0"
REQUIREMENTS = ["datasets>=4", "evaluate>=0.4.6", "numpy"]
REQUIREMENTS_OF_MASKS = [*REQUIREMENTS, "nibabel", "scipy"]
OF_MASKS = ("ct_dice",)
REPORTS = ["Heart size is increased."], ["Heart size is increased. There is emphysema."]
MASKS = [[[[1, 1, 0, 0]]]], [[[[1, 0, 0, 1]]]]


def space_files(name: str, repo_id: str) -> dict[str, bytes]:
    """
    The files of the Space of a metric.

    Args:
        name (`str`):
            One of [`~ct_rate_pairs.eval.metrics.install.METRICS`].
        repo_id (`str`):
            `USER/NAME` of the Space.

    Returns:
        `dict[str, bytes]`: maps the name of a file to its contents: the files of the metric, `app.py`,
        `requirements.txt` and `README.md`.
    """
    files = metric_files(name)
    script = files[f"{name}.py"].decode()
    description, inputs = (_constant(script, constant).strip() for constant in ("_DESCRIPTION", "_INPUTS"))
    citation = _constant(script, "_CITATION").strip()
    app, requirements, (predictions, references) = (
        (APP_OF_MASKS, REQUIREMENTS_OF_MASKS, MASKS) if name in OF_MASKS else (APP, REQUIREMENTS, REPORTS)
    )
    card = read_template("metric_space").format(
        title=TITLES[name],
        name=name,
        repo_id=repo_id,
        gradio=GRADIO,
        description=description,
        indented="\n".join(f"  {line}" for line in description.splitlines()),
        inputs=inputs,
        citation=f"\n{citation}\n" if citation else "",
        predictions=predictions,
        references=references,
    )
    return files | {
        "app.py": app.format(repo_id=repo_id, title=TITLES[name], description=description).encode(),
        "requirements.txt": "".join(f"{package}\n" for package in requirements).encode(),
        "README.md": card.encode(),
    }


def _constant(script: str, name: str) -> str:
    """The text that the script assigns to `name`; an empty string without an assignment."""
    for statement in ast.parse(script).body:
        if isinstance(statement, ast.Assign) and statement.targets[0].id == name:
            return ast.literal_eval(statement.value)
    return ""


def publish_metric(name: str, repo_id: str, *, private: bool = False, token: str | None = None) -> str:
    """
    Publishes a metric as a Space.

    Args:
        name (`str`):
            One of [`~ct_rate_pairs.eval.metrics.install.METRICS`].
        repo_id (`str`):
            `USER/NAME` of the Space. `NAME` must be the name of the metric, because `evaluate` looks for a script with
            the name of the Space. A missing Space is created.
        private (`bool`, *optional*, defaults to `False`):
            Creates the Space as private. An existing public Space is refused.
        token (`str`, *optional*):
            Token with the right to write. Defaults to the token of `hf auth login`.

    Returns:
        `str`: address of the Space.

    Raises:
        [`PublishError`]: if the Space has another name than the metric, or if the Hub refuses a request.
    """
    script = repo_id.rpartition("/")[2]
    if script != name:
        raise PublishError(f"evaluate.load looks for {script}.py in {repo_id}: name the Space {name}.")
    hub = HubRepository(repo_id, kind="space", private=private, token=token)
    hub.upload(space_files(name, hub.repo_id), last=["README.md"], ours=["*.py"])
    return hub.url


def main(argv: Sequence[str]) -> None:
    """The command `ct-rate-pairs publish-metric`."""
    parser = CommandParser("ct-rate-pairs publish-metric", description="Publish a metric as a Space.")
    parser.add_argument("name", choices=sorted(METRICS), help="the metric")
    parser.add_argument("repo_id", help="USER/NAME of the Space, with the metric's name")
    parser.add_argument("--private", action="store_true", help="create the Space as private")
    args = parser.parse_args(argv)
    print(publish_metric(args.name, args.repo_id, private=args.private))


if __name__ == "__main__":
    run(main)
