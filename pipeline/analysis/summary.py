"""From results to the numbers of the report: what metrics/all_results_enhanced.json holds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from pipeline.analysis.caveats import comparisons_note, warnings
from pipeline.analysis.curriculum import Curriculum, curriculum
from pipeline.analysis.draws import Drawn, Pool, draws, pool_of
from pipeline.analysis.graders import Parting, partings
from pipeline.analysis.learning import spent_to_reach
from pipeline.analysis.metrics import over_seeds
from pipeline.analysis.reading import Evaluation, Results, TrainedRun
from pipeline.analysis.resampling import draw_problems, iqm
from pipeline.analysis.settings import ReportParams
from pipeline.analysis.statistics import (
    Interval,
    PointEstimate,
    accuracy,
    seed_interval,
)
from pipeline.analysis.verdict import Comparison, Outcome, compare, outcomes_of
from pipeline.common.seeding import numpy_rng

DECIMALS = 6


@dataclass(frozen=True)
class Reference:
    """The teacher or the untrained student."""

    accuracy: float
    accuracy_by_level: dict[str, float]
    accuracy_by_subject: dict[str, float]
    metrics: dict[str, float]


@dataclass(frozen=True)
class ExamplesToThreshold:
    """Sample efficiency. A seed that never reached the threshold is censored: null in `by_seed`.

    restricted_mean counts a censored seed with its whole budget, so the true mean is at least that where
    `seeds_reached` is below the number of seeds.
    """

    threshold_accuracy: float
    by_seed: dict[str, float | None]
    seeds_reached: int
    restricted_mean: float


@dataclass(frozen=True)
class Method:
    """One method over its seeds; plain numbers are means over seeds.

    draws: what a method that learns drew, by arms of the target, subject and level; empty for others. compute: training
    compute in tokens forward and backward, see CurvePoint.
    """

    seeds: list[int]
    accuracy: Interval
    accuracy_by_seed: dict[str, float]
    accuracy_iqm: float
    accuracy_by_level: dict[str, float]
    accuracy_by_level_bounds: dict[str, list[float]]
    accuracy_by_subject: dict[str, float]
    metrics: dict[str, float]
    examples_to_threshold: ExamplesToThreshold
    aulc: Interval | PointEstimate
    curriculum: Curriculum
    draws: dict[str, Drawn]
    tokens: float
    compute: float


@dataclass(frozen=True)
class Summary:
    """Everything the report says, as numbers.

    threshold_accuracy: what `examples_to_threshold` counts up to. comparisons: by rival, then by method.
    graders_part: the most frequent answers of which the two graders say different things.
    """

    scale: str
    pool: Pool
    problems: int
    steps: int
    examples: int
    confidence: float
    resamples: int
    threshold_share: float
    threshold_accuracy: float
    teacher: Reference
    untrained_student: Reference
    methods: dict[str, Method]
    comparisons: dict[str, dict[str, Comparison]]
    comparisons_note: str
    graders_part: list[Parting]
    warnings: list[str]


def rounded(value: Any) -> Any:
    """A JSON value with its numbers rounded to six decimals, which is finer than any of them is known."""
    if isinstance(value, dict):
        return {key: rounded(part) for key, part in value.items()}
    if isinstance(value, list):
        return [rounded(part) for part in value]
    return round(value, DECIMALS) + 0.0 if isinstance(value, float) else value  # and not -0.0


def summarise(results: Results, scale: str, report: ReportParams) -> Summary:
    """Computes everything. All methods share one draw of problems, so every comparison is paired."""
    first = next(iter(results.runs.values()))[0]
    counts_RP = draw_problems(results.level_P, report.resamples, numpy_rng(report.seed, "report", "bootstrap"))
    threshold = threshold_accuracy(results, report.threshold_share)
    return Summary(
        scale=scale,
        pool=pool_of(results),
        problems=len(results.level_P),
        steps=first.record.steps,
        examples=first.record.examples,
        confidence=report.confidence,
        resamples=report.resamples,
        threshold_share=report.threshold_share,
        threshold_accuracy=threshold,
        teacher=_reference(results, results.teacher),
        untrained_student=_reference(results, results.untrained_student),
        methods={name: _method(results, name, counts_RP, threshold, report.confidence) for name in results.runs},
        comparisons=compare(outcomes_of(results), counts_RP, report.confidence),
        comparisons_note=comparisons_note(results),
        graders_part=partings(model.parted for model in results.all_models()),
        warnings=warnings(results, report),
    )


def threshold_accuracy(results: Results, share: float) -> float:
    """The validation accuracy that lies this share of the way from the floor to the ceiling.

    The floor is where the learning curves begin: the untrained student on the very problems that the curves are of.
    The teacher does not answer those; its accuracy on the test problems, which are drawn alike, is the ceiling.
    """
    floor = float(np.mean([run.learning_curve["validation_accuracy"].iloc[0] for run in results.all_runs()]))
    return floor + share * (results.teacher.accuracy - floor)


def _reference(results: Results, evaluation: Evaluation) -> Reference:
    return Reference(
        accuracy=evaluation.accuracy,
        accuracy_by_level=_by_group(evaluation.correct_P, results.level_P),
        accuracy_by_subject=_by_group(evaluation.correct_P, results.subject_P),
        metrics=evaluation.metrics,
    )


def _by_group(correct_P: np.ndarray, group_P: np.ndarray) -> dict[str, float]:
    return {str(group): float(correct_P[group_P == group].mean()) for group in np.unique(group_P)}


def _method(results: Results, name: str, counts_RP: np.ndarray, threshold: float, confidence: float) -> Method:
    runs = results.runs[name]
    correct_SP = results.correct_SP(name)
    levels = {str(level): results.level_P == level for level in np.unique(results.level_P)}
    by_level = {key: _share(correct_SP[:, mask], counts_RP[:, mask], confidence) for key, mask in levels.items()}

    return Method(
        seeds=[run.record.seed for run in runs],
        accuracy=_share(correct_SP, counts_RP, confidence),
        accuracy_by_seed={str(run.record.seed): run.evaluation.accuracy for run in runs},
        accuracy_iqm=iqm(np.stack([correct_SP[:, mask].mean(axis=1) for mask in levels.values()])),
        accuracy_by_level={key: interval.mean for key, interval in by_level.items()},
        accuracy_by_level_bounds={key: [interval.low, interval.high] for key, interval in by_level.items()},
        accuracy_by_subject=_by_group(correct_SP.mean(axis=0), results.subject_P),
        metrics=over_seeds([run.evaluation.metrics for run in runs]),
        examples_to_threshold=examples_to_threshold(runs, threshold),
        aulc=seed_interval(Outcome.of(runs).area_S(), confidence),
        curriculum=curriculum(runs, confidence),
        draws=draws(results, name),
        tokens=float(np.mean([run.record.tokens for run in runs])),
        compute=float(np.mean([run.learning_curve["compute"].iloc[-1] for run in runs])),
    )


def _share(correct_SP: np.ndarray, counts_RP: np.ndarray, confidence: float) -> Interval:
    """A method's accuracy with its interval, as far as it lies between 0 and 1."""
    found = accuracy(correct_SP, counts_RP).interval(confidence)
    return Interval(found.mean, max(0.0, found.low), min(1.0, found.high))


def examples_to_threshold(runs: tuple[TrainedRun, ...], threshold: float) -> ExamplesToThreshold:
    """When each seed's learning curve reached the validation accuracy `threshold`."""
    by_seed = {
        str(run.record.seed): spent_to_reach(
            run.learning_curve["examples"].to_numpy(), run.learning_curve["validation_accuracy"].to_numpy(), threshold
        )
        for run in runs
    }
    restricted = [
        run.record.examples if reached is None else reached for run, reached in zip(runs, by_seed.values(), strict=True)
    ]
    return ExamplesToThreshold(
        threshold, by_seed, sum(reached is not None for reached in by_seed.values()), float(np.mean(restricted))
    )
