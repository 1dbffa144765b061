"""kill -9 at any moment, then the same command: the same bytes as if nothing had happened.

`make torture` does the same at every change of every file.
"""

import json
import random
import signal

import pytest
from safetensors import safe_open

from tests.faults.harness import CASES, GAIN, SIMILARITY, TRAINING, contents, differences, scratch_copy, training
from tests.faults.kills import random_moments, trial

pytestmark = pytest.mark.slow


def trials_of(case):
    """Curricula differ in what a checkpoint holds, which is killed below, and not in what is written when."""
    return 1 if case in TRAINING and case != training("rl") else 3


@pytest.mark.parametrize("case", CASES, ids=str)
def test_a_killed_stage_ends_with_the_bytes_of_an_uninterrupted_one(zygote, references, case):
    reference = references.of(case)
    rng = random.Random(str(case))
    for _ in range(trials_of(case)):
        result = trial(zygote, reference, random_moments(reference, rng))
        assert not result.differences, result


def killed_after(zygote, project, case, saves):
    """Kills a run when it has saved so many checkpoints; what the last one holds, but for times."""
    assert zygote.run(project, case, after_saves=saves).status == -signal.SIGKILL
    (path,) = project.glob("checkpoints/train-*/state.safetensors")
    with safe_open(path, "np") as file:
        tensors = {name: file.get_tensor(name).tobytes() for name in file.keys()}  # noqa: SIM118
        state = json.loads(file.metadata()["state"])
    del state["training_seconds"]
    return tensors, state


@pytest.mark.parametrize("case", TRAINING, ids=str)
def test_a_run_that_is_killed_between_two_steps_forgets_nothing(zygote, references, case):
    """What it holds is compared, too: in so few steps, not all of it shows in the results."""
    reference = references.of(case)
    with scratch_copy(reference.before) as project:
        uninterrupted = killed_after(zygote, project, case, saves=3)
    with scratch_copy(reference.before) as project:
        killed_after(zygote, project, case, saves=2)
        assert killed_after(zygote, project, case, saves=1) == uninterrupted
        zygote.finish(project, case)
        assert not differences(contents(project), reference.after)


@pytest.mark.parametrize(("reward", "probe"), [(GAIN, "probe.mean"), (SIMILARITY, "probe.directions")])
def test_rl_looks_at_the_probe_and_learns_from_it_before_and_after_kills(zygote, references, reward, probe):
    case = training("rl", reward)
    with scratch_copy(references.of(case).before) as project:
        held = [killed_after(zygote, project, case, saves=1) for _ in range(3)]
    assert all(any(tensors[probe]) for tensors, _ in held)  # not zero
    states = [state for _, state in held]
    assert [state["steps_done"] for state in states] == [2, 4, 6]
    assert 0 < states[0]["probe"]["looks"] < states[1]["probe"]["looks"] < states[2]["probe"]["looks"]
    assert states[1]["curriculum"]["q"] != states[2]["curriculum"]["q"]


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
