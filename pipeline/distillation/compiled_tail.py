"""The passes over the vocabulary that a token's loss takes, as functions for torch's compiler to fuse: two in all.

Uncompiled they compute the same with a dozen passes. The tail are the logits of all tokens, minus infinity for the k
that the teacher's targets name.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TypeVar

import torch
from torch import Tensor

F = TypeVar("F", bound=Callable[..., object])


def tail_sums(tail_CV: Tensor, temperature: float) -> tuple[Tensor, Tensor, Tensor]:
    """Each tail's largest logit, and the log of the sum of exp((logit - largest) / T), at T and at 1.

    Each row must have a finite logit.
    """
    top_C1 = tail_CV.amax(dim=1, keepdim=True)
    relative_CV = tail_CV - top_C1
    softened_C = (relative_CV / temperature).exp().sum(dim=1).log()
    return top_C1[:, 0], softened_C, relative_CV.exp().sum(dim=1).log()


def tail_gradient(
    tail_CV: Tensor,
    sums: tuple[Tensor, Tensor, Tensor],
    pull_C: Tensor,
    plain_C: Tensor,
    temperature: float,
    dtype: torch.dtype,
) -> Tensor:
    """`pull_C` shared out as the tail is at T, and `plain_C` as it is at 1; `sums` are those of `tail_sums`."""
    top_C, softened_C, log_sum_C = (x[:, None] for x in sums)
    relative_CV = tail_CV - top_C
    shares_CV = (relative_CV / temperature - softened_C).exp()
    gradient_CV = shares_CV * pull_C[:, None] + (relative_CV - log_sum_C).exp() * plain_C[:, None]
    return gradient_CV.to(dtype)


@functools.cache
def compiled(function: F) -> F:
    """The function compiled for any number of tokens, once in a process."""
    return torch.compile(function, dynamic=True)  # type: ignore[return-value]  # it keeps the signature
