"""The numbers that an option may be, so that a wrong one is refused as soon as the options are read."""

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Range:
    """
    A range of numbers.

    Args:
        least (`float`, *optional*, defaults to `0`):
            The least number.
        most (`float`, *optional*, defaults to `inf`):
            The greatest number.
        above (`bool`, *optional*, defaults to `False`):
            Whether `least` itself is refused.
        below (`bool`, *optional*, defaults to `False`):
            Whether `most` itself is refused.
        endless (`bool`, *optional*, defaults to `False`):
            Whether infinity is in the range.
    """

    least: float = 0
    most: float = math.inf
    above: bool = False
    below: bool = False
    endless: bool = False

    def __contains__(self, number: float) -> bool:
        """Whether a number is in the range, which NaN never is."""
        enough = number > self.least if self.above else number >= self.least
        few = number < self.most if self.below else number <= self.most
        return enough and few and (self.endless or math.isfinite(number))

    def __str__(self) -> str:
        """The range in words."""
        least = f"above {self.least}" if self.above else f"{self.least} or more"
        if self.most == math.inf:
            return least
        return f"{least}, and {f'below {self.most}' if self.below else f'at most {self.most}'}"

    def check(self, name: str, value: object) -> None:
        """
        Checks the value of an option. Words and `None` are let through.

        Args:
            name (`str`):
                The option, as the message names it.
            value:
                A number, a sequence of numbers, or something else.

        Raises:
            `ValueError`: for a number that is not in the range.
        """
        for number in value if isinstance(value, list | tuple) else (value,):
            if isinstance(number, int | float) and number not in self:
                finite = "" if math.isfinite(number) else "a finite number, "
                raise ValueError(f"{name} {number}: choose {finite}{self}.")


COUNT = Range(1)
SHARE = Range(0, 1)
SIZE = Range(0, above=True)
