"""The house: imports run one way, `hub -> eval -> trainer -> ct_rate_pairs`, never in a circle, and stay light."""

import ast
import os
import subprocess
import sys
from graphlib import CycleError, TopologicalSorter

import pytest
from helpers.paths import ROOT


# Folder of a layer to its package, the lowest first. A layer imports those before it.
LAYERS = {
    "ct_rate_pairs": "ct_rate_pairs",
    "trainer": "ct_rate_pairs.trainer",
    "eval": "ct_rate_pairs.eval",
    "hub": "ct_rate_pairs.hub",
    "recipes": "ct_rate_pairs.recipes",
}
# `evaluate.load("ct_coverage")` finds the metrics after `import ct_rate_pairs`.
EXCEPTION = ("ct_rate_pairs", "ct_rate_pairs.eval.metrics.install")


def read_modules() -> dict[str, tuple[str, ast.Module]]:
    """Name of each module to its layer and syntax tree. Scripts that `evaluate` runs are no modules."""
    modules = {}
    for layer, package in LAYERS.items():
        for path in sorted((ROOT / layer).rglob("*.py")):
            parts = path.relative_to(ROOT / layer).with_suffix("").parts
            if len(parts) > 1 and parts[1].startswith("ct_"):
                continue
            name = ".".join([package, *parts]).removesuffix(".__init__")
            modules[name] = layer, ast.parse(path.read_text())
    return modules


MODULES = read_modules()


def lazy_names(tree: ast.Module) -> dict[str, str]:
    """The names that a package attaches lazily, and the submodule of each."""
    for node in ast.walk(tree):
        if isinstance(node, ast.keyword) and node.arg == "submod_attrs":
            attached = ast.literal_eval(node.value)
            return {name: submodule for submodule, names in attached.items() for name in names}
    return {}


LAZY = {name: names for name, (_, tree) in MODULES.items() if (names := lazy_names(tree))}


def imports_of(name: str) -> set[str]:
    """The modules of this product that a module imports, at its top or within a function."""
    tree = MODULES[name][1]
    is_package = any(other.startswith(f"{name}.") for other in MODULES)
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = name.split(".") if is_package else name.split(".")[:-1]
            start = base[: len(base) - node.level + 1] if node.level else []
            module = ".".join([*start, *filter(None, [node.module])])
            for alias in node.names:
                submodule = LAZY.get(module, {}).get(alias.name)
                inner = f"{module}.{submodule or alias.name}"
                found.add(inner if inner in MODULES else module)
    return {module for module in found if module in MODULES} - {name}


IMPORTS = {name: imports_of(name) for name in MODULES}
IMPORTS[EXCEPTION[0]] -= {EXCEPTION[1]}


def test_the_reader_of_imports_reads_them():
    assert "ct_rate_pairs.rows" in IMPORTS["ct_rate_pairs.builder"]
    assert "ct_rate_pairs.trainer.pair_collator" in IMPORTS["ct_rate_pairs.eval.generate"]  # through a lazy package
    assert "ct_rate_pairs.sources" in IMPORTS["ct_rate_pairs.check"]  # within a function
    assert len(MODULES) > 120


def test_no_module_imports_itself_through_others():
    try:
        TopologicalSorter(IMPORTS).prepare()
    except CycleError as error:
        pytest.fail(f"a circle: {' -> '.join(reversed(error.args[1]))}")


def test_imports_run_one_way():
    order = list(LAYERS)
    upward = [
        f"{name} imports {imported}"
        for name, of in IMPORTS.items()
        for imported in of
        if order.index(MODULES[imported][0]) > order.index(MODULES[name][0])
    ]
    assert not upward


@pytest.mark.slow
def test_nothing_is_imported_for_type_checkers_alone():
    assert not [name for name, (_, tree) in MODULES.items() if "TYPE_CHECKING" in ast.dump(tree)]


def test_rooms_import_from_their_own_room_by_relative_names():
    # But for recipes, which are scripts, too.
    absolute = [
        f"{name} imports {node.module}"
        for name, (layer, tree) in MODULES.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.level == 0 and layer != "recipes"
        if node.module in MODULES and node.module.rpartition(".")[0] == name.rpartition(".")[0] != "ct_rate_pairs"
    ]
    assert not absolute


LIGHT = [
    "import ct_rate_pairs",
    "import ct_rate_pairs.config, ct_rate_pairs.tasks, ct_rate_pairs.reports.rules",
    "from ct_rate_pairs.eval import coverage, label_reports",
    "import ct_rate_pairs.trainer, ct_rate_pairs.hub",
]


@pytest.mark.slow_but_first
@pytest.mark.parametrize("code", LIGHT)
def test_what_needs_no_torch_imports_none(code, tmp_path):
    told = "import sys; print(sorted({'torch', 'transformers', 'trl', 'evaluate', 'matplotlib'} & set(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", f"{code}; {told}"],
        cwd=tmp_path,
        env=os.environ | {"HF_HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == "[]"


def calls(tree: ast.Module, name: str) -> list[ast.Call]:
    return [
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == name
    ]


def test_no_model_is_loaded_with_code_of_its_repository():
    """By default, transformers asks, and a "y" runs the code."""
    loads = [(name, call) for name, (_, tree) in MODULES.items() for call in calls(tree, "from_pretrained")]
    assert len(loads) >= 10
    for name, call in loads:
        told = {keyword.arg: keyword.value for keyword in call.keywords}
        of_ours = ast.unparse(call.func).startswith("Matcher")
        assert of_ours or getattr(told.get("trust_remote_code"), "value", None) is False, f"{name}:{call.lineno}"


@pytest.mark.parametrize(
    ("function", "homes"),
    [
        # The bootstrap is also shipped beside the `evaluate` scripts, where this package is not installed.
        ("default_rng", ["ct_rate_pairs.eval.metrics.bootstrap", "ct_rate_pairs.random_streams"]),
        ("log_softmax", ["ct_rate_pairs.eval.looking.likelihood"]),
    ],
)
def test_random_streams_and_log_probabilities_of_texts_have_one_file_each(function, homes):
    def is_called(tree: ast.Module) -> bool:
        called = [node.func for node in ast.walk(tree) if isinstance(node, ast.Call)]
        return function in [getattr(of, "attr", getattr(of, "id", None)) for of in called]

    assert sorted(name for name, (_, tree) in MODULES.items() if is_called(tree)) == homes
