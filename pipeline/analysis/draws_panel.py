"""The panel of what the curriculum drew, averaged over its seeds."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from pipeline.analysis.charts import STACK_CAPACITY, draw_stack, examples_of, grouped, probabilities, say, smoothed
from pipeline.analysis.reading import Results, TrainedRun
from pipeline.analysis.verdict import ADAPTIVE
from pipeline.common.errors import ResultsError


def draw_draws(axes: Axes, results: Results) -> None:
    """Shares of draws over the examples trained on."""
    method = curriculum_to_show(results)
    if method is None:
        say(axes, "No curriculum with several arms")
        return
    table, examples_T = mean_probabilities(results.runs[method])
    table = grouped(table)
    if len(table.columns) > STACK_CAPACITY:
        table = _largest(table)
    draw_stack(axes, examples_T, with_target(table, results))
    seeds = len(results.runs[method])
    average = f" (mean of {seeds} seeds)" if seeds > 1 else ""
    axes.set(
        title=f"What {method} draws, with the shares at its end, and what the target is made of",
        xlabel=f"training examples{average}",
    )


def with_target(table: pd.DataFrame, results: Results) -> pd.DataFrame:
    """The table with each group's share of the draws at the end, and of the test problems, in its name."""
    target = {f"level {level}": float((results.level_P == level).mean()) for level in np.unique(results.level_P)}
    target |= {str(subject): float((results.subject_P == subject).mean()) for subject in np.unique(results.subject_P)}
    names, at_end = {}, smoothed(table).iloc[-1]
    for name in table.columns:
        known = str(name).startswith("level ") or not str(name).startswith("all")
        share = f", target {target.get(str(name), 0.0):.0%}" if known and set(table.columns) & set(target) else ""
        names[name] = f"{name}: {at_end[name]:.0%}{share}"
    return table.rename(columns=names)


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
