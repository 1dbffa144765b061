"""The one picture of the comparison: how fast, how far, on which levels, and what the curriculum drew."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

from matplotlib.figure import Figure, SubFigure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.lines import Line2D

from pipeline.analysis.charts import QUIET, png
from pipeline.analysis.comparison_panels import draw_accuracy, draw_curves, draw_levels, draw_ratios
from pipeline.analysis.draws_panel import draw_draws
from pipeline.analysis.draws_tables import pool_and_target_in_short
from pipeline.analysis.reading import Results
from pipeline.analysis.styles import Style, method_styles
from pipeline.analysis.summary import Summary
from pipeline.analysis.wording import closeness_headline, exactly, headline

PANEL_INCHES = 4.5
DRAWS_INCHES = 3.6
ROW_INCHES = 0.3  # what a row of a panel needs at least


def comprehensive_comparison(results: Results, summary: Summary) -> bytes:
    """plots/comprehensive_comparison.png.

    Raises:
        ResultsError: the arm logs of a method's seeds do not have the same steps and arms.
    """
    return png(lambda: _figure(results, summary))


def _figure(results: Results, summary: Summary) -> Figure:
    styles = method_styles(list(summary.methods))
    names = sorted(summary.methods, key=lambda name: -summary.methods[name].accuracy.mean)
    title, besides = balanced(headline(summary), 84), balanced(closeness_headline(summary), 110)
    columns = min(5, len(names))
    title_inches = 0.32 * (title.count("\n") + 1)
    besides_inches = 0.1 + 0.25 * (besides.count("\n") + 1) if besides else 0.0
    subtitle = _subtitle(summary)
    subtitle_inches = 0.06 + 0.22 * (subtitle.count("\n") + 1)
    header_inches = 0.2 + title_inches + besides_inches + subtitle_inches + 0.27 * -(-len(names) // columns)
    heights = [_panel_inches(sum(map(len, summary.comparisons.values()))), _panel_inches(len(names))]
    rows = [header_inches, sum(heights), DRAWS_INCHES]
    layout = ConstrainedLayoutEngine(w_pad=0.1, h_pad=0.1)
    figure = Figure(figsize=(12, sum(rows)), layout=layout)
    # the draws' long labels must not narrow the panels above, so they have a figure of their own
    (header,), (body,), (draws,) = figure.subfigures(3, 1, squeeze=False, height_ratios=rows)
    header.text(0.015, 1 - 0.12 / header_inches, title, fontsize=16, fontweight="bold", va="top", linespacing=1.25)
    header.text(0.015, 1 - (0.16 + title_inches) / header_inches, besides, fontsize=13, va="top", linespacing=1.25)
    below = 0.16 + title_inches + besides_inches
    header.text(0.015, 1 - below / header_inches, subtitle, color=QUIET, va="top", linespacing=1.25)
    _draw_legend(header, names, styles, columns)
    grid = body.add_gridspec(2, 2, height_ratios=heights)
    draw_curves(body.add_subplot(grid[0, 0]), results, summary, styles)
    draw_ratios(body.add_subplot(grid[0, 1]), summary, styles)
    draw_accuracy(body.add_subplot(grid[1, 0]), summary, styles, names)
    draw_levels(body.add_subplot(grid[1, 1]), summary, styles, names)
    draw_draws(draws.add_subplot(), results)
    return figure


def balanced(text: str, width: int) -> str:
    """Text in as few lines of `width` characters as it takes, about equally long: no last line of one word."""
    lines = len(textwrap.wrap(text, width))
    fits = (w for w in range(1, width) if len(textwrap.wrap(text, w, break_long_words=False)) <= lines)
    return textwrap.fill(text, next(fits, width))


def _panel_inches(rows: int) -> float:
    return max(PANEL_INCHES, 1.2 + ROW_INCHES * rows)


def _draw_legend(header: SubFigure, names: Sequence[str], styles: dict[str, Style], columns: int) -> None:
    header.legend(
        handles=[
            Line2D([], [], color=styles[name].colour, marker=styles[name].marker, linewidth=2.5, label=name)
            for name in names
        ],
        loc="lower left",
        bbox_to_anchor=(0.005, 0),
        ncols=columns,
        fontsize=12,
    )


def _subtitle(summary: Summary) -> str:
    """What pool and target are, and what was compared."""
    seeds = len(next(iter(summary.methods.values())).seeds)
    compared = (
        f"{summary.scale} scale; {seeds} {'seed' if seeds == 1 else 'seeds'} per method, {summary.examples:,} "
        f"training examples each, {summary.problems:,} test problems; "
        f"bars are {exactly(summary.confidence)} intervals, not corrected"
    )
    return balanced(pool_and_target_in_short(summary), 130) + "\n" + compared
