"""What is kept of the teacher's distribution over the vocabulary: one row per completion token.

`top_k` keeps the k most likely tokens and the exact mass of the rest, `random_draws` draws from the whole distribution,
`top_k_tail_draws` the k most likely tokens and draws from the rest. Each has a module of its own that says what a row
holds.

Draws are learnt by forward KL, whose gradient is linear in the teacher's probabilities, so that draws give the dense
one on average. Those of reverse KL and JSD are not linear: with draws they would be biased.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from torch import Tensor

from pipeline.logit_store.fields import StoredRows
from pipeline.logit_store.names import SchemeName
from pipeline.logit_store.random_draws import RandomDraws
from pipeline.logit_store.targets import TeacherTargets
from pipeline.logit_store.top_k import TopK
from pipeline.logit_store.top_k_tail_draws import TopKTailDraws


class Scheme(Protocol):
    """Makes rows from the teacher's logits, and targets from rows."""

    def identity(self) -> dict[str, Any]:
        """What the rows depend on besides teacher and tokens; `scheme` is the name."""
        ...

    def uniforms(self, problem_id: str, tokens: int, temperatures: int) -> Tensor:
        """The random numbers, float64 on the CPU with one row per token, that `compress` will need for a problem."""
        ...

    def compress(
        self,
        logits_NV: Tensor,
        labels_N: Tensor,
        uniforms_NTD: Tensor,
        temperatures: Sequence[float],
        spare_NV: Tensor | None = None,
    ) -> np.ndarray:
        """The rows for N tokens, from the teacher's logits in float32, which are overwritten, as is `spare_NV`.

        All tensors are on the teacher's device. Temperature 1 is among the temperatures.
        """
        ...

    @staticmethod
    def restore(rows: StoredRows, column: int, temperature: float) -> TeacherTargets:
        """The targets at one temperature, which is at position `column` of the grid, on the device of the rows.

        The host does not wait for it.
        """
        ...

    @staticmethod
    def tail_masses(rows_N: np.ndarray, column: int) -> np.ndarray:
        """The teacher's mass [N] on tokens that are not told apart, at the temperature at position `column`."""
        ...


SCHEMES: dict[SchemeName, type[Scheme]] = {
    "top_k": TopK,
    "random_draws": RandomDraws,
    "top_k_tail_draws": TopKTailDraws,
}
