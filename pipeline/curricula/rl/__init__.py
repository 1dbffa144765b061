"""rl: the adaptive curriculum, after SEC (Self-Evolving Curriculum, Chen et al. 2025, arXiv 2505.14970).

Arms are those of a non-stationary bandit. After a step, each arm in it moves towards its reward, all others stay:

    Q(c) <- Q(c) + alpha (r(c) - Q(c)),  Q_0 = 0

and the next step draws from a Boltzmann distribution with a uniform floor:

    pi(c) = (1 - epsilon) softmax(Q / tau)(c) + epsilon / A

SEC's reward is the policy-gradient advantage; here it comes from teacher and student, see the folder rewards.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field
from scipy.special import softmax

from pipeline.arms.grouping import ArmSet
from pipeline.arms.protocols import Reward, load_state_of, state_of
from pipeline.arms.signals import StepSignals
from pipeline.common.params import PositiveFloat, Share, settings
from pipeline.curricula.rl.rewards import build_reward
from pipeline.curricula.rl.rewards._standardize import RunningStandardizer


@settings
class Params:
    """See params.yaml for each setting's meaning."""

    arms: Literal["level", "subject", "level_subject"]
    alpha: Annotated[float, Field(gt=0, le=1)]
    tau: PositiveFloat
    epsilon: Share
    standardize: bool
    reward: str
    rewards: dict[str, dict[str, Any]]


def build(params: Params, arms: ArmSet, seed: int) -> SelfEvolvingCurriculum:
    """The curriculum of one run.

    Raises:
        ParamsError: the reward is unknown or its settings are wrong.
    """
    return SelfEvolvingCurriculum(params, len(arms), build_reward(params.reward, params.rewards, seed))


class SelfEvolvingCurriculum:
    """A bandit over arms with TD(0) Q-values and Boltzmann sampling."""

    def __init__(self, params: Params, arms: int, reward: Reward) -> None:
        """Starts with all Q-values at zero, so with uniform probabilities."""
        self._params = params
        self._reward = reward
        self._standardizer = RunningStandardizer()
        self.q_values_A = np.zeros(arms)
        self.standard_errors_A = np.full(arms, np.nan)

    def probabilities(self, progress: float) -> np.ndarray:
        """The Boltzmann distribution over the Q-values, mixed with the uniform floor."""
        boltzmann_A = softmax(self.q_values_A / self._params.tau)
        return (1 - self._params.epsilon) * boltzmann_A + self._params.epsilon / len(self.q_values_A)

    def update(self, signals: StepSignals) -> dict[int, float]:
        """Moves the Q-value of every rewarded arm; returns the rewards as they entered the update."""
        rewards = self._reward(signals)
        if self._params.standardize:
            rewards = self._standardizer(rewards)
        for arm, reward in rewards.items():
            self.q_values_A[arm] += self._params.alpha * (reward - self.q_values_A[arm])
        return rewards

    def state(self) -> dict[str, Any]:
        """Q-values, standardisation and the reward's own state."""
        return {
            "q_values": self.q_values_A.tolist(),
            "standardizer": self._standardizer.state(),
            "reward": state_of(self._reward),
        }

    def load_state(self, state: dict[str, Any]) -> None:
        self.q_values_A = np.array(state["q_values"])
        self._standardizer.load_state(state["standardizer"])
        load_state_of(self._reward, state["reward"])
