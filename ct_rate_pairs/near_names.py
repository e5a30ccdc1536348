"""Errors for paths that do not exist. They name the files or folders whose names are most similar."""

from difflib import get_close_matches
from pathlib import Path


def no_such(kind: str, path: str | Path) -> str:
    """
    The beginning of an error message for a path: "There is no folder runs/hetr (is runs/heter meant?)."

    Args:
        kind (`str`):
            What was looked for, such as `"folder"` or `"file"`.
        path (`str` or `Path`):
            The path, as the user has given it.
    """
    asked = Path(path).expanduser()
    if Path(path).exists():
        return f"{path} is no {kind}."
    if asked.exists():  # where nothing has replaced the ~
        return f"There is no {kind} {path} (is {asked} meant?)."
    told = f"There is no {kind} {path}"
    if not asked.parent.exists():
        while not asked.parent.exists():
            asked = asked.parent
        told += f", because there is no {asked}"
    siblings = [entry.name for entry in asked.parent.iterdir()] if asked.parent.is_dir() else []
    near = [str(asked.parent / name) for name in get_close_matches(asked.name, siblings)]
    return told + (f" (is {' or '.join(near)} meant?)." if near else ".")
