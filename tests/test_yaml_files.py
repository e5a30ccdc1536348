"""YAML that others wrote is read, or refused with a message that names the file: never silently otherwise."""

import os

import pytest

from ct_rate_pairs.command_line import read_config
from ct_rate_pairs.yaml_files import YAMLFileError, read_yaml


LAUGHS = "".join(f"{b}: &{b} [{', '.join([f'*{a}'] * 10)}]\n" for a, b in zip("abcdefgh", "bcdefghi", strict=True))


@pytest.fixture
def file(tmp_path):
    def write(content) -> str:
        (tmp_path / "given.yaml").write_bytes(content if isinstance(content, bytes) else content.encode())
        return str(tmp_path / "given.yaml")

    return write


@pytest.mark.parametrize(
    ("content", "cause"),
    [
        ("a: !!python/object/apply:os.system [id]", "could not determine a constructor"),
        ("a: !own 3", "could not determine a constructor"),
        (f"a: &a [x]\n{LAUGHS}", "more than 100,000 values"),
        (f"a: &a {{x: 1}}\n{LAUGHS.replace('[', '{<<: [').replace(']', ']}')}", "more than 100,000 values"),
        ("a: &a [*a]", "an alias of what is around it"),
        ("a: &a {b: {c: *a}}", "an alias of what is around it"),
        ("&a {<<: *a}", "an alias of what is around it"),
        ("[" * 5000, "nested too deeply"),
        ("a: " + "[" * 3000 + "]" * 3000, "nested too deeply"),
        ("lr: 1\nbeta: 2\nlr: 3", "'lr' occurs twice"),
        ("rows: {lr: 1, lr: 1}", "'lr' occurs twice"),
        ("1: 2", "option: value"),
        ("yes: 2", "option: value"),
        ("- a", "option: value"),
        ("", "option: value"),
        ("[a]: 2", "unhashable"),
        ("a: 2001-13-45", "month must be in 1..12"),
        ("a: " + "1" * 5000, "4300 digits"),
        ("a: é".encode("latin-1"), "codec can't decode"),
        ("a: 1".encode("utf-16"), "codec can't decode"),
        ("a: \0", "special characters are not allowed"),
        ("a: 1\n---\nb: 2", "expected a single document"),
        ("a: " + "x" * 2**20, "more than any file of options"),
    ],
)
def test_what_is_damaged_or_hostile_is_refused_by_the_name_of_the_file(file, content, cause):
    with pytest.raises(YAMLFileError, match=cause) as raised:
        read_yaml(file(content))
    assert "given.yaml" in str(raised.value)


def test_aliases_and_a_mark_of_byte_order_are_read(file):
    content = read_yaml(file(b"\xef\xbb\xbfa: &a {x: 1}\nb: {<<: *a, y: 2}\nc: [*a, *a]\r\n"))
    assert content == {"a": {"x": 1}, "b": {"x": 1, "y": 2}, "c": [{"x": 1}] * 2}


@pytest.mark.parametrize("base", ["[1]", "3", "{a: 1}", "true", "2001-01-01", "null"])
def test_a_base_that_is_no_name_is_told(file, base):
    with pytest.raises(YAMLFileError, match="given.yaml: `base` is .* no name of a config"):
        read_config(file(f"base: {base}"))


def test_a_config_that_is_its_own_base_is_told(file, tmp_path):
    with pytest.raises(YAMLFileError, match="has it as a base itself"):
        read_config(file("base: given.yaml"))
    (tmp_path / "other.yaml").write_text("base: given.yaml")
    with pytest.raises(YAMLFileError, match="has it as a base itself"):
        read_config(file("base: ./other.yaml"))


@pytest.mark.parametrize("base", ["pipe", "zeros"])
def test_a_base_that_has_no_end_is_not_read(file, tmp_path, base):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "zeros").symlink_to("/dev/zero")
    with pytest.raises(FileNotFoundError, match="is no file"):
        read_config(file(f"base: {base}"))
