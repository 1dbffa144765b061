"""rl: the adaptive curriculum, after SEC; see pipeline/bandit/curriculum.py."""

from __future__ import annotations

from pipeline.bandit.curriculum import build_curriculum as build
from pipeline.bandit.settings import BanditParams as Params

__all__ = ["Params", "build"]
