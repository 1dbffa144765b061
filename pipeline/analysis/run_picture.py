"""The picture of one run: its learning curve above, what its curriculum drew below."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from pipeline.analysis.charts import STACK_CAPACITY, draw_stack, percent_axis, png, say, thousands_axis
from pipeline.analysis.draws import examples_of, probabilities
from pipeline.analysis.reading import TrainedRun
from pipeline.analysis.wording import validation_accuracy_of

COLUMNS = 100  # time steps of a heat map; more would be narrower than a pixel of a small screen


def run_picture(run: TrainedRun) -> bytes:
    """plots/runs/METHOD-SEED.png."""
    return png(lambda: _figure(run))


def _figure(run: TrainedRun) -> Figure:
    table = probabilities(run.arm_log)
    below = 1.2 if len(table.columns) == 1 else max(3.2, 0.19 * len(table.columns))
    figure = Figure(figsize=(10, 3.6 + below), layout="constrained")
    figure.suptitle(run.name, fontsize=15, fontweight="bold", x=0.01, ha="left")
    above_axes, below_axes = figure.subplots(2, 1, height_ratios=[3.0, below])
    end = int(run.arm_log["count"].sum())
    _draw_curve(above_axes, run, end)
    _draw_arms(below_axes, table, examples_of(run.arm_log).to_numpy(), end)
    return figure


def _draw_curve(axes: Axes, run: TrainedRun, end: int) -> None:
    curve = run.learning_curve
    (accuracy,) = axes.plot(
        curve["examples"], curve["validation_accuracy"], color="#0072B2", marker="o", linewidth=2, clip_on=False
    )
    axes.set(
        title="What the student can do",
        xlabel="training examples",
        ylabel=validation_accuracy_of(run.record.validation_problems),
        xlim=(0, end),
        ylim=(0, None),
    )
    axes.yaxis.label.set_color(accuracy.get_color())
    percent_axis(axes.yaxis)
    thousands_axis(axes.xaxis)
    losses = axes.twinx()
    (loss,) = losses.plot(curve["examples"], curve["loss"], color="#D55E00", linestyle="--", linewidth=1.5)
    losses.set(ylabel="training loss (nats per token)", ylim=(0, None))
    losses.yaxis.label.set_color(loss.get_color())
    losses.grid(visible=False)


def _draw_arms(axes: Axes, table: pd.DataFrame, examples_T: np.ndarray, end: int) -> None:
    arms = len(table.columns)
    if arms == 1:
        say(axes, f"One arm ({table.columns[0]}): there was nothing to choose between.")
        return
    axes.set_xlabel("training examples")
    if arms <= STACK_CAPACITY:
        draw_stack(axes, examples_T, table)
        axes.set(title="What its curriculum draws", xlim=(0, end))
        return
    columns = min(COLUMNS, len(table))
    cells_AC = np.stack([part.mean(axis=0) for part in np.array_split(table.to_numpy(), columns)], axis=1)
    image = axes.imshow(
        cells_AC, aspect="auto", interpolation="nearest", cmap="viridis", vmin=0, extent=(0, end, arms - 0.5, -0.5)
    )
    axes.set(title="What its curriculum draws (brighter: more often)")
    axes.set_yticks(range(arms), table.columns, fontsize=8)
    axes.grid(visible=False)
    thousands_axis(axes.xaxis)
    bar = axes.figure.colorbar(image, ax=axes, pad=0.01, aspect=40)
    percent_axis(bar.ax.yaxis)
    bar.set_label(f"probability of the arm (white mark: the even share, {1 / arms:.1%})")
    bar.ax.axhline(1 / arms, color="white", linewidth=1.5)
