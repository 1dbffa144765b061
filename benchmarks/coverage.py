"""Do the report's intervals hold what they promise? Simulated experiments whose truth is known.

    python -m benchmarks.coverage            an hour of one core, shared out over all
    python -m benchmarks.coverage --tiny     the same code on next to nothing, in seconds

Students answer problems at random, with chances that follow from the problem's difficulty, the method's taste for the
problem, the seed's luck and, along a learning curve, from how far the student has come. Everything is estimated by the
report's own functions, and families of comparisons are those of the report: of params.yaml's methods, and of all that
the study compares. README.md beside this file says what is drawn.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from functools import cache, partial
from multiprocessing import get_context
from pathlib import Path

import numpy as np
from scipy import stats
from scipy.special import expit, logit

from benchmarks._goals import Goal, print_goals, print_rows, write_found
from benchmarks._measure import environment, say
from benchmarks._runs import ROOT
from benchmarks.study.settings import METHODS, REPLAYS
from pipeline.analysis.learning import Curves, need
from pipeline.analysis.resampling import draw_problems
from pipeline.analysis.statistics import accuracy, accuracy_difference, holm
from pipeline.analysis.verdict import ADAPTIVE, BASELINE, Pair, pairs
from pipeline.common.params import ParamsFile
from pipeline.common.seeding import numpy_rng

CONFIDENCE = 0.95
LEVELS = 5
SPREAD, TASTE = 1.2, 0.4  # of difficulties, and of what a method finds easier than another, as logits
VALIDATION_PROBLEMS = 210
FIRST, LAST, BEND = 0.22, 0.47, 2.2  # the mini scale's learning curve: its ends, and how early it rises
FIRST_KL, LAST_KL = 0.187, 0.087  # the same of its KL per token, in nats
KL_POINT = 0.25  # how much single points of a seed's KL vary, over how much its end does
Row = dict[str, float]


@dataclass(frozen=True)
class Scale:
    """How much is simulated.

    deviations: of seeds, in shares of the problems; kl_deviations: in the log of the KL. families: each the methods
    that a report compares.
    """

    trials: int
    resamples: int
    seeds: tuple[int, ...]
    deviations: tuple[float, ...]
    problems: tuple[int, ...]
    families: tuple[tuple[str, ...], ...]
    validations: tuple[int, ...]
    speeds: tuple[float, ...]
    kl_deviations: tuple[float, ...]

    @property
    def methods(self) -> list[str]:
        """All methods of all families."""
        return list(dict.fromkeys(method for family in self.families for method in family))


TINY = Scale(20, 200, (3,), (0.02,), (100,), ((BASELINE, ADAPTIVE, "random"),), (7,), (1.0, 0.5), (0.07,))


def full_scale() -> Scale:
    """What is published: with the families of params.yaml and of the study."""
    file = ParamsFile(ROOT / "params.yaml")
    usual = tuple(name for key in ("methods", "replays") for name in file.section(key, list[str]))
    return Scale(
        trials=1000,
        resamples=2000,  # with 500 no p-value is small enough for one of 20 comparisons
        seeds=(3, 5, 10),
        deviations=(0.0, 0.01, 0.02),
        problems=(420, 5000),
        families=(usual, (*METHODS, *REPLAYS)),
        validations=(7, 13),
        speeds=(1.0, 0.75, 0.5),
        kl_deviations=(0.02, 0.07),
    )


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


def pooled_covers(methods: Mapping[str, np.ndarray]) -> bool:
    """Whether 0 lies in the interval of a t-test with one variance pooled over all methods, which is not used."""
    value_S = {name: correct_SP.mean(axis=1) for name, correct_SP in methods.items()}
    seeds = len(value_S[BASELINE])
    error = np.sqrt(2 * np.mean([own_S.var(ddof=1) for own_S in value_S.values()]) / seeds)
    difference = abs(value_S[ADAPTIVE].mean() - value_S[BASELINE].mean())
    return bool(difference <= stats.t.ppf((1 + CONFIDENCE) / 2, len(methods) * (seeds - 1)) * error)


def false_verdicts(p_values: Mapping[Pair, float], families: Sequence[Sequence[str]]) -> dict[str, bool]:
    """Of each family whether Holm's correction lets any of its comparisons through, by their number."""
    found = {}
    for family in families:
        compared = pairs(family)
        adjusted = holm({pair: p_values[pair] for pair in compared})
        found[f"false among {len(compared)}"] = min(adjusted.values()) < 1 - CONFIDENCE
    return found


def accuracies(scale: Scale, deviation_of: Mapping[str, float], seeds: int, problems: int) -> Row:
    """Shares of trials for methods that are all equally good; the adaptive one's difference is looked at."""
    rng = numpy_rng(0, "coverage", seeds, problems, *map(str, deviation_of.values()))
    counts_RP = draw_problems(difficulties(problems, rng)[0], scale.resamples, rng)
    rows = []
    for _ in range(scale.trials):
        drawn = answers(list(deviation_of.values()), seeds, problems, rng)
        methods = dict(zip(deviation_of, drawn, strict=True))
        own = accuracy(methods[BASELINE], counts_RP).interval(CONFIDENCE)
        differences = {
            (method, rival): accuracy_difference(methods[method], methods[rival], counts_RP)
            for method, rival in pairs(list(methods))
        }
        interval = differences[ADAPTIVE, BASELINE].interval(CONFIDENCE)
        rows.append(
            {
                "accuracy covered": own.low <= 0.5 <= own.high,
                "difference covered": interval.low <= 0 <= interval.high,
                "covered if pooled": pooled_covers(methods),
                "width, points": 100 * (interval.high - interval.low),
            }
            | false_verdicts({pair: found.p() for pair, found in differences.items()}, scale.families)
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


def ratios(scale: Scale, speed: float, deviation: float, seeds: int, validations: int) -> Row:
    """Shares of trials for a method of this speed; of speed 1, all methods are equal and every verdict is false."""
    rng = numpy_rng(0, "coverage", "ratio", str(speed), str(deviation), seeds, validations)
    rows = []
    for _ in range(scale.trials):
        difficulty_P = difficulties(VALIDATION_PROBLEMS, rng)[1]
        methods = {
            name: curves(own, deviation, seeds, validations, difficulty_P, rng)
            for name, own in speeds_of(scale, speed).items()
        }
        rows.append(needed(methods, speed, scale))
    return means(rows)


def kl_ratios(scale: Scale, speed: float, deviation: float, seeds: int, validations: int) -> Row:
    """The same of methods that come as near to the teacher after a share `speed` of the examples."""
    rng = numpy_rng(0, "coverage", "kl", str(speed), str(deviation), seeds, validations)
    rows = []
    for _ in range(scale.trials):
        methods = {
            name: kl_curves(own, deviation, seeds, validations, rng) for name, own in speeds_of(scale, speed).items()
        }
        rows.append(needed(methods, speed, scale))
    return means(rows)


def speeds_of(scale: Scale, speed: float) -> dict[str, float]:
    """Every method where all are equal, else the adaptive one of this speed beside the baseline."""
    return dict.fromkeys(scale.methods, 1.0) if speed == 1 else {BASELINE: 1.0, ADAPTIVE: speed}


def needed(methods: Mapping[str, Curves], speed: float, scale: Scale) -> Row:
    """What a report makes of one trial's curves; verdicts are by the lead that it tests too."""
    needs = {
        (method, rival): need(methods[method], methods[rival], CONFIDENCE) for method, rival in pairs(list(methods))
    }
    found = needs[ADAPTIVE, BASELINE]
    low, high = (np.inf if bound is None else bound for bound in (found.low, found.high))
    row = {
        "ratio covered": low <= speed <= high,
        "restricted ratio": 1.0 if found.ratio is None else min(1.0, found.ratio),
        "shown below 1": high < 1,
    }
    families = scale.families if speed == 1 else ()
    return row | false_verdicts({pair: found.lead.p() for pair, found in needs.items()}, families)


def means(rows: Sequence[Row]) -> Row:
    """The mean of each column."""
    return {name: float(np.mean([row[name] for row in rows])) for name in rows[0]}


Case = Callable[[], Row]


def all_cases(scale: Scale) -> dict[str, dict[str, Case]]:
    """By table, what each of its rows is made by."""
    return {
        "accuracy": accuracy_cases(scale),
        "ratio": ratio_cases(scale),
        "kl ratio": kl_ratio_cases(scale),
    }


def accuracy_cases(scale: Scale) -> dict[str, Case]:
    """A row per number of problems, deviation and seeds; then rows in which one method, or its pair, varies more."""
    alike = dict.fromkeys(scale.methods, 0.005)
    cases = {f"{100 * d:g} points": dict.fromkeys(scale.methods, d) for d in scale.deviations}
    cases |= {
        "baseline 2, others 0.5": alike | {BASELINE: 0.02},
        "both 2, others 0.5": alike | {BASELINE: 0.02, ADAPTIVE: 0.02},
    }
    return {
        f"{problems} problems, {name}, {seeds} seeds": partial(accuracies, scale, deviation_of, seeds, problems)
        for problems in scale.problems
        for name, deviation_of in cases.items()
        for seeds in scale.seeds
    }


def ratio_cases(scale: Scale) -> dict[str, Case]:
    """A row per speed, number of validations, deviation and seeds."""
    return {
        f"speed {speed:g}, {validations} validations, {100 * deviation:g} points, {seeds} seeds": partial(
            ratios, scale, speed, deviation, seeds, validations
        )
        for speed in scale.speeds
        for validations in scale.validations
        for deviation in scale.deviations
        for seeds in scale.seeds
    }


def kl_ratio_cases(scale: Scale) -> dict[str, Case]:
    """A row per speed, number of validations, deviation and seeds; one method is very fast."""
    return {
        f"speed {speed:g}, {validations} validations, {100 * deviation:g}%, {seeds} seeds": partial(
            kl_ratios, scale, speed, deviation, seeds, validations
        )
        for speed in (*scale.speeds, 0.3)
        for validations in scale.validations
        for deviation in scale.kl_deviations
        for seeds in scale.seeds
    }


def run_all(tables: Mapping[str, Mapping[str, Case]], processes: int) -> Iterator[tuple[str, dict[str, Row]]]:
    """The tables, one after another; rows are made by so many processes, of which none waits for a table's end."""
    cases = [case for table in tables.values() for case in table.values()]
    with ProcessPoolExecutor(processes, get_context("spawn")) as pool:
        rows = pool.map(run_case, cases)
        for name, table in tables.items():
            yield name, {row: next(rows) for row in table}


def run_case(case: Case) -> Row:
    """In a process of its own: what it draws follows from the case alone."""
    return case()


def values_in(table: Mapping[str, Row], start: str) -> list[float]:
    """What rows have in the columns whose names begin so."""
    return [value for row in table.values() for name, value in row.items() if name.startswith(start)]


def goals_of(tables: Mapping[str, Mapping[str, Row]]) -> list[Goal]:
    """The least coverage of all rows, and how many families have a false verdict: on average, and at most."""
    covered = [
        ("an accuracy", "accuracy", "accuracy covered"),
        ("a difference", "accuracy", "difference covered"),
        ("a ratio", "ratio", "ratio covered"),
        ("a ratio by KL", "kl ratio", "ratio covered"),
    ]
    goals = [
        Goal(f"least coverage of {what}", min(values_in(tables[table], column)), "at least", 0.93)
        for what, table, column in covered
    ]
    for name, table in tables.items():
        falsely = values_in(table, "false among")
        goals += [
            Goal(f"families with a false verdict, {name}: mean", float(np.mean(falsely)), "at most", 1 - CONFIDENCE),
            Goal(f"families with a false verdict, {name}: most", max(falsely), "at most", 1 - CONFIDENCE),
        ]
    return goals


def most_by_chance(trials: int, rows: int) -> float:
    """What the largest of so many shares of trials stays at or below 99 times of 100 where the truth is 1 - CONFIDENCE.

    No goal's bound: it says how much of a miss chance alone makes likely.
    """
    return float(stats.binom.ppf(0.99 ** (1 / rows), trials, 1 - CONFIDENCE)) / trials


def main() -> None:
    """Prints the tables and writes them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tiny", action="store_true", help="few trials")
    parser.add_argument("--processes", type=int, default=os.cpu_count(), help="at a time; default: a core each")
    parser.add_argument("--out", type=Path, help="JSON file; default: results/coverage.json here, none with --tiny")
    args = parser.parse_args()
    started = time.perf_counter()
    scale = TINY if args.tiny else full_scale()
    out = args.out or (None if args.tiny else ROOT / "benchmarks/results/coverage.json")
    tables = {}
    for name, table in run_all(all_cases(scale), args.processes):
        say(f"\n{name}: shares of {scale.trials} trials")
        print_rows(list(dict.fromkeys(column for row in table.values() for column in row)), table)
        tables[name] = table
    goals = goals_of(tables)
    print_goals(goals)
    for name, table in tables.items():
        rows = len(values_in(table, "false among"))
        most = most_by_chance(scale.trials, rows)
        say(f"{name}: of {rows} shares of truly {1 - CONFIDENCE:.0%} the most is up to {most:.1%}, 99 times of 100")
    found = {"benchmark": "coverage", "environment": environment("cpu"), "scale": asdict(scale)} | tables
    found["processes"], found["seconds"] = args.processes, round(time.perf_counter() - started, 1)
    write_found(out, found, goals)


if __name__ == "__main__":
    main()
