"""What all pictures share: their look, how they are saved, and how the draws of a curriculum are shown."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from typing import Any

import matplotlib as mpl
import matplotlib.style
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import FuncFormatter, MaxNLocator, PercentFormatter

DPI = 150
LOOK = {
    "font.family": "DejaVu Sans",
    "font.size": 11,
    "axes.titlesize": 13,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.labelsize": 11,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#888888",
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#e6e6e6",
    "xtick.color": "#444444",
    "ytick.color": "#444444",
    "legend.frameon": False,
}
QUIET = "#666666"
STACK_CAPACITY = 10  # more groups than this cannot be told apart in a stack
# Paul Tol's "light" scheme: fills that stay apart for every kind of colour vision
FILLS = ("#77AADD", "#EE8866", "#EEDD88", "#FFAABB", "#99DDFF", "#44BB99", "#BBCC33", "#AAAA00", "#DDDDDD", "#CC99CC")


def png(draw: Callable[[], Figure]) -> bytes:
    """The picture as PNG, the same bytes for the same data whatever the user's matplotlib settings."""
    with mpl.style.context(["default", LOOK]):
        buffer = io.BytesIO()
        figure = draw()
        fix_layout(figure)
        figure.savefig(buffer, format="png", dpi=DPI, metadata={"Software": None})
    return buffer.getvalue()


def fix_layout(figure: Figure) -> None:
    """Lays a figure out once and for all, with positions that are rounded to far less than a pixel.

    The solver behind constrained layout takes its variables in the order of their addresses in memory, so that its last
    bits, and with them the shade of a pixel here and there, differ from one drawing to the next.
    """
    figure.draw_without_rendering()
    figure.set_layout_engine("none")
    for axes in figure.get_axes():
        axes.set_position(tuple(round(part, 5) for part in axes.get_position().bounds))


def percent_axis(axis: mpl.axis.Axis) -> None:
    """Shares shown as percentages."""
    axis.set_major_formatter(PercentFormatter(1.0, decimals=0))


def thousands_axis(axis: mpl.axis.Axis) -> None:
    """A few whole numbers with separators."""
    axis.set_major_locator(MaxNLocator(6, integer=True))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))


def fill_colours(names: Sequence[str]) -> list[Any]:
    """Light to dark for levels, which have an order; distinct fills for anything else."""
    if all(name.startswith("level ") for name in names):
        return list(mpl.colormaps["YlGnBu"](np.linspace(0.15, 0.85, len(names))))
    return [FILLS[i % len(FILLS)] for i in range(len(names))]


def smoothed(table: pd.DataFrame) -> pd.DataFrame:
    """Probabilities without the flicker of single steps: the eye wants the trend."""
    return table.rolling(max(1, len(table) // 50), min_periods=1, center=True).mean()


def draw_stack(axes: Axes, x_T: np.ndarray, table: pd.DataFrame, legend: str = "") -> None:
    """Stacked areas of probability; a legend names them, since a band may be gone at either end.

    Args:
        axes: where to draw.
        x_T: examples seen, one per row of the table.
        table: probabilities, a row per step and a column per group; rows sum to one.
        legend: the title of the legend.
    """
    names = list(table.columns)
    colours = fill_colours(names)
    axes.stackplot(x_T, smoothed(table).to_numpy().T, colors=colours, edgecolor="white", linewidth=0.8)
    end = max(x_T[-1], x_T[0] + 1)  # a run may be one step long
    axes.set(xlim=(x_T[0], end), ylim=(0, 1), ylabel="share of draws")
    percent_axis(axes.yaxis)
    thousands_axis(axes.xaxis)
    axes.grid(visible=False)
    named = [Patch(facecolor=c, edgecolor="#888888", label=name) for name, c in zip(names, colours, strict=True)]
    shown = named[::-1]  # as they are stacked
    axes.legend(
        handles=shown, loc="center left", bbox_to_anchor=(1, 0.5), fontsize=10, title=legend or None, alignment="left"
    )


def say(axes: Axes, text: str) -> None:
    """A sentence where a chart would stand."""
    axes.set_axis_off()
    axes.text(0.5, 0.5, text, transform=axes.transAxes, ha="center", va="center", color=QUIET, wrap=True)
