"""All experiments, a line each: what is changed since the commit that they began with, and how well they end."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dvc.api import exp_show
from rich.console import Group
from rich.table import Table
from rich.text import Text

from pipeline.common.paths import TEACHER, UNTRAINED_STUDENT

ACCURACY = ".accuracy"
UNFINISHED = ("Queued", "Running", "Failed")
PARAMS = "params.yaml:"  # DVC's prefix of parameters that are called like a metric
OLD = "*"
Row = Mapping[str, Any]  # of DVC's table: a column per metric and parameter


@dataclass(frozen=True)
class Experiment:
    """One line.

    changed: parameters that are other than in the commit that the experiment began with, by dotted key. accuracies: of
    each method on the test problems. may_be_old: they are those of that commit to the last digit although parameters
    are changed, as where no report was made.
    """

    name: str
    is_commit: bool
    created: str
    changed: Mapping[str, Any]
    accuracies: Mapping[str, float]
    may_be_old: bool = False


def read_experiments(params: Sequence[str]) -> list[Experiment]:
    """What `dvc exp show` knows; `params` are the dotted keys of params.yaml."""
    return list(_experiments(exp_show(), params))


def _experiments(rows: Sequence[Row], params: Sequence[str]) -> Iterator[Experiment]:
    commits = {row["rev"]: row for row in rows if row["typ"] == "baseline"}
    base = next(iter(row for name, row in commits.items() if name != "workspace"), {})
    for row in rows:
        if row["typ"] == "baseline" and row["rev"] != "workspace":
            base = row
        changed = {key: value for key in params if (value := _param(row, key)) != _param(base, key)}
        # DVC gives one that is not finished the numbers of the commit that it began with
        accuracies = {} if row["State"] in UNFINISHED else _accuracies_in(row)
        yield Experiment(
            row["Experiment"] or row["rev"],
            row["typ"] == "baseline",
            row["Created"] or row["State"] or "",
            changed,
            accuracies,
            may_be_old=bool(changed and accuracies) and accuracies == _accuracies_in(base),
        )


def _param(row: Row, key: str) -> Any:
    return row.get(f"{PARAMS}{key}", row.get(key))


def _accuracies_in(row: Row) -> dict[str, float]:
    return {key.removesuffix(ACCURACY): value for key, value in row.items() if _is_accuracy(key, value)}


def _is_accuracy(key: str, value: Any) -> bool:
    is_reference = key.removesuffix(ACCURACY) in (TEACHER, UNTRAINED_STUDENT)
    return key.count(".") == 1 and key.endswith(ACCURACY) and not is_reference and isinstance(value, float)


def listing(experiments: Sequence[Experiment]) -> Group:
    """Accuracies as a table, and below it what is changed, which may be long."""
    changed = [experiment for experiment in experiments if experiment.changed]
    heading = [Text("\nWhat is changed:", style="bold")] if changed else []
    return Group(_accuracies(experiments), *heading, *map(_changes, changed))


def _changes(experiment: Experiment) -> Text:
    changes = (f"{key}={in_words(value)}" for key, value in experiment.changed.items())
    return Text(f"{experiment.name}: {', '.join(changes)}")


def in_words(value: Any) -> str:
    """As it is typed on a command line; DVC gives whole numbers a fraction."""
    if value in (None, "None"):  # DVC's table has either for null
        return "null"
    if isinstance(value, bool):
        return json.dumps(value)
    return f"{value:g}" if isinstance(value, float) else str(value)


def _accuracies(experiments: Sequence[Experiment]) -> Table:
    methods = list(dict.fromkeys(method for experiment in experiments for method in experiment.accuracies))
    caption = "Accuracy on the test problems, in percent."
    if any(experiment.may_be_old for experiment in experiments):
        caption += f"\n{OLD} the commit's to the last digit, though parameters are changed: the report may not be made."
    table = Table(box=None, pad_edge=False, caption=caption, caption_justify="left")
    table.add_column("experiment", no_wrap=True)
    table.add_column("made")
    for method in methods:
        table.add_column(method.replace("_", "_\n"), justify="right", no_wrap=True)
    for experiment in experiments:
        accuracies = (experiment.accuracies.get(method) for method in methods)
        table.add_row(
            f"{'' if experiment.is_commit else '  '}{experiment.name}{f' {OLD}' if experiment.may_be_old else ''}",
            experiment.created,
            *("" if accuracy is None else f"{100 * accuracy:.1f}" for accuracy in accuracies),
        )
    return table
