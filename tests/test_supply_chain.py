"""What others wrote and we run: actions by commit, and dependencies above the versions with known holes."""

import re
import tomllib

import pytest
from helpers.paths import ROOT
from packaging.requirements import Requirement
from packaging.version import Version


# The first version without the hole.
MENDED = {
    "deepspeed": ("0.15.1", "CVE-2024-43497"),
    "jinja2": ("3.1.6", "CVE-2025-27516"),
    "pillow": ("12.2", "CVE-2026-25990 and CVE-2026-42308"),
    "pyarrow": ("23.0.1", "CVE-2026-25087"),
    "pydicom": ("3.0.2", "CVE-2026-32711"),
    "setuptools": ("78.1.1", "CVE-2025-47273"),
    "torch": ("2.10", "CVE-2026-24747"),
    "tqdm": ("4.66.3", "CVE-2024-34062"),
    "transformers": ("5.3", "CVE-2026-4372"),
}


def test_actions_are_named_by_commit():
    used = [
        line.split("uses:")[1].strip()
        for path in (ROOT / ".github" / "workflows").glob("*.yml")
        for line in path.read_text().splitlines()
        if "uses:" in line
    ]
    assert used and all(re.fullmatch(r"[\w.-]+/[\w.-]+@[0-9a-f]{40} # v[\d.]+", action) for action in used)


@pytest.mark.parametrize("name", MENDED)
def test_a_dependency_is_required_in_a_version_without_its_known_hole(name):
    about = tomllib.loads((ROOT / "pyproject.toml").read_text())
    extras = about["project"]["optional-dependencies"].values()
    lines = [
        *about["build-system"]["requires"],
        *about["project"]["dependencies"],
        *(line for e in extras for line in e),
    ]
    version, hole = MENDED[name]
    lowest = [
        Version(bound.version)
        for requirement in map(Requirement, lines)
        if requirement.name == name
        for bound in requirement.specifier
        if bound.operator in (">=", "==")
    ]
    assert lowest and min(lowest) >= Version(version), hole
