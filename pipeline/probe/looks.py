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

    All are seen once before any is seen again. Neighbours in a split are of the same subject and level, so a look that
    is spread evenly over positions has each one's share of it: a systematic sample. Positions whose product with the
    golden ratio has its fractional part in an interval are evenly spread, wherever it lies (the three-distance theorem,
    Sós 1958).
    """
    wanted = min(wanted, size)
    numbers = range(looks * wanted, (looks + 1) * wanted)
    orders = {r: _spread(size, numpy_rng(*coordinates, r).random()) for r in {number // size for number in numbers}}
    return [int(orders[number // size][number % size]) for number in numbers]


def of_each_arm(size_A: Sequence[int], wanted: int, *coordinates: Any) -> list[list[int]]:
    """Positions in each arm of a sample of `wanted` problems in all, or of all problems where there are fewer.

    Every arm gives the same number, to the next whole one, in a systematic sample; one that has fewer gives all, and
    the others more.
    """
    sizes_A, rng = np.array(size_A), numpy_rng(*coordinates)
    end_A = np.cumsum(np.minimum(sizes_A, most_of_an_arm(size_A, wanted)))
    number_A = np.diff(np.floor(end_A.round(6) + rng.random()), prepend=0).astype(int)  # rounded: the last end is whole
    return [sorted(_spread(n, rng.random())[:k].tolist()) for n, k in zip(sizes_A, number_A, strict=True)]


def most_of_an_arm(size_A: Sequence[int], wanted: int) -> float:
    """How many problems an arm gives that has enough, so that all together give `wanted`, or all that they have."""
    ascending_A = np.sort(size_A)
    given_A = np.cumsum(ascending_A) - ascending_A  # by the arms that are smaller
    others_A = len(ascending_A) - np.arange(len(ascending_A))
    enough = np.flatnonzero(given_A + others_A * ascending_A >= wanted)
    return float((wanted - given_A[enough[0]]) / others_A[enough[0]]) if len(enough) else float(ascending_A[-1])


def in_parts(number: int, parts: int, *coordinates: Any) -> list[int]:
    """The part of each of so many problems: of each `parts` neighbours one in every part, in random order."""
    rng = numpy_rng(*coordinates)
    return [int(part) for _ in range(0, number, parts) for part in rng.permutation(parts)][:number]


def _spread(size: int, start: float) -> np.ndarray:
    """All positions in an order of which any part is spread evenly."""
    return np.argsort((np.arange(size) * GOLDEN_RATIO + start) % 1.0)
