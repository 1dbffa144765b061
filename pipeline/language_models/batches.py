"""Encoded problems side by side: how a batch is cut into forward passes, padded, and read by a model."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedModel

from pipeline.language_models.devices import Kind, kind_of, to_device
from pipeline.language_models.prompts import EncodedProblem

# What one more forward and backward pass costs, in tokens. Measured on a CPU. On a GPU by count: Qwen2-0.5B's weights
# are cast, gradients added and thousands of kernels launched once more, 10 to 20 ms of an H100, where a token takes
# 5 us or more (benchmarks/step_budget.py).
CALL_TOKENS: dict[Kind, int] = {"cpu": 64, "gpu": 2048}

CPU = torch.device("cpu")


def micro_batches(
    examples: Sequence[EncodedProblem], max_tokens: int | None, device: torch.device = CPU
) -> Iterator[list[int]]:
    """Cuts a batch into groups of positions, longest examples first, each at most `max_tokens` with its padding.

    Of all such cuts it is the one that computes the fewest tokens, padding included, when each group counts as
    `CALL_TOKENS` tokens more: what a further forward and backward pass costs by itself. None for `max_tokens` is no
    limit; a single example may be longer than `max_tokens`.
    """
    order = by_length(examples)
    lengths = [examples[i].length for i in order]
    limit = sys.maxsize if max_tokens is None else max_tokens
    call_tokens = CALL_TOKENS[kind_of(device)]
    best, starts = [0], [0]  # of the first n examples: the least that they cost, and where their last group starts
    for end in range(1, len(order) + 1):
        cost, start = min(
            (best[start] + (end - start) * lengths[start] + call_tokens, start)
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
    hidden_BTH = model.base_model(
        input_ids=to_device(batch.input_ids_BT, model.device), use_cache=False
    ).last_hidden_state
    hidden_NH: Tensor = hidden_BTH.flatten(0, 1).index_select(0, to_device(batch.predicting_N, model.device))
    kind = model.device.type
    return hidden_NH.to(torch.get_autocast_dtype(kind)) if torch.is_autocast_enabled(kind) else hidden_NH
