"""The study's findings: a table and verdicts per setting, the goals beside what was measured, and a figure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks._runs import ROOT
from benchmarks.study.rows import FOLDER, Row, read_all
from benchmarks.study.settings import METHODS, REPLAYS, SETTINGS
from pipeline.analysis.charts import QUIET, png
from pipeline.analysis.comparison_tables import COMPARED, comparison_cells
from pipeline.analysis.markdown import NONE, table
from pipeline.analysis.metrics import percent
from pipeline.analysis.resampling import draw_problems
from pipeline.analysis.statistics import LEAST_SEEDS, accuracy
from pipeline.analysis.styles import Style, method_styles
from pipeline.analysis.verdict import ADAPTIVE, BASELINE, Comparison, Outcome, Ratio, compare
from pipeline.analysis.wording import exactly, listed
from pipeline.common.errors import ResultsError
from pipeline.common.files import replacing_file, write_text
from pipeline.common.seeding import numpy_rng

REPORT, PICTURE = (ROOT / f"benchmarks/results/study.{ending}" for ending in ("md", "png"))
CONFIDENCE, RESAMPLES = 0.95, 2000
ORACLE = "target_only"


@dataclass(frozen=True)
class Studied:
    """A setting: its methods' outcomes on the seeds that all of them have, and all comparisons, by rival and method."""

    setting: str
    outcomes: dict[str, Outcome]
    comparisons: dict[str, dict[str, Comparison]]
    counts_RP: np.ndarray
    q_correlations: dict[str, list[float | None]]
    notes: list[str]

    @property
    def seeds(self) -> int:
        return len(next(iter(self.outcomes.values())).correct_SP)


def studied(setting: str) -> Studied | None:
    """What there is of a setting; None without three seeds of the baseline and another method.

    Methods that are not finished, with fewer seeds in common with the baseline than others have, are left out; a note
    says so.

    Raises:
        ResultsError: rows were made with different library versions.
    """
    rows = read_all(setting)
    by_method = {m: {r.seed: r for r in rows if r.method == m} for m in [*METHODS, *REPLAYS]}
    common = {method: set(found) & set(by_method[BASELINE]) for method, found in by_method.items()}
    most = max(len(seeds) for method, seeds in common.items() if method != BASELINE)
    known = {m: found for m, found in by_method.items() if m == BASELINE or len(common[m]) == most}
    seeds = sorted(set.intersection(*(common[method] for method in known)))
    if len(seeds) < LEAST_SEEDS:
        return None
    chosen = {method: [found[seed] for seed in seeds] for method, found in known.items()}
    require_equal_versions(setting, chosen)
    outcomes = {method: outcome(found) for method, found in chosen.items()}
    problems = outcomes[BASELINE].correct_SP.shape[1]
    counts_RP = draw_problems(np.zeros(problems), RESAMPLES, numpy_rng(0, "study", "bootstrap"))
    correlations = {method: [row.q_correlation for row in found] for method, found in chosen.items()}
    comparisons = compare(outcomes, counts_RP, CONFIDENCE)
    return Studied(setting, outcomes, comparisons, counts_RP, correlations, notes(by_method, chosen))


def require_equal_versions(setting: str, rows: Mapping[str, Sequence[Row]]) -> None:
    """Checks that all rows are of the same library versions.

    Raises:
        ResultsError: they are not; the message names two.
    """
    first, *others = [row for found in rows.values() for row in found]
    for row in others:
        if row.versions != first.versions:
            raise ResultsError(
                f"{setting}: {row.cell} was made with {row.versions} and {first.cell} with {first.versions}; "
                f"remove the older ones of {FOLDER}/{setting}.jsonl, and they are made again"
            )


def notes(all_rows: Mapping[str, Mapping[int, Row]], chosen: Mapping[str, Sequence[Row]]) -> list[str]:
    """What is left out, and which methods' rows were made by different versions of the code."""
    said = []
    if few := [method for method, found in all_rows.items() if found and method not in chosen]:
        said.append(f"Left out, with fewer seeds than the others: {listed(few)}.")
    seeds = len(next(iter(chosen.values())))
    if more := [method for method in chosen if len(all_rows[method]) > seeds]:
        said.append(f"More seeds than are compared, which are those that every method has: {listed(more)}.")
    if mixed := [method for method, found in chosen.items() if len({row.made_of for row in found}) > 1]:
        said.append(f"Rows made by different versions of code or data: {listed(mixed)}.")
    return said


def outcome(rows: Sequence[Row]) -> Outcome:
    """What one method's runs came to."""
    columns = ("examples", "compute", "validation_accuracy", "validation_kl")
    curves = [pd.DataFrame({column: getattr(row, column) for column in columns}) for row in rows]
    return Outcome(curves, np.array([list(map(int, row.correct)) for row in rows], dtype=np.float64))


def text_of(found: Sequence[Studied]) -> str:
    """benchmarks/results/study.md."""
    parts = [
        "# When does a curriculum pay?",
        f"Intervals are of {exactly(CONFIDENCE)}; ▲ and ▼ mark what is better and worse than the rival after Holm's "
        "correction over all pairs of the setting. Ratios: examples, or training compute, to reach the rival's final "
        "validation accuracy, and examples to come as near to the teacher (KL per token), over what the rival spent. "
        "The last column is the correlation of an arm's Q with its next reward, within steps: near 0 it predicts "
        "nothing.",
    ]
    for setting in found:
        share = share_of_oracle(setting)
        said = (
            "" if share is None else f"{ADAPTIVE} has {share:.0%} of what {ORACLE} gains in accuracy over {BASELINE}."
        )
        parts += [f"## {setting.setting}: {setting.seeds} seeds", " ".join([said, *setting.notes]).strip()]
        parts += [methods_table(setting), pairs_table(setting)]
    return "\n\n".join(part for part in parts if part) + "\n"


def methods_table(found: Studied) -> str:
    """Every method beside the baseline."""
    rows = []
    for method, own in sorted(found.outcomes.items(), key=lambda item: -item[1].correct_SP.mean()):
        interval = accuracy(own.correct_SP, found.counts_RP).interval(CONFIDENCE)
        compared = found.comparisons[BASELINE].get(method)
        cells = [NONE] * len(COMPARED) if compared is None else comparison_cells(compared)
        kl = np.mean([curve["validation_kl"].iloc[-1] for curve in own.learning_curves])
        rows.append(
            [
                method,
                f"{percent(interval.mean)} ({percent(interval.low)} to {percent(interval.high)})",
                *cells,
                f"{kl:.4f}",
                correlation_cell(found.q_correlations[method]),
            ]
        )
    header = ["method", "accuracy", *COMPARED, "final KL", "Q and its next reward"]
    return table(header, rows)


def correlation_cell(by_seed: Sequence[float | None]) -> str:
    """Mean correlation of Q with the reward that follows, over the seeds in which both vary."""
    known = [value for value in by_seed if value is not None]
    if not known:
        return NONE
    mean = f"{np.mean(known):+.2f}"
    if len(known) == len(by_seed):
        return mean
    return f"{mean} ({len(known)} of {len(by_seed)} seeds; in the others they never vary)"


def pairs_table(found: Studied) -> str:
    """rl against its controls, and both ways to draw; empty where there is no such pair."""
    rows = [
        [f"{method} / {rival}", *comparison_cells(compared)]
        for rival, methods in found.comparisons.items()
        for method, compared in methods.items()
        if rival != BASELINE
    ]
    return table(["pair", *COMPARED], rows) if rows else ""


def share_of_oracle(found: Studied) -> float | None:
    """How much of the oracle's gain in final accuracy over the baseline rl has; None where the oracle shows no gain."""
    oracle = found.comparisons[BASELINE].get(ORACLE)
    if ADAPTIVE not in found.outcomes or oracle is None or oracle.accuracy.test.verdict != "better":
        return None
    means = {name: float(found.outcomes[name].correct_SP.mean()) for name in (ADAPTIVE, ORACLE, BASELINE)}
    return (means[ADAPTIVE] - means[BASELINE]) / (means[ORACLE] - means[BASELINE])


def figure_of(found: Sequence[Studied]) -> Figure:
    """A panel per setting: what methods need of the baseline's examples, by accuracy (filled) and by KL (hollow)."""
    methods = [m for m in [*METHODS, *REPLAYS] if any(m in f.comparisons[BASELINE] for f in found)]
    styles = method_styles([*METHODS, *REPLAYS])
    figure = Figure(figsize=(max(8, 3.2 + 3.2 * len(found)), 1.8 + 0.36 * len(methods)), layout="constrained")
    panels = figure.subplots(1, len(found), sharey=True, squeeze=False)[0]
    for axes, setting in zip(panels, found, strict=True):
        draw_setting(axes, setting, methods, styles)
    panels[0].set_yticks(range(len(methods)), methods)
    panels[0].set_ylim(len(methods) - 0.5, -0.5)
    figure.supxlabel(
        f"examples, over those of {BASELINE}\n"
        "filled: to reach its final accuracy; hollow: to come as near to the teacher (KL per token)",
        fontsize=11,
    )
    return figure


def draw_setting(axes: Axes, found: Studied, methods: Sequence[str], styles: Mapping[str, Style]) -> None:
    """One panel; an arrow at the edge is more than all that was trained."""
    for row, method in enumerate(methods):
        if (compared := found.comparisons[BASELINE].get(method)) is None:
            continue
        draw_ratio(axes, compared.examples_ratio, row - 0.14, styles[method], filled=True)
        draw_ratio(axes, compared.kl_examples_ratio, row + 0.18, styles[method], filled=False)
    axes.axvline(1, color=QUIET, linestyle="--", linewidth=1.2)
    axes.set(title=f"{found.setting} ({found.seeds} seeds)", xlim=(0, EDGE))
    axes.grid(visible=False, axis="y")


EDGE = 1.08


def draw_ratio(axes: Axes, ratio: Ratio, row: float, style: Style, *, filled: bool) -> None:
    """A dot with its interval; nothing where the rival ended no better than it began."""
    if not ratio.exists:
        return
    high = EDGE if ratio.high is None else ratio.high
    assert ratio.low is not None  # there are three seeds
    axes.plot([ratio.low, high], [row, row], color=style.colour, linewidth=2.5 if filled else 1, solid_capstyle="butt")
    place, marker = (EDGE, ">") if ratio.ratio is None else (ratio.ratio, style.marker)
    face = style.colour if filled else "white"
    axes.plot(place, row, marker=marker, color=style.colour, markerfacecolor=face, markersize=7, clip_on=False)


def write_report() -> list[Studied]:
    """Writes table and figure of what there is; nothing where no setting has enough."""
    found = [part for setting in SETTINGS if (part := studied(setting)) is not None]
    if found:
        write_text(REPORT, text_of(found))
        with replacing_file(PICTURE) as temporary:
            temporary.write_bytes(png(lambda: figure_of(found)))
    return found
