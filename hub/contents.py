"""Reads all texts in a file of a run, whatever its format. A file that is not what its name says is refused."""

import re
import struct
from collections.abc import Iterator
from pathlib import Path

import yaml
from safetensors import safe_open

from ct_rate_pairs.json_files import parse_json


PNG = b"\x89PNG\r\n\x1a\n"
# Parts of a PNG that hold pixels and their colours. A part with text is read, and any other part is refused.
PIXELS = (b"IHDR", b"PLTE", b"IDAT", b"IEND", b"tRNS", b"bKGD", b"gAMA", b"cHRM", b"sRGB", b"sBIT", b"pHYs", b"tIME")
PACKED = {b"\x1f\x8b": "gzip", b"PK\3\4": "zip", b"BZh": "bzip2", b"\xfd7zXZ": "xz", b"\x28\xb5\x2f\xfd": "zstd"}
LONGEST_YAML = 2**20  # characters
METADATA = re.compile(r"\A\ufeff?---\r?\n(.*?)^---\s*$", re.DOTALL | re.MULTILINE)  # at the top of a card


def read_contents(path: Path) -> list:
    """
    What a file holds that can be text.

    Args:
        path (`Path`):
            The file.

    Returns:
        `list`: the value of JSON, the values of the lines of JSON Lines, the header of safetensors, the texts in a
        PNG, and the text of all other files; for YAML and a card, also each value of YAML, with its escapes read.

    Raises:
        `ValueError`: if the file is cut, packed, or not what its name says, if a name occurs twice in an object of
            JSON, or if the file may hold texts that are not read here.
        `SafetensorError`: for a file of safetensors with missing or additional bytes.
    """
    if path.suffix == ".safetensors":
        with safe_open(path, "np"), path.open("rb") as file:
            return [parse_json(file.read(int.from_bytes(file.read(8), "little")), "its header")]
    content = path.read_bytes()
    for magic, kind in PACKED.items():
        if content.startswith(magic):
            raise ValueError(f"it is packed with {kind}, and what is in it is not read")
    if path.suffix == ".png":
        return list(_texts_of_png(content))
    if path.suffix == ".model":  # a vocabulary: texts between bytes
        return [content.decode("utf-8", "replace")]
    text = content.decode("utf-8")
    if path.suffix == ".json":
        return [parse_json(text, "it")]
    if path.suffix == ".jsonl":
        lines = enumerate(text.removesuffix("\n").split("\n"), 1)
        return [parse_json(line, f"its line {number}") for number, line in lines if text]
    written = text if path.suffix == ".yaml" else "".join(METADATA.findall(text))
    return [text, *_values_of_yaml(written)]


def _texts_of_png(content: bytes) -> Iterator[str]:
    """The texts in a PNG, such as the name of the program that wrote it."""
    if not content.startswith(PNG):
        raise ValueError("no PNG header")
    kind, place = b"", len(PNG)
    while kind != b"IEND":
        if place + 8 > len(content):
            raise ValueError("the image is cut")
        length, kind = struct.unpack_from(">I4s", content, place)
        if kind == b"tEXt":
            text = content[place + 8 : place + 8 + length].replace(b"\0", b" ")
            yield text.decode("latin-1")
            yield text.decode("utf-8", "replace")  # which the format does not allow, and programs write
        elif kind not in PIXELS:
            raise ValueError(f"a part {kind.decode('latin-1')!r}, which may hold texts that are not read")
        place += length + 12
    if place != len(content):
        raise ValueError(f"{len(content) - place} bytes after the end of the image")


def _values_of_yaml(text: str) -> list[str]:
    """Each value and name in YAML. Nothing is built of them, so an alias costs nothing and no double is lost."""
    if len(text) > LONGEST_YAML:
        raise ValueError(f"{len(text):,} characters of YAML")
    try:
        return [token.value for token in yaml.scan(text) if isinstance(token, yaml.ScalarToken)]
    except yaml.MarkedYAMLError as error:  # whose own text would quote the line
        raise ValueError(f"line {error.problem_mark.line + 1} of its YAML: {error.problem}") from None
    except yaml.reader.ReaderError as error:
        raise ValueError(f"a character that YAML must not have, {error.character!r}") from None


def texts_in(value: object, names: bool = True) -> Iterator[str]:
    """All texts within a JSON value in its order, with or without the names in objects."""
    stack = [value]
    while stack:
        item = stack.pop()
        if isinstance(item, str):
            yield item
        elif isinstance(item, dict):
            for name, inner in reversed(item.items()):
                stack += [inner, name] if names else [inner]
        elif isinstance(item, list):
            stack.extend(reversed(item))


def names_in(value: object) -> Iterator[str]:
    """All names in the objects of a JSON value, in its order."""
    stack = [value]
    while stack:
        item = stack.pop()
        if isinstance(item, dict):
            yield from item
            stack.extend(reversed(item.values()))
        elif isinstance(item, list):
            stack.extend(reversed(item))


def columns_of(value: object) -> dict[str, list[str]]:
    """The texts within a JSON value by the name under which they stand, as a table of records has them."""
    columns: dict[str, list[str]] = {}
    stack: list[tuple[str, object]] = [("", value)]
    while stack:
        name, item = stack.pop()
        if isinstance(item, str):
            columns.setdefault(name, []).append(item)
        elif isinstance(item, dict):
            stack.extend(reversed(item.items()))
        elif isinstance(item, list):
            stack.extend((name, inner) for inner in reversed(item))
    return columns
