"""Reads JSON that other programs and other people wrote. What is damaged or hostile is refused by file and field."""

import json
import stat
from collections import Counter
from pathlib import Path
from typing import Any


MOST_BYTES = 256 * 2**20  # a file of JSON above this size is none of ours
MOST_VALUES = 2 * 10**7  # of lists and objects in a file: they take up to 70 bytes each
MOST_DIGITS = 300  # of a whole number: it can be turned to a float
SHOWN = 80  # characters of a value in a message


class JSONFileError(ValueError):
    """A file is not JSON, or a field of it has a value that it must not have. The message names file and field."""


def read_json(path: str | Path, schema: type | None = None) -> Any:
    """
    Reads a JSON file.

    Args:
        path (`str` or `Path`):
            The file.
        schema (`type[pydantic.BaseModel]`, *optional*):
            What the content must be, see [`check_json`].

    Returns:
        The content, as `json.loads` gives it.

    Raises:
        [`JSONFileError`]: if the file is not JSON in UTF-8, is empty, cut, nested too deeply or too large, if a name
            occurs twice in an object, if a value does not fit the schema, or if it is no file: a pipe could keep a
            reader for ever.
    """
    path = Path(path)
    status = path.stat()
    if not stat.S_ISREG(status.st_mode):
        raise JSONFileError(f"{path} is no file, but a folder, a pipe, a socket or a device: remove or replace it.")
    if status.st_size > MOST_BYTES:
        raise JSONFileError(f"{path} has {status.st_size:,} bytes, more than any file that is written here.")
    content = path.read_bytes()
    if sum(map(content.count, (b",", b"[", b"{"))) > MOST_VALUES:
        raise JSONFileError(f"{path} has more than {MOST_VALUES:,} values, more than any file that is written here.")
    return parse_json(content, path, schema)


def parse_json(text: str | bytes, place: str | Path, schema: type | None = None) -> Any:
    """The content of a JSON text, as [`read_json`] reads it. `place` is the name of the text in messages."""
    try:
        content = json.loads(text, object_pairs_hook=_each_once, parse_int=_whole)
    except _TwiceError as error:
        raise JSONFileError(f"{place} has the name {str(error)!r:.{SHOWN}} twice: keep one of the two.") from None
    except RecursionError:
        raise JSONFileError(f"{place} is nested too deeply.") from None
    except ValueError as error:  # not UTF-8, not JSON, or a number of thousands of digits
        raise NotJSONError(f"{place} is not JSON ({error}): it is damaged or cut. Copy or write it again.") from None
    return content if schema is None else check_json(content, schema, place)


def check_json(content: Any, schema: type, place: str | Path) -> Any:
    """
    Checks the types, ranges and sizes of a JSON content. No value is converted: `"3"` and `true` are no numbers.

    Args:
        content:
            The content.
        schema (`type[pydantic.BaseModel]`):
            What it must be, such as [`~ct_rate_pairs.json_schemas.confidence.Confidences`].
        place (`str` or `Path`):
            File of the content, for the message.

    Returns:
        The content.

    Raises:
        [`JSONFileError`]: for the first field that does not fit.
    """
    from pydantic import ValidationError  # noqa: PLC0415 - slow, and `import ct_rate_pairs` needs it not

    try:
        schema.model_validate_json(json.dumps(content))  # as text, because the tuples of a schema are lists in JSON
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        field = ".".join(map(str, first["loc"]))
        raise JSONFileError(
            f"{place}: {f'the field {field}' if field else 'the content'} is not as it must be: {first['msg']}, got "
            f"{first['input']!r:.{SHOWN}}."
        ) from None
    return content


class NotJSONError(JSONFileError):
    """A file is not JSON at all: it is empty, cut or something else."""


def _whole(digits: str) -> int:
    """A whole number."""
    if len(digits) > MOST_DIGITS:
        raise ValueError(f"a whole number of {len(digits)} digits")
    return int(digits)


class _TwiceError(ValueError):
    """A name occurs twice in an object."""


def _each_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """The object of some pairs; raises an error if two of them have the same name."""
    found = dict(pairs)
    if len(found) < len(pairs):
        (twice, _), *_ = Counter(name for name, _ in pairs).most_common(1)
        raise _TwiceError(twice)
    return found
