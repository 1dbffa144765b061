"""kill -9 at any moment, then the same command: the same bytes as if nothing had happened.

`make torture` does the same at every change of every file.
"""

import random
import signal

import pytest

from tests.faults.harness import CASES, contents, differences, scratch_copy
from tests.faults.kills import random_moments, trial

pytestmark = pytest.mark.slow

TRIALS = 3


@pytest.mark.parametrize("case", CASES, ids=str)
def test_a_killed_stage_ends_with_the_bytes_of_an_uninterrupted_one(zygote, references, case):
    reference = references.of(case)
    rng = random.Random(str(case))
    for _ in range(TRIALS):
        result = trial(zygote, reference, random_moments(reference, rng))
        assert not result.differences, result


@pytest.mark.parametrize("case", CASES, ids=str)
def test_sigterm_ends_a_stage_within_ten_seconds_and_the_next_run_ends_with_the_same_bytes(zygote, references, case):
    reference = references.of(case)
    rng = random.Random(f"SIGTERM {case}")
    with scratch_copy(reference.before) as project:
        outcome = zygote.run(project, case, signal.SIGTERM, at_event=rng.randint(1, reference.outcome.events // 4))
        assert outcome.status == 128 + signal.SIGTERM
        assert outcome.seconds_after_signal < 10
        assert "Traceback" not in zygote.log.read_text()
        assert not [name for name in contents(project) if ".tmp" in name]
        zygote.finish(project, case)
        assert not differences(contents(project), reference.after)
