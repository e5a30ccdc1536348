"""How long a pattern of the names of a model's parts takes: some patterns of a foreign adapter would never end."""

import re
from re import _constants as kinds
from re import _parser


LONGEST_NAME = 64  # letters, about
MOST_OF_ONE_LETTER = 8  # in a name
MOST_WAYS = 10**5  # a model of thousand parts then takes seconds
LONGEST_PATTERN = 4000  # letters

REPEATS = (kinds.MAX_REPEAT, kinds.MIN_REPEAT, kinds.POSSESSIVE_REPEAT)
ONE_LETTER = (kinds.LITERAL, kinds.NOT_LITERAL, kinds.ANY, kinds.IN)


def ways_to_match(pattern: str) -> int:
    """
    In how many ways a pattern can be tried on a name, about and at most. A match takes a time in proportion to it.

    Args:
        pattern (`str`):
            A regular expression, as `target_modules` of `adapter_config.json` may be.

    Returns:
        `int`: the number; a number above `MOST_WAYS` if it is large.

    Raises:
        `ValueError`: if the pattern is none, or if it is longer than any that is written by hand.
    """
    if len(pattern) > LONGEST_PATTERN:
        raise ValueError(f"a pattern of {len(pattern):,} letters")
    try:
        return _ways(list(_parser.parse(pattern)))
    except (re.error, OverflowError, RecursionError) as error:
        raise ValueError(f"no pattern of names: {error}") from None


def _ways(items: list) -> int:
    """The ways of a sequence: the product of those of its items."""
    ways = 1
    for place, (kind, value) in enumerate(items):
        ways = min(ways * _ways_of_one(kind, value, items[place + 1 :]), MOST_WAYS + 1)
    return ways


def _ways_of_one(kind, value, following: list) -> int:
    """The ways of one item of a sequence, by what follows it."""
    if kind in REPEATS:
        return _ways_of_repeat(*value, following)
    if kind is kinds.BRANCH:
        return _ways_of_branch([list(branch) for branch in value[1]])
    if kind in (kinds.SUBPATTERN, kinds.ASSERT, kinds.ASSERT_NOT):
        return _ways(list(value[-1]))
    if kind is kinds.ATOMIC_GROUP:
        return _ways(list(value))
    return MOST_WAYS + 1 if kind is kinds.GROUPREF_EXISTS else 1


def _ways_of_repeat(least: int, most: int, repeated: list, following: list) -> int:
    """How many lengths one letter can be repeated to; of anything longer, all ways of all repeats."""
    inner = list(repeated)
    if len(inner) == 1 and inner[0][0] in ONE_LETTER:
        return min(most - least + 1, MOST_OF_ONE_LETTER if _begins_with_a_letter(following) else LONGEST_NAME)
    return (_ways(inner) + 1) ** min(most, LONGEST_NAME)


def _ways_of_branch(branches: list[list]) -> int:
    """One way for different words, of which a name has one; otherwise the sum."""
    if all(branches) and all(item[0] is kinds.LITERAL for branch in branches for item in branch):
        return len(branches) - len(set(map(str, branches))) + 1
    return sum(map(_ways, branches))


def _begins_with_a_letter(items: list) -> bool:
    """Whether a sequence begins with a certain letter, so that few places of a name fit."""
    if not items:
        return False
    kind, value = items[0]
    if kind is kinds.SUBPATTERN:
        return _begins_with_a_letter(list(value[-1]))
    if kind is kinds.BRANCH:
        return all(_begins_with_a_letter(list(branch)) for branch in value[1])
    return kind is kinds.LITERAL
