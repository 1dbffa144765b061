"""rl_random_reward: rl with another reward in params.yaml, noise: the control that shows whether the reward matters."""

from __future__ import annotations

from pipeline.bandit.curriculum import build_curriculum as build
from pipeline.bandit.settings import BanditParams as Params

__all__ = ["Params", "build"]
