"""From results to the numbers of the report: what metrics/all_results_enhanced.json holds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np

from pipeline.analysis.results import MEASURED, Evaluation, Results, TrainedRun
from pipeline.analysis.statistics import (
    Interval,
    Resampling,
    draw_resampling,
    examples_to_reach,
    holm,
    improvement_interval,
    iqm_interval,
    mean_interval,
    normalised_area,
    resampled_accuracies,
    resampled_seed_means,
    seed_interval,
    two_sided_p,
)
from pipeline.common.params import ReportParams
from pipeline.common.seeding import numpy_rng

BASELINE = "traditional"
FEW_SEEDS = 5
FEW_PROBLEMS = 10
DECIMALS = 6

Verdict = Literal["better", "worse", "no difference shown", "one seed cannot tell"]


@dataclass(frozen=True)
class Reference:
    """The teacher or the untrained student."""

    accuracy: float
    accuracy_by_level: dict[str, float]
    accuracy_by_subject: dict[str, float]
    agreement: float
    top1_agreement: float
    kl_per_token: float
    calibration_error: float
    grading_timeouts: int


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
    accuracy_by_level_bounds: dict[str, list[float | None]]
    accuracy_by_subject: dict[str, float]
    agreement: float
    top1_agreement: float
    kl_per_token: float
    calibration_error: float
    grading_timeouts: int
    examples_to_target: ExamplesToTarget
    aulc: Interval
    tokens: float
    training_seconds: float
    peak_memory_bytes: int


@dataclass(frozen=True)
class Comparison:
    """A method minus the baseline, on the same problems; difference, low and high are of accuracy."""

    difference: float
    low: float
    high: float
    probability_of_improvement: float
    probability_of_improvement_bounds: list[float | None]
    p: float
    p_holm: float
    aulc_difference: Interval
    verdict: Verdict


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

    def as_json(self) -> dict[str, Any]:
        """A JSON value, rounded to six decimals, which is finer than any of the numbers is known."""
        return _rounded(asdict(self))


def _rounded(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _rounded(part) for key, part in value.items()}
    if isinstance(value, list):
        return [_rounded(part) for part in value]
    return round(value, DECIMALS) if isinstance(value, float) else value


def summarise(results: Results, scale: str, report: ReportParams) -> Summary:
    """Computes everything. All methods share one draw of seeds and problems, so every comparison is paired."""
    first = next(iter(results.runs.values()))
    resampling = draw_resampling(
        len(first), results.level_P, report.resamples, numpy_rng(report.seed, "report", "bootstrap")
    )
    comparisons = _compare(results, resampling, report.confidence) if BASELINE in results.runs else {}
    return Summary(
        scale,
        len(results.level_P),
        first[0].steps,
        first[0].examples,
        report.confidence,
        report.resamples,
        _reference(results, results.teacher),
        _reference(results, results.untrained_student),
        {name: _method(results, name, resampling, report) for name in results.runs},
        comparisons,
        _comparisons_note(results),
        _warnings(results),
    )


def _reference(results: Results, evaluation: Evaluation) -> Reference:
    return Reference(
        evaluation.accuracy,
        _by_group(evaluation.correct_P, results.level_P),
        _by_group(evaluation.correct_P, results.subject_P),
        **{name: getattr(evaluation, name) for name in MEASURED},
    )


def _by_group(correct_P: np.ndarray, group_P: np.ndarray) -> dict[str, float]:
    return {str(group): float(correct_P[group_P == group].mean()) for group in np.unique(group_P)}


def _method(results: Results, name: str, resampling: Resampling, report: ReportParams) -> Method:
    runs = results.runs[name]
    correct_SP = results.correct_SP(name)
    levels = {str(level): results.level_P == level for level in np.unique(results.level_P)}
    by_level = {key: mean_interval(correct_SP, resampling, report.confidence, mask) for key, mask in levels.items()}
    areas_S = np.array([_area(run) for run in runs])

    def mean(value: Callable[[Evaluation], float]) -> float:
        return float(np.mean([value(run.evaluation) for run in runs]))

    return Method(
        seeds=[run.seed for run in runs],
        accuracy=mean_interval(correct_SP, resampling, report.confidence),
        accuracy_by_seed={str(run.seed): run.evaluation.accuracy for run in runs},
        accuracy_iqm=iqm_interval(correct_SP, results.level_P, resampling, report.confidence),
        accuracy_by_level={key: interval.mean for key, interval in by_level.items()},
        accuracy_by_level_bounds={key: [interval.low, interval.high] for key, interval in by_level.items()},
        accuracy_by_subject=_by_group(correct_SP.mean(axis=0), results.subject_P),
        agreement=mean(lambda e: e.agreement),
        top1_agreement=mean(lambda e: e.top1_agreement),
        kl_per_token=mean(lambda e: e.kl_per_token),
        calibration_error=mean(lambda e: e.calibration_error),
        grading_timeouts=sum(run.evaluation.grading_timeouts for run in runs),
        examples_to_target=examples_to_target(runs, report.target_accuracy),
        aulc=seed_interval(areas_S, resampling, report.confidence),
        tokens=float(np.mean([run.tokens for run in runs])),
        training_seconds=float(np.mean([run.training_seconds for run in runs])),
        peak_memory_bytes=max(run.peak_memory_bytes for run in runs),
    )


def _area(run: TrainedRun) -> float:
    curve = run.learning_curve
    return normalised_area(curve["examples"].to_numpy(), curve["validation_accuracy"].to_numpy())


def examples_to_target(runs: tuple[TrainedRun, ...], target: float) -> ExamplesToTarget:
    """When each seed's validation accuracy first stood at or above `target`."""
    by_seed = {
        str(run.seed): examples_to_reach(
            run.learning_curve["examples"].to_numpy(), run.learning_curve["validation_accuracy"].to_numpy(), target
        )
        for run in runs
    }
    restricted = [
        run.examples if reached is None else reached for run, reached in zip(runs, by_seed.values(), strict=True)
    ]
    return ExamplesToTarget(
        target, by_seed, sum(reached is not None for reached in by_seed.values()), float(np.mean(restricted))
    )


def _compare(results: Results, resampling: Resampling, confidence: float) -> dict[str, Comparison]:
    """Every other method against the baseline, with p-values corrected over all of these comparisons."""
    baseline_SP = results.correct_SP(BASELINE)
    differences = {name: results.correct_SP(name) - baseline_SP for name in results.runs if name != BASELINE}
    p_values = {
        name: two_sided_p(resampled_seed_means(resampled_accuracies(difference_SP, resampling), resampling))
        for name, difference_SP in differences.items()
    }
    adjusted = holm(p_values)
    comparisons = {}
    for name, difference_SP in differences.items():
        interval = mean_interval(difference_SP, resampling, confidence)
        improvement = improvement_interval(results.correct_SP(name), baseline_SP, resampling, confidence)
        areas_S = np.array(
            [
                _area(ours) - _area(theirs)
                for ours, theirs in zip(results.runs[name], results.runs[BASELINE], strict=True)
            ]
        )
        comparisons[name] = Comparison(
            interval.mean,
            interval.low,
            interval.high,
            improvement.mean,
            [improvement.low, improvement.high],
            p_values[name],
            adjusted[name],
            seed_interval(areas_S, resampling, confidence),
            verdict(interval, adjusted[name], confidence, len(difference_SP)),
        )
    return comparisons


def verdict(difference: Interval, p_holm: float, confidence: float, seeds: int) -> Verdict:
    """A difference counts if the corrected p-value is small enough and the interval leaves out zero, both.

    One seed tells two students apart, never two methods: how much a method varies from seed to seed is unknown.
    """
    if seeds < 2:
        return "one seed cannot tell"
    if 1 - p_holm > confidence:
        if difference.low > 0:
            return "better"
        if difference.high < 0:
            return "worse"
    return "no difference shown"


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
    runs = [run for group in results.runs.values() for run in group]
    for answers, timeouts in (
        ("Answers", {run.name: run.evaluation.grading_timeouts for run in runs}),
        ("Answers to validation problems", {run.name: run.validation_timeouts for run in runs}),
    ):
        if any(timeouts.values()):
            counts = ", ".join(f"{name} {count}" for name, count in timeouts.items() if count)
            warnings.append(f"{answers} counted as wrong because grading them ran out of time: {counts}.")
    return warnings
