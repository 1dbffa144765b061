"""From results to the numbers of the report: what metrics/all_results_enhanced.json holds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from pipeline.analysis.metrics import over_seeds
from pipeline.analysis.reading import Evaluation, Results, TrainedRun
from pipeline.analysis.settings import ReportParams
from pipeline.analysis.statistics import (
    Bootstrap,
    Interval,
    PointEstimate,
    draw_bootstrap,
    examples_to_reach,
    iqm_interval,
    mean_interval,
    seed_interval,
)
from pipeline.analysis.verdict import BASELINE, Comparison, area, compare
from pipeline.common.seeding import numpy_rng

FEW_SEEDS = 5
FEW_PROBLEMS = 10
DECIMALS = 6


@dataclass(frozen=True)
class Reference:
    """The teacher or the untrained student."""

    accuracy: float
    accuracy_by_level: dict[str, float]
    accuracy_by_subject: dict[str, float]
    metrics: dict[str, float]


@dataclass(frozen=True)
class ExamplesToTarget:
    """Sample efficiency. A seed that never reached the target is censored: null in `by_seed`.

    restricted_mean counts a censored seed with its whole budget, so the true mean is at least that where
    `seeds_reached` is below the number of seeds.
    """

    target_accuracy: float
    by_seed: dict[str, int | None]
    seeds_reached: int
    restricted_mean: float


@dataclass(frozen=True)
class Method:
    """One method over its seeds; plain numbers are means over seeds."""

    seeds: list[int]
    accuracy: Interval
    accuracy_by_seed: dict[str, float]
    accuracy_iqm: Interval
    accuracy_by_level: dict[str, float]
    accuracy_by_level_bounds: dict[str, list[float]]
    accuracy_by_subject: dict[str, float]
    metrics: dict[str, float]
    examples_to_target: ExamplesToTarget
    aulc: Interval | PointEstimate
    tokens: float
    training_seconds: float
    peak_memory_bytes: int


@dataclass(frozen=True)
class Summary:
    """Everything the report says, as numbers."""

    scale: str
    problems: int
    steps: int
    examples: int
    confidence: float
    resamples: int
    teacher: Reference
    untrained_student: Reference
    methods: dict[str, Method]
    comparisons: dict[str, Comparison]
    comparisons_note: str
    warnings: list[str]


def rounded(value: Any) -> Any:
    """A JSON value with its numbers rounded to six decimals, which is finer than any of them is known."""
    if isinstance(value, dict):
        return {key: rounded(part) for key, part in value.items()}
    if isinstance(value, list):
        return [rounded(part) for part in value]
    return round(value, DECIMALS) if isinstance(value, float) else value


def summarise(results: Results, scale: str, report: ReportParams) -> Summary:
    """Computes everything. All methods share one draw of seeds and problems, so every comparison is paired."""
    first = next(iter(results.runs.values()))
    bootstrap = draw_bootstrap(
        len(first), results.level_P, report.resamples, numpy_rng(report.seed, "report", "bootstrap")
    )
    comparisons = compare(results, bootstrap, report.confidence) if BASELINE in results.runs else {}
    return Summary(
        scale=scale,
        problems=len(results.level_P),
        steps=first[0].record.steps,
        examples=first[0].record.examples,
        confidence=report.confidence,
        resamples=report.resamples,
        teacher=_reference(results, results.teacher),
        untrained_student=_reference(results, results.untrained_student),
        methods={name: _method(results, name, bootstrap, report) for name in results.runs},
        comparisons=comparisons,
        comparisons_note=_comparisons_note(results),
        warnings=_warnings(results),
    )


def _reference(results: Results, evaluation: Evaluation) -> Reference:
    return Reference(
        accuracy=evaluation.accuracy,
        accuracy_by_level=_by_group(evaluation.correct_P, results.level_P),
        accuracy_by_subject=_by_group(evaluation.correct_P, results.subject_P),
        metrics=evaluation.metrics,
    )


def _by_group(correct_P: np.ndarray, group_P: np.ndarray) -> dict[str, float]:
    return {str(group): float(correct_P[group_P == group].mean()) for group in np.unique(group_P)}


def _method(results: Results, name: str, bootstrap: Bootstrap, report: ReportParams) -> Method:
    runs = results.runs[name]
    correct_SP = results.correct_SP(name)
    levels = {str(level): results.level_P == level for level in np.unique(results.level_P)}
    by_level = {key: mean_interval(correct_SP, bootstrap, report.confidence, mask) for key, mask in levels.items()}
    areas_S = np.array([area(run) for run in runs])

    return Method(
        seeds=[run.record.seed for run in runs],
        accuracy=mean_interval(correct_SP, bootstrap, report.confidence),
        accuracy_by_seed={str(run.record.seed): run.evaluation.accuracy for run in runs},
        accuracy_iqm=iqm_interval(correct_SP, results.level_P, bootstrap, report.confidence),
        accuracy_by_level={key: interval.mean for key, interval in by_level.items()},
        accuracy_by_level_bounds={key: [interval.low, interval.high] for key, interval in by_level.items()},
        accuracy_by_subject=_by_group(correct_SP.mean(axis=0), results.subject_P),
        metrics=over_seeds([run.evaluation.metrics for run in runs]),
        examples_to_target=examples_to_target(runs, report.target_accuracy),
        aulc=seed_interval(areas_S, bootstrap, report.confidence),
        tokens=float(np.mean([run.record.tokens for run in runs])),
        training_seconds=float(np.mean([run.record.training_seconds for run in runs])),
        peak_memory_bytes=max(run.record.peak_memory_bytes for run in runs),
    )


def examples_to_target(runs: tuple[TrainedRun, ...], target: float) -> ExamplesToTarget:
    """When each seed's validation accuracy first stood at or above `target`."""
    by_seed = {
        str(run.record.seed): examples_to_reach(
            run.learning_curve["examples"].to_numpy(), run.learning_curve["validation_accuracy"].to_numpy(), target
        )
        for run in runs
    }
    restricted = [
        run.record.examples if reached is None else reached for run, reached in zip(runs, by_seed.values(), strict=True)
    ]
    return ExamplesToTarget(
        target, by_seed, sum(reached is not None for reached in by_seed.values()), float(np.mean(restricted))
    )


def _comparisons_note(results: Results) -> str:
    """Why there are no comparisons, or empty."""
    if BASELINE not in results.runs:
        return f"Nothing is compared, because {BASELINE} is not among the methods."
    if len(results.runs) == 1:
        return f"Nothing is compared, because {BASELINE} is the only method."
    return ""


def _warnings(results: Results) -> list[str]:
    """What a reader should know before trusting the intervals."""
    warnings = []
    seeds = len(next(iter(results.runs.values())))
    if seeds == 1:
        warnings.append(
            "There is one seed per method: intervals are over problems only, so they tell these students "
            "apart, not the methods, and no verdict is given."
        )
    elif seeds < FEW_SEEDS:
        warnings.append(f"There are only {seeds} seeds per method: intervals may be too narrow.")
    levels, counts = np.unique(results.level_P, return_counts=True)
    few = [f"level {level} ({count})" for level, count in zip(levels, counts, strict=True) if count < FEW_PROBLEMS]
    if few:
        warnings.append(f"Few test problems on {', '.join(few)}: intervals may be too narrow.")
    runs = results.all_runs()
    for answers, timeouts in (
        ("Answers", {run.name: int(run.evaluation.metrics["grading_timeouts"]) for run in runs}),
        ("Answers to validation problems", {run.name: run.record.grading_timeouts for run in runs}),
    ):
        if any(timeouts.values()):
            late = ", ".join(f"{name} {count}" for name, count in timeouts.items() if count)
            warnings.append(f"{answers} counted as wrong because grading them ran out of time: {late}.")
    return warnings
