"""What a model makes of reference solutions beside the cached teacher, token by token, without a gradient."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from transformers import PreTrainedModel

from pipeline.distillation.gradients import forward_loss
from pipeline.distillation.loss import LossSettings
from pipeline.language_models.batches import micro_batches
from pipeline.language_models.prompts import EncodedProblem
from pipeline.logit_store.store import LogitStore

OBSERVED_TOKENS = 4096  # tokens, padding included, of one forward pass


@dataclass(frozen=True)
class Observation:
    """Of the N tokens of one example's completion, at temperature 1.

    divergence_N: KL(teacher || model) in nats. agrees_N: both find the same token most likely. confidence_N: the
    probability of the model's most likely token. hit_N: that token is the reference.
    """

    divergence_N: np.ndarray
    agrees_N: np.ndarray
    confidence_N: np.ndarray
    hit_N: np.ndarray


@torch.inference_mode()
def observe(
    model: PreTrainedModel, examples: Sequence[EncodedProblem], store: LogitStore
) -> Iterator[tuple[EncodedProblem, Observation]]:
    """Each example with what is observed of it, in the order of their lengths."""
    settings = LossSettings(temperature=1.0, distillation_weight=1.0, divergence="forward_kl", jsd_beta=0.5)
    for group in micro_batches(examples, OBSERVED_TOKENS, model.device):
        part = [examples[i] for i in group]
        labels_N = torch.from_numpy(np.concatenate([e.completion_ids for e in part]))
        _, seen, targets = forward_loss(model, part, store, settings, len(labels_N))
        assert seen.top_token_N is not None  # where no gradient is wanted
        columns = (
            seen.divergence_N.cpu().double().numpy(),
            (seen.top_token_N == targets.token_ids_NK[:, 0]).cpu().numpy(),
            seen.top_prob_N.cpu().double().numpy(),
            (seen.top_token_N.cpu() == labels_N).numpy(),
        )
        ends = np.cumsum([len(e.completion_ids) for e in part])[:-1]
        for example, *values in zip(part, *(np.split(column, ends) for column in columns), strict=True):
            yield example, Observation(*values)
