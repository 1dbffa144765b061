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
from pipeline.language_models.processes import Processes
from pipeline.language_models.prompts import EncodedProblem
from pipeline.logit_store.store import LogitStore
from pipeline.logit_store.targets import TeacherTargets


@dataclass(frozen=True)
class ExampleSignals:
    """Per-token signals gathered per example, in the order of the examples given.

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


def accumulate_gradients(
    student: PreTrainedModel,
    examples: Sequence[EncodedProblem],
    store: LogitStore,
    settings: LossSettings,
    micro_batch_tokens: int | None,
    processes: Processes = Processes(),  # noqa: B008 - frozen
    watch: Watch = Watch(),  # noqa: B008 - frozen
) -> ExampleSignals:
    """Adds the gradient of this process's share of the batch to the student's parameters.

    The loss is divided by the completion tokens of the whole batch, so neither the cut into micro-batches nor the
    number of processes changes the sum beyond rounding. Returned are the share's signals, zero for other examples:
    they too are to be summed over processes.
    """
    total_tokens = sum(len(e.completion_ids) for e in examples)
    share = processes.share(by_length(examples))  # neighbours in length, so that all have as much to do
    losses: list[Tensor] = []
    seen: list[Tensor] = []  # read at the end, all at once: reading makes the host wait for the device
    order: list[int] = []
    for group in micro_batches([examples[i] for i in share], micro_batch_tokens, student.device.type):
        positions = [share[i] for i in group]
        group_examples = [examples[i] for i in positions]
        loss, signals, targets = forward_loss(student, group_examples, store, settings, total_tokens, watch)
        loss.backward()
        losses.append(loss.detach())
        gain = [] if signals.gain_N is None else [signals.gain_N]
        features = () if signals.features_KN is None else signals.features_KN
        seen.append(torch.stack([targets.log_prob_N, signals.log_prob_N, signals.divergence_N, *gain, *features]))
        order += positions
    tokens_B = np.array([len(e.completion_ids) for e in examples])
    gains = 0 if watch.lm_head_VH is None else 1
    signals_per_token = 3 + gains + (0 if watch.hidden_KH is None else len(watch.hidden_KH))
    sums_SB, summed_loss = np.zeros((signals_per_token, len(examples))), 0.0
    if order:
        values_SN = torch.cat(seen, dim=1).double().cpu().numpy()
        starts = np.concatenate([[0], np.cumsum(tokens_B[order])[:-1]])
        sums_SB[:, order] = np.add.reduceat(values_SN, starts, axis=1)
        summed_loss = torch.stack(losses).double().sum().item()
    return ExampleSignals(
        summed_loss,
        tokens_B,
        sums_SB[0],
        sums_SB[1],
        sums_SB[2] / tokens_B,
        sums_SB[3] if gains else None,
        None if watch.hidden_KH is None else sums_SB[3 + gains :] / tokens_B,
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
    targets = store.targets(examples, settings.temperature).to(device)
    loss, signals = distillation_loss(
        hidden_NH,
        student.get_output_embeddings().weight,
        batch.labels_N.to(device),
        targets,
        settings,
        total_tokens,
        watch.lm_head_VH,
    )
    if watch.hidden_KH is not None:
        features_KN = watch.hidden_KH @ hidden_NH.detach().float().T
        signals = replace(signals, features_KN=features_KN)
    return loss, signals, targets
