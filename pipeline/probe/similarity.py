"""How much a problem resembles the target, in the student's own hidden states.

A look takes problems of the probe and as many of the pool, every arm counting the same: a curriculum that knows nothing
draws its arms evenly, and where that is the target's mixture already, nothing tells them apart. Each problem is the
mean of the hidden states that predict its completion; a discriminant between both groups gives every example a score,
the log of how much likelier it is under the target than under even draws of the arms (discriminant.py).

Representations of the model itself, averaged over positions, were the most reliable way to choose data for a target in
Ivison et al. 2025 (arXiv 2503.01807), ahead of gradients; a log-ratio of target to pool is what DSIR (Xie et al. 2023,
arXiv 2302.03169) draws by. Scores are made by parts of the look, which part by the noise of the look alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedModel

from pipeline.arms.protocols import ProbeUse
from pipeline.common.errors import TrainingError
from pipeline.distillation.gradients import ExampleSignals
from pipeline.distillation.watch import Watch
from pipeline.language_models.batches import micro_batches, pad_examples, predicting_states
from pipeline.language_models.processes import Processes
from pipeline.language_models.prompts import EncodedProblem
from pipeline.probe.discriminant import fit
from pipeline.probe.looks import Look, ProbeSet, Promise, in_parts, most_of_an_arm, of_each_arm, turn

PARTS = 6  # of two, the noise would be as uncertain as what it is to be told from


@dataclass(frozen=True)
class _Turn:
    """The N problems of a look: whether they are of the target or of the pool, in which part, and what they weigh."""

    encoded: list[EncodedProblem]
    of_target_N: Tensor
    part_N: Tensor
    weight_N: Tensor


class SimilarityProbe:
    """The direction from the pool to the target in the student's hidden states, from each of K parts of the last look.

    directions_KH: zero until there was a look. middles_K: the score of the point between target and pool.
    """

    def __init__(self, problems: ProbeSet, use: ProbeUse, seed: int, student: PreTrainedModel) -> None:
        """Nothing is known yet; the order in which problems are looked at follows from `seed`.

        Raises:
            TrainingError: the probe or the pool has one problem alone, of which no noise can be told.
        """
        self._problems, self._use, self._seed = problems, use, seed
        hidden = student.get_output_embeddings().weight.shape[1]
        most = min(len(problems.encoded), sum(map(len, problems.pool_A)))
        parts = min(PARTS, use.problems, most)  # each has problems of both
        if parts < 2:
            raise TrainingError(
                "target_similarity needs two problems of the target and two of the pool; raise data.probe_size, or "
                "choose another reward"
            )
        self.directions_KH = torch.zeros(parts, hidden, device=student.device)
        self.middles_K = [0.0] * parts
        self._looks = 0

    def watch(self, precondition: Callable[[Tensor], Tensor]) -> Watch:
        return Watch(hidden_KH=self.directions_KH)

    def look(
        self, student: PreTrainedModel, watch: Watch, micro_batch_tokens: int | None, processes: Processes
    ) -> Look:
        """The features of each problem; those that other processes look at are zero."""
        chosen = self._turn().encoded
        features_NH = torch.zeros(len(chosen), self.directions_KH.shape[1], dtype=torch.float64, device=student.device)
        share = processes.share(list(range(len(chosen))))
        with torch.no_grad():
            for part in micro_batches([chosen[i] for i in share], micro_batch_tokens, student.device):
                places = [share[i] for i in part]
                features_NH[places] = mean_states(student, [chosen[i] for i in places])
        return Look({"features": features_NH}, sum(e.length for e in chosen))

    def _turn(self) -> _Turn:
        """The problems of the next look. Where it takes the whole probe, its parts are those of every look."""
        probe, pool_A, parts = self._problems.encoded, self._problems.pool_A, len(self.middles_K)
        sizes_A, wanted = [len(arm) for arm in pool_A], self._use.problems
        of_probe = [probe[i] for i in sorted(turn(len(probe), wanted, self._looks, self._seed, "probe"))]
        of_pool_A = [
            [arm[i] for i in places]
            for arm, places in zip(pool_A, of_each_arm(sizes_A, wanted, self._seed, "pool", self._looks), strict=True)
        ]
        # an arm that has less to give than others counts as much as they do
        most = most_of_an_arm(sizes_A, wanted)
        weights = [most / min(most, size) for size, arm in zip(sizes_A, of_pool_A, strict=True) for _ in arm]
        encoded = [*of_probe, *(problem for arm in of_pool_A for problem in arm)]
        return _Turn(
            encoded,
            torch.arange(len(encoded)) < len(of_probe),
            torch.tensor(
                in_parts(len(of_probe), parts, self._seed, "parts of the probe")
                + in_parts(len(weights), parts, self._seed, "parts of the pool", self._looks)
            ),
            torch.tensor([1.0] * len(of_probe) + weights, dtype=torch.float64),
        )

    def commit(self, look: Look) -> None:
        """A new look replaces the last one: the student's hidden states have moved on."""
        seen = self._turn()
        found = fit(look.sums["features"].cpu(), seen.of_target_N, seen.part_N, seen.weight_N)
        # contiguous, as it comes back from a checkpoint: products of another layout round differently
        self.directions_KH = found.directions_KH.float().contiguous().to(self.directions_KH.device)
        self.middles_K = found.middles_K.tolist()
        self._looks += 1

    def promise(self, seen: ExampleSignals) -> Promise:
        """Each example's log-ratio of target to pool, by each part; NaN before the first look."""
        assert seen.features_KB is not None  # it was watched
        if not self._looks:
            return Promise(similarity_KB=np.full_like(seen.features_KB, np.nan))
        return Promise(similarity_KB=seen.features_KB - np.array(self.middles_K)[:, None])

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        return {"probe.directions": self.directions_KH}, {"middles": self.middles_K, "looks": self._looks}

    def load_state(self, tensors: dict[str, Tensor], state: dict[str, Any]) -> None:
        self.directions_KH = tensors["probe.directions"].to(self.directions_KH.device)
        self.middles_K, self._looks = state["middles"], state["looks"]


def mean_states(student: PreTrainedModel, examples: Sequence[EncodedProblem]) -> Tensor:
    """Each example's mean [B, H], in float64, of the hidden states that predict its completion."""
    hidden_NH = predicting_states(student, pad_examples(examples)).double()
    return torch.stack([states.mean(dim=0) for states in hidden_NH.split([len(e.completion_ids) for e in examples])])
