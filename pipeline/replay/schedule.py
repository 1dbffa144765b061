"""The schedule of rl's finished run: how likely each arm was drawn at each step."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from pipeline.arms.grouping import ArmSet
from pipeline.arms.protocols import Draws
from pipeline.common.errors import ResultsError
from pipeline.common.paths import ARM_LOG, RUNS
from pipeline.results.files import read_csv
from pipeline.results.rows import ArmStep

REPLAYED = "rl"


def log_of(method: str, seed: int) -> Path:
    """The arm log of a finished run."""
    return RUNS / f"{method}-{seed}" / ARM_LOG


def inputs(seed: int) -> list[Path]:
    """What a replay reads besides what every run does."""
    return [log_of(REPLAYED, seed)]


def read_schedule(seed: int, arms: ArmSet) -> np.ndarray:
    """The probabilities [step, A] of rl's run of the same seed, by the arms of this one.

    Raises:
        ResultsError: the run is not there, or had other arms.
    """
    [path] = inputs(seed)
    table = read_csv(path, ArmStep).pivot(index="step", columns="arm", values="probability")
    if set(table.columns) != set(arms.names):
        raise ResultsError(
            f"{path} is of other arms than the run that replays it; give both methods the same arms in params.yaml"
        )
    logged_SA = table[list(arms.names)].to_numpy(dtype=np.float64)
    schedule_SA: np.ndarray = logged_SA / logged_SA.sum(axis=1, keepdims=True)  # the log has six digits
    return schedule_SA


class Replay:
    """Draws as a schedule [step, A] says, at the same share of the run."""

    def __init__(self, schedule_SA: np.ndarray, draws: Draws) -> None:
        self._schedule_SA, self.draws = schedule_SA, draws

    def probabilities(self, progress: float) -> np.ndarray:
        """The schedule's row for this share of the steps."""
        step = int(progress * len(self._schedule_SA) + 1e-9)  # step / steps * steps may fall just short of step
        row_A: np.ndarray = self._schedule_SA[step]
        return row_A
