"""Random generators derived from coordinates, so that no result depends on global state or on history.

`derive(seed, purpose, *coordinates)` names a stream: the same coordinates give the same stream on every
machine, after every resume, whatever else was drawn before.
"""

from __future__ import annotations

import hashlib
import random

import numpy as np

Coordinate = int | str


def derive(seed: int, purpose: str, *coordinates: Coordinate) -> int:
    """A 64-bit integer that depends on every argument and on nothing else."""
    text = "\x1f".join([f"{seed:d}", purpose, *(f"{type(c).__name__}:{c}" for c in coordinates)])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")


def python_rng(seed: int, purpose: str, *coordinates: Coordinate) -> random.Random:
    """A `random.Random` of its own for the given coordinates."""
    return random.Random(derive(seed, purpose, *coordinates))


def numpy_rng(seed: int, purpose: str, *coordinates: Coordinate) -> np.random.Generator:
    """A PCG64 generator of its own for the given coordinates."""
    return np.random.Generator(np.random.PCG64(derive(seed, purpose, *coordinates)))
