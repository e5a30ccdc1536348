import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from ct_rate_pairs.eval.figures.report_sheet import OUTCOMES, label_marks, plot_reports, report_lines
from ct_rate_pairs.eval.figures.training import plot_losses, plot_rewards
from ct_rate_pairs.reports.labels import LABELS
from ct_rate_pairs.trainer import NegativeSFTConfig


def vector(*names):
    return np.array([label in names for label in LABELS])


def make_row(index):
    image = Image.fromarray(np.full((40, 50), 20 * index, dtype=np.uint8), "L")
    return {
        "volume": f"train_{index}_a_1.nii.gz",
        "images": [image] * 10,
        "completion": [{"role": "assistant", "content": "Cardiomegaly is observed. Trachea is open."}],
        "labels": vector("Cardiomegaly").astype(int).tolist(),
    }


def test_sentences_are_marked_by_their_outcome():
    report = "Trachea is open. Cardiomegaly is observed. Emphysema is observed. No pleural effusion was observed."
    reference = report_lines(report, vector("Cardiomegaly"), "missed", width=80)
    assert reference == [
        ("   Trachea is open.", reference[0][1]),
        ("+  Cardiomegaly is observed.", OUTCOMES["correct"][1]),
        ("−  Emphysema is observed.", OUTCOMES["missed"][1]),
        ("   No pleural effusion was observed.", reference[0][1]),
    ]
    generated = report_lines(report, vector("Cardiomegaly"), "invented", width=80)
    assert [line[0] for line, _ in generated] == [" ", "+", "!", " "]


def test_a_sentence_with_one_wrong_finding_is_marked_wrong():
    lines = report_lines("Cardiomegaly and emphysema are observed.", vector("Cardiomegaly"), "invented", width=80)
    assert lines == [("!  Cardiomegaly and emphysema are observed.", OUTCOMES["invented"][1])]


def test_a_wrong_place_is_marked_in_the_sentence_that_names_it():
    report = "A nodule is observed in the left lung. Cardiomegaly is observed. Nodule."
    labels, wrong = vector("Lung nodule", "Cardiomegaly"), {LABELS.index("Lung nodule")}
    lines = report_lines(report, labels, "invented", 80, wrong)
    assert [line[0] for line, _ in lines] == ["≠", "+", "+"] and lines[0][1] == OUTCOMES["misplaced"][1]
    # What the other report lacks is not only in a wrong place.
    assert [line[0] for line, _ in report_lines(report, vector(), "invented", 80, wrong)] == ["!", "!", "!"]
    (marks,) = label_marks(labels, labels, 6.0, wrong)
    assert [text for _, text, _ in marks] == ["+ Cardiomegaly", "≠ Lung nodule"]


def test_long_sentences_are_wrapped_and_an_empty_report_says_so():
    lines = report_lines("Cardiomegaly is observed " + "in a large chest " * 20 + ".", vector(), "invented", width=60)
    assert len(lines) > 4 and all(len(line) <= 60 for line, _ in lines)
    assert [line for line, _ in report_lines("", vector(), "invented", width=60)] == ["(empty report)"]


def test_every_finding_of_either_side_gets_one_mark_within_the_width():
    labels, stated = vector(*LABELS[:12]), vector(*LABELS[6:])
    marks = label_marks(labels, stated, width=6.0)
    texts = [text for row in marks for _, text, _ in row]
    assert texts == (
        [f"+ {label}" for label in LABELS[6:12]]
        + [f"− {label}" for label in LABELS[:6]]
        + [f"! {label}" for label in LABELS[12:]]
    )
    assert all(x + 0.067 * len(text) <= 6.0 for row in marks for x, text, _ in row)


def test_the_sheet_shows_the_first_n_scans_and_reads_no_more(tmp_path):
    read = []
    rows = (read.append(index) or make_row(index) for index in range(1, 10))
    generated = ["Emphysema is observed, $5 and $6."] * 9
    plot_reports(rows, generated, tmp_path / "two.png", n=2)
    assert read[:2] == [1, 2] and len(read) == 2
    plot_reports([make_row(1)], generated, tmp_path / "one.png", n=2)
    one, two = Image.open(tmp_path / "one.png").convert("L"), Image.open(tmp_path / "two.png").convert("L")
    assert one.width == two.width and two.height > 1.5 * one.height
    assert (np.asarray(two) == 20).sum() > 10_000 and (np.asarray(two) == 40).sum() > 10_000  # both scans' grey
    assert not (np.asarray(one) == 40).sum() > 10_000


@pytest.mark.slow_but_first
@pytest.mark.parametrize("beta", [0.0, 0.1])
def test_losses_are_drawn_with_and_without_negatives(tmp_path, beta):
    history = [{"step": step, "loss_pos": 5 / step} for step in range(1, 50)]
    history += [{"step": step, "loss_neg": 0.5} for step in range(30, 50)] * (beta > 0)
    history += [{"step": 25, "eval_loss_pos": 0.4}, {"step": 49, "train_runtime": 2.0}]
    plot_losses(history, tmp_path / "plain.png")
    config = NegativeSFTConfig(
        output_dir=tmp_path, bf16=False, beta=beta, negative_start_ratio=0.6, negative_warmup_ratio=0.1
    )
    plot_losses(history, tmp_path / "ramp.png", config)
    plain, ramp = (np.asarray(Image.open(tmp_path / f"{name}.png").convert("RGB")) for name in ("plain", "ramp"))
    assert (plain == ramp).all() == (beta == 0)  # cap and ramp are drawn where there are negatives


def test_each_reward_and_its_validation_is_a_curve(tmp_path, monkeypatch):
    told = []
    monkeypatch.setattr(
        Figure, "savefig", lambda figure, *_, **__: told.extend(figure.axes[0].get_legend_handles_labels()[1])
    )
    history = [{"step": step, "reward": step / 9, "rewards/length_reward/mean": 0.5} for step in range(1, 9)]
    history += [{"step": 4, "eval_reward": 0.4}, {"step": 8, "train_runtime": 2.0}]
    plot_rewards(history, tmp_path / "rewards.png")
    assert told == ["weighted sum", "weighted sum, validation", "length"]


def test_a_model_that_repeats_itself_without_end_has_a_sheet_all_the_same(tmp_path):
    endless = "There is a nodule. " * 5_000
    assert len(report_lines(endless, np.ones(len(LABELS), dtype=bool), "invented", 60)) < 100
