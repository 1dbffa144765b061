"""What a run leaves behind to look at: the learning curve and the arm log."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pipeline.common.paths import ARM_LOG, LEARNING_CURVE
from pipeline.results.files import write_csv
from pipeline.results.rows import ArmStep, CurvePoint


class RunLog:
    """Grows with the steps of a run; part of its checkpoint.

    `examples` and `tokens` count what the student was trained on so far, prompts included and padding not.
    """

    def __init__(self, arm_names: tuple[str, ...]) -> None:
        """`arm_names` are those of the A arms, in order."""
        self._arm_names = arm_names
        self._curve: list[CurvePoint] = []
        self._arms: list[np.ndarray] = []  # per step [4, A]: probability, q_value, reward, count; NaN for none
        self._losses: list[float] = []  # since the last point of the learning curve
        self.examples = 0
        self.tokens = 0

    def add_step(
        self,
        probabilities_A: np.ndarray,
        q_values_A: np.ndarray | None,
        rewards: dict[int, float],
        arm_B: np.ndarray,
        tokens: int,
        loss: float,
    ) -> None:
        """Notes one step. `q_values_A` are those after the update, None for a curriculum that has none."""
        arms = len(self._arm_names)
        reward_A = np.full(arms, np.nan)
        reward_A[list(rewards)] = list(rewards.values())
        q_values_A = np.full(arms, np.nan) if q_values_A is None else q_values_A
        self._arms.append(np.stack([probabilities_A, q_values_A, reward_A, np.bincount(arm_B, minlength=arms)]))
        self._losses.append(loss)
        self.examples += len(arm_B)
        self.tokens += tokens

    def add_validation(self, step: int, accuracy: float) -> None:
        """Notes a point of the learning curve; its loss is the mean since the point before."""
        loss = float(np.mean(self._losses)) if self._losses else None
        self._curve.append(CurvePoint(step, self.examples, self.tokens, accuracy, loss))
        self._losses.clear()

    def has_validation(self, step: int) -> bool:
        """Whether the learning curve has its point at `step`; a run may be stopped just before."""
        return bool(self._curve) and self._curve[-1].step == step

    def write(self, folder: Path) -> None:
        """Writes both logs as CSV."""
        write_csv(folder / LEARNING_CURVE, CurvePoint, self._curve)
        write_csv(folder / ARM_LOG, ArmStep, self._arm_steps())

    def _arm_steps(self) -> Iterator[ArmStep]:
        for step, values_4A in enumerate(self._arms):
            for name, (probability, q_value, reward, count) in zip(self._arm_names, values_4A.T.tolist(), strict=True):
                yield ArmStep(step, name, probability, _or_none(q_value), _or_none(reward), int(count))

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """The log as a tensor and a JSON value."""
        arms = torch.from_numpy(np.array(self._arms).reshape(len(self._arms), 4, len(self._arm_names)))
        return {"log.arms": arms}, {
            "curve": list(map(asdict, self._curve)),
            "losses": self._losses,
            "examples": self.examples,
            "tokens": self.tokens,
        }

    def load_state(self, tensors: dict[str, Tensor], state: dict[str, Any]) -> None:
        self._arms = list(tensors["log.arms"].numpy())
        self._curve, self._losses = [CurvePoint(**point) for point in state["curve"]], state["losses"]
        self.examples, self.tokens = state["examples"], state["tokens"]


def _or_none(value: float) -> float | None:
    return None if np.isnan(value) else value
