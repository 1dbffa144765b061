"""SIGTERM, Ctrl-C, numbers or memory that give out: a stage stops with a checkpoint, the next one goes on from it."""

import os
import shutil
import signal

import pytest
import torch
from safetensors import safe_open

from pipeline import train as train_stage
from pipeline.checkpoints import checkpoint as checkpoint_module
from pipeline.common.interrupts import Interrupted, finish_regardless, requested, uninterrupted
from pipeline.common.stage import exit_on_error
from pipeline.training import run as run_module
from pipeline.training import validation as validation_module
from tests.end_to_end.conftest import change_params
from tests.end_to_end.test_kill_and_resume import results
from tests.end_to_end.test_several_processes import TORCHRUN, TRAIN, launch

RUN = ("train", "--method", "rl", "--seed", "0")


def at_call(monkeypatch, owner, name, number, action):
    """Has `action` done before the n-th call of a function, and only then."""
    original, calls = getattr(owner, name), []

    def wrapped(*arguments, **named):
        calls.append(1)
        if len(calls) == number:
            action()
        return original(*arguments, **named)

    monkeypatch.setattr(owner, name, wrapped)


def send(number=signal.SIGTERM):
    os.kill(os.getpid(), number)


def saved_steps(project):
    """How far the only checkpoint is."""
    (path,) = (project / "checkpoints").glob("train-rl-0-*/state.safetensors")
    with safe_open(path, "pt") as file:
        return int(file.get_tensor("optimizer.steps"))


@pytest.fixture
def expected(small_project, stage):
    """The results of the undisturbed run, which are cleared away. Only what stops a run saves a checkpoint."""
    change_params(lambda values: values["scales"]["mini"]["training"].update(checkpoint_steps=1000))
    stage(*RUN)
    found = results(small_project, "rl-0")
    for folder in ("models/students", "data/runs"):
        shutil.rmtree(small_project / folder)
    return found


@pytest.mark.parametrize(
    ("owner", "name", "call", "steps"),
    [
        (run_module, "accumulate_gradients", 4, 3),
        (run_module, "uninterrupted", 4, 3),
        (run_module.AdamW, "step", 4, 4),
        (run_module.RunLog, "add_step", 4, 4),
        (validation_module, "generate_answers", 2, 5),  # the validation after 5 steps
        (train_stage.Grader, "grade", 1, 0),
    ],
    ids=[
        "in the forward pass",
        "before the student changes",
        "while the student changes",
        "while the log is written",
        "in a validation",
        "at once",
    ],
)
def test_a_signal_stops_the_run_with_a_checkpoint(
    small_project, expected, stage, monkeypatch, capfd, owner, name, call, steps
):
    with monkeypatch.context() as patch:
        at_call(patch, owner, name, call, send)
        with pytest.raises(SystemExit) as stopped:
            stage(*RUN)
    assert stopped.value.code == 128 + signal.SIGTERM
    assert "stopped by SIGTERM; the same command goes on from here" in capfd.readouterr().err
    assert saved_steps(small_project) == steps
    assert not (small_project / "models/students").exists()
    stage(*RUN)
    assert results(small_project, "rl-0") == expected


def test_a_signal_while_the_results_are_written_comes_too_late(small_project, expected, stage, monkeypatch):
    at_call(monkeypatch, train_stage, "save_student", 1, send)
    stage(*RUN)
    assert results(small_project, "rl-0") == expected


def test_a_second_signal_does_not_disturb_the_saving(small_project, expected, stage, monkeypatch):
    with monkeypatch.context() as patch:
        at_call(patch, run_module, "accumulate_gradients", 4, lambda: send(signal.SIGINT))
        at_call(patch, checkpoint_module, "save_file", 1, send)
        with pytest.raises(SystemExit) as stopped:
            stage(*RUN)
    assert stopped.value.code == 128 + signal.SIGINT
    assert saved_steps(small_project) == 3
    stage(*RUN)
    assert results(small_project, "rl-0") == expected


@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
def test_a_loss_that_is_not_finite_stops_the_run_with_a_checkpoint(
    small_project, expected, stage, monkeypatch, capfd, bad
):
    original, calls = run_module.accumulate_gradients, []

    def spoil(*arguments):
        seen = original(*arguments)
        calls.append(1)
        return seen if len(calls) != 6 else run_module.replace(seen, losses_M=seen.losses_M * float(bad))

    with monkeypatch.context() as patch:
        patch.setattr(run_module, "accumulate_gradients", spoil)
        with pytest.raises(SystemExit) as stopped:
            stage(*RUN)
    assert stopped.value.code == 1
    assert f"error: step 5: the loss is {float(bad)} on problems ['" in capfd.readouterr().err
    assert saved_steps(small_project) == 5
    stage(*RUN)
    assert results(small_project, "rl-0") == expected


def test_a_batch_that_had_to_be_cut_is_remembered_at_once(small_project, expected, stage, monkeypatch):
    saved = []
    original = checkpoint_module.Checkpoint.save

    def save(self, tensors, state):
        saved.append((state["steps_done"], state["micro_batch_tokens"]))
        original(self, tensors, state)

    def run_out():
        raise MemoryError

    monkeypatch.setattr(checkpoint_module.Checkpoint, "save", save)
    at_call(monkeypatch, run_module, "accumulate_gradients", 3, run_out)
    stage(*RUN)
    ((steps, cut),) = saved
    assert steps == 3
    assert 0 < cut < 1024


@pytest.mark.slow
def test_several_processes_stop_together_with_a_checkpoint(small_project, expected, stage, capfd):
    (small_project / "stop.py").write_text(
        "import os, signal\n"
        "from pipeline.training.run import Run\n"
        "original = Run.step\n"
        "def step(self, *arguments):\n"
        "    if self.steps_done == 4 and os.environ['RANK'] == '1': os.kill(os.getppid(), signal.SIGTERM)\n"
        "    return original(self, *arguments)\n"
        "Run.step = step\n"
        "import pipeline.train\n"
        "pipeline.train.main()\n"
    )
    stopped = launch(small_project, TORCHRUN, "stop.py", *TRAIN[2:])
    assert stopped.returncode != 0
    assert "stopped by SIGTERM; the same command goes on from here" in stopped.stderr
    assert saved_steps(small_project) >= 4
    capfd.readouterr()
    stage(*RUN)
    assert "0/10" not in capfd.readouterr().err.split("step/s")[0]  # it went on, it did not begin again


def in_a_stage(body):
    """Runs `body` as a stage's main; the exit status."""
    with pytest.raises(SystemExit) as stopped:
        exit_on_error(body)()
    return stopped.value.code


def test_a_signal_waits_for_the_end_of_a_change(capfd):
    seen = []

    def body():
        with uninterrupted():
            with uninterrupted():
                send(signal.SIGINT)
                seen.append(requested())
            seen.append("whole")
        seen.append("too far")

    assert in_a_stage(body) == 130
    assert seen == [True, "whole"]
    assert "stopped by SIGINT" in capfd.readouterr().err


def test_a_stage_that_is_as_good_as_done_obeys_no_signal_and_the_next_one_does():
    def finishing():
        finish_regardless()
        send()

    exit_on_error(finishing)()
    assert in_a_stage(send) == 143
    assert not requested()


def test_no_handler_of_failures_takes_a_signal_for_one():
    def body():
        try:
            send()
        except Exception:
            pytest.fail("the signal was handled as a failure")

    assert in_a_stage(body) == 143
    assert not issubclass(Interrupted, Exception)


def test_handlers_are_put_back():
    before = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
    exit_on_error(lambda: None)()
    assert (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)) == before
