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

    `examples` and `tokens` count what the student was trained on so far, prompts included and padding not;
    `forward_tokens` what was computed forward alone besides, see CurvePoint's `compute`.
    """

    def __init__(self, arm_names: tuple[str, ...]) -> None:
        """`arm_names` are those of the A arms, in order."""
        self._arm_names = arm_names
        self._curve: list[CurvePoint] = []
        self._arms: list[np.ndarray] = []  # per step [5, A]: an ArmStep's numbers; NaN for None
        self._losses: list[float] = []  # since the last point of the learning curve
        self.examples = 0
        self.tokens = 0
        self.forward_tokens = 0

    def add_step(
        self,
        probabilities_A: np.ndarray,
        values_2A: np.ndarray | None,
        rewards: dict[int, float],
        arm_B: np.ndarray,
        tokens: int,
        loss: float,
    ) -> None:
        """Notes one step. `values_2A` are Q-values after the update and their errors, None without a learner."""
        arms = len(self._arm_names)
        reward_A = np.full(arms, np.nan)
        reward_A[list(rewards)] = list(rewards.values())
        values_2A = np.full((2, arms), np.nan) if values_2A is None else values_2A
        self._arms.append(np.stack([probabilities_A, *values_2A, reward_A, np.bincount(arm_B, minlength=arms)]))
        self._losses.append(loss)
        self.examples += len(arm_B)
        self.tokens += tokens

    def last_step(self) -> Iterator[ArmStep]:
        """The arms of the last step."""
        return self._arms_of(len(self._arms) - 1)

    def add_validation(self, step: int, accuracy: float, kl_per_token: float) -> None:
        """Notes a point of the learning curve; its loss is the mean since the point before."""
        loss = float(np.mean(self._losses)) if self._losses else None
        self._curve.append(CurvePoint(step, self.examples, self.tokens, self.compute, accuracy, kl_per_token, loss))
        self._losses.clear()

    @property
    def compute(self) -> float:
        """Training compute so far, in tokens forward and backward."""
        return self.tokens + self.forward_tokens / 3

    def has_validation(self, step: int) -> bool:
        """Whether the learning curve has its point at `step`; a run may be stopped just before."""
        return bool(self._curve) and self._curve[-1].step == step

    def write(self, folder: Path) -> None:
        """Writes both logs as CSV."""
        write_csv(folder / LEARNING_CURVE, CurvePoint, self._curve)
        write_csv(folder / ARM_LOG, ArmStep, self._arm_steps())

    def _arm_steps(self) -> Iterator[ArmStep]:
        for step in range(len(self._arms)):
            yield from self._arms_of(step)

    def _arms_of(self, step: int) -> Iterator[ArmStep]:
        for name, values in zip(self._arm_names, self._arms[step].T.tolist(), strict=True):
            probability, q_value, error, reward, count = map(_or_none, values)
            yield ArmStep(step, name, probability or 0.0, q_value, error, reward, int(count or 0))

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """The log as a tensor and a JSON value."""
        arms = torch.from_numpy(np.array(self._arms).reshape(len(self._arms), 5, len(self._arm_names)))
        return {"log.arms": arms}, {
            "curve": list(map(asdict, self._curve)),
            "losses": self._losses,
            "examples": self.examples,
            "tokens": self.tokens,
            "forward_tokens": self.forward_tokens,
        }

    def load_state(self, tensors: dict[str, Tensor], state: dict[str, Any]) -> None:
        self._arms = list(tensors["log.arms"].numpy())
        self._curve, self._losses = [CurvePoint(**point) for point in state["curve"]], state["losses"]
        self.examples, self.tokens = state["examples"], state["tokens"]
        self.forward_tokens = state["forward_tokens"]


def _or_none(value: float) -> float | None:
    return None if np.isnan(value) else value
