"""Telling two groups apart by many features and few examples, with scores whose size can be believed.

A discriminant fitted to fewer examples than features parts them perfectly and says tens of nats about examples that it
has not seen, where one or two are right. So its ridge and the size of its scores are those under which each example is
best told by all others:

- The direction is Fisher's with a ridge, (S + r I)^-1 (m_1 - m_0), up to its length the ridge regression of the group
  on the features (Hastie, Tibshirani and Friedman 2009, exercise 4.2).
- A regression's prediction of each example by all others needs no second fit (there, eq. 7.64).
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

RIDGES = np.logspace(-2, 3, 11)  # of the features' mean variance


@dataclass(frozen=True)
class Discriminant:
    """K scores of an example x, `x @ directions_KH[k] - middles_K[k]`, each from one part of the examples.

    Their mean is the log of how much likelier x is in group 1 than in group 0, were both as frequent. What parts have
    in common is ridge, slope and the features' covariance.
    """

    directions_KH: Tensor
    middles_K: Tensor


def fit(features_NH: Tensor, group_N: Tensor, part_N: Tensor) -> Discriminant:
    """The discriminant of group 1 (True) against group 0, in the features' precision, float64.

    Parts are numbered from 0, and each has examples of both groups.
    """
    centre_H = features_NH.mean(dim=0)
    centred_NH = features_NH - centre_H
    value_N, vector_NN = torch.linalg.eigh(centred_NH @ centred_NH.T)
    value_N = value_N.clamp(min=0)
    spread = value_N.sum().item() / features_NH.shape[1] or 1.0  # 1: features that are all alike
    label_N = group_N.to(features_NH.dtype)
    fits = []
    for ridge in RIDGES * spread:
        left_out_N = _left_out(value_N, vector_NN, label_N, ridge)
        fits.append((*_calibrated(left_out_N.numpy(), group_N.numpy()), ridge))
    _, slope, offset, ridge = min(fits)
    counts = label_N.sum().item() * (1 - label_N).sum().item() / len(label_N)
    weights_KN = counts * torch.stack([_contrast(label_N, part_N == part) for part in range(int(part_N.max()) + 1)])
    inverse_NN = vector_NN / (value_N + ridge) @ vector_NN.T
    directions_KH = slope * weights_KN @ inverse_NN @ centred_NH
    return Discriminant(directions_KH, directions_KH @ centre_H - slope * label_N.mean() - offset)


def _left_out(value_N: Tensor, vector_NN: Tensor, label_N: Tensor, ridge: float) -> Tensor:
    """Each label as ridge regression predicts it from all others, from the eigenvalues of the centred products."""
    mean = label_N.mean()
    shrunk_N = value_N / (value_N + ridge)
    fitted_N = mean + vector_NN @ (shrunk_N * (vector_NN.T @ (label_N - mean)))
    leverage_N = vector_NN**2 @ shrunk_N + 1 / len(label_N)
    return label_N - (label_N - fitted_N) / (1 - leverage_N)


def _calibrated(score_N: np.ndarray, group_N: np.ndarray) -> tuple[float, float, float]:
    """The loss, slope and offset of the logistic regression of the group on a score; a slope below 0 is 0."""
    sizes = np.array([(~group_N).sum(), group_N.sum()])
    smoothed = 1 / (sizes.min() + 2)
    label_N = np.where(group_N, 1 - smoothed, smoothed)
    weight_N = 0.5 / sizes[group_N.astype(int)]
    unit = score_N.std() or 1.0

    def loss(slope_and_offset: np.ndarray) -> tuple[float, np.ndarray]:
        logit_N = slope_and_offset[0] * score_N / unit + slope_and_offset[1]
        cross_entropy = -(weight_N * (label_N * log_expit(logit_N) + (1 - label_N) * log_expit(-logit_N))).sum()
        slope_N = weight_N * (expit(logit_N) - label_N)
        return cross_entropy, np.array([slope_N @ score_N / unit, slope_N.sum()])

    found = minimize(loss, np.zeros(2), jac=True, method="L-BFGS-B", bounds=[(0, None), (None, None)])
    return float(found.fun), float(found.x[0] / unit), float(found.x[1])


def _contrast(label_N: Tensor, chosen_N: Tensor) -> Tensor:
    """What the mean of group 1 less that of group 0 is made of, among the chosen."""
    first_N, second_N = label_N * chosen_N, (1 - label_N) * chosen_N
    return first_N / first_N.sum() - second_N / second_N.sum()
