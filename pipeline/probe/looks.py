"""Looking at problems of the probe: who looks, in which order, and what a look returns."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedModel

from pipeline.common.seeding import numpy_rng
from pipeline.distillation.gradients import ExampleSignals
from pipeline.distillation.watch import Watch
from pipeline.language_models.processes import Processes
from pipeline.language_models.prompts import EncodedProblem
from pipeline.logit_store.store import LogitStore

GOLDEN_RATIO = (1 + np.sqrt(5)) / 2


@dataclass(frozen=True)
class ProbeSet:
    """The probe's problems, the teacher's logits of them, and the pool's problems of each arm to hold them against."""

    encoded: Sequence[EncodedProblem]
    store: LogitStore
    pool_A: Sequence[Sequence[EncodedProblem]]


@dataclass(frozen=True)
class Look:
    """Sums over the problems that were looked at, and the tokens that it took.

    Where several processes look together, each has the sums over its share until `summed` adds them up.
    """

    sums: dict[str, Tensor]
    tokens: int

    def summed(self, processes: Processes) -> Look:
        """The sums over all processes."""
        processes.sum_(self.sums.values())
        return self

    def is_finite(self) -> bool:
        """Whether all sums are numbers."""
        return all(bool(torch.isfinite(value).all()) for value in self.sums.values())


@dataclass(frozen=True)
class Promise:
    """What each of B examples promises on the target, see StepSignals; None for what is not watched."""

    gain_B: np.ndarray | None = None
    similarity_KB: np.ndarray | None = None


class Probe(Protocol):
    """What a run knows of its target. Looking changes nothing; `commit` does."""

    def due(self, step: int) -> bool:
        """Whether this step begins with a look."""
        ...

    def watch(self, precondition: Callable[[Tensor], Tensor]) -> Watch:
        """What examples are held against; `precondition` scales a gradient of lm_head as the optimiser does."""
        ...

    def look(
        self, student: PreTrainedModel, watch: Watch, micro_batch_tokens: int | None, processes: Processes
    ) -> Look:
        """This process's share of a look."""
        ...

    def commit(self, look: Look) -> None:
        """Keeps what a look, summed over processes, showed."""
        ...

    def promise(self, seen: ExampleSignals) -> Promise:
        """What examples that were held against `watch` promise."""
        ...

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """What is known, as tensors and a JSON value."""
        ...

    def load_state(self, tensors: dict[str, Tensor], state: dict[str, Any]) -> None:
        """Puts back what `state` returned."""
        ...


def turn(size: int, wanted: int, looks: int, *coordinates: Any) -> list[int]:
    """Positions of the problems of a look after `looks` others: `wanted` of them, or all `size` if that is fewer.

    All are seen once before any is seen again. Neighbours in a split are of the same arm, so a look that is spread
    evenly over positions has each arm's share of it: a systematic sample. Positions whose product with the golden ratio
    has its fractional part in an interval are evenly spread, wherever it lies (the three-distance theorem, Sós 1958).
    """
    wanted = min(wanted, size)
    numbers = range(looks * wanted, (looks + 1) * wanted)
    orders = {r: _spread(size, numpy_rng(*coordinates, r).random()) for r in {number // size for number in numbers}}
    return [int(orders[number // size][number % size]) for number in numbers]


def of_each_arm(size_A: Sequence[int], wanted: int, *coordinates: Any) -> list[list[int]]:
    """Positions in each arm of a sample of `wanted` problems in all, or of all where there are fewer.

    Each arm gives as many, to the next whole one, or all that it has where others have more to give.
    """
    sizes_A, rng = np.array(size_A), numpy_rng(*coordinates)
    ends_A = np.cumsum(np.minimum(sizes_A, _level(sizes_A, wanted)))
    number_A = np.diff(np.floor(ends_A.round(6) + rng.random()), prepend=0).astype(int)
    return [sorted(rng.permutation(size)[:number].tolist()) for size, number in zip(sizes_A, number_A, strict=True)]


def _level(size_A: np.ndarray, wanted: int) -> float:
    """The most that an arm gives so that all together, of which none gives more than it has, give `wanted`."""
    ascending = np.sort(size_A)
    before = np.cumsum(ascending) - ascending
    left = len(ascending) - np.arange(len(ascending))
    full = np.flatnonzero(before + left * ascending >= wanted)
    return float((wanted - before[full[0]]) / left[full[0]]) if len(full) else float(ascending[-1])


def _spread(size: int, start: float) -> np.ndarray:
    """All positions in an order of which any part is spread evenly."""
    return np.argsort((np.arange(size) * GOLDEN_RATIO + start) % 1.0)
