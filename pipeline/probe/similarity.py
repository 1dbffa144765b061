"""How much a problem resembles the target, in the student's own hidden states.

A look takes problems of the probe and as many of the pool. Each problem is the mean of the hidden states that predict
its completion; a discriminant between both groups gives every example a score, the log of how much likelier it is under
the target than under the pool (discriminant.py).

Representations of the model itself, averaged over positions, were the most reliable way to choose data for a target in
Ivison et al. 2025 (arXiv 2503.01807), ahead of gradients; a log-ratio of target to pool is what DSIR (Xie et al. 2023,
arXiv 2302.03169) draws by. Scores are made twice, from two halves of the look: where they part is noise of the look.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedModel

from pipeline.arms.protocols import ProbeUse
from pipeline.distillation.gradients import ExampleSignals
from pipeline.distillation.watch import Watch
from pipeline.language_models.batches import micro_batches, pad_examples, predicting_states
from pipeline.language_models.processes import Processes
from pipeline.language_models.prompts import EncodedProblem
from pipeline.probe.discriminant import fit
from pipeline.probe.looks import Look, ProbeSet, Promise, turn


class SimilarityProbe:
    """The direction from the pool to the target in the student's hidden states, from each half of the last look.

    directions_2H: zero until there was a look. middles_2: the score of the point between target and pool.
    """

    def __init__(self, problems: ProbeSet, use: ProbeUse, seed: int, student: PreTrainedModel) -> None:
        """Nothing is known yet; the order in which problems are looked at follows from `seed`."""
        self._problems, self._use, self._seed = problems, use, seed
        hidden = student.get_output_embeddings().weight.shape[1]
        self.directions_2H = torch.zeros(2, hidden, device=student.device)
        self.middles_2 = [0.0, 0.0]
        self._looks = 0

    def due(self, step: int) -> bool:
        return step % self._use.every == 0

    def watch(self, precondition: Callable[[Tensor], Tensor]) -> Watch:
        return Watch(hidden_KH=self.directions_2H)

    def look(
        self, student: PreTrainedModel, watch: Watch, micro_batch_tokens: int | None, processes: Processes
    ) -> Look:
        """The features of each problem; those that other processes look at are zero."""
        chosen, _ = self._turn()
        features_NH = torch.zeros(len(chosen), self.directions_2H.shape[1], dtype=torch.float64, device=student.device)
        share = processes.share(list(range(len(chosen))))
        with torch.no_grad():
            for part in micro_batches([chosen[i] for i in share], micro_batch_tokens, student.device):
                places = [share[i] for i in part]
                features_NH[places] = mean_states(student, [chosen[i] for i in places])
        return Look({"features": features_NH}, sum(e.length for e in chosen))

    def _turn(self) -> tuple[list[EncodedProblem], list[tuple[int, int]]]:
        """The problems of the next look, and of each its side, 0 for the target and 1 for the pool, and its half.

        Where a look takes the whole probe, each of its problems is in the same half at every look.
        """
        chosen: list[EncodedProblem] = []
        groups: list[tuple[int, int]] = []
        for side, encoded in enumerate((self._problems.encoded, self._problems.pool)):
            places = sorted(turn(len(encoded), self._use.problems, self._looks, self._seed, "probe", side))
            chosen += [encoded[i] for i in places]
            groups += [(side, n % 2) for n in range(len(places))]
        return chosen, groups

    def commit(self, look: Look) -> None:
        """A new look replaces the last one: the student's hidden states have moved on."""
        _, group_of = self._turn()
        side_N, half_N = torch.tensor(group_of).T
        found = fit(look.sums["features"].cpu(), side_N == 0, half_N == 1)
        # contiguous, as it comes back from a checkpoint: products of another layout round differently
        self.directions_2H = found.directions_2H.float().contiguous().to(self.directions_2H.device)
        self.middles_2 = found.middles_2.tolist()
        self._looks += 1

    def promise(self, seen: ExampleSignals) -> Promise:
        """Each example's log-ratio of target to pool, by either half; NaN before the first look."""
        assert seen.features_KB is not None  # it was watched
        if not self._looks:
            return Promise(similarity_2B=np.full_like(seen.features_KB, np.nan))
        return Promise(similarity_2B=seen.features_KB - np.array(self.middles_2)[:, None])

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        return {"probe.directions": self.directions_2H}, {"middles": self.middles_2, "looks": self._looks}

    def load_state(self, tensors: dict[str, Tensor], state: dict[str, Any]) -> None:
        self.directions_2H = tensors["probe.directions"].to(self.directions_2H.device)
        self.middles_2, self._looks = state["middles"], state["looks"]


def mean_states(student: PreTrainedModel, examples: Sequence[EncodedProblem]) -> Tensor:
    """Each example's mean [B, H], in float64, of the hidden states that predict its completion."""
    hidden_NH = predicting_states(student, pad_examples(examples)).double()
    return torch.stack([states.mean(dim=0) for states in hidden_NH.split([len(e.completion_ids) for e in examples])])
