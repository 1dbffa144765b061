"""Which differences count: who is compared with whom, on which questions, and the verdict on each.

Five questions are asked of every pair: does the method need fewer examples, does it need less training compute, does
it end with a better accuracy, and does it come as near to the teacher with fewer examples, and with less compute? Each
question is one family of Holm's correction over all pairs, so the chance of any false verdict on a question is at most
1 - confidence.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
import pandas as pd

from pipeline.analysis.learning import Curves, Need, need, normalised_area
from pipeline.analysis.reading import Results, TrainedRun
from pipeline.analysis.resampling import probability_of_improvement
from pipeline.analysis.statistics import (
    LEAST_SEEDS,
    Interval,
    PointEstimate,
    accuracy_difference,
    holm,
    seed_difference,
)

BASELINE = "traditional"
ADAPTIVE = "rl"
# what the adaptive curriculum is held against besides: what it extends, and what lacks one thing that it claims to need
CONTROLS = ("random", "stratified", "sec", "rl_random_reward", "rl_permuted", "static_mixture")
DRAWS = ("stratified", "random")  # uniform over arms both: what it is worth that each gets its share of every batch
Verdict = Literal[
    "better",
    "worse",
    "no difference shown",
    "fewer than 3 seeds cannot tell",
    "the rival ended no better than it began",
]
Pair: TypeAlias = tuple[str, str]  # a method and its rival
Spent = Literal["examples", "compute"]
Measured = Literal["validation_accuracy", "validation_kl"]
SMALLEST_KL = 1e-9  # nats per token, as of a student that is the teacher


@dataclass(frozen=True)
class Outcome:
    """What the runs of one method came to: a learning curve per seed, and right or wrong on each test problem.

    learning_curves: a row per validation, with the columns of CurvePoint that a comparison needs. correct_SP: 1 or 0.
    """

    learning_curves: Sequence[pd.DataFrame]
    correct_SP: np.ndarray

    @classmethod
    def of(cls, runs: Sequence[TrainedRun]) -> Outcome:
        """The outcome of a method's runs."""
        correct_SP = np.stack([run.evaluation.correct_P for run in runs]).astype(np.float64)
        return cls([run.learning_curve for run in runs], correct_SP)

    def curves(self, spent: Spent, measured: Measured) -> Curves:
        """Against examples, or training compute (its mean over seeds at each validation)."""
        values_SV = np.stack([curve[measured].to_numpy() for curve in self.learning_curves])
        return Curves(
            np.mean([curve[spent].to_numpy(dtype=np.float64) for curve in self.learning_curves], axis=0),
            # the lower a KL, the better; its fall, which slows down, is nearly straight on a log scale
            -np.log(np.maximum(values_SV, SMALLEST_KL)) if measured == "validation_kl" else values_SV,
        )

    def area_S(self) -> np.ndarray:
        """Each seed's mean validation accuracy over all examples of the budget."""
        curves = self.curves("examples", "validation_accuracy")
        return np.array([normalised_area(curves.spent_V, value_V) for value_V in curves.value_SV])


@dataclass(frozen=True)
class Finding:
    """What a test says. Null without tests: below three seeds, or where there is nothing to reach.

    smallest_detectable: what would have been shown in 8 of 10 repetitions at the first and strictest step of Holm's
    correction, in the units of what is tested: a difference of accuracies, or a ratio's `final_lead`.
    """

    p: float | None
    p_holm: float | None
    smallest_detectable: float | None
    verdict: Verdict


NOTHING_TO_REACH = Finding(None, None, None, "the rival ended no better than it began")


@dataclass(frozen=True)
class Ratio:
    """What the method needs to reach the rival's final validation accuracy or KL, over all that the rival spent.

    ratio: null where it does not get there with all that it spent: it is more than `trained`. low, high: of its
    interval, null for one seed; high is null too where the interval has no upper end. All three are null where the
    rival ended no better than it began, see `exists`. final_lead: by how much
    the method is better after the same spending: in accuracy, or the log of the rival's KL over the method's.
    """

    ratio: float | None
    low: float | None
    high: float | None
    trained: float
    final_lead: float | None
    test: Finding

    @property
    def exists(self) -> bool:
        """False where the rival ended no better than it began: its level is there before the first example."""
        return self.test.verdict != NOTHING_TO_REACH.verdict


@dataclass(frozen=True)
class Difference:
    """The method's accuracy on the test problems minus the rival's, with its interval."""

    difference: float
    low: float
    high: float
    test: Finding


@dataclass(frozen=True)
class Comparison:
    """A method against a rival, on the same problems and budget.

    examples_ratio, compute_ratio: to reach the rival's final accuracy. kl_examples_ratio, kl_compute_ratio: to come as
    near to the teacher.
    """

    examples_ratio: Ratio
    compute_ratio: Ratio
    kl_examples_ratio: Ratio
    kl_compute_ratio: Ratio
    accuracy: Difference
    probability_of_improvement: float
    aulc_difference: Interval | PointEstimate


def pairs(methods: Sequence[str]) -> list[Pair]:
    """Every method against the baseline, the adaptive curriculum against its controls, and both ways to draw."""
    wanted = [(name, BASELINE) for name in methods if name != BASELINE]
    wanted += [*((ADAPTIVE, name) for name in CONTROLS), DRAWS]
    return [pair for pair in wanted if set(pair) <= set(methods)]


def compare(
    outcomes: Mapping[str, Outcome], counts_RP: np.ndarray, confidence: float
) -> dict[str, dict[str, Comparison]]:
    """All comparisons, by rival and then by method; every method has the same number of seeds."""
    chosen = pairs(list(outcomes))
    examples = _ratios(outcomes, chosen, "examples", "validation_accuracy", confidence)
    compute = _ratios(outcomes, chosen, "compute", "validation_accuracy", confidence)
    kl_examples = _ratios(outcomes, chosen, "examples", "validation_kl", confidence)
    kl_compute = _ratios(outcomes, chosen, "compute", "validation_kl", confidence)
    accuracies = _differences(outcomes, chosen, counts_RP, confidence)
    comparisons: dict[str, dict[str, Comparison]] = {}
    for pair in chosen:
        method, rival = pair
        own, other = outcomes[method], outcomes[rival]
        comparisons.setdefault(rival, {})[method] = Comparison(
            examples_ratio=examples[pair],
            compute_ratio=compute[pair],
            kl_examples_ratio=kl_examples[pair],
            kl_compute_ratio=kl_compute[pair],
            accuracy=accuracies[pair],
            probability_of_improvement=probability_of_improvement(own.correct_SP.mean(1), other.correct_SP.mean(1)),
            aulc_difference=seed_difference(own.area_S(), other.area_S(), confidence),
        )
    return comparisons


def _ratios(
    outcomes: Mapping[str, Outcome], chosen: Sequence[Pair], spent: Spent, measured: Measured, confidence: float
) -> dict[Pair, Ratio]:
    curves = {name: outcome.curves(spent, measured) for name, outcome in outcomes.items()}
    needs = {(method, rival): need(curves[method], curves[rival], confidence) for method, rival in chosen}
    p_values = {pair: found.lead.p() for pair, found in needs.items() if found.lead is not None}
    alpha = _strictest(confidence, chosen)
    detectable = {
        pair: found.lead.smallest_detectable(alpha) for pair, found in needs.items() if found.lead is not None
    }
    leads = {pair: 0.0 if found.lead is None else found.lead.value for pair, found in needs.items()}
    # a pair without a ratio stays in the family: who gained is known from the data, and must not ease the correction
    tests = _tests(leads, p_values, detectable, confidence, seeds_of(outcomes))
    return {
        pair: _ratio(found, tests[pair] if found.rival_gained else NOTHING_TO_REACH) for pair, found in needs.items()
    }


def _ratio(found: Need, test: Finding) -> Ratio:
    high = None if found.high is None or np.isinf(found.high) else found.high
    lead = None if found.lead is None else found.lead.value
    return Ratio(found.ratio, found.low, high, found.trained, lead, test)


def _differences(
    outcomes: Mapping[str, Outcome], chosen: Sequence[Pair], counts_RP: np.ndarray, confidence: float
) -> dict[Pair, Difference]:
    found = {
        (method, rival): accuracy_difference(outcomes[method].correct_SP, outcomes[rival].correct_SP, counts_RP)
        for method, rival in chosen
    }
    alpha = _strictest(confidence, chosen)
    tests = _tests(
        {pair: estimate.value for pair, estimate in found.items()},
        {pair: estimate.p() for pair, estimate in found.items()},
        {pair: estimate.smallest_detectable(alpha) for pair, estimate in found.items()},
        confidence,
        seeds_of(outcomes),
    )
    intervals = {pair: estimate.interval(confidence) for pair, estimate in found.items()}
    return {pair: Difference(i.mean, i.low, i.high, tests[pair]) for pair, i in intervals.items()}


def _strictest(confidence: float, chosen: Sequence[Pair]) -> float:
    """What a p-value must stay below at the first step of Holm's correction."""
    return (1 - confidence) / max(1, len(chosen))


def _tests(
    values: Mapping[Pair, float],
    p_values: Mapping[Pair, float],
    detectable: Mapping[Pair, float],
    confidence: float,
    seeds: int,
) -> dict[Pair, Finding]:
    """One family: a value counts if its corrected p-value is small enough; the interval then leaves zero out too."""
    if seeds < LEAST_SEEDS:
        return {pair: Finding(None, None, None, "fewer than 3 seeds cannot tell") for pair in values}
    adjusted = holm(p_values)
    return {
        pair: Finding(p_values[pair], adjusted[pair], detectable[pair], verdict(value, adjusted[pair], confidence))
        for pair, value in values.items()
    }


def verdict(value: float, p_holm: float, confidence: float) -> Verdict:
    """Better or worse where chance would rarely have given this much in any comparison of the family."""
    if 1 - p_holm <= confidence:
        return "no difference shown"
    return "better" if value > 0 else "worse"


def seeds_of(outcomes: Mapping[str, Outcome]) -> int:
    """The number of seeds, the same for every method."""
    return len(next(iter(outcomes.values())).correct_SP)


def outcomes_of(results: Results) -> dict[str, Outcome]:
    """What the runs of each method came to."""
    return {name: Outcome.of(runs) for name, runs in results.runs.items()}
