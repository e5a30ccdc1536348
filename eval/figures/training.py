"""Figures of a training run: its losses, or its rewards."""

import re
from pathlib import Path

from matplotlib.figure import Figure

from ct_rate_pairs.trainer import NegativeSFTConfig

from .style import NEGATIVE, NEUTRAL, POSITIVE, finish, log_axis


def plot_losses(log_history: list[dict], path: str | Path, config: NegativeSFTConfig | None = None) -> None:
    """
    Draws the losses of the true report, given its volume and given its negative (paper, figure 5 and section 7.3).

    Args:
        log_history (`list[dict]`):
            `trainer.state.log_history`. Of its entries, `step`, `loss_pos`, `loss_neg`, `eval_loss_pos` and
            `eval_loss_neg` are read, losses in nats per token. A curve without entries is left out.
        path (`str` or `Path`):
            Image file to write.
        config ([`~ct_rate_pairs.trainer.NegativeSFTConfig`], *optional*):
            With it, the cap of the negative loss is drawn, and the steps over which beta rises are shaded.
    """
    figure = Figure(figsize=(8, 4.5), layout="constrained")
    axes = figure.add_subplot()
    held_out = {"linestyle": "--", "markersize": 5, "clip_on": False}
    curves = [
        ("loss_pos", "own volume, training", POSITIVE, {"linewidth": 1.2}),
        ("loss_neg", "negative volume, training", NEGATIVE, {"linewidth": 1.2}),
        ("eval_loss_pos", "own volume, held out", POSITIVE, held_out | {"marker": "o"}),
        ("eval_loss_neg", "negative volume, held out", NEGATIVE, held_out | {"marker": "s"}),
    ]
    for key, name, color, style in curves:
        points = [(entry["step"], entry[key]) for entry in log_history if key in entry]
        if points:
            axes.plot(*zip(*points, strict=True), label=name, color=color, **style)
    last_step = max(entry["step"] for entry in log_history)
    if config is not None and config.beta > 0:
        axes.axhline(config.max_negative_loss, color=NEGATIVE, linewidth=1, linestyle=":")
        axes.annotate(
            f"cap {config.max_negative_loss:g}",
            (0, config.max_negative_loss),
            xytext=(4, 3),
            textcoords="offset points",
            color=NEGATIVE,
            fontsize=9,
        )
        start = config.negative_start_ratio * last_step
        end = start + config.negative_warmup_ratio * last_step
        axes.axvspan(start, max(end, start), color="#999999", alpha=0.25, linewidth=0)
        axes.axvspan(end, last_step, color="#999999", alpha=0.1, linewidth=0)
        axes.annotate(
            f"beta rises\nto {config.beta:g}",
            (start, 1),
            xycoords=axes.get_xaxis_transform(),
            xytext=(4, -4),
            va="top",
            textcoords="offset points",
            fontsize=9,
        )
    # Template sentences soon bring the loss below a tenth of its start. A linear axis would show the rest as flat.
    log_axis(axes)
    axes.set(xlim=(0, last_step), xlabel="step", ylabel="cross-entropy (nats per token)")
    axes.set_title("Loss of the true report")
    finish(figure, axes, path)


def plot_rewards(log_history: list[dict], path: str | Path) -> None:
    """
    Draws the rewards of a reinforcement: the mean of each reward, and their weighted sum.

    Args:
        log_history (`list[dict]`):
            `trainer.state.log_history`. Of its entries, `step`, `reward` (the weighted sum) and `rewards/NAME/mean`
            are read, and the same with `eval_`, which are drawn as points.
        path (`str` or `Path`):
            Image file to write.
    """
    figure = Figure(figsize=(8, 4.5), layout="constrained")
    axes = figure.add_subplot()
    names = [key for entry in log_history for key in entry if re.fullmatch(r"rewards/.*/mean", key)]
    curves = {"reward": "weighted sum"} | {key: key.split("/")[1].removesuffix("_reward") for key in names}
    for place, (key, name) in enumerate(curves.items()):
        color = f"C{place - 1}" if place else NEUTRAL
        for prefix, style in (("", "-"), ("eval_", "o")):
            points = [(entry["step"], entry[prefix + key]) for entry in log_history if prefix + key in entry]
            if points:
                told = f"{name}, validation" if prefix else name
                axes.plot(*zip(*points, strict=True), style, label=told, color=color, linewidth=2 - bool(place))
    axes.set(xlabel="step", ylabel="reward")
    axes.set_title("Rewards of the reports that are drawn")
    finish(figure, axes, path)
