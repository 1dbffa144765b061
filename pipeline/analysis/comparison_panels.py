"""The panels of the comparison: how fast, with what, how far, and on which levels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.transforms import offset_copy

from pipeline.analysis.charts import QUIET, percent_axis, say, thousands_axis
from pipeline.analysis.metrics import percent
from pipeline.analysis.reading import Results
from pipeline.analysis.statistics import Interval, seed_interval
from pipeline.analysis.styles import Style
from pipeline.analysis.summary import Summary
from pipeline.analysis.verdict import BASELINE, Comparison, Outcome, Ratio
from pipeline.analysis.wording import listed, ratio_text, validation_accuracy_of

RATIO_MARGIN = 1.06  # room for what lies beyond the training


def draw_curves(axes: Axes, results: Results, summary: Summary, styles: dict[str, Style]) -> None:
    """Mean learning curves with their intervals over seeds, which one seed does not have."""
    for method, runs in results.runs.items():
        style, curves = styles[method], Outcome.of(runs).curves("examples", "validation_accuracy")
        mean_V = curves.value_SV.mean(axis=0)
        axes.plot(curves.spent_V, mean_V, color=style.colour, marker=style.marker, markersize=5, linewidth=2)
        estimates = [seed_interval(accuracy_S, summary.confidence) for accuracy_S in curves.value_SV.T]
        if intervals := [found for found in estimates if isinstance(found, Interval)]:
            axes.fill_between(
                curves.spent_V,
                [max(0.0, i.low) for i in intervals],
                [min(1.0, i.high) for i in intervals],
                color=style.colour,
                alpha=0.1,
                linewidth=0,
            )
    axes.axhline(summary.threshold_accuracy, color=QUIET, linewidth=1, linestyle=":")
    axes.annotate(
        f"threshold {percent(summary.threshold_accuracy)}",
        (1, summary.threshold_accuracy),
        va="center",
        xycoords=("axes fraction", "data"),
        xytext=(4, 0),
        textcoords="offset points",
        color=QUIET,
        fontsize=10,
    )
    band = "bands: interval over seeds" if len(runs) > 1 else "one seed"
    axes.set(
        title="How fast they learn",
        xlabel=f"training examples ({band})",
        ylabel=validation_accuracy_of(runs[0].record.validation_problems),
        xlim=(0, curves.spent_V[-1] * 1.01),
        ylim=(0, None),
    )
    percent_axis(axes.yaxis)
    thousands_axis(axes.xaxis)


def draw_ratios(axes: Axes, summary: Summary, styles: dict[str, Style]) -> None:
    """What each method needs of its rival's examples, by accuracy and, hollow, by KL; an arrow: more than trained."""
    rows = [(method, rival, c) for rival, methods in summary.comparisons.items() for method, c in _by_ratio(methods)]
    if not rows:
        say(axes, "Nothing to compare with")
        return
    end = max(1.0, *(r.trained for _, _, c in rows for r in (c.examples_ratio, c.kl_examples_ratio))) * RATIO_MARGIN
    for row, (method, rival, comparison) in enumerate(rows):
        _say_what_is_missing(axes, rival, comparison, row)
        _draw_ratio(axes, comparison.examples_ratio, row - 0.13, end, styles[method], filled=True)
        _draw_ratio(axes, comparison.kl_examples_ratio, row + 0.17, end, styles[method], filled=False)
    axes.axvline(1, color=QUIET, linestyle="--", linewidth=1.5)
    common = BASELINE if BASELINE in summary.comparisons else None  # whose examples the title speaks of
    names = [method if rival == common else f"{method}, over\n{rival}'s" for method, rival, _ in rows]
    axes.set_yticks(range(len(rows)), names)
    for label, (method, _, _) in zip(axes.get_yticklabels(), rows, strict=True):
        label.set_color(styles[method].colour)
    axes.set(
        title=f"Examples they need, over {common}'s" if common else "Examples they need",
        xlabel="filled: to reach the rival's final accuracy\nhollow: to come as near to the teacher (KL per token)",
        xlim=(0, end),
        ylim=(len(rows) - 0.5, -0.6),
    )
    axes.grid(visible=False, axis="y")


def _by_ratio(methods: Mapping[str, Comparison]) -> list[tuple[str, Comparison]]:
    """The smallest first, those that never get there last, the nearest to it first."""

    def place(item: tuple[str, Comparison]) -> tuple[float, float]:
        ratio = item[1].examples_ratio
        return (np.inf if ratio.ratio is None else ratio.ratio, -(ratio.final_lead or 0.0))

    return sorted(methods.items(), key=place)


def _say_what_is_missing(axes: Axes, rival: str, compared: Comparison, row: float) -> None:
    """Why a row has no ratio by accuracy, by KL or by both."""
    ratios = {"accuracy": compared.examples_ratio, "KL": compared.kl_examples_ratio}
    if missing := [measured for measured, ratio in ratios.items() if not ratio.exists]:
        axes.text(
            0.02,
            row + (0.02 if len(missing) == 2 else -0.13 if missing == ["accuracy"] else 0.17),
            f"{rival} ended no better than it began by {listed(missing)}",
            transform=axes.get_yaxis_transform(),
            va="center",
            color=QUIET,
            fontsize=9,
        )


def _draw_ratio(axes: Axes, found: Ratio, row: float, end: float, style: Style, *, filled: bool) -> None:
    """A dot with its interval; what lies beyond the training is an arrow at the edge."""
    if not found.exists:
        return
    colour, face = style.colour, style.colour if filled else "white"
    if found.low is not None:
        high = end if found.high is None else found.high
        axes.plot([found.low, high], [row, row], color=colour, linewidth=3 if filled else 1.3, solid_capstyle="butt")
    marker, place = (">", end) if found.ratio is None else (style.marker, found.ratio)
    axes.plot(
        place, row, color=colour, markerfacecolor=face, marker=marker, markersize=8 if filled else 6, clip_on=False
    )
    if filled:
        axes.annotate(
            ratio_text(found).replace("more than ", ">").replace("less than ", "<"),
            (end, row),
            xytext=(8, 0),
            textcoords="offset points",
            va="center",
            color=colour,
            fontweight="bold",
            annotation_clip=False,
        )


def draw_accuracy(axes: Axes, summary: Summary, styles: dict[str, Style], names: Sequence[str]) -> None:
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


def draw_levels(axes: Axes, summary: Summary, styles: dict[str, Style], names: Sequence[str]) -> None:
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
