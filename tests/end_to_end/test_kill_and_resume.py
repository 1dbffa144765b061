"""A checkpoint that is half-written or of other params does no harm; tests/faults kills everywhere else."""

import shutil

import pytest

from tests.conftest import ROOT
from tests.end_to_end.conftest import digests, run_python

pytestmark = pytest.mark.slow

KILL_AFTER_SAVE = """
import os, signal, sys
from pipeline.checkpoints import checkpoint
import pipeline.train as train
original, saves = checkpoint.Checkpoint.save, []
def save(self, tensors, state):
    original(self, tensors, state)
    saves.append(state)
    if len(saves) == {saves}:
        os.kill(os.getpid(), signal.SIGKILL)
checkpoint.Checkpoint.save = save
sys.argv = ["train", "--method", "{method}", "--seed", "0"]
train.main()
"""
KILL_INSIDE_SAVE = """
import os, signal, sys
from pipeline.checkpoints import checkpoint
import pipeline.train as train
original, saves = checkpoint.save_file, []
def save_file(tensors, path, metadata):
    saves.append(path)
    if len(saves) == 2:
        path.write_bytes(b"the first half of a checkp")
        os.kill(os.getpid(), signal.SIGKILL)
    original(tensors, path, metadata)
checkpoint.save_file = save_file
sys.argv = ["train", "--method", "rl", "--seed", "0"]
train.main()
"""


RESUME = """
import sys
import pipeline.train as train
sys.argv = ["train", "--method", "traditional", "--seed", "0"]
train.main()
"""


def results(project, name):
    return digests(project / "models/students" / name), digests(project / "data/runs" / name)


def test_a_run_killed_in_the_middle_of_a_checkpoint_goes_on_from_the_one_before(small_project, stage, capfd):
    name = "rl-0"
    stage("train", "--method", "rl", "--seed", 0)
    expected = results(small_project, name)
    shutil.rmtree(small_project / "models/students" / name)
    shutil.rmtree(small_project / "data/runs" / name)

    killed = run_python(KILL_INSIDE_SAVE, small_project)
    assert killed.returncode == -9, killed.stderr
    assert not (small_project / "models/students" / name).exists()
    assert list((small_project / "checkpoints").glob(f"train-{name}-*/state.safetensors"))
    capfd.readouterr()
    stage("train", "--method", "rl", "--seed", 0)
    assert results(small_project, name) == expected
    assert "0/10" not in capfd.readouterr().err.split("step/s")[0]  # it went on, it did not begin again


def test_a_checkpoint_of_other_params_is_not_picked_up(small_project, stage, capfd):
    from tests.end_to_end.conftest import change_params

    killed = run_python(KILL_AFTER_SAVE.format(method="rl", saves=2), small_project)
    assert killed.returncode == -9, killed.stderr
    change_params(lambda values: values["curricula"]["rl"].update(tau=0.3))
    capfd.readouterr()
    stage("train", "--method", "rl", "--seed", 0)
    assert "is of other params.curriculum.tau; starting from the beginning" in capfd.readouterr().err
    resumed = results(small_project, "rl-0")
    shutil.rmtree(small_project / "checkpoints")
    stage("train", "--method", "rl", "--seed", 0)
    assert results(small_project, "rl-0") == resumed


@pytest.mark.parametrize(
    ("edited", "resumes"),
    [
        ("analysis/charts.py", True),
        ("distillation/loss.py", False),
    ],
)
def test_a_killed_run_resumes_after_an_edit_of_a_file_that_it_does_not_import(small_project, edited, resumes):
    root = small_project / "code"
    shutil.copytree(ROOT / "pipeline", root / "pipeline", ignore=shutil.ignore_patterns("__pycache__"))
    killed = run_python(KILL_AFTER_SAVE.format(method="traditional", saves=2), small_project, root)
    assert killed.returncode == -9, killed.stderr
    with (root / "pipeline" / edited).open("a") as file:
        file.write("# a remark\n")
    done = run_python(RESUME, small_project, root)
    assert done.returncode == 0, done.stderr
    assert ("6/10" in done.stderr.split("step/s")[0]) == resumes
    assert ("is of other code; starting from the beginning" in done.stderr) == (not resumes)
