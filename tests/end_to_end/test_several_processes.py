"""Two processes on the CPU (gloo) work as one: the same arms, rewards, losses and logits, shared checkpoints."""

import os
import shutil
import subprocess
import sys

import pandas as pd
import pytest

from tests.conftest import ROOT
from tests.end_to_end.conftest import change_params, digests, run_python
from tests.end_to_end.test_kill_and_resume import KILL_AFTER_SAVE

pytestmark = pytest.mark.slow

TORCHRUN = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")
ACCELERATE = ("-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2", "--main_process_port", "0")
TRAIN = ("-m", "pipeline.train", "--method", "rl", "--seed", "0")
NAMES = ("learning_curve.csv", "arm_log.csv")


def launch(project, launcher, *command):
    """Runs a stage in two processes."""
    return subprocess.run(
        [sys.executable, *launcher, *command],
        cwd=project,
        env=os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def logs(project):
    """The learning curve and the arm log of the run."""
    return [pd.read_csv(project / "data/runs/rl-0" / name) for name in NAMES]


def require_same_run(found, expected):
    """The same draws, and everything else within the rounding of float32 sums and of six printed digits.

    A reward near 0 is a mean of a look's parts, which cancel.
    """
    assert found[1]["count"].tolist() == expected[1]["count"].tolist()
    for a, b in zip(found, expected, strict=True):
        rewards = [column for column in a if column == "reward"]
        pd.testing.assert_frame_equal(
            a.drop(columns=rewards), b.drop(columns=rewards), rtol=2e-3, atol=2e-5, check_dtype=False
        )
        pd.testing.assert_frame_equal(a[rewards], b[rewards], rtol=2e-3, atol=5e-5, check_dtype=False)


@pytest.fixture
def reward(small_project, request):
    """What the run learns from; where it is target_gain, with looks that ten steps have use for."""

    def change(values):
        values["curricula"]["rl"]["reward"] = getattr(request, "param", "multi_objective")
        values["curricula"]["rl"]["rewards"]["target_gain"] = {"problems": 20, "every": 2, "memory": 0.8}

    change_params(change)


@pytest.fixture
def expected(small_project, reward, stage):
    """The logs of the run in one process; its results are cleared away."""
    stage("train", "--method", "rl", "--seed", 0)
    found = logs(small_project)
    assert found[1]["reward"].notna().sum() > 20
    for folder in ("models/students", "data/runs"):
        shutil.rmtree(small_project / folder)
    return found


@pytest.mark.parametrize(
    ("launcher", "reward"),
    [(TORCHRUN, "multi_objective"), (ACCELERATE, "target_gain")],
    ids=["torchrun", "accelerate launch"],
    indirect=["reward"],
)
def test_two_processes_give_the_run_of_one(small_project, expected, launcher, monkeypatch):
    monkeypatch.setenv("TRACKERS", "tensorboard")
    done = launch(small_project, launcher, *TRAIN)
    assert done.returncode == 0, done.stderr
    require_same_run(logs(small_project), expected)
    assert done.stderr.count("rl-0:   0%") == 1  # one progress bar
    assert len(list((small_project / "tracking/tensorboard").glob("rl-0-*/*"))) == 1  # the main process's
    assert '"processes": 2' in (small_project / "data/costs/training/rl-0.json").read_text()
    assert not list((small_project / "checkpoints").glob("*/*"))


def test_a_checkpoint_moves_from_one_process_to_two_and_back(small_project, stage, expected, capfd):
    killed = run_python(KILL_AFTER_SAVE.format(method="rl", saves=1), small_project)
    assert killed.returncode == -9, killed.stderr
    resumed = launch(small_project, TORCHRUN, *TRAIN)
    assert resumed.returncode == 0, resumed.stderr
    assert "0/10" not in resumed.stderr.split("step/s")[0]  # it went on, it did not begin again
    require_same_run(logs(small_project), expected)

    shutil.rmtree(small_project / "data/runs")
    (small_project / "kill.py").write_text(
        "import os\n"
        "from pipeline.training.run import Run\n"
        "original = Run.step\n"
        "def step(self, *arguments):\n"
        "    if self.steps_done == 7: os._exit(1)\n"
        "    return original(self, *arguments)\n"
        "Run.step = step\n"
        "import pipeline.train\n"
        "pipeline.train.main()\n"
    )
    assert launch(small_project, TORCHRUN, "kill.py", *TRAIN[2:]).returncode != 0
    assert list((small_project / "checkpoints").glob("train-rl-0-*/state.safetensors"))
    capfd.readouterr()
    stage("train", "--method", "rl", "--seed", 0)
    assert "0/10" not in capfd.readouterr().err.split("step/s")[0]
    require_same_run(logs(small_project), expected)


def test_two_processes_capture_the_store_of_one(small_project):
    expected = digests(small_project / "data/teacher_logits")
    shutil.rmtree(small_project / "data/teacher_logits")
    assert launch(small_project, TORCHRUN, "-m", "pipeline.teacher_logits").returncode == 0
    assert digests(small_project / "data/teacher_logits") == expected


def test_an_error_in_all_processes_is_one_sentence_of_each(small_project):
    (small_project / "data/teacher_logits/train/manifest.json").unlink()
    failed = launch(small_project, TORCHRUN, *TRAIN)
    assert failed.returncode != 0
    lines = [line for line in failed.stderr.splitlines() if "manifest.json is missing" in line]
    assert sorted(line.split(":")[0] for line in lines) in (
        ["error"],
        ["error", "error in process 1"],
        ["error in process 1"],
    )
