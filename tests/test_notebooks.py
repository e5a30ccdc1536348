"""Each notebook runs as it is, on small phantoms, and is kept without its outputs."""

import json
import os
import re
import sys
import time
from pathlib import Path

import nbformat
import pytest
from helpers.paths import ROOT
from helpers.tiny_reader import save_nifti, write_report
from jupyter_client import AsyncKernelManager
from jupyter_core.utils import run_sync
from nbclient import NotebookClient


NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
SHOWN = (1, 0, 1)


def read(path: Path) -> nbformat.NotebookNode:
    return nbformat.read(path, as_version=4)


@pytest.fixture(scope="module")
def kernel(tmp_path_factory):
    """One kernel for all notebooks: it takes longer to import what they need than to run most of them."""
    manager = AsyncKernelManager(kernel_name="python3")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
        patch.setenv("IPYTHONDIR", str(tmp_path_factory.mktemp("ipython")))
        run_sync(manager.start_kernel)()
    yield manager
    run_sync(manager.shutdown_kernel)(now=True)


def execute(path: Path, folder: Path, kernel, **replaced: str) -> str:
    """What the cells of a notebook print and show, in an empty folder. `replaced` are lines `NAME = …` of its own."""
    notebook = read(path)
    # No notebook sees a name of another one.
    notebook.cells.insert(0, nbformat.v4.new_code_cell(f"%reset -f\n%cd -q {folder}"))
    for name, value in replaced.items():
        cell = next(cell for cell in notebook.cells if cell.cell_type == "code" and f"{name} = " in cell.source)
        cell.source = re.sub(rf"^{name} = .*", f"{name} = {value!r}", cell.source, flags=re.MULTILINE)
    start = time.monotonic()
    NotebookClient(notebook, km=kernel, timeout=300).execute()
    print(f"{path.name}: {time.monotonic() - start:.1f} s")
    outputs = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
    return "".join(output.get("text", "") or str(output.get("data", "")) for output in outputs)


def test_no_notebook_holds_an_output_or_a_number_of_an_execution():
    assert len(NOTEBOOKS) == 4
    for path in NOTEBOOKS:
        for cell in read(path).cells:
            assert cell.cell_type == "markdown" or (cell.outputs == [] and cell.execution_count is None), path
        text = path.read_text()
        assert json.loads(text)["metadata"]["kernelspec"]["name"] == "python3" and str(ROOT) not in text


def test_what_a_notebook_names_is_there_and_the_readmes_name_each_notebook():
    for path in NOTEBOOKS:
        text = "\n".join(cell.source for cell in read(path).cells)
        if "load_dataset(" in text:
            assert "import ct_rate_pairs" in text  # which registers the dataset; a kernel may have run others before
        for name in re.findall(r"`(docs/[\w/]+\.md|\w+\.ipynb)`", text):
            assert (ROOT / name).is_file() or path.with_name(name).is_file(), f"{path.name}: {name}"
        for readme in ("README.md", "README.zh.md"):
            assert f"notebooks/{path.name}" in (ROOT / readme).read_text()


@pytest.mark.slow
def test_the_quick_start_goes_from_scans_to_a_number(tmp_path, kernel):
    shown = execute(ROOT / "notebooks" / "quick_start.ipynb", tmp_path, kernel)
    assert shown.count("image/png") == 2 and "the negative differs in" in shown and "step 10: own" in shown
    assert "the references themselves: 1.0" in shown and (tmp_path / "run" / "model.safetensors").is_file()


@pytest.mark.slow
def test_negatives_of_one_s_own_are_trained_on(tmp_path, kernel):
    shown = execute(ROOT / "notebooks" / "own_negatives.ipynb", tmp_path, kernel)
    assert shown.count("image/png") == 5 and "gauss: noise" in shown
    assert "hard: another patient" in shown and "step 8: own" in shown


@pytest.mark.slow
def test_predictions_of_another_model_are_measured_and_compared(tmp_path, kernel):
    shown = execute(ROOT / "notebooks" / "evaluate_predictions.ipynb", tmp_path, kernel)
    template, halves = (json.loads((tmp_path / name / "results.json").read_text()) for name in ("template", "halves"))
    assert 0 < halves["model"]["coverage"] < 1 and halves["model"]["precision_micro"] == 1
    assert template["model"]["coverage"] < halves["model"]["coverage"]
    assert "all_negative" in shown and "rouge_l" in shown


@pytest.mark.slow
def test_a_scan_is_reported_with_its_findings_and_their_slices(tmp_path, reader_dir, kernel):
    scan = save_nifti(tmp_path / "scan.nii.gz", SHOWN)
    names = {"MODEL": str(reader_dir), "SCAN": str(scan)}
    shown = execute(ROOT / "notebooks" / "report_a_scan.ipynb", tmp_path, kernel, **names)
    assert write_report(SHOWN) in shown and shown.count("image/png") == 1
    assert "Emphysema: slice" in shown and "evidence" in shown
    assert json.loads((tmp_path / "my_scan" / "report.json").read_text())["text"] == write_report(SHOWN)
    assert write_report(SHOWN).split(". ")[0] in (tmp_path / "my_scan" / "report.md").read_text()
