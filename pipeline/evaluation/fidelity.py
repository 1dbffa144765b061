"""How close a model's next-token distributions are to the cached teacher's, problem by problem."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from tqdm import tqdm
from transformers import PreTrainedModel

from pipeline.distillation.gradients import forward_loss
from pipeline.distillation.loss import LossSettings
from pipeline.language_models.batches import micro_batches
from pipeline.language_models.prompts import Encoder
from pipeline.logit_store.store import LogitStore
from pipeline.problems.record import Problem

FIDELITY_TOKENS = 4096  # tokens, padding included, of one forward pass over the reference solutions


@dataclass(frozen=True)
class Fidelity:
    """Sums over the N tokens of one problem's reference solution, at temperature 1.

    kl: KL(teacher || model) in nats. top1_matches: tokens where both find the same one most likely. calibration_gaps:
    in each bin of the confidence in the model's most likely token, hits (it is the reference) minus confidence.
    """

    tokens: int
    kl: float
    top1_matches: int
    calibration_gaps: list[float]


@torch.inference_mode()
def measure_fidelity(
    model: PreTrainedModel, encoder: Encoder, problems: Sequence[Problem], store: LogitStore, bins: int
) -> list[Fidelity]:
    """Runs the model over the reference solutions; a problem whose prompt is too long for it has zeros."""
    encoded = encoder.encode_all(problems).encoded
    settings = LossSettings(temperature=1.0, distillation_weight=1.0, divergence="forward_kl", jsd_beta=0.5)
    by_id = {}
    for group in tqdm(list(micro_batches(encoded, FIDELITY_TOKENS)), desc="fidelity", unit="batch"):
        part = [encoded[i] for i in group]
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
        for e, kl_N, match_N, confidence_N, hit_N in zip(part, *(np.split(c, ends) for c in columns), strict=True):
            gaps = calibration_gaps(confidence_N, hit_N, bins).tolist()
            by_id[e.id] = Fidelity(len(kl_N), float(kl_N.sum()), int(match_N.sum()), gaps)
    return [by_id.get(p.id, Fidelity(0, 0.0, 0, [0.0] * bins)) for p in problems]


def calibration_gaps(confidence_N: np.ndarray, hit_N: np.ndarray, bins: int) -> np.ndarray:
    """[bins]: hits minus confidence, summed over the tokens of each of equally wide bins of confidence.

    The sum of their absolute values, divided by N, is the expected calibration error (Guo et al. 2017, eq. 3).
    """
    bin_N = np.minimum((confidence_N * bins).astype(int), bins - 1)
    return np.bincount(bin_N, weights=hit_N - confidence_N, minlength=bins)
