"""The one picture of the comparison: how fast, how far, on which levels, and what the curriculum drew."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.lines import Line2D
from matplotlib.transforms import offset_copy

from pipeline.analysis.charts import (
    QUIET,
    STACK_CAPACITY,
    draw_stack,
    examples_of,
    grouped,
    percent_axis,
    png,
    probabilities,
    say,
    thousands_axis,
)
from pipeline.analysis.metrics import percent
from pipeline.analysis.reading import Results, TrainedRun
from pipeline.analysis.settings import ReportParams
from pipeline.analysis.statistics import Interval, draw_bootstrap, seed_interval
from pipeline.analysis.summary import Summary
from pipeline.analysis.wording import exactly, headline
from pipeline.common.errors import ResultsError
from pipeline.common.seeding import numpy_rng

ADAPTIVE = "rl"
BODY_INCHES = 9.0


@dataclass(frozen=True)
class Style:
    """How a method looks in every panel; the marker helps where colours do not."""

    colour: str
    marker: str


# Okabe & Ito's palette, which every kind of colour vision can tell apart
STYLES = {
    "rl": Style("#0072B2", "o"),
    "traditional": Style("#333333", "s"),
    "easy_to_hard": Style("#009E73", "^"),
    "hard_to_easy": Style("#D55E00", "v"),
    "random": Style("#CC79A7", "D"),
}
MORE_STYLES = (
    Style("#E69F00", "P"),
    Style("#56B4E9", "X"),
    Style("#882255", "*"),
    Style("#999933", "<"),
    Style("#332288", ">"),
)


def method_styles(methods: Sequence[str]) -> dict[str, Style]:
    """Fixed looks for the methods that come with the project; the others take the remaining ones in turn."""
    others = [name for name in methods if name not in STYLES]
    return STYLES | {name: MORE_STYLES[i % len(MORE_STYLES)] for i, name in enumerate(others)}


def comprehensive_comparison(results: Results, summary: Summary, report: ReportParams) -> bytes:
    """plots/comprehensive_comparison.png.

    Raises:
        ResultsError: the arm logs of a method's seeds do not have the same steps and arms.
    """
    return png(lambda: _figure(results, summary, report))


def _figure(results: Results, summary: Summary, report: ReportParams) -> Figure:
    styles = method_styles(list(summary.methods))
    names = sorted(summary.methods, key=lambda name: -summary.methods[name].accuracy.mean)
    title = textwrap.fill(headline(summary), 84)
    columns = min(5, len(names))
    title_inches, legend_inches = 0.32 * (title.count("\n") + 1), 0.27 * -(-len(names) // columns)
    header_inches = 0.2 + title_inches + 0.28 + legend_inches
    layout = ConstrainedLayoutEngine(w_pad=0.1, h_pad=0.1)
    figure = Figure(figsize=(12, header_inches + BODY_INCHES), layout=layout)
    (header,), (body,) = figure.subfigures(2, 1, squeeze=False, height_ratios=[header_inches, BODY_INCHES])
    header.text(0.015, 1 - 0.12 / header_inches, title, fontsize=16, fontweight="bold", va="top", linespacing=1.25)
    header.text(0.015, 1 - (0.16 + title_inches) / header_inches, _subtitle(summary), color=QUIET, va="top")
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
    panels = body.subplots(2, 2)
    _draw_curves(panels[0, 0], results, styles, report)
    _draw_accuracy(panels[0, 1], summary, styles, names)
    _draw_levels(panels[1, 0], summary, styles, names)
    _draw_draws(panels[1, 1], results)
    return figure


def _subtitle(summary: Summary) -> str:
    seeds = len(next(iter(summary.methods.values())).seeds)
    return (
        f"{summary.scale} scale; {seeds} {'seed' if seeds == 1 else 'seeds'} per method, {summary.examples:,} "
        f"training examples each, {summary.problems:,} test problems; "
        f"bars are {exactly(summary.confidence)} intervals"
    )


def _draw_curves(axes: Axes, results: Results, styles: dict[str, Style], report: ReportParams) -> None:
    first = next(iter(results.runs.values()))
    # problems play no part here: validation accuracies are known per seed only
    bootstrap = draw_bootstrap(len(first), np.zeros(1), report.resamples, numpy_rng(report.seed, "report", "curves"))
    for method, runs in results.runs.items():
        style = styles[method]
        examples_V = runs[0].learning_curve["examples"].to_numpy()
        accuracy_SV = np.stack([run.learning_curve["validation_accuracy"].to_numpy() for run in runs])
        axes.plot(
            examples_V, accuracy_SV.mean(axis=0), color=style.colour, marker=style.marker, markersize=5, linewidth=2
        )
        estimates = [seed_interval(accuracy_S, bootstrap, report.confidence) for accuracy_S in accuracy_SV.T]
        if intervals := [estimate for estimate in estimates if isinstance(estimate, Interval)]:  # none of one seed
            axes.fill_between(
                examples_V,
                [i.low for i in intervals],
                [i.high for i in intervals],
                color=style.colour,
                alpha=0.13,
                linewidth=0,
            )
    axes.axhline(report.target_accuracy, color=QUIET, linewidth=1, linestyle=":")
    axes.annotate(
        f"target {exactly(report.target_accuracy)}",
        (1, report.target_accuracy),
        va="center",
        xycoords=("axes fraction", "data"),
        xytext=(4, 0),
        textcoords="offset points",
        color=QUIET,
        fontsize=10,
    )
    band = "bands: interval over seeds" if len(first) > 1 else "one seed"
    axes.set(
        title="How fast they learn",
        xlabel=f"training examples ({band})",
        ylabel="validation accuracy",
        xlim=(0, examples_V[-1] * 1.01),
        ylim=(0, None),
    )
    percent_axis(axes.yaxis)
    thousands_axis(axes.xaxis)


def _draw_accuracy(axes: Axes, summary: Summary, styles: dict[str, Style], names: Sequence[str]) -> None:
    """Dots of single seeds around each method's mean and interval, best on top."""
    for row, name in enumerate(names):
        style, method = styles[name], summary.methods[name]
        _whisker(axes, method.accuracy, row, style)
        seeds = list(method.accuracy_by_seed.values())
        axes.scatter(
            seeds,
            [row] * len(seeds),
            color=style.colour,
            s=18,
            alpha=0.6,
            linewidth=0,
            transform=offset_copy(axes.transData, axes.get_figure(root=True), y=11, units="points"),
        )
        axes.annotate(
            percent(method.accuracy.mean),
            (max([method.accuracy.high, *seeds]), row),
            xytext=(6, 0),
            textcoords="offset points",
            va="center",
            color=style.colour,
            fontweight="bold",
        )
    _mark_references(axes, summary)
    axes.set_yticks(range(len(names)), names)
    for label, name in zip(axes.get_yticklabels(), names, strict=True):
        label.set_color(styles[name].colour)
    axes.set(xlabel="test accuracy (small dots: single seeds)", ylim=(len(names) - 0.35, -0.6))
    axes.grid(visible=False, axis="y")
    percent_axis(axes.xaxis)


def _mark_references(axes: Axes, summary: Summary) -> None:
    """The ceiling and the floor as lines, named above: side by side, or one over the other where they are close."""
    teacher, untrained = summary.teacher.accuracy, summary.untrained_student.accuracy
    axes.axvline(teacher, color=QUIET, linestyle="--", linewidth=1.5)
    axes.axvline(untrained, color=QUIET, linestyle=":", linewidth=1.5)
    low, high = axes.get_xlim()
    axes.set_xlim(max(-0.01, low), min(1.01, high))
    close = abs(teacher - untrained) < 0.6 * (high - low)
    for share, label, height in ((teacher, "teacher", 2), (untrained, "untrained student", 16 if close else 2)):
        axes.annotate(
            f"{label} {percent(share)}",
            (share, 1),
            xycoords=("data", "axes fraction"),
            xytext=(0, height),
            textcoords="offset points",
            ha="right" if share > (low + high) / 2 else "left",
            color=QUIET,
            fontsize=10,
        )
    axes.set_title("Where they end", pad=34 if close else 20)


def _whisker(axes: Axes, interval: Interval, row: float, style: Style) -> None:
    axes.plot([interval.low, interval.high], [row, row], color=style.colour, linewidth=3, solid_capstyle="butt")
    axes.plot(interval.mean, row, color=style.colour, marker=style.marker, markersize=9)


def _draw_levels(axes: Axes, summary: Summary, styles: dict[str, Style], names: Sequence[str]) -> None:
    """Methods side by side at each level, so that their intervals do not cover each other."""
    levels = list(summary.teacher.accuracy_by_level)
    places_L = np.arange(len(levels))
    for reference, line, label in ((summary.teacher, "--", "teacher"), (summary.untrained_student, ":", "untrained")):
        shares = list(reference.accuracy_by_level.values())
        axes.plot(places_L, shares, color=QUIET, linestyle=line, linewidth=1.5)
        axes.annotate(
            label, (places_L[-1] + 0.42, shares[-1]), color=QUIET, fontsize=10, va="center", annotation_clip=False
        )
    for i, name in enumerate(names):
        style, method = styles[name], summary.methods[name]
        offset = 0.14 * (i - (len(names) - 1) / 2) * min(1, 5 / len(names))
        bounds_L2 = np.array([method.accuracy_by_level_bounds[level] for level in levels])
        axes.vlines(places_L + offset, bounds_L2[:, 0], bounds_L2[:, 1], color=style.colour, linewidth=2, alpha=0.5)
        axes.plot(
            places_L + offset,
            list(method.accuracy_by_level.values()),
            color=style.colour,
            marker=style.marker,
            markersize=6,
            linestyle="none",
        )
    axes.set_xticks(places_L, levels)
    axes.set(
        title="Which levels they solve",
        xlabel="level of the problem (1 is easiest)",
        ylabel="test accuracy",
        ylim=(0, 1.02),
        xlim=(-0.5, len(levels) - 0.5),
    )
    axes.grid(visible=False, axis="x")
    percent_axis(axes.yaxis)


def _draw_draws(axes: Axes, results: Results) -> None:
    method = curriculum_to_show(results)
    if method is None:
        say(axes, "No curriculum with several arms")
        return
    table, examples_T = mean_probabilities(results.runs[method])
    table = grouped(table)
    if len(table.columns) > STACK_CAPACITY:
        table = _largest(table)
    draw_stack(axes, examples_T, table)
    seeds = len(results.runs[method])
    average = f" (mean of {seeds} seeds)" if seeds > 1 else ""
    axes.set(title=f"What {method} draws", xlabel=f"training examples{average}")


def _largest(table: pd.DataFrame) -> pd.DataFrame:
    """The groups drawn most, and the rest as one."""
    chosen = table.mean().sort_values(ascending=False, kind="stable").index[: STACK_CAPACITY - 1]
    kept = table[[name for name in table.columns if name in chosen]]
    return kept.assign(**{"all others": 1 - kept.sum(axis=1)})


def curriculum_to_show(results: Results) -> str | None:
    """The adaptive curriculum, else another one that learns, else any; only ones with several arms."""
    several = [name for name, runs in results.runs.items() if runs[0].arm_log["arm"].nunique() > 1]
    learning = [name for name in several if results.runs[name][0].arm_log["q_value"].notna().any()]
    return next((name for name in [ADAPTIVE, *learning, *several] if name in several), None)


def mean_probabilities(runs: Sequence[TrainedRun]) -> tuple[pd.DataFrame, np.ndarray]:
    """Probability per step and arm, averaged over seeds, and the examples seen before each step."""
    tables = [probabilities(run.arm_log) for run in runs]
    for run, table in zip(runs, tables, strict=True):
        if not (table.index.equals(tables[0].index) and table.columns.equals(tables[0].columns)):
            raise ResultsError(
                f"the arm logs of {run.name} and {runs[0].name} have different steps or arms; "
                "run `dvc repro` to bring both up to date"
            )
    return sum(tables[1:], tables[0]) / len(tables), examples_of(runs[0].arm_log).to_numpy()
