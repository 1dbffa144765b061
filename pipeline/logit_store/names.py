"""The names of the schemes, which params.yaml is checked against: without torch, so that it takes no time."""

from __future__ import annotations

from typing import Literal

SchemeName = Literal["top_k", "random_draws", "top_k_tail_draws"]
