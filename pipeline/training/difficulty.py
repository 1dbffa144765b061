"""How hard problems are for a student: its cross-entropy on their solutions."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedModel

from pipeline.language_models.batches import by_length, pad_examples, predicting_states
from pipeline.language_models.processes import Processes
from pipeline.language_models.prompts import EncodedProblem
from pipeline.logit_store.chunks import chunk_rows, float32_product

# Padded tokens in a forward pass. No param: another cut rounds sums differently, and so may exchange two problems that
# are equally hard; the same cut for any number of processes keeps a run's arms when others go on with it.
BATCH_TOKENS = 4096


@dataclass(frozen=True)
class Losses:
    """Of each of P problems the mean cross-entropy per completion token (nats), and the tokens it took forward."""

    loss_P: np.ndarray
    tokens: int


def completion_losses(
    student: PreTrainedModel,
    problems: Sequence[EncodedProblem],
    precision: AbstractContextManager[Any],
    processes: Processes = Processes(),  # noqa: B008 - frozen
) -> Losses:
    """The student's losses on some problems, computed inside `precision` and shared out over processes."""
    loss_P = np.zeros(len(problems))
    with torch.inference_mode(), precision:
        for group in processes.share(list(_batches(problems))):
            examples = [problems[i] for i in group]
            loss_P[group] = [part.mean().item() for part in _token_losses(student, examples)]
    summed = processes.sum_values(loss_P.tolist(), student.device)
    return Losses(np.array(summed), sum(p.length for p in problems))


def _batches(problems: Sequence[EncodedProblem]) -> Iterator[list[int]]:
    """Positions of the problems, the longest first, as many together as `BATCH_TOKENS` lets."""
    group: list[int] = []
    for position in by_length(problems):
        if group and (len(group) + 1) * problems[group[0]].length > BATCH_TOKENS:
            yield group
            group = []
        group.append(position)
    if group:
        yield group


def _token_losses(student: PreTrainedModel, examples: Sequence[EncodedProblem]) -> tuple[Tensor, ...]:
    """The cross-entropy of every completion token, example by example, in float64; logits a chunk at a time."""
    batch = pad_examples(examples)
    hidden_NH = predicting_states(student, batch)
    labels_N = batch.labels_N.to(student.device)
    weight_VH = student.get_output_embeddings().weight.to(hidden_NH.dtype)
    chunk = chunk_rows(len(hidden_NH), len(weight_VH), student.device)
    with torch.autocast(student.device.type, enabled=False):
        losses = [
            torch.nn.functional.cross_entropy(float32_product(hidden_CH, weight_VH.T), labels_C, reduction="none")
            for hidden_CH, labels_C in zip(hidden_NH.split(chunk), labels_N.split(chunk), strict=True)
        ]
    lengths = [len(e.completion_ids) for e in examples]
    return torch.split(torch.cat(losses).double().cpu(), lengths)
