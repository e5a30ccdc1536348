"""A name that transformers 5.24 changed. With it, this package works with older and newer versions."""

import transformers
from packaging.version import Version


# Name of the keys and values of a forward pass, as an argument and in the output.
CACHE = "cache" if Version(transformers.__version__) >= Version("5.24") else "past_key_values"
