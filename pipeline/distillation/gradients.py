"""The gradients of a batch, and what was seen of each example on the way."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedModel

from pipeline.distillation.loss import LossSettings, TokenSignals, distillation_loss
from pipeline.distillation.watch import Watch
from pipeline.language_models.batches import by_length, micro_batches, pad_examples, predicting_states
from pipeline.language_models.devices import to_device
from pipeline.language_models.processes import Processes, one_thread
from pipeline.language_models.prompts import EncodedProblem
from pipeline.logit_store.store import LogitStore
from pipeline.logit_store.targets import TeacherTargets


@dataclass(frozen=True)
class ExampleSignals:
    """Per-token signals gathered per example, in the order of the examples given; loss is that of the whole share.

    gain_B: the inner product of each example's gradient (its tokens' sum, of lm_head alone) with the direction that is
    watched; None where there is none. features_KB: the products of its hidden states with K directions, the mean over
    its tokens.
    """

    loss: float
    tokens_B: np.ndarray
    teacher_log_prob_B: np.ndarray
    student_log_prob_B: np.ndarray
    divergence_B: np.ndarray
    gain_B: np.ndarray | None = None
    features_KB: np.ndarray | None = None


@dataclass(frozen=True)
class UnreadSignals:
    """What a share of a batch showed, still on the device.

    seen_SN: S signals of N completion tokens: three, the gain if there is one, and a row for each feature. losses_M: of
    the micro-batches. order: the share's examples in the order of their tokens.
    """

    seen_SN: Tensor
    losses_M: Tensor
    order: list[int]
    tokens_B: np.ndarray
    has_gain: bool
    has_features: bool

    def read(self, *numbers: Tensor) -> tuple[ExampleSignals, list[float]]:
        """The signals, and some single numbers; the host waits for the device once, for all of them."""
        parts = [self.seen_SN.double().flatten(), self.losses_M.double(), *(n.double()[None] for n in numbers)]
        values = torch.cat(parts).cpu()
        seen, losses_M, others = values.split([self.seen_SN.numel(), len(self.losses_M), len(numbers)])
        return self._gathered(seen.view(self.seen_SN.shape).numpy(), losses_M.sum().item()), others.tolist()

    def _gathered(self, seen_SN: np.ndarray, loss: float) -> ExampleSignals:
        sums_SB = np.zeros((len(seen_SN), len(self.tokens_B)))
        if self.order:
            starts = np.concatenate([[0], np.cumsum(self.tokens_B[self.order])[:-1]])
            sums_SB[:, self.order] = np.add.reduceat(seen_SN, starts, axis=1)
        teacher_B, student_B, divergence_B, *others = sums_SB
        gain_B = others.pop(0) if self.has_gain else None
        return ExampleSignals(
            loss,
            self.tokens_B,
            teacher_B,
            student_B,
            divergence_B / self.tokens_B,
            gain_B,
            np.array(others) / self.tokens_B if self.has_features else None,
        )


def accumulate_gradients(
    student: PreTrainedModel,
    examples: Sequence[EncodedProblem],
    store: LogitStore,
    settings: LossSettings,
    micro_batch_tokens: int | None,
    processes: Processes = Processes(),  # noqa: B008 - frozen
    watch: Watch = Watch(),  # noqa: B008 - frozen
) -> UnreadSignals:
    """Adds the gradient of this process's share of the batch to the student's parameters.

    The loss is divided by the completion tokens of the whole batch, so neither the cut into micro-batches nor the
    number of processes changes the sum beyond rounding. Signals are zero for examples of other shares: once read, they
    too are to be summed over processes.
    """
    total_tokens = sum(len(e.completion_ids) for e in examples)
    share = processes.share(by_length(examples))  # neighbours in length, so that all have as much to do
    losses: list[Tensor] = []
    seen: list[Tensor] = []
    order: list[int] = []
    for group in micro_batches([examples[i] for i in share], micro_batch_tokens, student.device):
        positions = [share[i] for i in group]
        group_examples = [examples[i] for i in positions]
        loss, signals, targets = forward_loss(student, group_examples, store, settings, total_tokens, watch)
        loss.backward()
        losses.append(loss.detach())
        gain = [] if signals.gain_N is None else [signals.gain_N]
        features = () if signals.features_KN is None else signals.features_KN
        seen.append(torch.stack([targets.log_prob_N, signals.log_prob_N, signals.divergence_N, *gain, *features]))
        order += positions
    directions = 0 if watch.hidden_KH is None else len(watch.hidden_KH)
    nothing = torch.zeros(3 + (watch.lm_head_VH is not None) + directions, 0, device=student.device)
    return UnreadSignals(
        torch.cat([nothing, *seen], dim=1),
        torch.stack(losses) if losses else nothing[0],
        order,
        np.array([len(e.completion_ids) for e in examples]),
        watch.lm_head_VH is not None,
        watch.hidden_KH is not None,
    )


def forward_loss(
    student: PreTrainedModel,
    examples: Sequence[EncodedProblem],
    store: LogitStore,
    settings: LossSettings,
    total_tokens: int,
    watch: Watch = Watch(),  # noqa: B008 - frozen
) -> tuple[Tensor, TokenSignals, TeacherTargets]:
    """Loss of some examples, what the student made of each completion token, and the teacher's targets."""
    device = student.device
    batch = pad_examples(examples)
    hidden_NH = predicting_states(student, batch)
    targets = store.targets(examples, settings.temperature, device)
    loss, signals = distillation_loss(
        hidden_NH,
        student.get_output_embeddings().weight,
        to_device(batch.labels_N, device),
        targets,
        settings,
        total_tokens,
        watch.lm_head_VH,
    )
    if watch.hidden_KH is not None:
        signals = replace(signals, features_KN=held_against(watch.hidden_KH, hidden_NH.detach()))
    return loss, signals, targets


def held_against(directions_KH: Tensor, hidden_NH: Tensor) -> Tensor:
    """[K, N]: hidden states along some directions, in float32."""
    # autocast would round the directions, and a product of so few rows rounds otherwise with more threads
    with torch.autocast(hidden_NH.device.type, enabled=False), one_thread():
        return directions_KH @ hidden_NH.float().T
