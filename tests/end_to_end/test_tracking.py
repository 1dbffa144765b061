"""A run with live curves ends with the bytes of one without, and TensorBoard's own reader finds the curves."""

import math

import pandas as pd
import pytest
from accelerate.tracking import LOGGER_TYPE_TO_CLASS, GeneralTracker
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from pipeline.common.params import ParamsFile
from pipeline.training import trackers
from pipeline.training.run import Run
from pipeline.training.schedule import learning_rate_factor
from pipeline.training.settings import TrainingParams
from tests.end_to_end.conftest import digests


class Broken(GeneralTracker):
    """A tracker whose server is gone after the first values."""

    name = "broken"
    requires_logging_directory = False
    tracker = None
    logged = 0

    def log(self, values, step=None, **kwargs):
        Broken.logged += 1
        if Broken.logged > 1:
            raise ConnectionError("no route to host")


@pytest.fixture
def broken(monkeypatch):
    monkeypatch.setitem(LOGGER_TYPE_TO_CLASS, "broken", Broken)
    monkeypatch.setitem(trackers.ARGUMENTS, "broken", lambda _: {})
    monkeypatch.setattr(trackers, "get_available_trackers", lambda: ["tensorboard", "broken"])


def results(project):
    return [digests(project / folder) for folder in ("models/students/rl-0", "data/runs/rl-0")]


def break_off_at(monkeypatch, steps):
    """The run ends like a killed one, without a checkpoint, when it has done so many steps."""
    original = Run.step

    def step(run):
        if run.steps_done == steps:
            raise RuntimeError("power cut")
        return original(run)

    monkeypatch.setattr(Run, "step", step)


def test_a_tracked_run_that_is_cut_off_and_goes_on(small_project, stage, monkeypatch, capfd, broken):
    stage("train", "--method", "rl", "--seed", 0)
    untracked = results(small_project)
    assert not (small_project / "tracking").exists()

    monkeypatch.setenv("TRACKERS", "tensorboard, broken")
    with monkeypatch.context() as patch:
        break_off_at(patch, 8)
        with pytest.raises(RuntimeError, match="power cut"):
            stage("train", "--method", "rl", "--seed", 0)
    capfd.readouterr()
    Broken.logged = 0
    stage("train", "--method", "rl", "--seed", 0)
    said = capfd.readouterr().err
    assert said.count("the tracker broken failed (no route to host); the run goes on without it") == 1

    assert results(small_project) == untracked
    assert not list((small_project / "checkpoints").glob("*/*"))
    (folder,) = (small_project / "tracking/tensorboard").iterdir()
    assert folder.name.startswith("rl-0-")
    assert len(list(folder.iterdir())) == 2  # one file of each process
    require_curves(EventAccumulator(str(folder), size_guidance={"scalars": 0}).Reload(), small_project)


def require_curves(events, project):
    """Every value once at its step, those of the result files among them."""

    def curve(tag):
        return {event.step: event.value for event in events.Scalars(tag)}

    for tag in ("train/loss", "train/learning_rate", "train/tokens_per_second", "train/peak_memory_gib"):
        assert [event.step for event in events.Scalars(tag)] == list(range(1, 11)), tag
        assert all(math.isfinite(value) and value > 0 for value in curve(tag).values())
    training = ParamsFile().scale_section("training", TrainingParams)
    rates = [
        training.learning_rate * learning_rate_factor(s, 10, training.warmup_share, training.final_learning_rate_share)
        for s in range(10)
    ]
    assert list(curve("train/learning_rate").values()) == pytest.approx(rates)

    points = pd.read_csv(project / "data/runs/rl-0/learning_curve.csv").set_index("step")
    for tag, column in (("accuracy", "validation_accuracy"), ("kl_per_token", "validation_kl")):
        assert curve(f"validation/{tag}") == pytest.approx(points[column].to_dict(), rel=1e-5)
    losses = list(curve("train/loss").values())
    assert [sum(losses[:5]) / 5, sum(losses[5:]) / 5] == pytest.approx(points["loss"].dropna().tolist(), rel=1e-5)

    arms = pd.read_csv(project / "data/runs/rl-0/arm_log.csv")
    for arm, rows in arms.groupby("arm"):
        tag = arm.replace(" ", "_").replace("&", "_")
        assert list(curve(f"arm_probability/{tag}").values()) == pytest.approx(rows["probability"].tolist(), rel=1e-5)
        assert list(curve(f"q_value/{tag}").values()) == pytest.approx(rows["q_value"].tolist(), rel=1e-4, abs=1e-6)
    assert "settings/text_summary" in events.Tags()["tensors"]


def test_an_unknown_tracker_is_refused_before_anything_is_loaded(small_project, stage, monkeypatch, capsys):
    monkeypatch.setenv("TRACKERS", "tensorbored")
    with pytest.raises(SystemExit):
        stage("train", "--method", "rl", "--seed", 0)
    message = capsys.readouterr().err
    assert message.startswith("error: TRACKERS names 'tensorbored', which is none of tensorboard, wandb, ")
    assert message.count("\n") == 1
