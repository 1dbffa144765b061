"""What a curriculum is, one that learns, and a reward that it learns from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, Protocol, runtime_checkable

import numpy as np

from pipeline.arms.signals import StepSignals

Draws = Literal["systematic", "independent"]


@dataclass(frozen=True)
class ProbeUse:
    """How a curriculum looks at the probe: for what, and at how many `problems` every `every` steps.

    memory: how much of what earlier looks showed is kept at each look, from 0 (nothing) to below 1. first: looks before
    step `every` are at this step, twice it, four times it and so on; None: at step 0 alone.
    """

    sees: Literal["gradient", "similarity"]
    problems: int
    every: int
    memory: float = 0.0
    first: int | None = None

    def due(self, step: int) -> bool:
        """Whether a step begins with a look."""
        if step >= self.every or step == 0 or self.first is None:
            return step % self.every == 0
        times, rest = divmod(step, self.first)
        return rest == 0 and times.bit_count() == 1  # a power of two


class Curriculum(Protocol):
    """Says how likely each arm is to be drawn.

    Each arm gets its share of every batch to the next whole example, unless `draws` is "independent": then examples
    are drawn one by one.
    """

    def probabilities(self, progress: float) -> np.ndarray:
        """A distribution [A] over the arms; `progress` is the share of the steps already done, from 0 to below 1."""
        ...


@runtime_checkable
class Stateful(Protocol):
    """Something that changes over a run, so that a checkpoint must hold it."""

    def state(self) -> dict[str, Any]:
        """Everything that changes over a run, as a JSON value that `load_state` takes back exactly."""
        ...

    def load_state(self, state: dict[str, Any]) -> None:
        """Puts back what `state` returned."""
        ...


@runtime_checkable
class AdaptiveCurriculum(Curriculum, Stateful, Protocol):
    """A curriculum that learns from the steps it caused; what makes it one is that it has `update`.

    One that has a `probe`, a ProbeUse, is told what each example promises on the target.
    """

    q_values_A: np.ndarray  # what it holds of each arm, for the arm log
    standard_errors_A: np.ndarray  # of the Q-values; NaN where it does not know

    def update(self, signals: StepSignals) -> dict[int, float]:
        """Learns from one step; returns the reward of each arm that earned one."""
        ...


class Reward(Protocol):
    """Says what each arm of a step was worth. One that remembers earlier steps is `Stateful` as well.

    One that looks at the probe has a `probe`, a ProbeUse. One whose rewards share errors that more examples do not
    reduce, such as those of a look, has `part_deviations`, see MeasuredInParts. One that is never below zero says so
    with `nonnegative = True`: then zero does not part what is worth drawing from what is not.
    """

    def __call__(self, signals: StepSignals) -> dict[int, float]:
        """The reward of each arm that earned one in this step; an arm may earn none."""
        ...


@runtime_checkable
class MeasuredInParts(Protocol):
    """A reward made of several measurements, each with an error of its own that an arm's examples share."""

    def part_deviations(self, signals: StepSignals) -> list[dict[int, float]]:
        """What leaving out each of K measurements changes: all error, no signal; an empty list where nothing is known.

        For each measurement and rewarded arm, sqrt((K - 1) / K) times the reward without that measurement, less the
        mean of these K. The sum of their squares is the jackknife's estimate of the variance of the reward (Efron and
        Stein 1981, Annals of Statistics 9:586). Called after the reward itself, with the same signals.
        """
        ...


def adaptive(curriculum: Curriculum) -> AdaptiveCurriculum | None:
    """The curriculum as one that learns, None if it does not.

    Raises:
        TypeError: it has `update` but lacks something else that learning needs, so it would not learn or not resume.
    """
    if not hasattr(curriculum, "update"):
        return None
    if not isinstance(curriculum, AdaptiveCurriculum):
        needed = ("q_values_A", "standard_errors_A", "state", "load_state")
        missing = [name for name in needed if not hasattr(curriculum, name)]
        raise TypeError(
            f"{type(curriculum).__name__} has update but lacks {', '.join(missing)}; see AdaptiveCurriculum"
        )
    return curriculum


def is_systematic(curriculum: Curriculum) -> bool:
    """Whether a curriculum's draws are systematic, as they are unless it says "independent"."""
    return getattr(curriculum, "draws", "systematic") == "systematic"


def probe_use(part: object) -> ProbeUse | None:
    """How a curriculum, or a reward, looks at the probe: its `probe`; None if it does not."""
    use: ProbeUse | None = getattr(part, "probe", None)
    return use


def state_of(part: object) -> dict[str, Any] | None:
    """The state of a part that has one, else None.

    Raises:
        TypeError: it defines only one of state and load_state, so that a resumed run would lose what it remembers.
    """
    if isinstance(part, Stateful):
        return part.state()
    if hasattr(part, "state") or hasattr(part, "load_state"):
        raise TypeError(f"{type(part).__name__} defines only one of state and load_state; see Stateful")
    return None


def load_state_of(part: object, state: dict[str, Any] | None) -> None:
    """Puts back what `state_of` returned."""
    if state is not None and isinstance(part, Stateful):
        part.load_state(state)
