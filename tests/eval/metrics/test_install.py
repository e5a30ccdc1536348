"""`evaluate.load("ct_coverage")` from an empty folder, without the network, and with several processes at once."""

import os
import py_compile
import shutil
import subprocess
import sys
import time
import warnings
from concurrent.futures import ThreadPoolExecutor
from importlib.machinery import EXTENSION_SUFFIXES
from py_compile import PycInvalidationMode

import evaluate
import numpy as np
import pytest

from ct_rate_pairs.eval import coverage, label_accuracy, label_reports, text_scores
from ct_rate_pairs.eval.metrics.crg import crg
from ct_rate_pairs.eval.metrics.dice import mask_scores
from ct_rate_pairs.eval.metrics.install import METRICS, install_metric, metric_files, modules_cache, register_metrics
from ct_rate_pairs.eval.scoring.labelers import label_predictions
from ct_rate_pairs.reports.labels import LABELS


PREDICTIONS = ["Heart size is increased.", "There is consolidation. No effusion was detected."]
REFERENCES = ["Heart size is increased. There is bilateral pleural effusion.", "There is bronchiectasis."]


def run(code: str, folder, **environment) -> str:
    env = os.environ | environment
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=folder, env=env, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


LABEL_METRICS = {"ct_coverage": coverage, "ct_label_accuracy": label_accuracy, "ct_crg": crg}
VOLUMES = ["valid_1_a_1.nii.gz", "valid_2_a_1.nii.gz"]


def load_as_space(name: str, folder):
    """The metric as a Space holds it: its files alone in a folder of its name."""
    space = folder / name
    space.mkdir()
    for file, text in metric_files(name).items():
        (space / file).write_bytes(text)
    # A metric that refused its input still holds its file: `evaluate` waits a second before it takes another.
    return evaluate.load(str(space), experiment_id=folder.name)


@pytest.fixture(params=LABEL_METRICS)
def metric(request, tmp_path):
    return load_as_space(request.param, tmp_path)


def test_metric_takes_texts_and_vectors_alike(metric):
    vectors = [label_reports(texts) for texts in (PREDICTIONS, REFERENCES)]
    expected = LABEL_METRICS[metric.name](*vectors, LABELS)
    for predictions in (PREDICTIONS, vectors[0], vectors[0].tolist()):
        for references in (REFERENCES, vectors[1], vectors[1].tolist()):
            texts = predictions is PREDICTIONS or references is REFERENCES
            told = {
                "labeler": "rules" if texts else None,
                "empty_predictions": 0 if predictions is PREDICTIONS else None,
            }
            assert metric.compute(predictions=predictions, references=references) == {**expected, **told}


def test_metric_gives_intervals_by_patient(metric):
    vectors = [label_reports(texts) for texts in (PREDICTIONS, REFERENCES)]
    for volumes in (None, VOLUMES, VOLUMES[:1] * 2):
        expected = LABEL_METRICS[metric.name](*vectors, LABELS, volumes=volumes, ci=0.9)
        result = metric.compute(predictions=PREDICTIONS, references=REFERENCES, volumes=volumes, ci=0.9)
        assert result == {**expected, "labeler": "rules", "empty_predictions": 0}
        assert result["ci_level"] == 0.9


@pytest.mark.slow_but_first
def test_metric_names_bad_vectors(metric):
    with pytest.raises(ValueError, match=r"label 'Medical material': 0\.9"):
        metric.compute(predictions=np.full((1, 18), 0.9), references=np.zeros((1, 18)))
    with pytest.raises(ValueError, match="row 0 has 17 labels"):
        metric.compute(predictions=np.zeros((1, 17)), references=np.zeros((1, 18)))


@pytest.mark.parametrize("missing", [None, float("nan"), " \n", "N/A"])
def test_an_empty_prediction_is_counted_and_a_missing_reference_is_named(metric, missing):
    for predictions in ([PREDICTIONS[0], missing], [missing, PREDICTIONS[1]], [missing, missing]):
        result = metric.compute(predictions=predictions, references=REFERENCES)
        empty = ["" if text is missing else text for text in predictions]
        expected = LABEL_METRICS[metric.name](label_predictions(empty)[0], label_reports(REFERENCES), LABELS)
        told = {"labeler": "rules", "empty_predictions": empty.count("")}
        assert result == {**expected, **told}
    with pytest.raises(ValueError, match=r"`references` row 1 is no report: .*leave the row out together with"):
        metric.compute(predictions=PREDICTIONS, references=[REFERENCES[0], missing])


def test_the_result_says_that_chinese_rules_read_the_texts(metric):
    chinese, english = ["右肺上叶结节。"], ["A nodule is seen."]
    for texts, name in ((chinese, "rules_zh"), (english, "rules")):
        assert metric.compute(predictions=texts, references=english)["labeler"] == name
        assert metric.compute(predictions=texts, references=label_reports(english))["labeler"] == name


@pytest.mark.slow_but_first
def test_a_text_that_the_labeler_cannot_read_is_named_with_its_language(metric):
    foreign = [REFERENCES[0], "Kleiner Pleuraerguss rechts."]
    for side, texts in (
        ("references", {"predictions": PREDICTIONS, "references": foreign}),
        ("predictions", {"predictions": foreign, "references": label_reports(REFERENCES)}),
    ):
        with pytest.raises(ValueError, match=rf"`{side}` row 1 seems to be in German.*Pass the 18 labels"):
            metric.compute(**texts)


def test_text_metric_is_the_plain_function(tmp_path):
    metric = load_as_space("ct_report_text", tmp_path)
    texts = {"predictions": PREDICTIONS, "references": REFERENCES}
    assert metric.compute(**texts) == text_scores(PREDICTIONS, REFERENCES)
    options = {"recipe": "vlm3d", "volumes": VOLUMES, "ci": 0.95}
    assert metric.compute(**texts, **options) == text_scores(PREDICTIONS, REFERENCES, **options)


def test_mask_metric_is_the_plain_function(tmp_path):
    metric, rng = load_as_space("ct_dice", tmp_path), np.random.default_rng(0)
    draw = lambda: [rng.random(shape) < 0.3 for shape in ((3, 5, 7), (1, 8, 4))]  # noqa: E731
    masks = {"predictions": draw(), "references": draw()}
    options = {"findings": ["Emphysema", "Lung nodule"], "volumes": VOLUMES, "ci": 0.95}
    expected = mask_scores(*masks.values(), **options)
    assert metric.compute(**masks, **options) == expected
    as_lists = {name: [mask.astype(int).tolist() for mask in of_name] for name, of_name in masks.items()}
    for prediction, reference in zip(*as_lists.values(), strict=True):
        metric.add(prediction=prediction, reference=reference)
    assert metric.compute(**options) == expected
    with pytest.raises(ValueError, match="Row 1: a mask has other values than 0 and 1"):
        metric.compute(predictions=[np.ones((1, 1, 1)), np.full((1, 1, 1), 0.7)], references=[np.ones((1, 1, 1))] * 2)


def test_shipped_files_import_only_each_other_and_what_the_script_asks_for():
    for name in METRICS:
        allowed = {"datasets", "evaluate", "numpy", *(["scipy"] if name == "ct_dice" else [])}
        files = metric_files(name)
        lines = [line for text in files.values() for line in text.decode().splitlines()]
        roots = {line.split()[1] for line in lines if line.startswith(("import ", "from "))}
        siblings = {f".{file.removesuffix('.py')}" for file in files}
        packages = {root.split(".")[0] for root in roots - siblings} - sys.stdlib_module_names
        assert packages <= allowed
        # evaluate fetches what the script itself imports, and names what of it is not installed; it looks no further
        script = files[f"{name}.py"].decode()
        assert all(f"from {sibling} import" in script for sibling in siblings - {f".{name}", ".__init__"})
        assert "import evaluate\n" in script


@pytest.mark.slow
def test_literal_use_from_an_empty_folder_without_the_network(tmp_path):
    cwd = tmp_path / "empty"
    cwd.mkdir()
    code = """
import ct_rate_pairs
import evaluate
texts = {"predictions": ["Consolidation."], "references": ["Consolidation. Emphysema."]}
a = evaluate.load("ct_coverage").compute(**texts)
b = evaluate.load("ct_label_accuracy").compute(**texts)
c = evaluate.load("ct_crg").compute(**texts)
d = evaluate.load("ct_report_text").compute(**texts, recipe="vlm3d")
print(a["coverage"], b["precision_micro"], b["labeler"], c["crg"], d["rouge_l"] > 0, d["recipe"])
"""
    out = run(code, cwd, HF_HOME=str(tmp_path / "hf"), HF_MODULES_CACHE=str(tmp_path / "modules"))
    assert out.split() == ["0.5", "1.0", "rules", "0.5", "True", "vlm3d"]
    assert not any(cwd.iterdir())


# The file alone, so that eight interpreters need not load torch; the files it ships are the same.
INSTALL_ALONE = """
import importlib.util, pathlib, sys, types
_, eval_file, cache = sys.argv[1:]
package = types.ModuleType("ct_rate_pairs")
package.__path__ = [str(pathlib.Path(sys.argv[1]).parent)]
sys.modules["ct_rate_pairs"] = package
spec = importlib.util.spec_from_file_location("metric_modules", eval_file)
module = importlib.util.module_from_spec(spec); spec.loader.exec_module(module)
for name in module.METRICS:
    script = module.install_metric(name, module.Path(cache))
    assert {path.name: path.read_bytes() for path in script.parent.iterdir()} == module.metric_files(name)
"""


def test_eight_processes_install_at_once(tmp_path):
    package = sys.modules["ct_rate_pairs"].__file__
    eval_file = sys.modules["ct_rate_pairs.eval.metrics.install"].__file__
    command = [sys.executable, "-c", INSTALL_ALONE, package, eval_file, str(tmp_path)]
    with ThreadPoolExecutor(8) as pool:
        done = list(pool.map(lambda _: subprocess.run(command, capture_output=True, text=True, check=False), range(8)))
    assert [result.stderr for result in done] == [""] * 8
    for name in METRICS:
        folders = list((tmp_path / "evaluate_modules" / "metrics" / f"evaluate-metric--{name}").iterdir())
        assert [len(folder.name) for folder in folders] == [64]


def test_lost_race_keeps_the_winner(tmp_path, monkeypatch):
    script = install_metric("ct_coverage", tmp_path)
    before = script.stat().st_ino
    real, calls = type(script).exists, []

    def absent_at_first(path):
        calls.append(path)
        return len(calls) > 1 and real(path)

    with monkeypatch.context() as patch:
        patch.setattr(type(script), "exists", absent_at_first)
        assert install_metric("ct_coverage", tmp_path) == script
    assert script.stat().st_ino == before
    assert len(list(script.parent.parent.iterdir())) == 1


def test_stale_version_does_not_win(tmp_path):
    script = install_metric("ct_coverage", tmp_path)
    stale = script.parent.with_name("0" * 64) / script.name
    stale.parent.mkdir()
    stale.write_text("")
    later = time.time() + 100
    os.utime(stale, (later, later))
    install_metric("ct_coverage", tmp_path)
    assert script.stat().st_mtime > stale.stat().st_mtime


OF_TWO_CHECKOUTS = """
import os, shutil, sys
import ct_rate_pairs
from ct_rate_pairs.eval.metrics import install
for name, own in dict(install.INSTALLED).items():
    other = own.parent.with_name("0" * 64)  # as another checkout writes it
    shutil.copytree(own.parent, other)
    os.utime(other / own.name, (2e9, 2e9))
import evaluate
for name in sorted(install.METRICS):
    try:
        evaluate.load(name)
    except ImportError as error:
        print(error)
install.register_metrics()
print(evaluate.load("ct_crg").compute(predictions=["Emphysema."], references=["Emphysema."])["crg"])
"""


@pytest.mark.slow
def test_the_metric_of_another_checkout_refuses_itself_and_the_remedy_helps(tmp_path):
    *refused, score = run(OF_TWO_CHECKOUTS, tmp_path, HF_MODULES_CACHE=str(tmp_path / "modules")).splitlines()
    assert len(refused) == len(METRICS) and score == "1.0"
    for name, message in zip(sorted(METRICS), refused, strict=True):
        assert f"{'0' * 64}/{name}.py is the metric of another version" in message
        assert "register_metrics()" in message and "HF_MODULES_CACHE=FOLDER" in message


def test_second_registration_writes_nothing(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_MODULES_CACHE", str(tmp_path))
    register_metrics()
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    register_metrics()
    assert before == {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}


def add_line(script):
    script.write_bytes(script.read_bytes() + b"\nEVIL = 1\n")


def keep_size_and_time(script):
    other = script.parent / "rules.py"
    before = other.stat()
    other.write_bytes(b"#" * before.st_size)
    os.utime(other, ns=(before.st_atime_ns, before.st_mtime_ns))


def add_module(script):
    (script.parent / "numpy.py").write_text("EVIL = 1\n")


def cut(script):
    (script.parent / "labels.py").write_bytes(b"")


def remove(script):
    script.unlink()


def link(script):
    folder = script.parent.rename(script.parent.with_name("elsewhere"))
    add_line(folder / script.name)
    script.parent.symlink_to(folder)


def file_in_its_place(script):
    shutil.rmtree(script.parent)
    script.parent.write_text("EVIL = 1")


@pytest.mark.parametrize("damage", [add_line, keep_size_and_time, add_module, cut, remove, link, file_in_its_place])
def test_code_in_the_cache_that_is_not_what_is_shipped_is_written_again(tmp_path, damage):
    script = install_metric("ct_coverage", tmp_path)
    damage(script)
    with pytest.warns(UserWarning, match="was changed or damaged, and is written again"):
        assert install_metric("ct_coverage", tmp_path) == script
    assert not script.parent.is_symlink()
    assert {path.name: path.read_bytes() for path in script.parent.iterdir()} == metric_files("ct_coverage")
    with warnings.catch_warnings(action="error"):
        install_metric("ct_coverage", tmp_path)
    assert not list(script.parent.parent.glob(".*"))


def test_compiled_code_and_code_of_the_folders_above_do_not_run(tmp_path):
    script = install_metric("ct_coverage", tmp_path)
    compiled = script.parent / "__pycache__" / "rules.cpython-311.pyc"
    compiled.parent.mkdir()
    compiled.write_bytes(b"evil")
    package = script.parent.parent / "__init__.py"
    package.write_text("EVIL = 1")
    with pytest.warns(UserWarning, match=r"__init__\.py was changed, and is removed"):
        install_metric("ct_coverage", tmp_path)
    assert not compiled.exists() and package.read_bytes() == b""


ABOVE = ("evaluate_modules", "evaluate_modules/metrics", "evaluate_modules/metrics/evaluate-metric--ct_coverage")


@pytest.fixture
def evil(tmp_path) -> bytes:
    """Compiled code that fails when it runs, and that Python does not compare with its source."""
    (tmp_path / "evil.py").write_text("raise SystemExit('planted code ran')\n")
    compiled = tmp_path / "evil.pyc"
    py_compile.compile(tmp_path / "evil.py", compiled, invalidation_mode=PycInvalidationMode.UNCHECKED_HASH)
    return compiled.read_bytes()


@pytest.mark.parametrize("folder", ABOVE)
@pytest.mark.parametrize("how", ["compiled", "compiled elsewhere", "compiled alone", "in C", "linked"])
def test_no_code_that_is_planted_in_a_package_above_a_metric_runs(tmp_path, evil, folder, how):
    cache = tmp_path / "cache"
    install_metric("ct_coverage", cache)
    for above in ABOVE:
        (cache / above / "__init__.py").touch()  # as `evaluate` does
    package = cache / folder / "__init__.py"
    if how in ("compiled", "compiled elsewhere"):
        place = package.parent / "__pycache__"
        if how == "compiled elsewhere":
            (tmp_path / "elsewhere").mkdir()
            place.symlink_to(tmp_path / "elsewhere")
        place.mkdir(exist_ok=True)
        (place / f"__init__.{sys.implementation.cache_tag}.pyc").write_bytes(evil)
    elif how == "compiled alone":
        package.unlink()
        package.with_suffix(".pyc").write_bytes(evil)
    elif how == "in C":
        package.with_name(f"__init__{EXTENSION_SUFFIXES[-1]}").write_bytes(b"evil")
    else:
        (tmp_path / "own.py").write_text("raise SystemExit('planted code ran')\n")
        package.unlink()
        package.symlink_to(tmp_path / "own.py")
    with warnings.catch_warnings(record=True, action="always") as told:
        install_metric("ct_coverage", cache)
    assert bool(told) == (how in ("compiled alone", "in C", "linked"))
    name = ABOVE[-1].replace("/", ".")  # which imports the packages above it, too
    run(f"import importlib, sys; sys.path.insert(0, {str(cache)!r}); importlib.import_module({name!r})", tmp_path)
    assert how != "linked" or (tmp_path / "own.py").stat().st_size  # what the link named is untouched


def test_cache_that_cannot_be_written_warns_and_names_the_remedy(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("HF_MODULES_CACHE", str(tmp_path / "file"))
    with pytest.warns(UserWarning, match="HF_MODULES_CACHE"):
        register_metrics()


def test_cache_folder_is_where_evaluate_looks():
    assert modules_cache() == evaluate.config.HF_MODULES_CACHE
