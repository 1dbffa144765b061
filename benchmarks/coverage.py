"""Do the report's intervals hold what they promise? Simulated experiments whose truth is known.

    python -m benchmarks.coverage            minutes
    python -m benchmarks.coverage --tiny     the same code on next to nothing, in seconds

Students answer problems at random, with chances that follow from the problem's difficulty, the method's taste for the
problem, the seed's luck and, along a learning curve, from how far the student has come. Everything is estimated by the
report's own functions. README.md beside this file says what is drawn.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats
from scipy.special import expit, logit

from benchmarks._goals import Goal, print_goals, print_rows, write_found
from benchmarks._measure import environment, say
from benchmarks._runs import ROOT
from pipeline.analysis.learning import Curves, need
from pipeline.analysis.resampling import draw_problems
from pipeline.analysis.statistics import accuracy, accuracy_difference, difference_over_seeds, holm
from pipeline.common.seeding import numpy_rng

CONFIDENCE = 0.95
LEVELS = 5
SPREAD, TASTE = 1.2, 0.4  # of difficulties, and of what a method finds easier than another, as logits
VALIDATION_PROBLEMS = 210
FIRST, LAST, BEND = 0.22, 0.47, 2.2  # the mini scale's learning curve: its ends, and how early it rises
FIRST_KL, LAST_KL = 0.187, 0.087  # the same of its KL per token, in nats
KL_POINT = 0.25  # how much single points of a seed's KL vary, over how much its end does


@dataclass(frozen=True)
class Scale:
    """How much is simulated. deviations: of seeds, in shares of the problems; kl_deviations: in the log of the KL."""

    trials: int
    resamples: int
    seeds: tuple[int, ...]
    deviations: tuple[float, ...]
    problems: tuple[int, ...]
    comparisons: tuple[int, ...]
    validations: tuple[int, ...]
    speeds: tuple[float, ...]
    kl_deviations: tuple[float, ...]


FULL = Scale(1000, 500, (3, 5, 10), (0.0, 0.01, 0.02), (420, 5000), (4, 10), (7, 13), (1.0, 0.75, 0.5), (0.02, 0.07))
TINY = Scale(20, 200, (3,), (0.02,), (100,), (2,), (7,), (1.0, 0.5), (0.07,))


def difficulties(problems: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """[P] level and difficulty of new problems, around 0, so that a student of ability 0 solves half of them."""
    level_P = np.arange(problems) % LEVELS
    return level_P, level_P - (LEVELS - 1) / 2 + rng.normal(0, SPREAD, problems)


@cache
def logits_per_share() -> float:
    """How far an ability must move for one more share of the problems, at ability 0."""
    chance_P = expit(difficulties(100_000, numpy_rng(0, "coverage", "slope"))[1])
    return 1 / float((chance_P * (1 - chance_P)).mean())


def answers(deviations: Sequence[float], seeds: int, problems: int, rng: np.random.Generator) -> list[np.ndarray]:
    """[S, P] of each method: right or wrong on new problems; every method's true accuracy is one half."""
    _, difficulty_P = difficulties(problems, rng)
    found = []
    for deviation in deviations:
        luck_S1 = rng.normal(0, deviation * logits_per_share(), (seeds, 1)) if deviation else np.zeros((seeds, 1))
        chance_SP = expit(luck_S1 - difficulty_P - rng.normal(0, TASTE, problems))
        found.append((rng.random((seeds, problems)) < chance_SP).astype(np.float64))
    return found


def pooled_covers(methods: Sequence[np.ndarray]) -> bool:
    """Whether 0 lies in the interval of a t-test with one variance pooled over all methods, which is not used."""
    values_MS = np.stack([correct_SP.mean(axis=1) for correct_SP in methods])
    count, seeds = values_MS.shape
    error = np.sqrt(2 * values_MS.var(axis=1, ddof=1).mean() / seeds)
    difference = abs(values_MS[1].mean() - values_MS[0].mean())
    return bool(difference <= stats.t.ppf((1 + CONFIDENCE) / 2, count * (seeds - 1)) * error)


def any_false(p_values: Sequence[float]) -> bool:
    """Whether Holm's correction lets any of these through."""
    return min(holm(dict(enumerate(p_values))).values()) < 1 - CONFIDENCE


def accuracies(scale: Scale, deviations: Sequence[float], seeds: int, problems: int) -> dict[str, float]:
    """Shares of trials: the first method is the baseline, the second is looked at, and all are equally good."""
    rng = numpy_rng(0, "coverage", seeds, problems, *map(str, deviations))
    counts_RP = draw_problems(difficulties(problems, rng)[0], scale.resamples, rng)
    rows = []
    for _ in range(scale.trials):
        baseline, *others = methods = answers(deviations, seeds, problems, rng)
        own = accuracy(baseline, counts_RP).interval(CONFIDENCE)
        differences = [accuracy_difference(other, baseline, counts_RP) for other in others]
        interval, p_values = differences[0].interval(CONFIDENCE), [found.p() for found in differences]
        rows.append(
            {
                "accuracy covered": own.low <= 0.5 <= own.high,
                "difference covered": interval.low <= 0 <= interval.high,
                "covered if pooled": pooled_covers(methods),
                "width, points": 100 * (interval.high - interval.low),
            }
            | {f"false among {n}": any_false(p_values[:n]) for n in scale.comparisons if n <= len(others)}
        )
    return means(rows)


def curves(
    speed: float, deviation: float, seeds: int, validations: int, difficulty_P: np.ndarray, rng: np.random.Generator
) -> Curves:
    """Learning curves of seeds that are as far after a share `speed` of the examples as the baseline after all."""
    slope, spent_V = logits_per_share(), np.linspace(0, 1, validations)
    risen_V = (1 - np.exp(-BEND * spent_V / speed)) / (1 - np.exp(-BEND))
    ability_V = _ability(FIRST) + (_ability(LAST) - _ability(FIRST)) * risen_V
    luck_S = rng.normal(0, 1, seeds) * deviation * slope
    chance_SVP = expit((ability_V + luck_S[:, None] * spent_V)[:, :, None] - difficulty_P)
    right_SVP = rng.random(chance_SVP.shape) < chance_SVP
    right_SVP[:, 0] = right_SVP[0, 0]  # untrained, all students are one
    return Curves(spent_V, right_SVP.mean(axis=2))


def _ability(share: float) -> float:
    """The ability, as a logit, of who solves about this share of the problems."""
    return float(logit(share)) * np.sqrt(1 + 0.346 * (SPREAD**2 + (LEVELS**2 - 1) / 12))


def kl_curves(speed: float, deviation: float, seeds: int, validations: int, rng: np.random.Generator) -> Curves:
    """The same of minus the log of the KL per token, which falls towards a floor; a seed's luck grows along it."""
    spent_V = np.linspace(0, 1, validations)
    risen_V = (1 - np.exp(-BEND * spent_V / speed)) / (1 - np.exp(-BEND))
    mean_V = FIRST_KL - (FIRST_KL - LAST_KL) * risen_V
    luck_SV = rng.normal(0, deviation, (seeds, 1)) * spent_V
    points_SV = rng.normal(0, KL_POINT * deviation, (seeds, validations)) * (spent_V > 0)
    return Curves(spent_V, -np.log(mean_V) + luck_SV + points_SV)


def kl_ratios(scale: Scale, speed: float, deviation: float, seeds: int, validations: int) -> dict[str, float]:
    """Shares of trials for a method that comes as near to the teacher after a share `speed` of the examples."""
    rng = numpy_rng(0, "coverage", "kl", str(speed), str(deviation), seeds, validations)
    rows = []
    for _ in range(scale.trials):
        rival, method = (kl_curves(each, deviation, seeds, validations, rng) for each in (1.0, speed))
        found = need(method, rival, CONFIDENCE)
        low, high = (np.inf if bound is None else bound for bound in (found.low, found.high))
        ratio = 1.0 if found.ratio is None else min(1.0, found.ratio)
        rows.append({"ratio covered": low <= speed <= high, "restricted ratio": ratio, "shown below 1": high < 1})
    return means(rows)


def ratios(scale: Scale, speed: float, deviation: float, seeds: int, validations: int) -> dict[str, float]:
    """Shares of trials for a method of this speed, and false verdicts where all methods have the baseline's."""
    rng = numpy_rng(0, "coverage", "ratio", str(speed), str(deviation), seeds, validations)
    rows = []
    for _ in range(scale.trials):
        difficulty_P = difficulties(VALIDATION_PROBLEMS, rng)[1]
        others = max(scale.comparisons) if speed == 1 else 1
        rival, *methods = [
            curves(each, deviation, seeds, validations, difficulty_P, rng) for each in (1.0, *[speed] * others)
        ]
        found = need(methods[0], rival, CONFIDENCE)
        low, high = (np.inf if bound is None else bound for bound in (found.low, found.high))
        p_values = [difference_over_seeds(method.value_SV[:, -1], rival.value_SV[:, -1]).p() for method in methods]
        row = {
            "ratio covered": low <= speed <= high,
            "restricted ratio": 1.0 if found.ratio is None else min(1.0, found.ratio),
            "shown below 1": high < 1,
        }
        rows.append(
            row | ({f"false among {n}": any_false(p_values[:n]) for n in scale.comparisons} if speed == 1 else {})
        )
    return means(rows)


def means(rows: Sequence[dict[str, float]]) -> dict[str, float]:
    """The mean of each column."""
    return {name: float(np.mean([row[name] for row in rows])) for name in rows[0]}


def all_accuracies(scale: Scale) -> dict[str, dict[str, float]]:
    """A row per number of problems, deviation and seeds; then rows in which one method, or its pair, varies more."""
    count = max(scale.comparisons) + 1
    cases = {f"{100 * d:g} points": (d,) * count for d in scale.deviations}
    cases |= {"baseline 2, others 0.5": (0.02, *[0.005] * 4), "both 2, others 0.5": (0.02, 0.02, *[0.005] * 3)}
    return {
        f"{problems} problems, {name}, {seeds} seeds": accuracies(scale, deviations, seeds, problems)
        for problems in scale.problems
        for name, deviations in cases.items()
        for seeds in scale.seeds
    }


def all_ratios(scale: Scale) -> dict[str, dict[str, float]]:
    """A row per speed, number of validations, deviation and seeds."""
    return {
        f"speed {speed:g}, {validations} validations, {100 * deviation:g} points, {seeds} seeds": ratios(
            scale, speed, deviation, seeds, validations
        )
        for speed in scale.speeds
        for validations in scale.validations
        for deviation in scale.deviations
        for seeds in scale.seeds
    }


def all_kl_ratios(scale: Scale) -> dict[str, dict[str, float]]:
    """A row per speed, number of validations, deviation and seeds; one method is very fast."""
    return {
        f"speed {speed:g}, {validations} validations, {100 * deviation:g}%, {seeds} seeds": kl_ratios(
            scale, speed, deviation, seeds, validations
        )
        for speed in (*scale.speeds, 0.3)
        for validations in scale.validations
        for deviation in scale.kl_deviations
        for seeds in scale.seeds
    }


def goals_of(found: dict[str, Any]) -> list[Goal]:
    """The least coverage of all rows, and how many families have a false verdict: on average, and at most."""

    def values(table: str, start: str) -> list[float]:
        return [v for row in found[table].values() for name, v in row.items() if name.startswith(start)]

    goals = [
        Goal("least coverage of an accuracy", min(values("accuracy", "accuracy covered")), "at least", 0.93),
        Goal("least coverage of a difference", min(values("accuracy", "difference covered")), "at least", 0.93),
        Goal("least coverage of a ratio", min(values("ratio", "ratio covered")), "at least", 0.93),
        Goal("least coverage of a ratio by KL", min(values("kl ratio", "ratio covered")), "at least", 0.93),
    ]
    for table in ("accuracy", "ratio"):
        falsely = values(table, "false among")
        goals += [
            Goal(f"families with a false verdict, {table}: mean", float(np.mean(falsely)), "at most", 0.05),
            Goal(f"families with a false verdict, {table}: most", max(falsely), "at most", 0.05),
        ]
    return goals


def main() -> None:
    """Prints the tables and writes them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tiny", action="store_true", help="few trials")
    parser.add_argument("--out", type=Path, help="JSON file; default: results/coverage.json here, none with --tiny")
    args = parser.parse_args()
    started = time.perf_counter()
    scale = TINY if args.tiny else FULL
    out = args.out or (None if args.tiny else ROOT / "benchmarks/results/coverage.json")
    found: dict[str, Any] = {"benchmark": "coverage", "environment": environment("cpu"), "scale": asdict(scale)}
    tables = {"accuracy": all_accuracies(scale), "ratio": all_ratios(scale), "kl ratio": all_kl_ratios(scale)}
    for name, table in tables.items():
        say(f"\n{name}: shares of {scale.trials} trials")
        print_rows(list(dict.fromkeys(column for row in table.values() for column in row)), table)
        found[name] = table
    goals = goals_of(found)
    print_goals(goals)
    found["seconds"] = round(time.perf_counter() - started, 1)
    write_found(out, found, goals)


if __name__ == "__main__":
    main()
