"""What the results cost on the machine that made them, and what they were made with: all that is no result."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from pipeline.analysis.markdown import bullets, table
from pipeline.analysis.reading import Evaluation, Results, TrainedRun
from pipeline.results.rows import Provenance


def costs_page(results: Results) -> str:
    """metrics/costs.md. It differs from machine to machine where all results are equal."""
    return (
        "\n\n".join(
            [
                "# What it cost",
                "Training seconds are those of a run's steps, without its validations. Seconds are means over seeds, "
                "memory is the most that one process held. Other programs on the machine lengthen seconds; training "
                "compute, in the report, is counted.",
                _table(results),
                "Made with:",
                made_with(results.teacher.cost.provenance),
            ]
        )
        + "\n"
    )


def _table(results: Results) -> str:
    header = ["method", "training seconds", "training memory (MiB)", "evaluation seconds", "evaluation memory (MiB)"]
    methods = [
        [name, *_trained(runs), *_evaluated([run.evaluation for run in runs])] for name, runs in results.runs.items()
    ]
    references = [
        [name, "", "", *_evaluated([evaluation])]
        for name, evaluation in (("teacher", results.teacher), ("untrained student", results.untrained_student))
    ]
    return table(header, methods + references)


def _trained(runs: Sequence[TrainedRun]) -> list[str]:
    return [_mean([run.cost.seconds for run in runs]), _mebibytes([run.cost.peak_memory_bytes for run in runs])]


def _evaluated(evaluations: Sequence[Evaluation]) -> list[str]:
    costs = [evaluation.cost for evaluation in evaluations]
    return [_mean([cost.seconds for cost in costs]), _mebibytes([cost.peak_memory_bytes for cost in costs])]


def _mean(seconds: Sequence[float]) -> str:
    return f"{np.mean(seconds):,.0f}"


def _mebibytes(most: Sequence[int]) -> str:
    return f"{max(most) / 2**20:,.0f}"


def made_with(provenance: Provenance) -> str:
    """The versions of the libraries, and the hub's commit of each model that comes from there."""
    commits = {f"{role}'s commit on the hub": commit for role, commit in provenance.commits.items() if commit}
    return bullets([f"{what}: `{value}`" for what, value in (provenance.versions | commits).items()])
