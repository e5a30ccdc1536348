"""Figures of a study: metrics against a setting, losses of the report with and without its volume, loss gaps."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullLocator

from ct_rate_pairs.eval.figures import NEGATIVE, POSITIVE
from ct_rate_pairs.eval.study import METRICS, Study, Table, read_gaps, read_losses, run_folder


# Colours that stay apart for colour-blind readers
COLORS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000", "#999999")
KINDS = {"none": "Origin", "gauss": "Gauss", "heter": "Heter", "hard": "Hard"}
SETTING_METRICS = ("coverage", "f1_micro", "bleu4", "top1", "loss_gap_shuffled", "words")
SETTING_TITLES = {"beta": "beta", "max_negative_loss": "cap, nats a token", "num_slices": "slices"}


def plot_study(study: Study, summary: Mapping[str, Mapping], out: str | Path, figures: str | Path) -> None:
    """
    Draws the figures of every table that has a finished run: `NAME_losses.png`, `NAME_gaps.png`, and
    `NAME_SETTING.png` where the table varies one setting.

    Args:
        study ([`~ct_rate_pairs.eval.study.Study`]), summary (`Mapping[str, Mapping]`):
            The study, and what [`~ct_rate_pairs.eval.study.summarise`] made of its runs.
        out (`str` or `Path`):
            Folder of the study, with the runs.
        figures (`str` or `Path`):
            Folder to write to.
    """
    figures = Path(figures)
    figures.mkdir(parents=True, exist_ok=True)
    for name, table in study.tables.items():
        rows = summary[name]["rows"]
        folders = {
            row.title: [
                run_folder(out, run)
                for run, state in zip(row.runs, rows[row.title]["states"], strict=True)
                if state == "finished"
            ]
            for row in table.rows
        }
        folders = {title: of_row for title, of_row in folders.items() if of_row}
        if not folders:
            continue
        losses = {title: list(map(read_losses, of)) for title, of in folders.items()}
        plot_loss_curves(losses, figures / f"{name}_losses.png")
        gaps = {title: list(map(read_gaps, of)) for title, of in folders.items()}
        if any(run for runs in gaps.values() for run in runs):
            plot_gap_histograms(gaps, figures / f"{name}_gaps.png")
        if table.against:
            plot_against(table, rows, figures / f"{name}_{table.against}.png")


def plot_against(table: Table, rows: Mapping[str, Mapping], path: str | Path) -> None:
    """
    Draws the metrics of a table's rows against the setting that they vary, a line a kind of negative.

    Args:
        table ([`~ct_rate_pairs.eval.study.Table`]):
            Its `against` is the setting. Its values stand at equal distances, an infinite one as "none". At `beta` 0
            there are no negatives, so that row is the start of every line.
        rows (`Mapping[str, Mapping]`):
            The table's rows in the summary; rows without a finished run are left out.
        path (`str` or `Path`):
            Image file to write.
    """
    settings = {row.title: row.runs[0].settings for row in table.rows}
    values = sorted({of[table.against] for of in settings.values()})
    kinds = [kind for kind in KINDS if any(of["negative"] == kind for of in settings.values())]
    if table.against == "beta":
        kinds = [kind for kind in kinds if kind != "none"]
    figure = Figure(figsize=(10, 5.6), layout="constrained")
    for axes, metric in zip(figure.subplots(2, 3).flat, SETTING_METRICS, strict=True):
        for kind in kinds:
            points = [
                (values.index(of[table.against]), rows[title]["metrics"][metric])
                for title, of in settings.items()
                if (of["negative"] == kind or (table.against == "beta" and of["beta"] == 0))
                and metric in rows[title]["metrics"]
            ]
            if points:
                points.sort(key=lambda point: point[0])
                place = np.array([x for x, _ in points]) + 0.06 * (kinds.index(kind) - (len(kinds) - 1) / 2)
                mean = [estimate["mean"] for _, estimate in points]
                spread = [estimate["half_width"] or 0.0 for _, estimate in points]
                color = COLORS[list(KINDS).index(kind)]
                axes.errorbar(place, mean, spread, fmt="o-", color=color, capsize=3, linewidth=1.4, label=KINDS[kind])
        axes.set_xticks(range(len(values)), [f"{value:g}" if np.isfinite(value) else "none" for value in values])
        axes.set(xlim=(-0.4, len(values) - 0.6), xlabel=SETTING_TITLES[table.against], title=METRICS[metric])
        _clear(axes)
    figure.axes[0].legend(frameon=False, fontsize=9)
    figure.suptitle(f"{table.title} (bars: 95 % interval over seeds)")
    figure.savefig(path, dpi=130)


def plot_loss_curves(histories: Mapping[str, Sequence[Sequence[Mapping]]], path: str | Path) -> None:
    """
    Draws, for each row, the losses of the true report given its volume and given its negative, a thin line a seed.

    Args:
        histories (`Mapping[str, Sequence[Sequence[Mapping]]]`):
            Title of a row to the `log_history` of each of its runs; `step`, `loss_pos` and `loss_neg` are read, in
            nats a token.
        path (`str` or `Path`):
            Image file to write.
    """
    figure, panels = _panels(len(histories))
    for axes, (title, runs) in zip(panels, histories.items(), strict=False):
        for key, name, color in (("loss_pos", "own volume", POSITIVE), ("loss_neg", "negative", NEGATIVE)):
            for run in runs:
                points = [(entry["step"], entry[key]) for entry in run if key in entry]
                if points:
                    axes.plot(*zip(*points, strict=True), color=color, linewidth=1, alpha=0.8, label=name)
                    name = None  # noqa: PLW2901 (one entry of the legend for all seeds)
        # Template sentences take the loss below a tenth of its start: on a linear axis what matters is a flat line.
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.yaxis.set_major_formatter("{x:g}")
        axes.yaxis.set_minor_locator(NullLocator())
        axes.set_title(title, fontsize=10)
        _clear(axes)
    panels[0].legend(frameon=False, fontsize=9)
    figure.supxlabel("step")
    figure.supylabel("cross-entropy of the true report (nats a token)")
    figure.savefig(path, dpi=130)


def plot_gap_histograms(gaps: Mapping[str, Sequence[Mapping[str, Sequence[float]]]], path: str | Path) -> None:
    """
    Draws how much less likely each true report is given another volume, all rows in one panel a kind of volume.

    Args:
        gaps (`Mapping[str, Sequence[Mapping[str, Sequence[float]]]]`):
            Title of a row to the gaps of each of its runs, as from [`~ct_rate_pairs.eval.study.read_gaps`]. The runs
            of a row are pooled.
        path (`str` or `Path`):
            Image file to write.
    """
    figure = Figure(figsize=(10, 4.2), layout="constrained")
    shown = (("shuffled", "another patient's volume"), ("noise", "noise"))
    for axes, (kind, name) in zip(figure.subplots(1, 2), shown, strict=True):
        pooled = {
            title: np.concatenate([run[kind] for run in runs if run]) for title, runs in gaps.items() if any(runs)
        }
        everything = np.concatenate(list(pooled.values()))
        low, high = min(0.0, np.quantile(everything, 0.005)), np.quantile(everything, 0.995)
        bins = np.linspace(low, max(high, low + 1e-3), 41)
        for index, (title, values) in enumerate(pooled.items()):
            axes.hist(
                np.clip(values, bins[0], bins[-1]),
                bins,
                histtype="step",
                density=True,
                linewidth=1.5,
                color=COLORS[index % len(COLORS)],
                linestyle="-" if index < len(COLORS) else "--",
                label=f"{title}: mean {values.mean():.3f}",
            )
        axes.axvline(0, color="black", linewidth=1, linestyle=":")
        axes.set(xlabel="loss gap of the true report (nats a token)", yticks=[])
        axes.set_title(f"Under {name}", fontsize=11)
        _clear(axes)
        axes.legend(frameon=False, fontsize=8)
    figure.suptitle("0: the volume does not matter")
    figure.savefig(path, dpi=130)


def _panels(count: int) -> tuple[Figure, list[Axes]]:
    columns = min(count, 4)
    lines = -(-count // columns)
    figure = Figure(figsize=(max(5.5, 3.0 * columns), 1.0 + 2.6 * lines), layout="constrained")
    panels = list(figure.subplots(lines, columns, sharex=True, sharey=True, squeeze=False).flat)
    for axes in panels[count:]:
        axes.axis("off")
    return figure, panels


def _clear(axes: Axes) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.25)
