"""kill -9, then the same command: the same bytes as if nothing had happened."""

import shutil

import pytest

from tests.end_to_end.conftest import digests, run_python

KILL_AFTER_SAVE = """
import os, signal, sys
from pipeline.distillation import checkpoint
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
from pipeline.distillation import checkpoint
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
KILL_WHILE_CAPTURING = """
import os, signal, sys
import pipeline.teacher_logits as stage
original, shards = stage.write_shard, []
def write_shard(folder, problems):
    original(folder, problems)
    shards.append(folder)
    if len(shards) == 2:
        os.kill(os.getpid(), signal.SIGKILL)
stage.write_shard = write_shard
sys.argv = ["teacher_logits"]
stage.main()
"""


def results(project, name):
    return digests(project / "models/students" / name), digests(project / "plots/runs" / name)


@pytest.mark.parametrize(
    ("method", "script"),
    [
        ("rl", KILL_AFTER_SAVE.format(method="rl", saves=1)),
        ("rl", KILL_INSIDE_SAVE),
        ("easy_to_hard", KILL_AFTER_SAVE.format(method="easy_to_hard", saves=3)),
    ],
    ids=["rl after its first checkpoint", "rl inside its second write", "easy_to_hard after its last checkpoint"],
)
def test_a_killed_run_ends_with_the_bytes_of_an_uninterrupted_one(small_project, stage, method, script, capfd):
    name = f"{method}-0"
    stage("train", "--method", method, "--seed", 0)
    expected = results(small_project, name)
    shutil.rmtree(small_project / "models/students" / name)
    shutil.rmtree(small_project / "plots/runs" / name)

    killed = run_python(script, small_project)
    assert killed.returncode == -9, killed.stderr
    assert not (small_project / "models/students" / name).exists()
    assert list((small_project / "checkpoints").glob(f"train-{name}-*/state.safetensors"))
    capfd.readouterr()
    stage("train", "--method", method, "--seed", 0)
    assert results(small_project, name) == expected
    assert "0/10" not in capfd.readouterr().err.split("step/s")[0]  # it went on, it did not begin again


def test_a_killed_capture_goes_on_and_gives_the_same_store(small_project, stage):
    expected = digests(small_project / "data/teacher_logits")
    shutil.rmtree(small_project / "data/teacher_logits")
    killed = run_python(KILL_WHILE_CAPTURING, small_project)
    assert killed.returncode == -9, killed.stderr
    assert not (small_project / "data/teacher_logits").exists()
    assert len(list((small_project / "checkpoints").glob("teacher_logits-train-*/shard-*"))) == 2
    stage("teacher_logits")
    assert digests(small_project / "data/teacher_logits") == expected


def test_a_checkpoint_of_other_params_is_not_picked_up(small_project, stage):
    from tests.end_to_end.conftest import change_params

    killed = run_python(KILL_AFTER_SAVE.format(method="rl", saves=2), small_project)
    assert killed.returncode == -9, killed.stderr
    change_params(lambda values: values["curricula"]["rl"].update(tau=0.3))
    stage("train", "--method", "rl", "--seed", 0)
    resumed = results(small_project, "rl-0")
    shutil.rmtree(small_project / "checkpoints")
    stage("train", "--method", "rl", "--seed", 0)
    assert results(small_project, "rl-0") == resumed
