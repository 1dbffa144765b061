"""Which differences count: every method against the baseline, and the verdict on each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from pipeline.analysis.reading import Results, TrainedRun
from pipeline.analysis.statistics import (
    Bootstrap,
    Interval,
    PointEstimate,
    holm,
    improvement_interval,
    mean_interval,
    normalised_area,
    resampled_accuracies,
    resampled_seed_means,
    seed_interval,
    two_sided_p,
)

BASELINE = "traditional"
Verdict = Literal["better", "worse", "no difference shown", "one seed cannot tell"]


@dataclass(frozen=True)
class Comparison:
    """A method minus the baseline, on the same problems; difference, low and high are of accuracy."""

    difference: float
    low: float
    high: float
    probability_of_improvement: float
    probability_of_improvement_bounds: list[float]
    p: float
    p_holm: float
    aulc_difference: Interval | PointEstimate
    verdict: Verdict


def compare(results: Results, bootstrap: Bootstrap, confidence: float) -> dict[str, Comparison]:
    """Every other method against the baseline, with p-values corrected over all of these comparisons."""
    baseline_SP = results.correct_SP(BASELINE)
    differences = {name: results.correct_SP(name) - baseline_SP for name in results.runs if name != BASELINE}
    p_values = {
        name: two_sided_p(resampled_seed_means(resampled_accuracies(difference_SP, bootstrap), bootstrap))
        for name, difference_SP in differences.items()
    }
    adjusted = holm(p_values)
    comparisons = {}
    for name, difference_SP in differences.items():
        interval = mean_interval(difference_SP, bootstrap, confidence)
        improvement = improvement_interval(results.correct_SP(name), baseline_SP, bootstrap, confidence)
        areas_S = np.array(
            [area(ours) - area(theirs) for ours, theirs in zip(results.runs[name], results.runs[BASELINE], strict=True)]
        )
        comparisons[name] = Comparison(
            difference=interval.mean,
            low=interval.low,
            high=interval.high,
            probability_of_improvement=improvement.mean,
            probability_of_improvement_bounds=[improvement.low, improvement.high],
            p=p_values[name],
            p_holm=adjusted[name],
            aulc_difference=seed_interval(areas_S, bootstrap, confidence),
            verdict=verdict(interval, adjusted[name], confidence, len(difference_SP)),
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


def area(run: TrainedRun) -> float:
    """The mean validation accuracy over all examples of the budget."""
    curve = run.learning_curve
    return normalised_area(curve["examples"].to_numpy(), curve["validation_accuracy"].to_numpy())
