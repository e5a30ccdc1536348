"""A name that transformers 5.24 changed, so that one release of ours runs on both sides of it."""

import transformers
from packaging.version import Version


# What a forward pass calls its keys and values, as an argument and in its output.
CACHE = "cache" if Version(transformers.__version__) >= Version("5.24") else "past_key_values"
