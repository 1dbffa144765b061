"""kill -9 at any moment, then the same command: the same bytes as if nothing had happened.

`make torture` does the same at every change of every file.
"""

import random

import pytest

from tests.faults.harness import CASES
from tests.faults.kills import random_moments, trial

TRIALS = 4


@pytest.mark.parametrize("case", CASES, ids=str)
def test_a_killed_stage_ends_with_the_bytes_of_an_uninterrupted_one(zygote, references, case):
    reference = references.of(case)
    rng = random.Random(str(case))
    for _ in range(TRIALS):
        result = trial(zygote, reference, random_moments(reference, rng))
        assert not result.differences, result
