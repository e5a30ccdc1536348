"""
The documentation as one site. mkdocs runs the functions here, and mkdocstrings the class.

The folders trainer/, eval/, hub/ and recipes/ are packages below `ct_rate_pairs` only once they are installed, so the
reference is read from a folder of links that has them there. Docstrings have TRL's form, which is set as Markdown here.
"""

import logging
import re
from collections import defaultdict
from functools import cache
from html import unescape
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import griffe
from latex2mathml.converter import convert as to_mathml


ROOT = Path(__file__).parents[1]
LINKED = ROOT / "build" / "documented"
FOLDERS = ("trainer", "eval", "hub", "recipes")
SECTION = re.compile(r"(Args|Parameters|Attributes|Returns|Yields|Raises|Example):")
FORMULA = re.compile(r'<(div|span) class="arithmatex">\\[(\[](.*?)\\[)\]]</\1>', re.DOTALL)
REFERENCE = re.compile(r"\[`~?([\w.]+)`\](?![(\[])")

# What is logged below "mkdocs" as a warning makes `mkdocs build --strict` fail.
logger = logging.getLogger("mkdocs.hooks.documentation")


def on_startup(**_) -> None:
    """Makes the folder of links."""
    package = LINKED / "ct_rate_pairs"
    package.mkdir(parents=True, exist_ok=True)
    wanted = {path.name: path for path in (ROOT / "ct_rate_pairs").iterdir() if path.name != "__pycache__"}
    wanted |= {folder: ROOT / folder for folder in FOLDERS}
    for link in package.iterdir():
        link.unlink()
    for name, path in wanted.items():
        (package / name).symlink_to(path)


def on_page_content(html: str, **_) -> str:
    """Sets formulas as MathML, which browsers show without a script."""
    return FORMULA.sub(lambda match: to_mathml(unescape(match[2]), "block" if match[1] == "div" else "inline"), html)


class TRLDocstrings(griffe.Extension):
    """Sets docstrings in TRL's form as Markdown, with links to what is named in square brackets."""

    def on_object(self, *, obj: griffe.Object, **_) -> None:
        if obj.docstring and obj.path.startswith("ct_rate_pairs"):
            text = REFERENCE.sub(lambda match: link(match[1], obj), obj.docstring.value)
            obj.docstring.value = to_markdown(text)


def link(name: str, obj: griffe.Object) -> str:
    """A name in a docstring as Markdown: a link to a class, function or module of ours, else code."""
    shown = f"`{name.rsplit('.', 1)[-1]}`"
    if "." in name and not name.startswith("ct_rate_pairs."):
        short = name.split(".")[0]
        if short not in names() and short[0].islower():
            return shown  # another library's
    found = resolve(name, obj)
    if found is None:
        logger.warning("The docstring of %s names [`%s`], and there is no such thing.", obj.path, name)
    target = found.__name__ if isinstance(found, ModuleType) else getattr(found, "__qualname__", "_")
    if any(part.startswith("_") for part in target.split(".")):  # data, or not on the pages
        return shown
    return f"[{shown}][{target if isinstance(found, ModuleType) else f'{found.__module__}.{target}'}]"


def resolve(name: str, obj: griffe.Object) -> Any:
    """
    What a name in the docstring of `obj` means, `None` if nothing: by its whole path, or as in TRL by its bare name, of
    the class that the docstring is of, of its module, or of the only module that has it.
    """
    if name.startswith("ct_rate_pairs."):
        return by_path(name)
    around, places = obj, []
    while around is not None:
        places.append(around.path)
        around = around.parent
    places += names().get(name.split(".")[0], []) if len(names().get(name.split(".")[0], [])) == 1 else []
    return next((found for place in places if (found := by_path(f"{place}.{name}")) is not None), None)


def by_path(path: str) -> Any:
    """The thing of a dotted path, `None` if there is none."""
    parts = path.split(".")
    for end in range(len(parts), 0, -1):
        try:
            found = import_module(".".join(parts[:end]))
        except ModuleNotFoundError:
            continue
        for part in parts[end:]:
            found = getattr(found, part, None)
        return found
    return None


@cache
def names() -> dict[str, list[str]]:
    """The classes and functions of the package: their names, and the modules that define them."""
    known = defaultdict(list)
    for module in modules():
        for name, thing in vars(import_module(module)).items():
            if getattr(thing, "__module__", None) == module and hasattr(thing, "__qualname__"):
                known[name].append(module)
    return dict(known)


def modules() -> list[str]:
    """The modules of the package by name, but for those that are commands, and the scripts that `evaluate` runs."""
    found = []
    for folder in ("ct_rate_pairs", *FOLDERS):
        for path in (ROOT / folder).rglob("*.py"):
            parts = path.relative_to(ROOT).with_suffix("").parts
            if parts[-1] != "__main__" and (path.parent / "__init__.py").is_file():
                parts = parts if folder == "ct_rate_pairs" else ("ct_rate_pairs", *parts)
                found.append(".".join(parts).removesuffix(".__init__"))
    return sorted(found)


def to_markdown(docstring: str) -> str:
    """
    A docstring in TRL's form as Markdown: each section is a bold title and a list.

    Args:
        docstring (`str`):
            Text, without the indentation of the code around it.

    Returns:
        `str`: Markdown.
    """
    told, lines = [], docstring.splitlines()
    while lines:
        line = lines.pop(0)
        section = SECTION.fullmatch(line.rstrip())
        if not section:
            told.append(line)
            continue
        block = []
        while lines and (not lines[0].strip() or lines[0].startswith("    ")):
            block.append(lines.pop(0)[4:])
        told += ["", f"**{section[1]}**", "", *items(block, section[1]), ""]
    return "\n".join(told)


def items(block: list[str], section: str) -> list[str]:
    """The lines of a section as a list; what is returned stays a paragraph."""
    if section in ("Returns", "Yields", "Example"):
        return block
    told, head = [], []
    for line in block:
        if line.startswith((" ", "- ", "```", ">")) or not line.strip():
            told.append(f"    {line.removeprefix('    ')}" if line.strip() else "")
        elif section == "Raises":
            told.append(f"- {line}")
        else:
            head.append(line.strip())
            if line.rstrip().endswith(":"):
                names = re.sub(r"(^|, )(\*{0,2}\w+) \(", r"\1**\2** (", " ".join(head).rstrip(":"))
                told += ["", f"- {names}", ""]
                head = []
    return told + [f"- {line}" for line in head]
