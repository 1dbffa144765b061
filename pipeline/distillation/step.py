"""One optimiser step of distillation, and the signals a curriculum may learn from."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedModel

from pipeline.distillation.logit_store import LogitStore
from pipeline.distillation.loss import LossSettings, TeacherTargets, TokenSignals, distillation_loss
from pipeline.errors import TrainingError
from pipeline.language_models.prompts import EncodedProblem


@dataclass(frozen=True)
class StepSignals:
    """What one step saw of each of its B examples.

    arm_B: the arm it was drawn from. tokens_B: completion tokens. teacher_log_prob_B, student_log_prob_B:
    log-probability of the whole completion at temperature 1 (nats, the student's before this step's update).
    divergence_B: divergence per completion token (nats).
    """

    step: int
    arm_B: np.ndarray
    tokens_B: np.ndarray
    teacher_log_prob_B: np.ndarray
    student_log_prob_B: np.ndarray
    divergence_B: np.ndarray


@dataclass(frozen=True)
class ExampleSignals:
    """Per-token signals gathered per example, in the order of the examples given."""

    loss: float
    tokens_B: np.ndarray
    teacher_log_prob_B: np.ndarray
    student_log_prob_B: np.ndarray
    divergence_B: np.ndarray


def micro_batches(examples: Sequence[EncodedProblem], max_tokens: int) -> Iterator[list[int]]:
    """Cuts a batch into groups of positions, longest examples first, each at most `max_tokens` with its padding."""
    order = sorted(range(len(examples)), key=lambda i: (-examples[i].length, i))
    group: list[int] = []
    for i in order:
        if group and (len(group) + 1) * examples[group[0]].length > max_tokens:
            yield group
            group = []
        group.append(i)
    if group:
        yield group


def accumulate_gradients(
    student: PreTrainedModel,
    examples: Sequence[EncodedProblem],
    store: LogitStore,
    settings: LossSettings,
    micro_batch_tokens: int,
) -> ExampleSignals:
    """Adds the gradient of the batch's loss to the student's parameters; the cut changes nothing beyond rounding.

    Raises:
        TrainingError: the loss is not a finite number.
    """
    total_tokens = sum(len(e.completion_ids) for e in examples)
    loss = 0.0
    sums = {name: np.zeros(len(examples)) for name in ("teacher", "student", "divergence")}
    for group in micro_batches(examples, micro_batch_tokens):
        part = [examples[i] for i in group]
        part_loss, signals, targets = forward_loss(student, part, store, settings, total_tokens)
        if not torch.isfinite(part_loss):
            raise TrainingError(
                f"the loss is {part_loss.item()} on problems {[e.id for e in part]}; lower "
                "training.learning_rate, or look at these problems' solutions"
            )
        part_loss.backward()
        loss += part_loss.item()
        lengths = [len(e.completion_ids) for e in part]
        for name, values_N in (
            ("teacher", targets.log_prob_N),
            ("student", signals.log_prob_N),
            ("divergence", signals.divergence_N),
        ):
            sums[name][group] = [chunk.sum(dtype=torch.float64).item() for chunk in values_N.cpu().split(lengths)]
    tokens_B = np.array([len(e.completion_ids) for e in examples])
    return ExampleSignals(loss, tokens_B, sums["teacher"], sums["student"], sums["divergence"] / tokens_B)


def forward_loss(
    student: PreTrainedModel,
    examples: Sequence[EncodedProblem],
    store: LogitStore,
    settings: LossSettings,
    total_tokens: int,
) -> tuple[Tensor, TokenSignals, TeacherTargets]:
    """Loss of some examples, what the student made of each completion token, and the teacher's targets (on the CPU)."""
    device = student.device
    input_ids_BT, target_mask_BT = pad_examples(examples)
    hidden_BTH = student.model(input_ids=input_ids_BT.to(device)).last_hidden_state
    predicting_BT = torch.roll(target_mask_BT, -1, dims=1)  # the position before a token predicts it
    targets = store.targets(examples, settings.temperature)
    loss, signals = distillation_loss(
        hidden_BTH[predicting_BT.to(device)],
        student.lm_head.weight,
        input_ids_BT[target_mask_BT].to(device),
        targets.to(device),
        settings,
        total_tokens,
    )
    return loss, signals, targets


def pad_examples(examples: Sequence[EncodedProblem]) -> tuple[Tensor, Tensor]:
    """Token ids [B, T], padded on the right with 0, and the mask of completion tokens.

    Causal attention never looks right, so no attention mask is needed and the padding's value does not matter.
    """
    longest = max(e.length for e in examples)
    input_ids_BT = torch.zeros(len(examples), longest, dtype=torch.long)
    target_mask_BT = torch.zeros(len(examples), longest, dtype=torch.bool)
    for row, e in enumerate(examples):
        input_ids_BT[row, : e.length] = torch.tensor(e.prompt_ids + e.completion_ids)
        target_mask_BT[row, len(e.prompt_ids) : e.length] = True
    return input_ids_BT, target_mask_BT
