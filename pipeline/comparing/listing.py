"""All experiments, a line each: what is changed since the commit that they began with, and how well they end."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dvc.api import exp_show
from rich.table import Table

from pipeline.common.paths import TEACHER, UNTRAINED_STUDENT

ACCURACY = ".accuracy"
PARAMS = "params.yaml:"  # DVC's prefix of parameters that are called like a metric
Row = Mapping[str, Any]  # of DVC's table: a column per metric and parameter


@dataclass(frozen=True)
class Experiment:
    """One line.

    changed: parameters that are other than in the commit that the experiment began with, by dotted key. accuracies: of
    each method on the test problems.
    """

    name: str
    is_commit: bool
    created: str
    changed: Mapping[str, Any]
    accuracies: Mapping[str, float]


def read_experiments(params: Sequence[str]) -> list[Experiment]:
    """What `dvc exp show` knows; `params` are the dotted keys of params.yaml."""
    return list(_experiments(exp_show(), params))


def _experiments(rows: Sequence[Row], params: Sequence[str]) -> Iterator[Experiment]:
    commits = {row["rev"]: row for row in rows if row["typ"] == "baseline"}
    base = next(iter(row for name, row in commits.items() if name != "workspace"), {})
    for row in rows:
        if row["typ"] == "baseline" and row["rev"] != "workspace":
            base = row
        yield Experiment(
            row["Experiment"] or row["rev"],
            row["typ"] == "baseline",
            row["Created"] or row["State"] or "",
            {key: value for key in params if (value := _param(row, key)) != _param(base, key)},
            {key.removesuffix(ACCURACY): value for key, value in row.items() if _is_accuracy(key, value)},
        )


def _param(row: Row, key: str) -> Any:
    return row.get(f"{PARAMS}{key}", row.get(key))


def _is_accuracy(key: str, value: Any) -> bool:
    is_reference = key.removesuffix(ACCURACY) in (TEACHER, UNTRAINED_STUDENT)
    return key.count(".") == 1 and key.endswith(ACCURACY) and not is_reference and isinstance(value, float)


def listing(experiments: Sequence[Experiment]) -> Table:
    """As a table that is narrow enough for a terminal."""
    methods = list(dict.fromkeys(method for experiment in experiments for method in experiment.accuracies))
    table = Table(
        box=None, pad_edge=False, caption="Accuracy on the test problems, in percent.", caption_justify="left"
    )
    table.add_column("experiment", no_wrap=True)
    table.add_column("made")
    table.add_column("what is changed", overflow="fold")
    for method in methods:
        table.add_column(method.replace("_", " "), justify="right")
    for experiment in experiments:
        accuracies = (experiment.accuracies.get(method) for method in methods)
        table.add_row(
            experiment.name if experiment.is_commit else f"  {experiment.name}",
            experiment.created,
            "\n".join(f"{key}={value}" for key, value in experiment.changed.items()),
            *("" if accuracy is None else f"{100 * accuracy:.1f}" for accuracy in accuracies),
        )
    return table
