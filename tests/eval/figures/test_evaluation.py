"""Figures of an evaluation, and the calibration error by hand."""

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from ct_rate_pairs.eval.figures.evaluation import plot_calibration, plot_gaps, plot_labels, plot_operating_curve
from ct_rate_pairs.eval.metrics.calibration import calibration_error, calibration_error_by_chance


def test_calibration_error_by_hand():
    confidence = [0.95, 0.95, 0.55, 0.55]
    assert calibration_error(confidence, [True, True, True, False]) == pytest.approx((2 * 0.05 + 2 * 0.05) / 4)
    assert calibration_error([1.0, 1.0], [True, True]) == 0
    assert calibration_error([1.0], [False]) == 1


@pytest.mark.parametrize("choices", [100, 3600])
def test_right_confidences_have_the_calibration_error_of_chance(choices):
    rng = np.random.default_rng(0)
    confidence = rng.beta(0.5, 2, choices)
    drawn = np.mean([calibration_error(confidence, rng.random(choices) < confidence) for _ in range(500)])
    assert calibration_error_by_chance(confidence) == pytest.approx(drawn, rel=0.1)
    assert calibration_error_by_chance([0.0, 1.0]) == 0


def test_choices_as_certain_as_they_are_right_have_no_calibration_error():
    rng = np.random.default_rng(0)
    confidence = rng.uniform(0.25, 1, 20000)
    assert calibration_error(confidence, rng.random(20000) < confidence) < 0.02


def test_the_figure_of_the_gaps_names_the_gap_of_the_table(tmp_path, monkeypatch):
    drawn = []
    monkeypatch.setattr(Figure, "savefig", lambda figure, *_, **__: drawn.append(figure))
    plot_gaps({"noise": [0.1, 0.3]}, tmp_path / "gaps.png", {"noise": 0.274})
    (text,) = drawn[0].axes[0].get_legend().get_texts()
    assert text.get_text() == "noise: 0.274 over all tokens, 100% of reports above 0"


@pytest.mark.parametrize(
    ("point", "lines"),
    [
        ("f1", ["lines at the best F1"]),
        ("0.9", ["lines at the best F1", "lines at 0.9"]),
        (None, ["lines at the best F1", "lines as the model chose"]),
    ],
)
def test_the_operating_curve_has_one_marker_and_one_entry_for_each_point(tmp_path, monkeypatch, point, lines):
    drawn = []
    monkeypatch.setattr(Figure, "savefig", lambda figure, *_, **__: drawn.append(figure))
    curve = {"f1": (0.7, 0.6), "0.5": (0.4, 0.8), "0.9": (0.9, 0.3)}
    places = curve | {None: (0.6, 0.65)}
    own = dict(zip(("line_coverage", "line_precision_micro"), places[point], strict=True))
    model = {"n": 8, "coverage": 0.5, "precision_micro": 0.5} | own
    model |= {"operating_point": point} if point else {}
    numbers = {name: {"coverage": x, "precision_micro": y} for name, (x, y) in curve.items()}
    plot_operating_curve(model, numbers, tmp_path / "curve.png")
    (axes,) = drawn[0].axes
    told = [text.get_text() for text in axes.get_legend().get_texts()]
    asked, text = "lines at a sensitivity asked for", f"text of the reports, {lines[-1]}"
    assert told == [asked, *lines, text]
    single = [line for line in axes.get_lines() if len(line.get_xdata()) == 1]
    shown = [(*line.get_xdata(), *line.get_ydata()) for line in single]
    assert len(set(shown)) == len(shown) == len(lines) + 1  # no marker lies on another one
    assert all(line.get_fillstyle() == "none" for line in single if line.get_label() != "lines at the best F1")


@pytest.mark.slow
def test_figures_are_drawn_for_the_least_that_there_can_be(tmp_path):
    row = {"recall": None, "precision": None, "support": 0}
    plot_labels({"Lung nodule": row, "Emphysema": row | {"recall": 1.0, "support": 1}}, 1, tmp_path / "labels.png")
    plot_gaps({"noise": [0.1], "blank": [-0.2]}, tmp_path / "gaps.png", {"noise": 0.1, "blank": -0.2})
    plot_gaps({"noise": [0.0, 0.0]}, tmp_path / "still.png", {"noise": 0.0})
    plot_calibration([1.0], [True], tmp_path / "calibration.png")
    for path in tmp_path.iterdir():
        image = np.asarray(Image.open(path).convert("L"))
        assert image.std() > 5  # something is drawn
