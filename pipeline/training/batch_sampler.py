"""Turns arm probabilities into batches: one arm per example, problems without replacement inside an arm."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pipeline.arms.grouping import ArmSet
from pipeline.common.errors import TrainingError
from pipeline.common.seeding import numpy_rng


@dataclass(frozen=True)
class Draw:
    """B examples: the arm of each and its problem's position in the training split.

    dealt_A: how many problems have been dealt from each of the A arms when this batch is out.
    """

    arm_B: np.ndarray
    problem_B: np.ndarray
    dealt_A: np.ndarray


class BatchSampler:
    """Deals out problems. Each arm is a deck, shuffled anew (by seed, arm and round) whenever it is used up.

    It changes nothing: what a draw depends on is given, and how many problems are dealt then is part of the draw.
    """

    def __init__(self, arms: ArmSet, seed: int) -> None:
        """Every arm must hold a problem, which `ArmSet` guarantees."""
        self._arms = arms
        self._seed = seed
        self._decks: dict[int, tuple[int, np.ndarray]] = {}  # of each arm the round it was shuffled for; a mere cache

    def draw(
        self,
        step: int,
        probabilities_A: np.ndarray,
        batch_size: int,
        dealt_A: np.ndarray,
        *,
        systematic: bool = False,
    ) -> Draw:
        """The examples of one step, where `dealt_A` problems of each arm have been dealt before.

        Arms are drawn one by one, or systematically: then each gets its share of the batch rounded down or up, by
        equal steps through the cumulated probabilities from a random start (Madow and Madow 1944).

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
        probabilities_A = probabilities_A / probabilities_A.sum()
        if systematic:
            places_B = (rng.random() + np.arange(batch_size)) / batch_size
            arm_B = np.searchsorted(np.cumsum(probabilities_A)[:-1], places_B, side="right")
        else:
            arm_B = rng.choice(len(self._arms), size=batch_size, p=probabilities_A)
        after_A = dealt_A.copy()
        problems = []
        for arm in arm_B.tolist():
            problems.append(self._card(arm, int(after_A[arm])))
            after_A[arm] += 1
        return Draw(arm_B, np.array(problems), after_A)

    def _card(self, arm: int, number: int) -> int:
        """The problem that an arm deals after `number` others."""
        members = self._arms.members[arm]
        round_number, position = divmod(number, len(members))
        if self._decks.get(arm, (None,))[0] != round_number:
            shuffled = numpy_rng(self._seed, "deck", arm, round_number).permutation(members)
            self._decks[arm] = (round_number, shuffled)
        return int(self._decks[arm][1][position])
