"""What a run leaves behind to look at: the learning curve and the arm log."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pipeline.common.files import write_text
from pipeline.common.paths import ARM_LOG, LEARNING_CURVE

CURVE_COLUMNS = ("step", "examples", "tokens", "validation_accuracy", "loss")
ARM_COLUMNS = ("step", "arm", "probability", "q_value", "reward", "count")


class RunLog:
    """Grows with the steps of a run; part of its checkpoint.

    `examples` and `tokens` count what the student was trained on so far, prompts included and padding not.
    """

    def __init__(self, arm_names: tuple[str, ...]) -> None:
        """Starts empty."""
        self._arm_names = arm_names
        self._curve: list[list[float | None]] = []
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
        self._curve.append([step, self.examples, self.tokens, accuracy, loss])
        self._losses.clear()

    def has_validation(self, step: int) -> bool:
        """Whether the learning curve has its point at `step`; a run may be stopped just before."""
        return bool(self._curve) and self._curve[-1][0] == step

    def write(self, folder: Path) -> None:
        """Writes both logs as CSV."""
        write_text(folder / LEARNING_CURVE, _csv(CURVE_COLUMNS, self._curve))
        rows = (
            [step, name, *values]
            for step, values_4A in enumerate(self._arms)
            for name, values in zip(self._arm_names, values_4A.T.tolist(), strict=True)
        )
        write_text(folder / ARM_LOG, _csv(ARM_COLUMNS, rows))

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """The log as a tensor and a JSON value."""
        arms = torch.from_numpy(np.array(self._arms).reshape(len(self._arms), 4, len(self._arm_names)))
        return {"log.arms": arms}, {
            "curve": self._curve,
            "losses": self._losses,
            "examples": self.examples,
            "tokens": self.tokens,
        }

    def load_state(self, tensors: dict[str, Tensor], state: dict[str, Any]) -> None:
        """Puts back what `state` returned."""
        self._arms = list(tensors["log.arms"].numpy())
        self._curve, self._losses = state["curve"], state["losses"]
        self.examples, self.tokens = state["examples"], state["tokens"]


def _csv(columns: tuple[str, ...], rows: Any) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows([_cell(value) for value in row] for row in rows)
    return text.getvalue()


def _cell(value: float | str | None) -> str:
    """Six significant digits, empty for none."""
    if isinstance(value, str):
        return value
    return "" if value is None or np.isnan(value) else f"{value:.6g}" if isinstance(value, float) else str(value)
