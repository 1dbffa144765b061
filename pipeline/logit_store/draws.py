"""Draws from the teacher's distribution, the same on every device and however rows are batched."""

from __future__ import annotations

import torch
from torch import Tensor


def inverse_cdf(p_NV: Tensor, uniforms_ND: Tensor) -> Tensor:
    """The outcomes that uniform numbers in 0..1 stand for: the first whose cumulative probability exceeds the number.

    Float64 probabilities are added up as multiples of 2^-53. Sums of integers are exact, so neither the device nor the
    number of rows changes a draw; of floats, CUDA has no deterministic cumulative sum.
    """
    cumulative_NV = (p_NV * 2.0**53).long().cumsum(dim=1)
    total_N1 = cumulative_NV[:, -1:]
    wanted_ND = (uniforms_ND * total_N1).long().minimum(total_N1 - 1)  # a product may round up to the total
    return torch.searchsorted(cumulative_NV, wanted_ND, right=True)
