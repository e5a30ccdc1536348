"""The options of the recipes: names of earlier releases, and configs."""

import pytest

from ct_rate_pairs.recipes.arguments import OLD_NAMES, RecipeParser, find_config
from ct_rate_pairs.recipes.evaluate_reports import EvaluationArguments


def parse(*arguments):
    return RecipeParser([EvaluationArguments], "evaluate", "").parse(arguments)[0]


@pytest.mark.parametrize("old", OLD_NAMES)
def test_an_old_name_is_accepted_and_told_as_old(old, tmp_path, capsys):
    new, value = OLD_NAMES[old], "3" if OLD_NAMES[old].startswith(("max", "per", "data")) else "three"
    (tmp_path / "old.yaml").write_text(f"{old}: {value}\n")
    by_new_name = parse(f"--{new}", value)
    assert capsys.readouterr().err == ""
    for arguments in ([f"--{old}", value], [f"--{old}={value}"], ["--config", str(tmp_path / "old.yaml")]):
        assert parse(*arguments) == by_new_name
        assert f"--{old} is an old name of --{new}" in capsys.readouterr().err


def test_a_config_is_found_by_its_path_or_by_its_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shipped = find_config("phantom")
    assert shipped == find_config("phantom.yaml") == find_config("recipes/configs/phantom.yaml")
    (tmp_path / "phantom.yaml").write_text("beta: 0.3\n")
    assert find_config("phantom.yaml").resolve() == tmp_path / "phantom.yaml" and find_config("phantom") == shipped
    for name in ("fantom", "elsewhere/phantom.yaml"):
        with pytest.raises(FileNotFoundError, match="Give a file, or one of errors, gauss"):
            find_config(name)
