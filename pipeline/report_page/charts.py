"""The page's charts, as Vega-Lite. All their parts are named here, so that equal results give equal bytes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import altair as alt
import numpy as np
import pandas as pd

from pipeline.analysis.draws import mean_probabilities
from pipeline.analysis.metrics import percent
from pipeline.analysis.reading import Results
from pipeline.analysis.statistics import Interval, seed_interval
from pipeline.analysis.styles import method_styles
from pipeline.analysis.summary import Method, Reference, Summary
from pipeline.analysis.verdict import Measured, Outcome
from pipeline.analysis.wording import validation_accuracy_of

Spec = dict[str, Any]
Row = dict[str, Any]
SLICES = 60  # of the training, in the chart of arms; more would be thinner than a line
HALO = 400  # square pixels
FADED = 0.12  # opacity of what is not chosen in the legend
REFERENCES = {"teacher": "#000000", "untrained student": "#999999"}
SHAPES = {"teacher": "cross", "untrained student": "diamond"}  # traditional is nearly black too
CHOSEN = "chosen"  # page.js knows it too: charts side by side share what is chosen
INK = "#444444"
ROWS = alt.NamedData(name="rows")


def charts(results: Results, summary: Summary) -> dict[str, Spec]:
    """Every chart, by the id of the element that shows it."""
    return {
        "curves-accuracy": learning_curves(results, "validation_accuracy", summary.confidence),
        "curves-kl": learning_curves(results, "validation_kl", summary.confidence),
        "by-level": accuracy_by_group(summary, "level"),
        "by-subject": accuracy_by_group(summary, "subject"),
        "arms": arms_over_time(results),
    }


def learning_curves(results: Results, measured: Measured, confidence: float) -> Spec:
    """Each method's mean over its seeds, in a band of its interval where there are several; KL on a log scale."""
    is_kl = measured == "validation_kl"
    answered = results.all_runs()[0].record.validation_problems
    rows = [row for method in results.runs for row in curve_rows(results, method, measured, confidence)]
    chosen, pointed_at = _choice("method"), _pointed_at()
    y = alt.Y(
        "mean:Q",
        title="KL from the teacher, nats per token" if is_kl else validation_accuracy_of(answered),
        scale=alt.Scale(type="log", nice=False) if is_kl else alt.Scale(zero=True),
        axis=alt.Axis(format="~g" if is_kl else "%", tickCount=6),
    )
    base = alt.Chart(ROWS).encode(
        x=_examples(),
        color=_colour("method", list(results.runs)),
    )
    base = base.encode(y=y)
    opacity = alt.condition(chosen, alt.value(1.0), alt.value(FADED))
    line = base.mark_line(strokeWidth=2).encode(opacity=opacity)
    dots = base.mark_point(filled=True).encode(
        opacity=opacity,
        size=alt.condition(pointed_at, alt.value(140), alt.value(45)),
        tooltip=[
            alt.Tooltip("method:N"),
            alt.Tooltip("examples:Q", format=",d"),
            alt.Tooltip("mean:Q", title="mean over seeds", format=".4f" if is_kl else ".1%"),
            alt.Tooltip("interval:N", title="interval over seeds"),
            alt.Tooltip("seeds:N", title="single seeds"),
        ],
    )
    band = base.mark_area().encode(
        y=alt.Y("low:Q"), y2=alt.Y2("high:Q"), opacity=alt.condition(chosen, alt.value(0.1), alt.value(0.0))
    )
    return _spec(alt.layer(band, line, _with_halos(dots, pointed_at)).add_params(chosen), rows, height=300)


def curve_rows(results: Results, method: str, measured: Measured, confidence: float) -> Iterator[Row]:
    """A row per validation; without low and high for one seed. KL's mean is geometric, as in the report."""
    curves = Outcome.of(results.runs[method]).curves("examples", measured)
    for examples, value_S in zip(curves.spent_V, curves.value_SV.T, strict=True):
        found, is_kl = seed_interval(value_S, confidence), measured == "validation_kl"
        bounds = np.array([found.low, found.high]) if isinstance(found, Interval) else np.array([])
        seeds = np.exp(-value_S) if is_kl else value_S
        row = {"method": method, "examples": int(examples), "mean": found.mean}
        low_high = np.sort(np.exp(-bounds)) if is_kl else np.clip(bounds, 0, 1)
        row["mean"] = _short(np.exp(-found.mean) if is_kl else found.mean)
        row |= dict(zip(("low", "high"), map(_short, low_high), strict=False))
        as_text = "{:.4f}".format if is_kl else "{:.1%}".format
        row["interval"] = " to ".join(map(as_text, low_high)) or "none, it is one seed"
        yield row | {"seeds": ", ".join(map(as_text, seeds))}


def accuracy_by_group(summary: Summary, group: str) -> Spec:
    """Accuracy of every method, the teacher and the untrained student on the test problems of each level or subject."""
    models: dict[str, Method | Reference] = {
        **summary.methods,
        "teacher": summary.teacher,
        "untrained student": summary.untrained_student,
    }
    rows = [row for name, model in models.items() for row in group_rows(name, model, group)]
    chosen, pointed_at = _choice("model"), _pointed_at()
    base = alt.Chart(ROWS).encode(
        y=alt.Y(f"{group}:N", title=None, sort=None, axis=alt.Axis(labelLimit=200)),
        yOffset=alt.YOffset("model:N", sort=None),
        color=_colour("model", list(models)),
        opacity=alt.condition(chosen, alt.value(1.0), alt.value(FADED)),
    )
    accuracy = alt.X("accuracy:Q", title="accuracy on the test problems", axis=alt.Axis(format="%"))
    interval = [alt.Tooltip("interval:N")] if group == "level" else []
    dots = base.mark_point(filled=True).encode(
        x=accuracy.scale(domain=[0, 1]),
        shape=_shape("model", list(models)),
        size=alt.condition(pointed_at, alt.value(140), alt.value(60)),
        tooltip=[
            alt.Tooltip("model:N"),
            alt.Tooltip(f"{group}:N"),
            alt.Tooltip("accuracy:Q", format=".1%"),
            *interval,
        ],
    )
    bars = base.mark_rule(strokeWidth=2).encode(x=alt.X("low:Q"), x2=alt.X2("high:Q"))
    return _spec(alt.layer(bars, _with_halos(dots, pointed_at)).add_params(chosen), rows, height=alt.Step(11))


def group_rows(name: str, model: Method | Reference, group: str) -> Iterator[Row]:
    """A row per level or subject; methods have an interval on each level."""
    accuracies: dict[str, float] = getattr(model, f"accuracy_by_{group}")
    bounds = model.accuracy_by_level_bounds if isinstance(model, Method) and group == "level" else {}
    for key, accuracy in accuracies.items():
        row = {"model": name, group: f"level {key}" if group == "level" else key, "accuracy": _short(accuracy)}
        if group == "level":
            row["interval"] = " to ".join(map(percent, bounds.get(key, []))) or "none, it is one model"
        yield row | dict(zip(("low", "high"), map(_short, bounds.get(key, [])), strict=False))


def arms_over_time(results: Results) -> Spec:
    """How likely each arm is to be drawn, by method: a row per arm, from the first examples to the last."""
    several = [name for name, runs in results.runs.items() if runs[0].arm_log["arm"].nunique() > 1]
    rows = [row for name in several for row in arm_rows(results, name)]
    shown = alt.param(
        name="method_of_arms",
        value=several[0] if several else None,
        bind=alt.binding_select(options=several, name="method: "),
    )
    heat = (
        alt.Chart(ROWS)
        .transform_filter("datum.method === method_of_arms")
        .mark_rect()
        .encode(
            x=_examples(),
            x2=alt.X2("until:Q"),
            y=alt.Y("arm:N", title=None, sort=None, axis=alt.Axis(labelLimit=220)),
            color=alt.Color(
                "share:Q",
                title="probability of the arm",
                scale=alt.Scale(scheme="blues", domainMin=0),
                legend=alt.Legend(format=".0%", orient="top", gradientLength=220),
            ),
            tooltip=[
                alt.Tooltip("arm:N"),
                alt.Tooltip("share:Q", title="probability of the arm", format=".2%"),
                alt.Tooltip("even:Q", title="if all arms were drawn alike", format=".2%"),
                alt.Tooltip("examples:Q", title="from example", format=",d"),
                alt.Tooltip("until:Q", title="to example", format=",d"),
            ],
        )
    )
    return _spec(heat.add_params(shown), rows, height=alt.Step(15))


def arm_rows(results: Results, method: str) -> Iterator[Row]:
    """A row per arm and slice of the training: the mean probability of drawing the arm, over steps and seeds."""
    table, examples_T = mean_probabilities(results.runs[method])
    starts = np.unique(np.linspace(0, len(table), min(SLICES, len(table)), endpoint=False).astype(int))
    total = results.runs[method][0].record.examples
    for start, end in zip(starts, [*starts[1:], len(table)], strict=True):
        until = int(examples_T[end]) if end < len(table) else total
        mean: pd.Series = table.iloc[start:end].mean()
        for arm, share in mean.items():
            row = {"method": method, "arm": str(arm), "examples": int(examples_T[start]), "until": until}
            yield row | {"share": _short(share), "even": _short(1 / len(mean))}


def _short(number: float) -> float:
    """Four significant digits: no chart shows more."""
    return float(f"{number:.4g}")


def _examples() -> alt.X:
    axis = alt.Axis(format=",d", tickCount=8, grid=False)
    return alt.X("examples:Q", title="examples trained on", axis=axis, scale=alt.Scale(nice=False))


def _choice(field: str) -> alt.Parameter:
    """A click in the legend chooses, a click with shift adds, a double click takes all back."""
    return alt.selection_point(name=CHOSEN, fields=[field], bind="legend")


def _pointed_at() -> alt.Parameter:
    """The dot that the pointer is over, or near, which grows and tells its numbers."""
    return alt.selection_point(name="pointed_at", on="pointerover", clear="pointerout", empty=False)


def _with_halos(dots: alt.Chart, pointed_at: alt.Parameter) -> alt.LayerChart | alt.FacetChart:
    """Dots in unseen larger ones, so that the pointer need not hit them.

    Vega-Lite's own way, `nearest`, has the texts of a tooltip undefined (its numbers are right).
    """
    return alt.layer(dots, dots.encode(size=alt.value(HALO), opacity=alt.value(0)).add_params(pointed_at))


def _colour(field: str, names: Sequence[str]) -> alt.Color:
    styles = method_styles([name for name in names if name not in REFERENCES])
    colours = [REFERENCES.get(name) or styles[name].colour for name in names]
    scale = alt.Scale(domain=list(names), range=colours)
    return alt.Color(f"{field}:N", title=None, sort=None, scale=scale, legend=_legend())


def _shape(field: str, names: Sequence[str]) -> alt.Shape:
    scale = alt.Scale(domain=list(names), range=[SHAPES.get(name, "circle") for name in names])
    return alt.Shape(f"{field}:N", title=None, sort=None, scale=scale, legend=_legend())


def _legend() -> alt.Legend:
    return alt.Legend(orient="top", columns=4, symbolOpacity=1)


def _spec(chart: Any, rows: list[Row], height: Any) -> Spec:
    chart = chart.properties(
        width="container", height=height, autosize=alt.AutoSizeParams(type="fit-x", contains="padding")
    )
    chart = chart.configure_view(stroke=None).configure_axis(labelColor=INK, titleColor=INK, gridColor="#e6e6e6")
    spec: Spec = chart.configure_legend(labelColor=INK, labelLimit=160).to_dict()
    return spec | {"datasets": {"rows": rows}}  # not through Altair, which would spend seconds on checking each row
