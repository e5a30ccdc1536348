"""The notice on every report."""

NOTICE = (
    "Not a medical device. A model wrote this text and no radiologist has read it: it may miss findings, state "
    "findings that are not there, and be wrong about sides and sizes. It must not guide the care of anyone."
)
