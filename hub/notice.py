"""The notice on every report."""

_FIRST = "Not a medical device."
_REST = (
    "A model wrote this text and no radiologist has read it: it may miss findings, state findings that are not there, "
    "and be wrong about sides and sizes. It must not guide the care of anyone."
)
NOTICE = f"{_FIRST} {_REST}"
NOTICE_MARKDOWN = f"**{_FIRST}** {_REST}"
