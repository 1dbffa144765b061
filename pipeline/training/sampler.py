"""Turns arm probabilities into batches: one arm per example, problems without replacement inside an arm."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pipeline.common.errors import TrainingError
from pipeline.common.seeding import numpy_rng
from pipeline.training.arms import ArmSet


@dataclass(frozen=True)
class Draw:
    """B examples: the arm of each and its problem's position in the training split."""

    arm_B: np.ndarray
    problem_B: np.ndarray


class Sampler:
    """Deals out problems. Each arm is a deck, shuffled anew (by seed, arm and round) whenever it is used up.

    The only state is the number of problems dealt from each arm.
    """

    def __init__(self, arms: ArmSet, seed: int) -> None:
        """Every arm must hold a problem, which `group_into_arms` guarantees."""
        self._arms = arms
        self._seed = seed
        self.dealt_A = np.zeros(len(arms), dtype=np.int64)
        self._decks: dict[int, tuple[int, np.ndarray]] = {}

    def draw(self, step: int, probabilities_A: np.ndarray, batch_size: int) -> Draw:
        """The examples of one step.

        Raises:
            TrainingError: the probabilities are not a distribution over the arms.
        """
        if (
            probabilities_A.shape != (len(self._arms),)
            or not np.isfinite(probabilities_A).all()
            or probabilities_A.min() < 0
            or abs(probabilities_A.sum() - 1) > 1e-6
        ):
            raise TrainingError(
                f"step {step}: the curriculum's probabilities {probabilities_A} are not a distribution "
                f"over its {len(self._arms)} arms; mend the curriculum"
            )
        rng = numpy_rng(self._seed, "arms", step)
        arm_B = rng.choice(len(self._arms), size=batch_size, p=probabilities_A / probabilities_A.sum())
        return Draw(arm_B, np.array([self._deal(int(arm)) for arm in arm_B]))

    def _deal(self, arm: int) -> int:
        members = self._arms.members[arm]
        round_number, position = divmod(int(self.dealt_A[arm]), len(members))
        self.dealt_A[arm] += 1
        if self._decks.get(arm, (None,))[0] != round_number:
            shuffled = numpy_rng(self._seed, "deck", arm, round_number).permutation(members)
            self._decks[arm] = (round_number, shuffled)
        return int(self._decks[arm][1][position])

    def state(self) -> list[int]:
        """The number of problems dealt from each arm."""
        return self.dealt_A.tolist()

    def load_state(self, state: list[int]) -> None:
        """Puts back what `state` returned."""
        self.dealt_A = np.array(state, dtype=np.int64)
