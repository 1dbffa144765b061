"""One optimiser step of distillation, and the signals a curriculum may learn from."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedModel

from pipeline.distillation.logit_store import LogitStore
from pipeline.distillation.loss import LossSettings, TeacherTargets, TokenSignals, distillation_loss
from pipeline.language_models.prompts import EncodedProblem
from pipeline.processes import Processes

# What starting a forward and backward pass costs, in tokens: measured on a CPU, an estimate for a GPU.
CALL_TOKENS = {"cpu": 64, "cuda": 1024}


@dataclass(frozen=True)
class StepSignals:
    """What one step saw of each of its B examples.

    arm_B: the arm it was drawn from. tokens_B: completion tokens. teacher_log_prob_B, student_log_prob_B:
    log-probability of the whole completion at temperature 1 (nats, the student's before this step's update).
    divergence_B: divergence per completion token (nats). On sampled teacher logits it is the KL of the draws' own
    shares from the student, which exceeds the teacher's on average by what the shares lack in entropy: an amount that
    no student changes, so differences between steps are not biased by it.
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


def micro_batches(
    examples: Sequence[EncodedProblem], max_tokens: int | None, device: str = "cpu"
) -> Iterator[list[int]]:
    """Cuts a batch into groups of positions, longest examples first, each at most `max_tokens` with its padding.

    Of all such cuts it is the one that computes the fewest tokens, padding included, when each group counts as
    `CALL_TOKENS` tokens more: what a further forward and backward pass costs by itself. None for `max_tokens` is no
    limit; a single example may be longer than `max_tokens`.
    """
    order = by_length(examples)
    lengths = [examples[i].length for i in order]
    limit = sys.maxsize if max_tokens is None else max_tokens
    best, starts = [0], [0]  # of the first n examples: the least that they cost, and where their last group starts
    for end in range(1, len(order) + 1):
        cost, start = min(
            (best[start] + (end - start) * lengths[start] + CALL_TOKENS[device], start)
            for start in range(end)
            if (end - start) * lengths[start] <= limit or start == end - 1
        )
        best.append(cost)
        starts.append(start)
    groups, end = [], len(order)
    while end:
        groups.append(order[starts[end] : end])
        end = starts[end]
    yield from reversed(groups)


def by_length(examples: Sequence[EncodedProblem]) -> list[int]:
    """Positions of the examples, the longest first."""
    return sorted(range(len(examples)), key=lambda i: (-examples[i].length, i))


def accumulate_gradients(
    student: PreTrainedModel,
    examples: Sequence[EncodedProblem],
    store: LogitStore,
    settings: LossSettings,
    micro_batch_tokens: int | None,
    processes: Processes = Processes(),  # noqa: B008 - frozen
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
        loss, signals, targets = forward_loss(student, [examples[i] for i in positions], store, settings, total_tokens)
        loss.backward()
        losses.append(loss.detach())
        seen.append(torch.stack([targets.log_prob_N, signals.log_prob_N, signals.divergence_N]))
        order += positions
    tokens_B = np.array([len(e.completion_ids) for e in examples])
    sums_3B, loss = np.zeros((3, len(examples))), 0.0
    if order:
        values_3N = torch.cat(seen, dim=1).double().cpu().numpy()
        starts = np.concatenate([[0], np.cumsum(tokens_B[order])[:-1]])
        sums_3B[:, order] = np.add.reduceat(values_3N, starts, axis=1)
        loss = torch.stack(losses).double().sum().item()
    return ExampleSignals(loss, tokens_B, sums_3B[0], sums_3B[1], sums_3B[2] / tokens_B)


def forward_loss(
    student: PreTrainedModel,
    examples: Sequence[EncodedProblem],
    store: LogitStore,
    settings: LossSettings,
    total_tokens: int,
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
    )
    return loss, signals, targets


@dataclass(frozen=True)
class PaddedExamples:
    """Examples side by side: token ids padded on the right, and where their N completion tokens are.

    predicting_N: positions in the flattened [B * T] whose hidden state predicts a completion token. labels_N: those
    tokens. Both go through the examples one after the other.
    """

    input_ids_BT: Tensor
    predicting_N: Tensor
    labels_N: Tensor


def pad_examples(examples: Sequence[EncodedProblem]) -> PaddedExamples:
    """Pads with 0: causal attention never looks right, so no attention mask is needed and the value is free."""
    longest = max(e.length for e in examples)
    input_ids_BT = np.zeros((len(examples), longest), dtype=np.int64)
    predicting = []
    for row, e in enumerate(examples):
        input_ids_BT[row, : e.length] = np.concatenate([e.prompt_ids, e.completion_ids])
        first = row * longest + len(e.prompt_ids) - 1  # the position before a token predicts it
        predicting.append(np.arange(first, first + len(e.completion_ids)))
    return PaddedExamples(
        torch.from_numpy(input_ids_BT),
        torch.from_numpy(np.concatenate(predicting)),
        torch.from_numpy(np.concatenate([e.completion_ids for e in examples]).astype(np.int64)),
    )


def predicting_states(model: PreTrainedModel, batch: PaddedExamples) -> Tensor:
    """The last hidden states [N, H] that predict the completion tokens; the others never meet the lm_head.

    They are in the precision that the model computes in. Autocast leaves a float32 model's last norm in float32, and
    `lm_head`, the largest matrix of all, would be multiplied in float32 too: many times slower on a GPU.
    """
    hidden_BTH = model.base_model(input_ids=batch.input_ids_BT.to(model.device), use_cache=False).last_hidden_state
    hidden_NH = hidden_BTH.flatten(0, 1).index_select(0, batch.predicting_N.to(model.device))
    kind = model.device.type
    return hidden_NH.to(torch.get_autocast_dtype(kind)) if torch.is_autocast_enabled(kind) else hidden_NH
