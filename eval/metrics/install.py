"""
Makes `evaluate.load("ct_coverage")` work: puts the metrics where `evaluate` keeps those it has once fetched from the
Hub.

`evaluate` looks for `evaluate-metric/NAME` on the Hub and, there being none, takes the most recently modified folder
with a 64-character name under `HF_MODULES_CACHE/evaluate_modules/metrics/evaluate-metric--NAME` (read in evaluate
0.4.6, `loading.py`). Such a folder holds the script and the plain modules it imports, flat; the same files make a
Space.
"""

import hashlib
import os
import shutil
import tempfile
import time
import warnings
from pathlib import Path

from ct_rate_pairs.reports import labels, rules, terms


_HERE = Path(__file__).parent
_LABELS = (
    *(_HERE / file for file in ("bootstrap.py", "label_metrics.py", "label_inputs.py")),
    *(Path(module.__file__) for module in (labels, rules, terms)),
)
# The plain modules that lie beside each metric's script.
METRICS = {
    "ct_coverage": _LABELS,
    "ct_label_accuracy": _LABELS,
    "ct_crg": (*_LABELS, _HERE / "crg.py"),
    "ct_report_text": (_HERE / "bootstrap.py", _HERE / "text_metrics.py"),
}


def metric_files(name: str) -> dict[str, bytes]:
    """
    The files of one metric, as they lie flat in a cache folder or a Space.

    Args:
        name (`str`):
            One of `METRICS`.

    Returns:
        `dict[str, bytes]`: file name to contents: the script `NAME.py`, the plain modules beside it, and
        `__init__.py`.
    """
    paths = [_HERE / name / f"{name}.py", *METRICS[name]]
    return {"__init__.py": b"", **{path.name: path.read_bytes() for path in paths}}


def modules_cache() -> Path:
    """`HF_MODULES_CACHE` as `evaluate.config` works it out, without the second that importing it takes."""
    cache = os.getenv("XDG_CACHE_HOME", "~/.cache")
    home = os.path.expanduser(os.getenv("HF_HOME", os.path.join(cache, "huggingface")))
    return Path(os.getenv("HF_MODULES_CACHE", os.path.join(home, "modules")))


def install_metric(name: str, cache: Path) -> Path:
    """
    Writes one metric into the cache, unless it is there, and makes it the one that `evaluate` picks.

    Safe with several processes at once: the folder, named after its contents, appears complete by one rename.

    Args:
        name (`str`):
            One of `METRICS`.
        cache (`Path`):
            The `HF_MODULES_CACHE`.

    Returns:
        `Path`: the script that `evaluate.load(name)` runs.
    """
    files = metric_files(name)
    digest = hashlib.sha256(b"".join(file.encode() + b"\0" + text + b"\0" for file, text in files.items())).hexdigest()
    home = cache / "evaluate_modules" / "metrics" / f"evaluate-metric--{name}"
    script = home / digest / f"{name}.py"
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
            if not script.exists():  # not because another process was first
                raise
    # The newest folder wins: another version, installed later, must not stand in for this one.
    others = [path.stat().st_mtime for path in home.glob(f"*/{name}.py") if path != script]
    if others and script.stat().st_mtime <= max(others):
        newest = max(time.time(), max(others) + 1)
        os.utime(script, (newest, newest))
    return script


def register_metrics() -> None:
    """
    Installs all `METRICS` for `evaluate.load`; with all in place this takes about a millisecond.

    A cache that cannot be written to gives a warning and no error, as everything but `evaluate.load` works without it.
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
