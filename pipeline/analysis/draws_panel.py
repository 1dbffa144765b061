"""The panel of what the curriculum drew, averaged over its seeds."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
from matplotlib.axes import Axes

from pipeline.analysis.charts import STACK_CAPACITY, draw_stack, say, smoothed
from pipeline.analysis.curriculum import has_q_values
from pipeline.analysis.draws import ORACLE, added_up, grouping, groupings, mean_probabilities, shares_of_arms
from pipeline.analysis.reading import Results
from pipeline.analysis.verdict import ADAPTIVE

REST = "all others"


def draw_draws(axes: Axes, results: Results) -> None:
    """Shares of draws over the examples trained on, named with those at the end, of pool, target and oracle."""
    method = curriculum_to_show(results)
    if method is None:
        say(axes, "No curriculum with several arms")
        return
    table, examples_T = mean_probabilities(results.runs[method])
    arms = list(table.columns)
    by_group = grouping(table, groupings(results, arms))
    table, beside = (added_up(part, by_group) for part in (table, shares_of_arms(results, arms)))
    if len(table.columns) > STACK_CAPACITY:
        table, beside = (_of_few(part, _most_drawn(table)) for part in (table, beside))
    draw_stack(axes, examples_T, labelled(table, beside), " / ".join(["drawn at the end", *beside.index]))
    seeds = len(results.runs[method])
    average = f" (mean of {seeds} seeds)" if seeds > 1 else ""
    axes.set(
        title=f"What {method} draws", xlabel=f"training examples{average}\n{meanings(list(beside.index))}".rstrip()
    )


def labelled(table: pd.DataFrame, beside: pd.DataFrame) -> pd.DataFrame:
    """The table with each group's share of the draws at the end, and the shares beside it, in its name."""
    shares = pd.concat([smoothed(table).iloc[[-1]], beside])
    return table.rename(columns={name: f"{name}: " + " / ".join(f"{s:.0%}" for s in shares[name]) for name in table})


def meanings(rows: Sequence[str]) -> str:
    """What the shares are of that stand beside those drawn."""
    said = {"target": "target: the test problems", "oracle": f"oracle ({ORACLE}): the target's arms alone, all alike"}
    return "; ".join(text for name, text in said.items() if name in rows)


def _most_drawn(table: pd.DataFrame) -> list[str]:
    """As many groups as can be told apart beside the rest, in the table's order."""
    chosen = table.mean().sort_values(ascending=False, kind="stable").index[: STACK_CAPACITY - 1]
    return [name for name in table.columns if name in chosen]


def _of_few(table: pd.DataFrame, names: list[str]) -> pd.DataFrame:
    """These groups, and the rest as one."""
    return table[names].assign(**{REST: table.drop(columns=names).sum(axis=1)})


def curriculum_to_show(results: Results) -> str | None:
    """The adaptive curriculum, else another one that learns, else any; only ones with several arms."""
    several = [name for name, runs in results.runs.items() if runs[0].arm_log["arm"].nunique() > 1]
    learning = [name for name in several if has_q_values(results.runs[name])]
    return next((name for name in [ADAPTIVE, *learning, *several] if name in several), None)
