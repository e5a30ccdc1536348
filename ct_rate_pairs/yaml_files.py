"""Reads YAML that other programs and other people wrote. What is damaged or hostile is refused by file and place."""

from collections import Counter
from itertools import chain
from pathlib import Path
from typing import Any

import yaml


MOST_BYTES = 2**20  # PyYAML takes seconds for these
MOST_VALUES = 10**5  # after each alias is written out


class YAMLFileError(ValueError):
    """A file is not YAML, or is no mapping of names. The message names the file."""


def read_yaml(path: str | Path) -> dict[str, Any]:
    """
    Reads a YAML file of `name: value` lines.

    Args:
        path (`str` or `Path`):
            The file.

    Returns:
        `dict[str, Any]`: the content.

    Raises:
        [`YAMLFileError`]: if the file is not YAML in UTF-8, is no mapping of names, is too large or too deep, or has a
            name twice in a mapping. Aliases (`*name`) count as written out: a few aliases of aliases stand for more
            than any memory holds, and an alias of what is around it has no end.
    """
    path = Path(path)
    if path.stat().st_size > MOST_BYTES:
        raise YAMLFileError(f"{path} has {path.stat().st_size:,} bytes, more than any file of options.")
    try:
        content = yaml.load(path.read_bytes().decode("utf-8-sig"), _Loader)
    except RecursionError:
        raise YAMLFileError(f"{path} is nested too deeply.") from None
    except (yaml.YAMLError, ValueError) as error:  # a date of month 13 is a ValueError
        raise YAMLFileError(f"{path} is not YAML: {error}") from error
    if not isinstance(content, dict) or not all(isinstance(name, str) for name in content):
        raise YAMLFileError(f"{path} must hold `option: value` lines.")
    return content


class _Loader(yaml.SafeLoader):
    """Refuses aliases without an end, and a name that occurs twice, of which PyYAML takes the last."""

    def get_single_node(self):
        """The whole document."""
        node = super().get_single_node()
        if _size(node, {}) > MOST_VALUES:
            raise yaml.composer.ComposerError(None, None, f"more than {MOST_VALUES:,} values", node.start_mark)
        return node

    def construct_mapping(self, node, deep=False):
        """A mapping."""
        names = Counter(key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode))
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and names[key.value] > 1:
                told = f"{key.value!r:.80} occurs twice: keep one of the two"
                raise yaml.constructor.ConstructorError(None, None, told, key.start_mark)
        return super().construct_mapping(node, deep)


def _size(node: yaml.Node | None, sizes: dict[int, int]) -> int:
    """The number of values in a node. `sizes` has those of the nodes before, and 0 for each node around this one."""
    if not isinstance(node, yaml.CollectionNode):
        return 1
    if sizes.get(id(node)) == 0:
        raise yaml.composer.ComposerError(None, None, "an alias of what is around it", node.start_mark)
    if id(node) not in sizes:
        sizes[id(node)] = 0
        parts = node.value if isinstance(node, yaml.SequenceNode) else chain.from_iterable(node.value)
        sizes[id(node)] = 1 + sum(_size(part, sizes) for part in parts)
    return sizes[id(node)]
