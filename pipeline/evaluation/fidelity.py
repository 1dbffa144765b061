"""How close a model's next-token distributions are to the cached teacher's, problem by problem."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from tqdm import tqdm
from transformers import PreTrainedModel

from pipeline.distillation.observation import Observation, observe
from pipeline.language_models.prompts import Encoder
from pipeline.logit_store.store import LogitStore
from pipeline.problems.record import Problem


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


def measure_fidelity(
    model: PreTrainedModel, encoder: Encoder, problems: Sequence[Problem], store: LogitStore, bins: int
) -> list[Fidelity]:
    """Runs the model over the reference solutions; a problem whose prompt is too long for it has zeros."""
    examples = encoder.encode_all(problems).encoded
    seen = tqdm(observe(model, examples, store), total=len(examples), desc="fidelity", unit="problem")
    by_id = {example.id: _fidelity(found, bins) for example, found in seen}
    return [by_id.get(p.id, Fidelity(0, 0.0, 0, [0.0] * bins)) for p in problems]


def _fidelity(seen: Observation, bins: int) -> Fidelity:
    gaps = calibration_gaps(seen.confidence_N, seen.hit_N, bins).tolist()
    return Fidelity(len(seen.hit_N), float(seen.divergence_N.sum()), int(seen.agrees_N.sum()), gaps)


def calibration_gaps(confidence_N: np.ndarray, hit_N: np.ndarray, bins: int) -> np.ndarray:
    """[bins]: hits minus confidence, summed over the tokens of each of equally wide bins of confidence.

    The sum of their absolute values, divided by N, is the expected calibration error (Guo et al. 2017, eq. 3).
    """
    bin_N = np.minimum((confidence_N * bins).astype(int), bins - 1)
    return np.bincount(bin_N, weights=hit_N - confidence_N, minlength=bins)
