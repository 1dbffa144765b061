"""What is told of a run while it trains, to its live log and to trackers. No result depends on it.

Steps are counted as done: the values of the first step stand at 1.
"""

from __future__ import annotations

import math
import os
import socket
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pipeline.common.paths import LIVE_LOG
from pipeline.language_models.processes import peak_memory
from pipeline.live_log.events import Failed, Started, Stepped, Validated
from pipeline.live_log.log import LiveLog
from pipeline.training.run import Run, Step
from pipeline.training.trackers import Trackers, tag
from pipeline.training.validation import ValidationResult

DIGITS = 8  # hexadecimal digits of a run's identity in its name at trackers
ARM_POINTS = 200  # about how often arms are logged: there are many of them, and a line needs no more points


class Tracking:
    """Tells of one run, from `start` to `close`."""

    def __init__(self, live_log: LiveLog, trackers: Trackers) -> None:
        """Both may be such that nobody looks on."""
        self._live, self._trackers = live_log, trackers

    def start(self, run: Run) -> None:
        """The run begins, or goes on."""
        self._live.add(Started(time.time(), socket.gethostname(), os.getpid(), run.steps_done, run.steps))
        self._trackers.start(run.steps_done)

    def step(self, run: Run, step: Step, seconds: float, favourite: str | None) -> None:
        """The run has done a step; `favourite` is the arm that is likeliest next, if that is learnt."""
        self._live.add(Stepped(time.time(), run.steps_done, step.loss, step.tokens, seconds, favourite))
        if self._trackers:
            self._trackers.log(dict(_values(run, step, seconds)), run.steps_done)

    def validation(self, run: Run, result: ValidationResult) -> None:
        """The run was validated."""
        self._live.add(Validated(time.time(), run.steps_done, result.accuracy, result.kl_per_token))
        values = {"validation/accuracy": result.accuracy, "validation/kl_per_token": result.kl_per_token}
        self._trackers.log(values, run.steps_done)

    def failed(self, reason: str) -> None:
        """The run cannot go on."""
        self._live.add(Failed(time.time(), reason))

    def close(self) -> None:
        """The run is done, or stops."""
        self._live.close()
        self._trackers.finish()


def tracking_of(run: str, checkpoint: Path, trackers: list[str], settings: Mapping[str, Any]) -> Tracking:
    """For the main process of a run with these settings, whose checkpoint lies in the folder `checkpoint`."""
    digest = checkpoint.name.rpartition("-")[2][:DIGITS]
    return Tracking(LiveLog(checkpoint / LIVE_LOG), Trackers(trackers, f"{run}-{digest}", dict(_dotted(settings))))


def _dotted(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from _dotted(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value if isinstance(value, bool | int | float | str | None) else str(value)


def untracked() -> Tracking:
    """For the other processes: what they would tell, the main process does."""
    return Tracking(LiveLog(None), Trackers([], "", {}))


def _values(run: Run, step: Step, seconds: float) -> Iterator[tuple[str, float]]:
    yield "train/loss", step.loss
    yield "train/learning_rate", step.learning_rate
    yield "train/tokens_per_second", step.tokens / seconds
    yield "train/peak_memory_gib", peak_memory(run.student.device.type) / 2**30
    if run.steps_done % math.ceil(run.steps / ARM_POINTS) == 0:
        for arm in run.log.last_step():
            yield tag("arm_probability", arm.arm), arm.probability
            if arm.q_value is not None:
                yield tag("q_value", arm.arm), arm.q_value
