"""sec: update and policy of SEC as published (Chen et al. 2025, arXiv 2505.14970), in what it is told by params.yaml.

    Q(c) <- Q(c) + alpha (r(c) - Q(c)),  pi(c) = softmax(Q / tau)(c)

Each example's arm is drawn by itself. SEC's reward is the absolute advantage of policy gradients, which is largest
where half of the answers are right. Without answers to grade, here it is p (1 - p), with p the student's confidence
per token of the solution. Where that is above one half everywhere, what the student is least sure of earns most.
"""

from __future__ import annotations

from pipeline.bandit.curriculum import build_curriculum as build
from pipeline.bandit.settings import BanditParams as Params

__all__ = ["Params", "build"]
