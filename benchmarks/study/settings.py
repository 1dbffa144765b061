"""What is studied: the pools and targets, and the methods in the order in which they are run."""

from __future__ import annotations

import copy
from typing import Any

ALL = {"subjects": None, "levels": None}
TARGET = {"subjects": ["Number Theory", "Precalculus", "Intermediate Algebra"], "levels": None}
SPOILED_ARMS = ["Number Theory/2", "Precalculus/4"]

# changes to scales.mini.data
SETTINGS: dict[str, dict[str, Any]] = {
    # pool = target: seven subjects at five levels, all alike
    "same": {"target": ALL},
    # the target is three of the pool's seven subjects
    "broad": {"target": TARGET},
    # the same, and two arms of the target have each other's solutions
    "spoiled": {
        "target": TARGET,
        "mini_math": {"spoiled": SPOILED_ARMS, "skew": 0.0},
    },
    # subjects are tested alike, but the commonest has seven times the pool's share of the rarest
    "skewed": {"target": ALL, "mini_math": {"spoiled": [], "skew": 1.0}},
}

METHODS = [
    "traditional",
    "rl",
    "random",
    "target_only",
    "easy_to_hard",
    "hard_to_easy",
    "rl_random_reward",
    "stratified",
    "procurl",
    "ucb",
    "ddk",
    "sec",
]
REPLAYS = ["rl_permuted", "static_mixture"]
SEEDS = 10

# more test and validation problems than a first look needs; a core per run is faster than two cores for each
FINER = {
    "data": {"validation_size": 420, "test_size": 1050},
    "models": {"threads": 1},
    "grading": {"workers": 1},
}


def params_of(values: dict[str, Any], setting: str) -> dict[str, Any]:
    """params.yaml's values with those of a setting; all methods and seeds are in it, so that DVC knows every cell."""
    values = copy.deepcopy(values)
    mini = values["scales"]["mini"]
    for section, changes in FINER.items():
        mini[section] |= changes
    mini["data"] |= SETTINGS[setting]
    return values | {"scale": "mini", "methods": METHODS, "replays": REPLAYS, "seeds": list(range(SEEDS))}
