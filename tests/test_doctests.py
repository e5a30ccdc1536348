"""The examples in docstrings: those after `>>>` run, and those in a block are Python whose imports work."""

import ast
import doctest
import re
from importlib import import_module
from textwrap import dedent

import pytest
from helpers.paths import ROOT


FOLDERS = {"ct_rate_pairs": "ct_rate_pairs", "trainer": "ct_rate_pairs.trainer", "eval": "ct_rate_pairs.eval"}
FOLDERS |= {"hub": "ct_rate_pairs.hub", "recipes": "ct_rate_pairs.recipes"}


def examples() -> list:
    """Each docstring with an example, by its file and line: `(module, docstring)`."""
    found = []
    for folder, package in FOLDERS.items():
        for path in sorted((ROOT / folder).rglob("*.py")):
            parts = path.relative_to(ROOT / folder).with_suffix("").parts
            module = ".".join([package, *parts]).removesuffix(".__init__")
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
                    text = ast.get_docstring(node) or ""
                    if ">>>" in text or "```python" in text:
                        place = f"{path.relative_to(ROOT)}:{getattr(node, 'lineno', 1)}"
                        found.append(pytest.param(module, text, id=place))
    return found


EXAMPLES = examples()


def test_there_are_examples():
    assert len(EXAMPLES) > 5


@pytest.mark.parametrize(("module", "text"), EXAMPLES)
def test_an_example_is_python_that_runs_or_imports(module, text):
    blocks = [dedent(block) for block in re.findall(r"```python\n(.*?)```", text, re.DOTALL)]
    for block in blocks:
        for statement in ast.parse(block).body:
            if isinstance(statement, ast.Import | ast.ImportFrom):
                exec(compile(ast.Module([statement], []), module, "exec"), {})
    if doctest.DocTestParser().get_examples(text):
        names = dict(vars(import_module(module)))
        told = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE)
        result = told.run(doctest.DocTestParser().get_doctest(text, names, module, None, None))
        assert not result.failed
