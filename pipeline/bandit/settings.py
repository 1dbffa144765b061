"""What a curriculum that learns from rewards can be told."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from pipeline.arms.grouping import SeveralArms
from pipeline.arms.protocols import Draws
from pipeline.bandit.policy import PolicyName
from pipeline.common.params import PositiveFloat, Share, settings

Alpha = Annotated[float, Field(gt=0, le=1)]


@settings
class BanditParams:
    """See params.yaml, `curricula.rl`, for each setting's meaning."""

    arms: SeveralArms
    alpha: Alpha
    policy: PolicyName
    tau: PositiveFloat
    epsilon: Share
    warmup: Share
    shrink: bool
    scale: Literal["none", "arms", "history"]
    draws: Draws
    reward: str
    rewards: dict[str, dict[str, Any]]
