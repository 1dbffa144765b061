"""Do rewards say what pays? Each reward's value of an arm against what training on that arm really gains on the target.

    python -m benchmarks.reward_validity                      both settings: forty minutes on one core
    python -m benchmarks.reward_validity --settings broad --repeats 1
    python -m benchmarks.reward_validity --report             the table alone

A uniform run is followed by all rewards at once. At some of its steps it is branched: for every arm, the student trains
a little longer with half of all draws from that arm. What the target gains by it is measured three times: by the mean
probability of the whole reference solutions of the test problems, and by accuracy and the KL per token from the teacher
on the validation problems. A gain is what a measure rises above the mean of all arms.
Rows are kept in results/reward_validity.jsonl; what is finished with the present rewards is not run again.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from scipy.stats import bootstrap, spearmanr
from transformers import PreTrainedModel

from benchmarks._branches import Bench, State, copy_of, load_bench, solution_probability, start
from benchmarks._measure import say
from benchmarks._runs import ROOT
from benchmarks.study.rows import DIGITS, read_lines
from benchmarks.study.running import study_plan, working_copy
from pipeline.arms.protocols import Draws, ProbeUse, Reward, probe_use
from pipeline.arms.signals import StepSignals
from pipeline.bandit.q_values import QValues
from pipeline.bandit.rewards import build_reward
from pipeline.bandit.settings import BanditParams
from pipeline.checkpoints.code import code_digest, modules_in
from pipeline.common.files import digest_of, write_text
from pipeline.common.params import ParamsFile
from pipeline.common.stage import exit_on_error
from pipeline.language_models.loading import load_encoder
from pipeline.language_models.processes import Processes
from pipeline.language_models.settings import GenerationParams
from pipeline.problems.grading import Grader
from pipeline.problems.settings import GradingParams
from pipeline.registry import names_in
from pipeline.training.training_set import load_validation_set
from pipeline.training.validation import Validation

ROWS = ROOT / "benchmarks/results/reward_validity.jsonl"
STAGES = (30, 80)  # steps of the uniform run at which it is branched
BRANCH_STEPS = 12
RAISED = 0.5  # of the draws in a branch are from its arm
ALPHA = 0.05  # of the Q-values that follow the rewards
SETTINGS = ("broad", "same")
NOT_ALONE = {"multi_objective"}  # a sum of others


@dataclass(frozen=True)
class Row:
    """One branching: each of A arms' gain by every measure, see `Gain`, and every reward's Q.

    A Q is None where the reward never valued the arm. made_of: a digest of the rewards' code and settings.
    """

    setting: str
    seed: int
    stage: int
    repeat: int
    made_of: str
    arms: list[str]
    gains: dict[str, list[float]]
    rewards: dict[str, list[float | None]]


Measure = Callable[[PreTrainedModel], dict[str, float]]


class Observer:
    """Draws uniformly and lets rewards watch; Q-values by reward."""

    draws: Draws = "independent"  # as in all rows

    def __init__(self, rewards: dict[str, Reward], arms: int, probe: ProbeUse) -> None:
        self._rewards, self._arms, self.probe = rewards, arms, probe
        self.q = {name: QValues(arms, ALPHA) for name in rewards}
        self.q_values_A = self.standard_errors_A = np.zeros(arms)

    def probabilities(self, progress: float) -> np.ndarray:
        return np.full(self._arms, 1 / self._arms)

    def update(self, signals: StepSignals) -> dict[int, float]:
        counts_A = np.bincount(signals.arm_B, minlength=self._arms)
        for name, reward in self._rewards.items():
            self.q[name].update(reward(signals), counts_A)
        return {}

    def state(self) -> dict[str, Any]:
        return {}

    def load_state(self, state: dict[str, Any]) -> None: ...


class Raised:
    """Half of the draws from one arm, the others uniform."""

    draws: Draws = "independent"

    def __init__(self, arm: int, arms: int) -> None:
        self._share_A = np.full(arms, (1 - RAISED) / arms)
        self._share_A[arm] += RAISED

    def probabilities(self, progress: float) -> np.ndarray:
        return self._share_A


def main_rows(setting: str, seed: int, repeats: int) -> Iterator[Row]:
    """The rows of one uniform run that are missing."""
    os.chdir(working_copy(study_plan(setting)))
    made_of = present_rewards()
    drop_outdated(setting, made_of)
    done = {(r.setting, r.seed, r.stage, r.repeat) for r in read_rows()}
    wanted = [(stage, r) for stage in STAGES for r in range(repeats) if (setting, seed, stage, r) not in done]
    if not wanted:
        return
    bench = load_bench()
    rewards, states = followed(bench, seed)
    arms = bench.problems.arms.names
    with measures(bench) as measure:
        for stage, repeat in wanted:
            found = [branch(bench, states[stage], arm, 1000 * seed + repeat, measure) for arm in range(len(arms))]
            yield Row(
                setting,
                seed,
                stage,
                repeat,
                made_of,
                list(arms),
                {name: above_mean(np.array([values[name] for values in found])) for name in found[0]},
                {
                    name: [None if np.isnan(q) else round(q, 6) for q in q_A.tolist()]
                    for name, q_A in rewards[stage].items()
                },
            )


def drop_outdated(setting: str, made_of: str) -> None:
    """Removes a setting's rows of other rewards."""
    rows = read_rows()
    kept = [row for row in rows if row.setting != setting or row.made_of == made_of]
    if len(kept) < len(rows):
        write_text(ROWS, "".join(json.dumps(asdict(row)) + "\n" for row in kept))


def above_mean(value_A: np.ndarray) -> list[float]:
    above_A: list[float] = (value_A - value_A.mean()).round(6).tolist()
    return above_A


def present_rewards() -> str:
    """A digest of what rewards are made of in the working directory: code, and the settings of params.yaml."""
    code = code_digest(*modules_in("pipeline.bandit.rewards"), "pipeline.probe.similarity", "pipeline.probe.gradient")
    return digest_of([code, ParamsFile().section("curricula.rl", BanditParams).rewards])[:DIGITS]


@contextmanager
def measures(bench: Bench) -> Iterator[Measure]:
    """Measures a student on the target, the higher the better."""
    file = ParamsFile()
    generation, grading = (
        file.scale_section("generation", GenerationParams),
        file.scale_section("grading", GradingParams),
    )
    encoder = load_encoder(bench.models)
    with Grader(grading.seconds, grading.workers) as grader:
        validation = Validation(load_validation_set(encoder, None), encoder, generation, grader, Processes())

        def measure(student: PreTrainedModel) -> dict[str, float]:
            seen = validation.measure(student)
            probability = solution_probability(student, bench)
            return {"solution probability": probability, "accuracy": seen.accuracy, "KL": -seen.kl_per_token}

        yield measure


def followed(bench: Bench, seed: int) -> tuple[dict[int, dict[str, np.ndarray]], dict[int, State]]:
    """A uniform run up to the last stage: by stage, every reward's Q-values and the run's state."""
    settings = bench.rewards
    arms = len(bench.problems.arms)
    names = [name for name in names_in("pipeline.bandit.rewards") if name not in NOT_ALONE]
    looking = {n: use for n in names if (use := probe_use(build_reward(n, settings, seed))) is not None}
    q: dict[int, dict[str, np.ndarray]] = {stage: {} for stage in STAGES}
    states: dict[int, State] = {}
    for number, (name, use) in enumerate(looking.items()):  # a run has one way to look, so it is run once for each
        others = [n for n in names if n not in looking] if number == 0 else []
        observer = Observer({n: build_reward(n, settings, seed) for n in [name, *others]}, arms, use)
        run = start(bench, observer, seed)
        for step in range(1, max(STAGES) + 1):
            run.step()
            if step in STAGES:
                q[step] |= {n: values.means_A for n, values in observer.q.items()}
                states[step] = copy_of(run)
    return q, states


def branch(bench: Bench, state: State, arm: int, seed: int, measure: Measure) -> dict[str, float]:
    """What the target has after training on with one arm raised."""
    run = start(bench, Raised(arm, len(bench.problems.arms)), seed, state)
    for _ in range(BRANCH_STEPS):
        run.step()
    return measure(run.student.eval())


def read_rows() -> list[Row]:
    """The rows that are there."""
    return read_lines(ROWS, Row)


def report() -> None:
    """Spearman's correlation of every reward with the realised gains, over arms, with a bootstrap interval."""
    for setting in SETTINGS:
        for stage in STAGES:
            rows = [row for row in read_rows() if (row.setting, row.stage) == (setting, stage)]
            for measure in rows[0].gains if rows else []:
                gain_BA = np.array([row.gains[measure] for row in rows])
                say(
                    f"\n{setting}, step {stage}, gain by {measure}: {len(rows)} branchings of {gain_BA.shape[1]} arms; "
                    f"agreement of gains {agreement(gain_BA):+.2f}"
                )
                for name in rows[0].rewards:
                    q_A = np.array([row.rewards[name] for row in rows], dtype=float).mean(axis=0)
                    known_A = np.isfinite(q_A)  # an arm that some run's reward never valued is left out
                    rho, low, high = spearman(q_A[known_A], gain_BA.mean(axis=0)[known_A])
                    say(f"  {name:<24}{rho:+.2f}  ({low:+.2f} to {high:+.2f})")


def spearman(x_A: np.ndarray, y_A: np.ndarray) -> tuple[float, float, float]:
    """Spearman's rank correlation with a 95% percentile bootstrap interval over arms; 0 where one is constant."""
    if np.ptp(x_A) == 0 or np.ptp(y_A) == 0:
        return 0.0, 0.0, 0.0
    found = bootstrap(
        (x_A, y_A),
        lambda x, y: spearmanr(x, y).statistic,
        paired=True,
        vectorized=False,
        n_resamples=2000,
        method="percentile",
        rng=np.random.default_rng(0),
    )
    interval = found.confidence_interval
    return float(spearmanr(x_A, y_A).statistic), float(interval.low), float(interval.high)


def agreement(gain_BA: np.ndarray) -> float:
    """The mean correlation between the gains of two of B branchings: how much of a single one is not noise."""
    if len(gain_BA) < 2:
        return float("nan")
    matrix = np.corrcoef(gain_BA)
    return float(matrix[np.triu_indices(len(gain_BA), 1)].mean())


@exit_on_error
def main() -> None:
    """Runs what is missing and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--settings", nargs="+", choices=SETTINGS, default=SETTINGS)
    parser.add_argument("--seeds", type=int, default=2, help="uniform runs")
    parser.add_argument("--repeats", type=int, default=2, help="branchings of each stage of a run")
    parser.add_argument("--report", action="store_true", help="the table alone")
    args = parser.parse_args()
    for setting in [] if args.report else args.settings:
        for seed in range(100, 100 + args.seeds):  # the study's seeds begin at 0
            for row in main_rows(setting, seed, args.repeats):
                with ROWS.open("a", encoding="utf-8") as file:
                    file.write(json.dumps(asdict(row)) + "\n")
                say(f"{setting}, seed {seed}, step {row.stage}, repeat {row.repeat}: done")
    report()


if __name__ == "__main__":
    main()
