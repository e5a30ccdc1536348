"""Prints the lowest versions that pyproject.toml allows, as constraints for pip: what `make test-floors` installs."""

import re
import tomllib
from pathlib import Path


project = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text(encoding="utf-8"))["project"]
extras = project["optional-dependencies"]
used = [line for name, lines in extras.items() if name not in ("bench", "docs", "test") for line in lines]
for requirement in project["dependencies"] + used:
    if floor := re.match(r"([\w.-]+)>=([\w.]+)", requirement):
        print("==".join(floor.groups()))
