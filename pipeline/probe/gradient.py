"""The gradient of the target: in which direction the student must move to get better at what it is for.

It is measured on problems of the probe and holds the part of lm_head alone, which needs no pass back through the
student. A step on an example changes the target's loss by minus the inner product of both gradients, times the
learning rate, as far as a first-order expansion holds; preconditioned as AdamW does, that is

    gain = <g_example, G_target / (sqrt(v) + eps)>,    v the second moment of lm_head's gradients

(for plain gradients see R&B, Ge et al. 2025, arXiv 2505.00358; with Adam's preconditioner LESS, Xia et al. 2024,
arXiv 2402.04333, section 3.1). Gains are given in units of what an example of the target itself gains: 1 is as good.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedModel

from pipeline.arms.protocols import ProbeUse
from pipeline.distillation.gradients import ExampleSignals
from pipeline.distillation.loss import LossSettings, lm_head_gradient
from pipeline.distillation.watch import Watch
from pipeline.language_models.batches import micro_batches, pad_examples, predicting_states
from pipeline.language_models.devices import to_device
from pipeline.language_models.processes import Processes
from pipeline.probe.looks import Look, ProbeSet, Promise, turn


class GradientProbe:
    """The target's gradient, averaged over looks.

    mean_VH: per example, recent looks weighing more. unit: what an example of the target gained when it was held
    against the mean of the looks before; 0 until there were two looks.
    """

    def __init__(
        self, problems: ProbeSet, use: ProbeUse, settings: LossSettings, seed: int, student: PreTrainedModel
    ) -> None:
        """Nothing is known yet; the order in which problems are looked at follows from `seed`."""
        self._problems, self._use, self._settings, self._seed = problems, use, settings, seed
        self.mean_VH = torch.zeros_like(student.get_output_embeddings().weight, dtype=torch.float32).detach()
        self.unit, self._looks = 0.0, 0

    def watch(self, precondition: Callable[[Tensor], Tensor]) -> Watch:
        return Watch(lm_head_VH=precondition(self.mean_VH))

    def look(
        self, student: PreTrainedModel, watch: Watch, micro_batch_tokens: int | None, processes: Processes
    ) -> Look:
        """Sums over the problems whose turn it is: their gradient, and their gain along what was known before."""
        places = turn(len(self._problems.encoded), self._use.problems, self._looks, self._seed, "probe")
        examples = [self._problems.encoded[i] for i in places]
        share = processes.share(examples)
        lm_head_VH = student.get_output_embeddings().weight
        total_VH = torch.zeros_like(lm_head_VH, dtype=torch.float32)
        gain = torch.zeros((), dtype=torch.float64, device=student.device)
        assert watch.lm_head_VH is not None  # it came from here
        with torch.no_grad():
            for group in micro_batches(share, micro_batch_tokens, student.device):
                chosen = [share[i] for i in group]
                batch = pad_examples(chosen)
                gradient_VH, gain_N = lm_head_gradient(
                    predicting_states(student, batch),
                    lm_head_VH,
                    to_device(batch.labels_N, student.device),
                    self._problems.store.targets(chosen, self._settings.temperature, student.device),
                    self._settings,
                    watch.lm_head_VH,
                )
                total_VH += gradient_VH
                gain += gain_N.sum(dtype=torch.float64)
        return Look({"gradient": total_VH, "gain": gain}, sum(e.length for e in examples))

    def commit(self, look: Look) -> None:
        """Averages over looks: the n-th weighs 1 / n at first, and `1 - memory` once that is more."""
        keep = min(self._use.memory, self._looks / (self._looks + 1))
        problems = min(self._use.problems, len(self._problems.encoded))
        self.mean_VH = torch.lerp(look.sums["gradient"] / problems, self.mean_VH, keep)
        if self._looks:
            keep = min(self._use.memory, (self._looks - 1) / self._looks)
            self.unit = keep * self.unit + (1 - keep) * look.sums["gain"].item() / problems
        self._looks += 1

    def promise(self, seen: ExampleSignals) -> Promise:
        """Gains as multiples of what an example of the target gains; NaN while the probe shows no direction."""
        assert seen.gain_B is not None  # it was watched
        return Promise(gain_B=seen.gain_B / self.unit if self.unit > 0 else np.full_like(seen.gain_B, np.nan))

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        return {"probe.mean": self.mean_VH}, {"unit": self.unit, "looks": self._looks}

    def load_state(self, tensors: dict[str, Tensor], state: dict[str, Any]) -> None:
        self.mean_VH = tensors["probe.mean"].to(self.mean_VH.device)
        self.unit, self._looks = state["unit"], state["looks"]
