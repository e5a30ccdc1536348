"""What a user tells of the patient by hand, for models whose prompts tell such things."""

from collections.abc import Mapping, Sequence

from ct_rate_pairs.reports.prompt_lines import READ_FROM
from ct_rate_pairs.reports.readable import is_missing
from ct_rate_pairs.sources.ages import OLDEST


def given_metadata(values: Mapping, names: Sequence[str]) -> Mapping:
    """
    Checks what somebody gives of a patient by hand.

    Args:
        values (`Mapping`):
            Values by their names: `age` in whole years, `sex` as `"M"` or `"F"`, and texts.
        names (`Sequence[str]`):
            The names that the prompts of the model tell. `technique` may also be given for `contrast`, and
            `clinical_information` for `surgery`.

    Returns:
        `Mapping`: the values.

    Raises:
        `ValueError`: for a name that has no effect, and for a value that is none.
    """
    used = (*names, *(READ_FROM[name] for name in names if name in READ_FROM))
    for name, value in values.items():
        if name not in used:
            told = f"tells {', '.join(dict.fromkeys(used))}" if used else "tells nothing of the patient"
            raise ValueError(f"metadata has {name!r}, which has no effect: the prompt of this model {told}.")
        if name == "age":
            if type(value) is not int or not 0 <= value <= OLDEST:
                raise ValueError(f"metadata: age={value!r}: give whole years, 0 to {OLDEST}.")
        elif name == "sex":
            if value not in ("M", "F"):
                raise ValueError(f"metadata: sex={value!r}: give 'M' or 'F', or leave it out.")
        elif is_missing(value):
            raise ValueError(f"metadata: {name}={value!r}: give a text, or leave it out.")
    return values
