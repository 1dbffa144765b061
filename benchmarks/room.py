"""Is there room? What drawing only learnable arms could save, estimated before anybody trains for days.

    python -m benchmarks.room                       calibrates on what is prepared here: a few dozen steps at any scale
    python -m benchmarks.room --setting broad       on one of the study's settings
    python -m benchmarks.room --setting broad --search   also the best mixture, and a look-ahead oracle: ten minutes

A short run draws all arms alike. By what it sees of them, arms are called

    off-target   their problems are three times less likely under the target than under all arms alike, on average
    hopeless     the teacher itself does not expect their solutions: half the typical confidence or less
    mastered     the student is as sure of their solutions as the teacher, to within a twentieth
    learnable    the others

If examples of learnable arms alone taught, and all alike, draws from these alone would need their share of what uniform
draws need. That is an estimate and no bound: learnable arms do not teach alike, and a curriculum that prefers the best
of them may need less. What one learnable arm is worth beside another is not seen here; `--search` tries it out.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np

from benchmarks._branches import Bench, State, copy_of, load_bench, solution_probability, start, take_steps
from benchmarks._measure import say
from benchmarks._runs import ROOT
from benchmarks.study.running import study_plan, working_copy
from benchmarks.study.settings import SETTINGS
from pipeline.arms.protocols import ProbeUse
from pipeline.arms.signals import StepSignals
from pipeline.bandit.q_values import QValues
from pipeline.bandit.rewards.target_similarity import TargetSimilarity
from pipeline.common.errors import ResultsError
from pipeline.common.files import write_json
from pipeline.common.paths import TEACHER_LOGITS
from pipeline.common.seeding import numpy_rng
from pipeline.common.stage import exit_on_error
from pipeline.training.schedule import budget_of

OFF_TARGET, HOPELESS, MASTERED = -np.log(3), 0.5, 0.95
PROBE_PROBLEMS = 105
MIXTURES, MIXTURE_STEPS = 40, 65
LOOK_AHEAD_STEPS, LOOK_AHEADS = 8, 8
CONFIRMED_ON = (7, 8, 9)  # seeds that the search for a mixture does not see
MOSTLY = 0.9  # of the arms
Kind = Literal["learnable", "mastered", "hopeless", "off-target", "never drawn"]


@dataclass(frozen=True)
class Arm:
    """What a calibration saw of an arm.

    target_log_ratio: see target_similarity, nats. Confidences are geometric means of token probabilities.
    """

    name: str
    kind: Kind
    target_log_ratio: float
    teacher_confidence: float
    student_confidence: float


class Calibration:
    """Draws all arms alike and remembers what it saw of each."""

    def __init__(self, arms: int) -> None:
        self._arms = arms
        self._similarity = TargetSimilarity(ProbeUse("similarity", PROBE_PROBLEMS, 16))
        self.probe = self._similarity.probe
        self.seen = {name: QValues(arms, 0.1) for name in ("target", "teacher", "student")}
        self.q_values_A = self.standard_errors_A = np.zeros(arms)

    def probabilities(self, progress: float) -> np.ndarray:
        return np.full(self._arms, 1 / self._arms)

    def update(self, signals: StepSignals) -> dict[int, float]:
        counts_A = np.bincount(signals.arm_B, minlength=self._arms)
        self.seen["target"].update(self._similarity(signals), counts_A)
        for name, log_prob_B in (("teacher", signals.teacher_log_prob_B), ("student", signals.student_log_prob_B)):
            confidence_B = np.exp(log_prob_B / signals.tokens_B)
            means = {int(a): float(confidence_B[signals.arm_B == a].mean()) for a in np.unique(signals.arm_B)}
            self.seen[name].update(means, counts_A)
        return {}

    def state(self) -> dict[str, Any]:
        return {}

    def load_state(self, state: dict[str, Any]) -> None: ...


class Mixture:
    """The same shares at every step."""

    def __init__(self, share_A: np.ndarray) -> None:
        self.share_A = share_A

    def probabilities(self, progress: float) -> np.ndarray:
        return self.share_A


def calibrate(bench: Bench, steps: int, seed: int = 0) -> list[Arm]:
    """What a short uniform run sees of each arm."""
    names = bench.problems.arms.names
    calibration = Calibration(len(names))
    take_steps(start(bench, calibration, seed), steps)
    target_A = calibration.seen["target"].means_A
    teacher_A, student_A = calibration.seen["teacher"].means_A, calibration.seen["student"].means_A
    return [
        Arm(name, kind(target, teacher, student, float(np.nanmedian(teacher_A))), target, teacher, student)
        for name, target, teacher, student in zip(
            names, target_A.tolist(), teacher_A.tolist(), student_A.tolist(), strict=True
        )
    ]


def kind(target_log_ratio: float, teacher: float, student: float, typical: float) -> Kind:
    """What an arm is called; `typical` is the teacher's confidence on the median arm."""
    if np.isnan(target_log_ratio):
        return "never drawn"
    if target_log_ratio < OFF_TARGET:
        return "off-target"
    if teacher <= HOPELESS * typical:
        return "hopeless"
    return "mastered" if student >= MASTERED * teacher else "learnable"


def shares(arms: Sequence[Arm]) -> dict[Kind, float]:
    """How many of the arms, all drawn alike, are of each kind."""
    kinds = [arm.kind for arm in arms]
    return {name: kinds.count(name) / len(arms) for name in get_args(Kind)}


def best_mixture(bench: Bench) -> tuple[np.ndarray, float]:
    """The mixture that a regression over short runs with random mixtures calls best, and the regression's R squared.

    A mixture is a product of shares of subjects and of levels, each drawn from a Dirichlet distribution; the log of the
    target's mean solution probability is regressed on the shares of the arms' factors (ridge).
    """
    factors = bench.problems.arms.factors
    features, values = [], []
    for number in range(MIXTURES):
        share_A = random_mixture(factors, number)
        features.append(factor_shares(factors, share_A))
        values.append(np.log(value_of(bench, share_A, MIXTURE_STEPS, 1000 + number)))
    x, y = np.array(features), np.array(values)
    x_centred, y_centred = x - x.mean(axis=0), y - y.mean()
    slope = np.linalg.solve(x_centred.T @ x_centred + 0.05 * np.eye(x.shape[1]), x_centred.T @ y_centred)
    residual = y_centred - x_centred @ slope
    return tilted(factors, slope), float(1 - residual.var() / y.var())


def random_mixture(factors: Sequence[tuple[str, ...]], number: int) -> np.ndarray:
    """A product over factors of Dirichlet-distributed shares of their values."""
    share_A = np.ones(len(factors))
    for column in zip(*factors, strict=True):
        values = sorted(set(column))
        drawn = numpy_rng(number, "mixture", *values[:1]).dirichlet(np.ones(len(values)))
        share_A *= np.array([drawn[values.index(value)] for value in column])
    return share_A / share_A.sum()


def factor_shares(factors: Sequence[tuple[str, ...]], share_A: np.ndarray) -> np.ndarray:
    """The share of every value of every factor."""
    columns = list(zip(*factors, strict=True))
    return np.array([share_A[np.array(column) == value].sum() for column in columns for value in sorted(set(column))])


def tilted(factors: Sequence[tuple[str, ...]], slope: np.ndarray) -> np.ndarray:
    """The shares that the regression favours: of each factor, exp of its part of the slope over that part's deviation.

    The shares of a factor's values add up to 1.
    """
    columns, share_A, at = list(zip(*factors, strict=True)), np.ones(len(factors)), 0
    for column in columns:
        values = sorted(set(column))
        part = slope[at : at + len(values)]
        at += len(values)
        weight = np.exp((part - part.max()) / max(part.std(), 1e-9))
        share_A *= np.array([weight[values.index(value)] for value in column])
    return share_A / share_A.sum()


def look_ahead(bench: Bench, seed: int) -> float:
    """The target's solution probability after a greedy oracle.

    It tries every value of the first factor (the subjects, where arms are by subject), and keeps the best, again and
    again. It looks at test problems: no curriculum can do that. It does not look further ahead than one choice, nor
    between the arms of a subject: the best choice of arms may do better.
    """
    factors = bench.problems.arms.factors
    first = np.array([factor[0] for factor in factors])
    state: State | None = None
    value = 0.0
    for number in range(LOOK_AHEADS):
        tried: list[tuple[float, State]] = []
        for name in np.unique(first):
            share_A = 0.7 * (first == name) / (first == name).sum() + 0.3 / len(first)
            run = take_steps(start(bench, Mixture(share_A), seed * 100 + number, state), LOOK_AHEAD_STEPS)
            tried.append((solution_probability(run.student.eval(), bench), copy_of(run)))
        value, state = max(tried, key=lambda found: found[0])
    return value


def value_of(bench: Bench, share_A: np.ndarray, steps: int, seed: int) -> float:
    """The target's solution probability after so many steps with one mixture."""
    run = take_steps(start(bench, Mixture(share_A), seed), steps)
    return solution_probability(run.student.eval(), bench)


def search(bench: Bench) -> dict[str, Any]:
    """The best mixture and the look-ahead oracle beside uniform draws, on seeds that the search did not see."""
    budget = budget_of(bench.training, len(bench.problems.encoded)).steps
    steps, ahead_steps = min(MIXTURE_STEPS, budget), min(LOOK_AHEADS * LOOK_AHEAD_STEPS, budget)
    best_A, r_squared = best_mixture(bench)
    uniform_A = np.full(len(best_A), 1 / len(best_A))
    return {
        "steps": steps,
        "look_ahead_steps": ahead_steps,
        "r_squared": r_squared,
        "best_mixture": dict(zip(bench.problems.arms.names, best_A.round(4).tolist(), strict=True)),
        "uniform": [value_of(bench, uniform_A, steps, seed) for seed in CONFIRMED_ON],
        "mixture": [value_of(bench, best_A, steps, seed) for seed in CONFIRMED_ON],
        "uniform_as_long_as_the_look_ahead": [value_of(bench, uniform_A, ahead_steps, seed) for seed in CONFIRMED_ON],
        "look_ahead": [look_ahead(bench, seed) for seed in CONFIRMED_ON],
    }


def tell(arms: Sequence[Arm]) -> None:
    """Prints the arms, the shares of their kinds, and what these let expect."""
    say(
        "Of each arm: how much likelier its examples are under the target than under all arms alike (nats), as the\n"
        "student's hidden states tell, and the confidence of teacher and student in the reference solutions\n"
        "(geometric means of token probabilities).\n"
    )
    for arm in arms:
        say(
            f"{arm.name:<32}{arm.kind:<14}target {arm.target_log_ratio:+.2f}   teacher {arm.teacher_confidence:.2f}   "
            f"student {arm.student_confidence:.2f}"
        )
    found = shares(arms)
    say("\n" + ", ".join(f"{name} {share:.0%}" for name, share in found.items()))
    say(expectation(found))


def expectation(found: Mapping[Kind, float]) -> str:
    """What the share of learnable arms, of those that were drawn, lets expect, and what it does not say."""
    if found["learnable"] == 0:
        return "No estimate: no arm is learnable. Look at the pool, the target and the teacher before any curriculum."
    learnable = found["learnable"] / (1 - found["never drawn"])
    said = (
        f"Estimate: if all learnable arms taught alike, draws from these alone would need {learnable:.2f} times the\n"
        "examples of uniform draws. That is no bound: differences among learnable arms are not seen here, and a\n"
        "curriculum that prefers the best of them may need fewer."
    )
    if learnable > MOSTLY:
        said += "\nNearly all arms are learnable: leaving out the others saves little."
    if found["never drawn"]:
        said += f"\n{found['never drawn']:.0%} of the arms were never drawn and are left out: give more --steps."
    return said


def searched(found: Mapping[str, Any]) -> str:
    """What the search found, as lines."""
    short, long = found["steps"], found["look_ahead_steps"]
    rows = {
        f"uniform, {short} steps": "uniform",
        f"best mixture, {short} steps": "mixture",
        f"uniform, {long} steps": "uniform_as_long_as_the_look_ahead",
        f"look-ahead oracle, {long} steps": "look_ahead",
    }
    said = [f"\nMean probability of the target's whole solutions, and its range over {len(found['uniform'])} seeds:"]
    said += [f"{name:<32}{mean_and_range(found[key])}" for name, key in rows.items()]
    said.append(f"R squared of the regression on mixtures: {found['r_squared']:.2f}")
    return "\n".join([*said, f"Arms that the best mixture favours: {favoured(found['best_mixture'])}"])


def favoured(mixture: Mapping[str, float]) -> str:
    """The arms with more than an even share, most first."""
    most_first = sorted(mixture.items(), key=lambda item: -item[1])
    return ", ".join(f"{name} {share:.0%}" for name, share in most_first if share > 1 / len(mixture))


def mean_and_range(values: Sequence[float]) -> str:
    return f"{np.mean(values):.3f} ({min(values):.3f} to {max(values):.3f})"


@exit_on_error
def main() -> None:
    """Calibrates, and searches where that is asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--setting", choices=SETTINGS, help="one of the study's; without it, what is prepared here")
    parser.add_argument("--steps", type=int, default=40, help="of the calibration")
    parser.add_argument("--search", action="store_true", help="also the best mixture and the look-ahead oracle")
    args = parser.parse_args()
    where = Path.cwd() if args.setting is None else working_copy(study_plan(args.setting))
    os.chdir(where)
    say(f"params.yaml of {where}\n" if args.setting is None else f"setting {args.setting}\n")
    if not (TEACHER_LOGITS / "train/manifest.json").exists():
        raise ResultsError(f"{where} has no teacher logits yet; run `dvc repro evaluate_untrained_student` there first")
    bench = load_bench()
    arms = calibrate(bench, args.steps)
    tell(arms)
    found: dict[str, Any] = {"shares": shares(arms), "arms": [asdict(arm) for arm in arms]}
    if args.search:
        found["search"] = search(bench)
        say(searched(found["search"]))
    if args.setting is not None:
        path = ROOT / f"benchmarks/results/room-{args.setting}.json"
        if not args.search and path.exists():  # what a search found stays
            found = json.loads(path.read_text(encoding="utf-8")) | found
        write_json(path, found)


if __name__ == "__main__":
    main()
