"""
The documentation as one site: mkdocs calls the functions `on_...`, and mkdocstrings the class.

The folders trainer/, eval/, hub/ and recipes/ are packages of `ct_rate_pairs` only once they are installed. So the
reference is read from a folder of links, which has them there. Docstrings have TRL's form, and become Markdown here.
"""

import inspect
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

# A warning of a logger below "mkdocs" makes `mkdocs build --strict` fail.
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
    """Turns docstrings in TRL's form into Markdown, with links to what they name in square brackets."""

    def on_object(self, *, obj: griffe.Object, **_) -> None:
        """Called for each object of the reference, as soon as it is read."""
        if obj.docstring and obj.path.startswith("ct_rate_pairs"):
            text = REFERENCE.sub(lambda match: link_to(match[1], obj), obj.docstring.value)
            obj.docstring.value = to_markdown(text)


def link_to(name: str, obj: griffe.Object) -> str:
    """Markdown for a name in the docstring of `obj`: a link to a class, function or module of ours, else code."""
    *before, last = name.split(".")
    if before and before[0] != "ct_rate_pairs" and before[0].islower():
        return f"`{last}`"  # of another library
    found = resolve(name, obj)
    if found is None:
        logger.warning("The docstring of %s names [`%s`], and there is no such thing.", obj.path, name)
    if isinstance(found, ModuleType):
        return f"[`{last}`][{found.__name__}]"
    target = getattr(found, "__qualname__", "_")  # data has none
    on_a_page = not any(part.startswith("_") for part in target.split("."))
    return f"[`{last}`][{found.__module__}.{target}]" if on_a_page else f"`{last}`"


def resolve(name: str, obj: griffe.Object) -> Any:
    """
    Finds what a name in the docstring of `obj` means. The name is a whole path. Or it is bare, as in TRL: then it is
    looked for in the class of the docstring, in its module, and at last in the only module that defines it.

    Returns:
        `Any`: the thing, or `None` if there is none.
    """
    if name.startswith("ct_rate_pairs."):
        return by_path(name)
    places, around = [], obj
    while around is not None:
        places.append(around.path)
        around = around.parent
    defined_in = names().get(name.split(".", maxsplit=1)[0], [])
    if len(defined_in) == 1:
        places += defined_in
    return next((found for place in places if (found := by_path(f"{place}.{name}")) is not None), None)


def by_path(path: str) -> Any:
    """The thing at a dotted path; `None` if there is none."""
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
    """Maps the name of each class and function of the package to the modules that define it."""
    known = defaultdict(list)
    for module in modules():
        for name, thing in vars(import_module(module)).items():
            is_defined = inspect.isclass(thing) or inspect.isroutine(thing)
            if is_defined and thing.__module__ == module:
                known[name].append(module)
    return dict(known)


def modules() -> list[str]:
    """The names of the package's modules, without `__main__` and without the scripts that `evaluate` runs."""
    found = []
    for folder in ("ct_rate_pairs", *FOLDERS):
        for path in (ROOT / folder).rglob("*.py"):
            if path.stem != "__main__" and (path.parent / "__init__.py").is_file():
                parts = path.relative_to(ROOT).with_suffix("").parts
                name = ".".join(parts if folder == "ct_rate_pairs" else ("ct_rate_pairs", *parts))
                found.append(name.removesuffix(".__init__"))
    return sorted(found)


def to_markdown(docstring: str) -> str:
    """
    Turns a docstring in TRL's form into Markdown: a section becomes a bold title and a list.

    Args:
        docstring (`str`):
            The text, without the indentation of the code around it.

    Returns:
        `str`: the Markdown.
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
        told += ["", f"**{section[1]}**", "", *list_items(block, section[1]), ""]
    return "\n".join(told)


def list_items(block: list[str], section: str) -> list[str]:
    """The lines of a section, without its indentation, as a list. What is returned stays a paragraph."""
    if section in ("Returns", "Yields", "Example"):
        return block
    told, head = [], []
    for line in block:
        if not line.strip():
            told.append("")
        elif line.startswith((" ", "- ", "```", ">")):
            told.append(f"    {line.removeprefix('    ')}")
        elif section == "Raises":
            told.append(f"- {line}")
        else:  # the head of an argument may take several lines
            head.append(line.strip())
            if line.rstrip().endswith(":"):
                names_in_bold = re.sub(r"(^|, )(\*{0,2}\w+) \(", r"\1**\2** (", " ".join(head).rstrip(":"))
                told += ["", f"- {names_in_bold}", ""]
                head = []
    return told + [f"- {line}" for line in head]
