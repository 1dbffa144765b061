"""The adaptive curriculum, after SEC (Self-Evolving Curriculum, Chen et al. 2025, arXiv 2505.14970).

Arms are those of a non-stationary bandit. After a step, each arm in it moves towards its reward, all others stay:

    Q(c) <- Q(c) + alpha (r(c) - Q(c)),  Q_0 = 0

and the next step draws from a Boltzmann distribution with a uniform floor:

    pi(c) = (1 - epsilon) softmax(V / tau)(c) + epsilon / A

or, where it is `logistic`, one under which all arms with V well above 0 are drawn alike, see policy.py. To SEC's letter
V = Q, and examples are drawn one by one. With systematic draws each arm gets its share of every batch to the next whole
example, so that chance adds no unevenness of its own. With `shrink`, V are posterior means, see shrinkage.py: noise
does not move the draws, and arms learn from those they share a factor with. `scale` frees tau of the reward's unit:
`arms` divides V's deviations from their mean by the standard deviation over arms that was observed, noise included;
`history` standardises rewards by the mean and deviation of all before.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from pipeline.arms.grouping import ArmSet
from pipeline.arms.protocols import MeasuredInParts, Reward, load_state_of, probe_use, state_of
from pipeline.arms.signals import StepSignals
from pipeline.bandit.policy import POLICIES
from pipeline.bandit.q_values import QValues
from pipeline.bandit.rewards import build_reward
from pipeline.bandit.settings import BanditParams
from pipeline.bandit.shrinkage import Shrunk, shrink
from pipeline.bandit.standardizer import RunningStandardizer
from pipeline.common.errors import ParamsError


def build_curriculum(params: BanditParams, arms: ArmSet, seed: int) -> SelfEvolvingCurriculum:
    """The curriculum of one run.

    Raises:
        ParamsError: see `reward_of`.
    """
    return SelfEvolvingCurriculum(params, arms.factors, reward_of(params, seed))


def reward_of(params: BanditParams, seed: int) -> Reward:
    """The reward that the curriculum learns from.

    Raises:
        ParamsError: it is unknown, its settings are wrong, or the policy does not fit it.
    """
    reward = build_reward(params.reward, params.rewards, seed)
    if params.policy == "logistic" and params.scale == "none" and getattr(reward, "nonnegative", False):
        raise ParamsError(
            "params.yaml: the curriculum's policy is logistic, under which arms above zero are drawn alike, and "
            f"{params.reward} is never below zero; set its policy to boltzmann, and tau to what Q-values differ by, "
            "such as 0.1"
        )
    return reward


class SelfEvolvingCurriculum:
    """A bandit over arms with TD(0) Q-values."""

    def __init__(self, params: BanditParams, factors: Sequence[tuple[str, ...]], reward: Reward) -> None:
        """`factors` are each arm's, see ArmSet; all start alike."""
        self._params, self._factors, self._reward = params, factors, reward
        self._standardizer = RunningStandardizer()
        self._q = QValues(len(factors), params.alpha)
        self._deviations_K: list[QValues] = []  # weighted over time as what they are errors of
        self.probe = probe_use(reward)
        self.draws = params.draws

    @property
    def q_values_A(self) -> np.ndarray:
        """What is held of each arm: to SEC's letter Q, with `shrink` its posterior mean."""
        return self._shrunk().mean_A if self._params.shrink else self._q.values_A

    @property
    def standard_errors_A(self) -> np.ndarray:
        """Of the Q-values; NaN where nothing is known."""
        if not self._params.shrink:
            return self._q.standard_errors_A
        deviation_A = self._shrunk().deviation_A
        return np.where(np.isfinite(deviation_A), deviation_A, np.nan)

    def _shrunk(self) -> Shrunk:
        deviation_KA = np.array([np.nan_to_num(deviations.means_A) for deviations in self._deviations_K])
        return shrink(self._q.means_A, self._q.errors_A, self._factors, deviation_KA if len(deviation_KA) else None)

    def probabilities(self, progress: float) -> np.ndarray:
        """Uniform during the warm-up, then the policy's, with its floor."""
        arms = len(self._factors)
        if progress < self._params.warmup:
            return np.full(arms, 1 / arms)
        policy = POLICIES[self._params.policy]
        return policy(self._scaled(self.q_values_A), self._params.tau, self._params.epsilon)

    def _scaled(self, values_A: np.ndarray) -> np.ndarray:
        """Deviations from the mean in observed standard deviations, where `scale` is arms."""
        if self._params.scale != "arms":
            return values_A
        means_A = self._q.means_A
        spread = float(np.nanstd(means_A)) if np.isfinite(means_A).any() else 0.0
        return (values_A - values_A.mean()) / spread if spread > 0 else np.zeros(len(values_A))

    def update(self, signals: StepSignals) -> dict[int, float]:
        """Moves the Q-value of every rewarded arm; returns the rewards as they entered the update."""
        rewards = self._reward(signals)
        deviations_K = self._reward.part_deviations(signals) if isinstance(self._reward, MeasuredInParts) else []
        if self._params.scale == "history":
            rewards = self._standardizer(rewards)
            deviations_K = [self._standardizer.scaled(deviations) for deviations in deviations_K]
        counts_A = np.bincount(signals.arm_B, minlength=len(self._factors))
        self._q.update(rewards, counts_A)
        if not self._deviations_K:
            self._deviations_K = [QValues(len(self._factors), self._params.alpha) for _ in deviations_K]
        for held, deviations in zip(self._deviations_K, deviations_K, strict=bool(deviations_K)):
            held.update(deviations, counts_A)
        return rewards

    def state(self) -> dict[str, Any]:
        """Q-values, standardisation and the reward's own state."""
        return {
            "q": self._q.state(),
            "deviations": [held.state() for held in self._deviations_K],
            "standardizer": self._standardizer.state(),
            "reward": state_of(self._reward),
        }

    def load_state(self, state: dict[str, Any]) -> None:
        self._q.load_state(state["q"])
        self._deviations_K = [QValues(len(self._factors), self._params.alpha) for _ in state["deviations"]]
        for held, its_state in zip(self._deviations_K, state["deviations"], strict=True):
            held.load_state(its_state)
        self._standardizer.load_state(state["standardizer"])
        load_state_of(self._reward, state["reward"])
