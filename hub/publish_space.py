"""
The Space of a model: the page of `ct-rate-pairs app` on the Hub, beside the model.

A Space installs the packages of its `requirements.txt`. This package goes up as a folder beside `app.py`, so that the
page runs with the code that published it.
"""

import sys
from importlib.metadata import distribution, requires
from importlib.util import find_spec
from pathlib import Path

from packaging.requirements import Requirement

from .notice import NOTICE
from .publish_metric import GRADIO
from .templates import read_template


APP = """\
from ct_rate_pairs.hub import load_reporter
from ct_rate_pairs.hub.app.page import serve


serve(load_reporter("{model}", "{commit}"))
"""
OURS = ("app.py", "requirements.txt", "LICENSE", "ct_rate_pairs/*")  # what an earlier publication may have uploaded
PACKAGE = "ct-rate-pairs"
ROOMS = ("ct_rate_pairs", "ct_rate_pairs.trainer", "ct_rate_pairs.eval", "ct_rate_pairs.hub")
KINDS = (".py", ".json", ".md", ".typed")  # of the files of these rooms
EXTRAS = ("app", "dicom")


def space_files(model: str, commit: str) -> dict[str, Path | bytes]:
    """
    The files of the Space of a model.

    Args:
        model (`str`):
            `USER/NAME` of the model.
        commit (`str`):
            Commit of the model that the Space shows.

    Returns:
        `dict[str, Path | bytes]`: maps the name of a file to a local file or to contents: `app.py`,
        `requirements.txt`, `README.md`, `LICENSE`, and this package in `ct_rate_pairs/`.
    """
    python = f"{sys.version_info.major}.{sys.version_info.minor}"
    title = f"{model.rpartition('/')[2]}: chest CT report"
    card = read_template("model_space").format(title=title, gradio=GRADIO, python=python, model=model, notice=NOTICE)
    return package_files() | {
        "app.py": APP.format(model=model, commit=commit).encode(),
        "requirements.txt": "".join(f"{package}\n" for package in requirements()).encode(),
        "README.md": card.encode(),
        "LICENSE": licence().encode(),
    }


def licence() -> str:
    """The licence of this package, which an installed package and a source tree keep in different places."""
    return next(file for file in distribution(PACKAGE).files if file.name == "LICENSE").read_text(encoding="utf-8")


def package_files() -> dict[str, Path | bytes]:
    """The files of this package that the page needs, by their places in an installed package."""
    found: dict[str, Path | bytes] = {}
    for room in ROOMS:
        (folder,) = find_spec(room).submodule_search_locations
        for file in sorted(Path(folder).rglob("*")):
            if file.suffix in KINDS:
                found[f"{room.replace('.', '/')}/{file.relative_to(folder).as_posix()}"] = file
    return found


def requirements() -> list[str]:
    """The packages that the page needs, with their versions."""
    needed = {}
    for requirement in map(Requirement, requires(PACKAGE)):
        marker, requirement.marker = requirement.marker, None
        extras = ("", *EXTRAS)
        if requirement.name != PACKAGE and (not marker or any(marker.evaluate({"extra": name}) for name in extras)):
            needed[requirement.name] = str(requirement)
    return sorted(needed.values())
