"""Figures of a study: metrics against a setting, losses of the true report, and loss gaps."""

import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from ct_rate_pairs.eval.figures.style import GREEN, NEGATIVE, NEUTRAL, POSITIVE, clear, log_axis, save_figure
from ct_rate_pairs.eval.looking.other_volumes import suffix_of

from .plan import Study, Table, run_folder
from .results import METRICS, read_gaps, read_losses


KINDS = {"none": "Origin", "gauss": "Gauss", "heter": "Heter", "hard": "Hard"}
COLORS = {"none": NEUTRAL, "gauss": NEGATIVE, "heter": POSITIVE, "hard": GREEN}
GAP_TITLES = {"shuffled": "another patient's volume", "noise": "noise"}
SETTING_METRICS = ("coverage", "f1_micro", "bleu4", "top1", "loss_gap_shuffled", "words")
SETTING_TITLES = {"beta": "beta", "max_negative_loss": "cap, nats per token", "num_slices": "slices"}


def plot_study(study: Study, summary: Mapping[str, Mapping], out: str | Path, figures: str | Path) -> None:
    """
    Draws the figures of every table that has a finished run: `NAME_cost.png`; where the folder of a run has more than
    its record, `NAME_losses.png` and `NAME_gaps.png`; and if the table varies one setting, `NAME_SETTING.png`.

    Args:
        study ([`~ct_rate_pairs.eval.study.plan.Study`]), summary (`Mapping[str, Mapping]`):
            The study, and the summary of its runs from [`~ct_rate_pairs.eval.study.results.summarise`].
        out (`str` or `Path`):
            Folder of the study. It holds the runs.
        figures (`str` or `Path`):
            Folder to write to.
    """
    figures = Path(figures)
    figures.mkdir(parents=True, exist_ok=True)
    for name, table in study.tables.items():
        rows = summary[name]["rows"]
        if not any(row["metrics"] for row in rows.values()):
            continue
        plot_cost(rows, figures / f"{name}_cost.png")
        if table.against:
            plot_against(table, rows, figures / f"{name}_{table.against}.png")
        folders = {
            row.title: [
                folder
                for run, state in zip(row.runs, rows[row.title]["states"], strict=True)
                if state == "finished" and has_curves(folder := run_folder(out, run))
            ]
            for row in table.rows
        }
        folders = {title: of_row for title, of_row in folders.items() if of_row}
        if not folders:
            continue
        supervised = [row.title for row in table.rows if row.title in folders and row.runs[0].recipe == "sft_neg"]
        if supervised:  # a reinforcement has no loss of the true report
            losses = {title: list(map(read_losses, folders[title])) for title in supervised}
            plot_loss_curves(losses, figures / f"{name}_losses.png")
        gaps = {title: list(map(read_gaps, of)) for title, of in folders.items()}
        means = {
            title: {kind: rows[title]["metrics"][f"loss_gap{suffix_of(kind)}"]["mean"] for kind in GAP_TITLES}
            for title in folders
        }
        plot_gap_histograms(gaps, figures / f"{name}_gaps.png", means)


def has_curves(folder: Path) -> bool:
    """Whether the folder of a run holds its losses and gaps, and not its record alone."""
    return (folder / "trainer_state.json").is_file() and (folder / "looking.json").is_file()


def plot_cost(rows: Mapping[str, Mapping], path: str | Path) -> None:
    """Draws macro F1 and Coverage of each row against its cost, in CPU minutes per run."""
    figure = Figure(figsize=(11, 0.9 + 0.42 * max(8, len(rows))), layout="constrained")
    for axes, metric in zip(figure.subplots(1, 2), ("f1_macro", "coverage"), strict=True):
        for place, (title, row) in enumerate(rows.items()):
            if metric not in row["metrics"]:
                continue
            cost, of = row["metrics"]["cpu_minutes"], row["metrics"][metric]
            spread = of["half_width"] if of["n"] > 2 else 0.0
            # Seven marks and ten colours: no two rows of a table look the same.
            marks = {"fmt": "osD^vP*"[place % 7], "color": f"C{place % 10}", "capsize": 3}
            axes.errorbar(cost["mean"], of["mean"], spread, label=title, **marks)
        axes.set(xlabel="CPU minutes per run, training and evaluation", title=METRICS[metric])
        clear(axes)
    figure.legend(*figure.axes[0].get_legend_handles_labels(), loc="outside right center", frameon=False, fontsize=9)
    figure.suptitle("What a row gives, and what it costs (bars: 95 % interval over three seeds or more)")
    save_figure(figure, path, dpi=130)


def plot_against(table: Table, rows: Mapping[str, Mapping], path: str | Path) -> None:
    """Draws metrics against the setting `table.against`, with one line per kind of negative; `rows` as summarised."""
    settings = {row.title: row.runs[0].settings for row in table.rows}
    # Rows with another rule of slices or with rewards are no points of these lines: the table alone has them.
    settings = {
        title: of
        for title, of in settings.items()
        if of.get("slices", "uniform") == "uniform" and "reward_funcs" not in of
    }
    # A row without negatives lacks settings that concern negatives.
    values = sorted({of[table.against] for of in settings.values() if table.against in of})
    lines = {
        kind: [title for title, of in settings.items() if of["negative"] == kind]
        for kind in KINDS
        if any(of["negative"] == kind for of in settings.values())
    }
    # A single row without negatives is a dashed level, or where beta is varied, the first point of every line.
    level = lines.pop("none") if len(lines.get("none", [])) == 1 else []
    if table.against == "beta":
        lines, level = {kind: level + titles for kind, titles in lines.items()}, []
    figure = Figure(figsize=(10, 5.6), layout="constrained")
    for axes, metric in zip(figure.subplots(2, 3).flat, SETTING_METRICS, strict=True):
        measured = {title: row["metrics"][metric] for title, row in rows.items() if metric in row["metrics"]}
        for place, (kind, titles) in enumerate(lines.items()):
            points = [
                (values.index(settings[title][table.against]), measured[title])
                for title in titles
                if title in measured
            ]
            points.sort(key=lambda point: point[0])
            # Shifted sideways, so that no error bar hides another.
            shift = 0.06 * (place - (len(lines) - 1) / 2)
            axes.errorbar(
                [x + shift for x, _ in points],
                [estimate["mean"] for _, estimate in points],
                [estimate["half_width"] if estimate["n"] > 2 else 0.0 for _, estimate in points],
                fmt="o-",
                color=COLORS[kind],
                capsize=3,
                linewidth=1.4,
                label=KINDS[kind],
            )
        for title in level:
            if title in measured:
                axes.axhline(measured[title]["mean"], color=COLORS["none"], linestyle="--", linewidth=1.2, label=title)
        axes.set_xticks(range(len(values)), [f"{value:g}" if np.isfinite(value) else "none" for value in values])
        axes.set(xlim=(-0.4, len(values) - 0.6), xlabel=SETTING_TITLES[table.against], title=METRICS[metric])
        clear(axes)
    figure.axes[0].legend(frameon=False, fontsize=9)
    # Intervals over two seeds are so wide (t = 12.7) that they would flatten everything else.
    figure.suptitle(f"{table.title} (bars: 95 % interval over three seeds or more)")
    save_figure(figure, path, dpi=130)


def plot_loss_curves(histories: Mapping[str, Sequence[Sequence[Mapping]]], path: str | Path) -> None:
    """Draws the losses of the true report for each row, one line per seed, from the `log_history` of each run."""
    columns = min(len(histories), 4)
    lines = -(-len(histories) // columns)
    figure = Figure(figsize=(max(5.5, 3.0 * columns), 1.2 + 2.5 * lines), layout="constrained")
    panels = figure.subplots(lines, columns, sharex=True, sharey=True, squeeze=False).ravel()
    curves = (("loss_pos", "given its own volume", POSITIVE), ("loss_neg", "given its negative", NEGATIVE))
    for axes, (title, runs) in zip(panels, histories.items(), strict=False):
        for key, _, color in curves:
            for run in runs:
                points = [(entry["step"], entry[key]) for entry in run if key in entry]
                axes.plot([x for x, _ in points], [y for _, y in points], color=color, linewidth=1, alpha=0.8)
        # Template sentences soon bring the loss below a tenth of its start. A linear axis would show the rest as flat.
        log_axis(axes)
        axes.set_title(textwrap.fill(title, 30), fontsize=9)
        clear(axes)
    for axes in panels[len(histories) :]:
        axes.axis("off")
    for axes in panels[max(0, len(histories) - columns) : len(histories)]:
        axes.tick_params(labelbottom=True)  # also where the place below is empty
    figure.legend(
        handles=[Line2D([], [], color=color, label=name) for _, name, color in curves],
        loc="outside upper center",
        ncols=2,
        frameon=False,
        fontsize=9,
    )
    figure.supxlabel("step", fontsize=10)
    figure.supylabel("loss of the true report (nats per token)", fontsize=10)
    save_figure(figure, path, dpi=130)


def plot_gap_histograms(
    gaps: Mapping[str, Sequence[Mapping[str, Sequence[float]]]],
    path: str | Path,
    means: Mapping[str, Mapping[str, float]],
) -> None:
    """
    Draws one histogram of loss gaps per row; the gaps of a row's runs ([`read_gaps`]) are pooled. `means` holds the
    loss gaps of the rows in the table, by the kind of the other volume.
    """
    figure = Figure(figsize=(10, 1.4 + 0.7 * len(gaps)), layout="constrained")
    titles = list(gaps)
    for axes, (kind, name) in zip(figure.subplots(1, 2, sharey=True), GAP_TITLES.items(), strict=True):
        pooled = [np.concatenate([run[kind] for run in runs]) for runs in gaps.values()]
        # A row that has diverged would press all other rows into one bin.
        far = [np.quantile(values, 0.995) for values in pooled]
        low, high = min(0.0, np.quantile(np.concatenate(pooled), 0.005)), min(max(far), 3 * np.median(far))
        bins = np.linspace(low, max(high, 1e-3), 51)
        for place, (title, values) in enumerate(zip(titles, pooled, strict=True)):
            counts, _ = np.histogram(np.clip(values, bins[0], bins[-1]), bins)
            base = len(titles) - 1 - place  # the first row on top
            axes.stairs(base + 0.85 * counts / counts.max(), bins, baseline=base, fill=True, color=POSITIVE, alpha=0.5)
            mean = means[title][kind]
            axes.plot(np.clip([mean, mean], bins[0], bins[-1]), [base, base + 0.85], color="black", linewidth=1.2)
            axes.text(1.01, base + 0.3, f"{mean:.3f}", transform=axes.get_yaxis_transform(), fontsize=9)
        axes.axvline(0, color="black", linewidth=1, linestyle=":")
        axes.set_yticks([len(titles) - 1 - place for place in range(len(titles))], titles)
        axes.set_xlabel("loss gap of the true report (nats per token)")
        axes.set_title(f"Under {name}", fontsize=11)
        clear(axes)
    figure.suptitle(
        "Dotted, 0: the volume does not matter. Black, and at the right: the mean in the table, over tokens and seeds",
        fontsize=11,
    )
    save_figure(figure, path, dpi=130)
