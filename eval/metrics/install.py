"""
Makes `evaluate.load("ct_coverage")` work, by writing the metrics to the cache of `evaluate`.

`evaluate` looks for `evaluate-metric/NAME` on the Hub. As the Hub has no such metric, `evaluate` takes the most
recently modified folder with a name of 64 characters under
`HF_MODULES_CACHE/evaluate_modules/metrics/evaluate-metric--NAME` (evaluate 0.4.6, `loading.py`). Such a folder holds
the script and the modules that the script imports, without subfolders. A Space of the metric holds the same files.
"""

import hashlib
import os
import shutil
import tempfile
import time
import warnings
from contextlib import suppress
from pathlib import Path

from ct_rate_pairs.reports import LABELER


_HERE = Path(__file__).parent
_LABELS = (
    *(_HERE / file for file in ("bootstrap.py", "label_metrics.py", "label_inputs.py")),
    *(_HERE / file for file in ("missing_texts.py", "own_copy.py")),
    *LABELER,
)
# The modules that lie beside the script of each metric.
METRICS = {
    "ct_coverage": _LABELS,
    "ct_label_accuracy": _LABELS,
    "ct_crg": (*_LABELS, _HERE / "crg.py"),
    "ct_dice": tuple(_HERE / file for file in ("bootstrap.py", "dice.py", "own_copy.py")),
    "ct_report_text": (
        *(_HERE / file for file in ("bootstrap.py", "text_metrics.py", "missing_texts.py", "own_copy.py")),
        next(file for file in LABELER if file.name == "readable.py"),
    ),
}

# The script of each metric that this process has installed, for `own_copy.py`.
INSTALLED: dict[str, Path] = {}


def metric_files(name: str) -> dict[str, bytes]:
    """
    The files of one metric, for a cache folder or a Space without subfolders.

    Args:
        name (`str`):
            One of `METRICS`.

    Returns:
        `dict[str, bytes]`: maps the name of a file to its contents: the script `NAME.py`, the modules beside the
        script, and `__init__.py`.
    """
    paths = [_HERE / name / f"{name}.py", *METRICS[name]]
    return {"__init__.py": b"", **{path.name: path.read_bytes() for path in paths}}


def modules_cache() -> Path:
    """`HF_MODULES_CACHE`, computed as in `evaluate.config`. Importing `evaluate` instead would take about a second."""
    cache = os.getenv("XDG_CACHE_HOME", "~/.cache")
    home = os.path.expanduser(os.getenv("HF_HOME", os.path.join(cache, "huggingface")))
    return Path(os.getenv("HF_MODULES_CACHE", os.path.join(home, "modules")))


def install_metric(name: str, cache: Path) -> Path:
    """
    Writes one metric to the cache, unless the cache holds it already, and makes `evaluate` choose this metric.

    `evaluate` runs the files of the cache as code. So they are compared with those of this package at each call. If
    they differ, the folder is written anew, and a warning tells so.

    Several processes may do this at once: the folder is named by a hash of its contents, and one rename makes the
    complete folder appear.

    Args:
        name (`str`):
            One of `METRICS`.
        cache (`Path`):
            The folder `HF_MODULES_CACHE`.

    Returns:
        `Path`: the script that `evaluate.load(name)` runs.
    """
    files = metric_files(name)
    digest = hashlib.sha256(b"".join(file.encode() + b"\0" + text + b"\0" for file, text in files.items())).hexdigest()
    home = cache / "evaluate_modules" / "metrics" / f"evaluate-metric--{name}"
    script = INSTALLED[name] = home / digest / f"{name}.py"
    _empty_packages(home)
    if script.parent.exists() and not _holds(script.parent, files):
        warnings.warn(f"{script.parent} was changed or damaged, and is written again.", stacklevel=2)
        # Moved first, so that no other process finds half a folder.
        broken = Path(tempfile.mkdtemp(prefix=".broken-", dir=home))
        with suppress(FileNotFoundError):  # another process was first
            script.parent.rename(broken / "metric")
        shutil.rmtree(broken)
    if not script.exists():
        home.mkdir(parents=True, exist_ok=True)
        draft = Path(tempfile.mkdtemp(prefix=".draft-", dir=home))
        draft.chmod(0o755)
        for file, text in files.items():
            (draft / file).write_bytes(text)
        try:
            draft.rename(script.parent)
        except OSError:
            shutil.rmtree(draft)
            if not script.exists():  # the rename did not fail because another process was first
                raise
    # `evaluate` takes the newest folder: without this, a version installed later would be used instead of this one. If
    # another process does the same between this and `evaluate.load`, the other metric refuses itself (`own_copy.py`).
    others = [path.stat().st_mtime for path in home.glob(f"*/{name}.py") if path != script]
    if others and script.stat().st_mtime <= max(others):
        newest = max(time.time(), max(others) + 1)
        os.utime(script, (newest, newest))
    return script


def _holds(folder: Path, files: dict[str, bytes]) -> bool:
    """Whether a folder holds these files and no other. What Python has compiled of them is removed."""
    _remove(folder / "__pycache__")
    try:
        return not folder.is_symlink() and files == {path.name: path.read_bytes() for path in folder.iterdir()}
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        return False


def _empty_packages(home: Path) -> None:
    """
    Empties the `__init__.py` of the folders above a metric, and removes what Python would run in its place. Python
    runs these files, too; `evaluate` makes them empty.
    """
    for folder in (home, home.parent, home.parent.parent):
        _remove(folder / "__pycache__")
        package = folder / "__init__.py"
        for path in folder.glob("__init__.*"):  # also a compiled one, or one in C
            if path != package or path.is_symlink() or not path.is_file() or path.stat().st_size:
                warnings.warn(f"{path} was changed, and is removed: `evaluate` writes nothing to it.", stacklevel=3)
                _remove(path)
                package.touch()


def _remove(path: Path) -> None:
    """
    Removes a file, a link or a folder. `__pycache__` holds what Python has compiled, and runs in the place of the
    files without comparing their contents.
    """
    if path.is_symlink() or path.is_file():
        path.unlink(missing_ok=True)
    else:
        shutil.rmtree(path, ignore_errors=True)  # another process may be removing it, too


def register_metrics() -> None:
    """
    Installs all `METRICS` for `evaluate.load`. If all are installed already, this takes about a millisecond.

    If the cache cannot be written to, this warns and raises no error, since only `evaluate.load` needs the cache.
    """
    try:
        for name in METRICS:
            install_metric(name, modules_cache())
    except OSError as error:
        warnings.warn(
            f"evaluate.load will not find {', '.join(METRICS)}: {error}. Point HF_MODULES_CACHE at a folder that "
            "can be written to, and import ct_rate_pairs again.",
            stacklevel=3,
        )
