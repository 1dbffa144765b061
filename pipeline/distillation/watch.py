"""What is measured of every example on the way through the loss, for curricula that know a direction to look in."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Watch:
    """Directions to hold examples against; None for what is not wanted.

    lm_head_VH: the gradient of lm_head is held against it. hidden_KH: the hidden states that predict the completion
    are held against each of these K.
    """

    lm_head_VH: Tensor | None = None
    hidden_KH: Tensor | None = None
