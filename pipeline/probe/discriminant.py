"""Telling two groups apart by many features and few examples, with scores whose size can be believed.

A discriminant fitted to fewer examples than features parts them perfectly and says tens of nats about examples that it
has not seen, where one or two are right. So its ridge and the size of its scores are those under which each example is
best told by all others:

- The direction is Fisher's with a ridge, (S + r I)^-1 (m_1 - m_0), up to its length the ridge regression of the group
  on the features (Hastie, Tibshirani and Friedman 2009, exercise 4.2).
- A regression's prediction of each example by all others needs no second fit (there, eq. 7.64).
- Examples have weights, as in weighted least squares: one of weight 2 counts as two.
- Slope and offset that turn predictions into log-odds are fitted by logistic regression with smoothed labels (Platt
  1999, "Probabilistic outputs for support vector machines"), both groups weighing the same. Where nothing tells the
  groups apart the slope is 0, and so are all scores.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from scipy.optimize import minimize
from scipy.special import expit, log_expit
from torch import Tensor

from pipeline.language_models.processes import one_thread

RIDGES = np.logspace(-2, 3, 11)  # of the features' mean variance


@dataclass(frozen=True)
class Discriminant:
    """K scores of an example x, `x @ directions_KH[k] - middles_K[k]`, each from one part of the examples.

    Their mean is the log of how much likelier x is in group 1 than in group 0, were both as frequent. What parts have
    in common is ridge, slope and the features' covariance.
    """

    directions_KH: Tensor
    middles_K: Tensor


@one_thread()  # where L-BFGS stops is decided by the last bits, and draws by the rewards that come of it
def fit(features_NH: Tensor, group_N: Tensor, part_N: Tensor, weight_N: Tensor) -> Discriminant:
    """The discriminant of group 1 (True) against group 0, in the features' precision, float64.

    Parts are numbered from 0, and each has examples of both groups. Weights are positive. The result does not depend on
    the number of CPU threads.
    """
    root_N = weight_N.sqrt()
    centre_H = (weight_N @ features_NH) / weight_N.sum()
    centred_NH = root_N[:, None] * (features_NH - centre_H)
    value_N, vector_NN = torch.linalg.eigh(centred_NH @ centred_NH.T)
    value_N = value_N.clamp(min=0)
    spread = value_N.sum().item() / features_NH.shape[1] or 1.0  # 1: features that are all alike
    label_N = group_N.to(features_NH.dtype)
    fits = []
    for ridge in RIDGES * spread:
        left_out_N = _left_out(value_N, vector_NN, label_N, weight_N, ridge)
        fits.append((*_calibrated(left_out_N.numpy(), group_N.numpy(), weight_N.numpy()), ridge))
    _, slope, offset, ridge = min(fits)
    share = (weight_N @ label_N / weight_N.sum()).item()
    parts = [_contrast(label_N, weight_N * (part_N == part)) for part in range(int(part_N.max()) + 1)]
    contrast_KN = share * (1 - share) * weight_N.sum().item() * torch.stack(parts)
    inverse_NN = vector_NN / (value_N + ridge) @ vector_NN.T
    directions_KH = slope * (contrast_KN / root_N) @ inverse_NN @ centred_NH
    return Discriminant(directions_KH, directions_KH @ centre_H - slope * share - offset)


def _left_out(value_N: Tensor, vector_NN: Tensor, label_N: Tensor, weight_N: Tensor, ridge: float) -> Tensor:
    """Each label as ridge regression predicts it from all others.

    From the eigenvalues and vectors of the products of centred features, each times the root of its weight.
    """
    root_N = weight_N.sqrt()
    mean = weight_N @ label_N / weight_N.sum()
    shrunk_N = value_N / (value_N + ridge)
    fitted_N = mean + vector_NN @ (shrunk_N * (vector_NN.T @ (root_N * (label_N - mean)))) / root_N
    leverage_N = vector_NN**2 @ shrunk_N + weight_N / weight_N.sum()
    return label_N - (label_N - fitted_N) / (1 - leverage_N)


def _calibrated(score_N: np.ndarray, group_N: np.ndarray, weight_N: np.ndarray) -> tuple[float, float, float]:
    """The loss, slope and offset of the logistic regression of the group on a score; a slope below 0 is 0."""
    weights = [weight_N[~group_N], weight_N[group_N]]
    sizes = [each.sum() ** 2 / (each**2).sum() for each in weights]  # as many of equal weight (Kish 1965)
    smoothed = 1 / (min(sizes) + 2)
    label_N = np.where(group_N, 1 - smoothed, smoothed)
    weight_N = 0.5 * weight_N / np.array([each.sum() for each in weights])[group_N.astype(int)]
    unit = score_N.std() or 1.0

    def loss(slope_and_offset: np.ndarray) -> tuple[float, np.ndarray]:
        logit_N = slope_and_offset[0] * score_N / unit + slope_and_offset[1]
        cross_entropy = -(weight_N * (label_N * log_expit(logit_N) + (1 - label_N) * log_expit(-logit_N))).sum()
        slope_N = weight_N * (expit(logit_N) - label_N)
        return cross_entropy, np.array([slope_N @ score_N / unit, slope_N.sum()])

    found = minimize(loss, np.zeros(2), jac=True, method="L-BFGS-B", bounds=[(0, None), (None, None)])
    return float(found.fun), float(found.x[0] / unit), float(found.x[1])


def _contrast(label_N: Tensor, weight_N: Tensor) -> Tensor:
    """What the mean of group 1 less that of group 0 is made of."""
    first_N, second_N = label_N * weight_N, (1 - label_N) * weight_N
    return first_N / first_N.sum() - second_N / second_N.sum()
