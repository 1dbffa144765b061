"""Which trackers are chosen, and the live log that a run always keeps."""

import os
import socket
from pathlib import Path

import pytest

from pipeline.common.errors import TrackingError
from pipeline.live_log.events import Started, Stepped, Validated, read_live_log
from pipeline.live_log.log import LiveLog
from pipeline.training import trackers
from pipeline.training.trackers import ARGUMENTS, TrackedRun, Trackers, chosen_trackers, tag


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("TRACKERS", raising=False)


def test_nobody_looks_on_unless_asked():
    assert chosen_trackers() == []
    assert not Trackers([], "rl-0", {})


@pytest.mark.parametrize("text", ["tensorboard", " TensorBoard,, tensorboard ", "tensorboard,"])
def test_the_environment_names_trackers(monkeypatch, text):
    monkeypatch.setenv("TRACKERS", text)
    assert chosen_trackers() == ["tensorboard"]


def test_the_file_names_them_where_the_environment_does_not(monkeypatch):
    Path(".env").write_text("TRACKERS=tensorboard\nSOME_API_KEY=secret\n")
    assert chosen_trackers() == ["tensorboard"]
    assert "SOME_API_KEY" not in os.environ
    monkeypatch.setenv("TRACKERS", "")
    assert chosen_trackers() == []


def test_credentials_in_the_file_reach_the_trackers_and_do_not_replace_others(monkeypatch):
    Path(".env").write_text("SOME_API_KEY=file\nOTHER_API_KEY=file\n")
    monkeypatch.setenv("OTHER_API_KEY", "shell")
    monkeypatch.setenv("SOME_API_KEY", "")
    monkeypatch.delenv("SOME_API_KEY")  # so that it is gone after the test
    seen = []
    monkeypatch.setattr(trackers, "_started", lambda name, run: seen.append(dict(os.environ)))
    Trackers(["tensorboard"], "rl-0", {}).start(0)
    assert (seen[0]["SOME_API_KEY"], seen[0]["OTHER_API_KEY"]) == ("file", "shell")


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (
            "tensorboard,tensorbored",
            "TRACKERS names 'tensorbored', which is none of tensorboard, wandb, trackio, mlflow",
        ),
        ("dvclive", "TRACKERS names 'dvclive', which is none of "),
        ("wandb", "TRACKERS names wandb, which is not installed; `pip install wandb` or leave it out"),
    ],
)
def test_a_tracker_that_cannot_be_had_is_refused(monkeypatch, text, sentence):
    monkeypatch.setattr(trackers, "get_available_trackers", lambda: ["tensorboard", "dvclive"])
    monkeypatch.setenv("TRACKERS", text)
    with pytest.raises(TrackingError) as error:
        chosen_trackers()
    assert str(error.value).startswith(sentence)


@pytest.mark.parametrize("name", ARGUMENTS)
def test_accelerate_takes_the_arguments_of_every_tracker(name):
    from accelerate.tracking import LOGGER_TYPE_TO_CLASS

    assert LOGGER_TYPE_TO_CLASS[name](**ARGUMENTS[name](TrackedRun("rl-0-1234abcd", 7, {}))).name == name


def test_a_tracker_that_cannot_start_is_left_out_with_a_sentence(capsys):
    Path("tracking").write_text("in the way")
    found = Trackers(["tensorboard"], "rl-0", {"seed": 0})
    found.start(0)
    assert not found
    found.log({"train/loss": 1.0}, 1)
    found.finish()
    said = capsys.readouterr().err
    assert said.startswith("the tracker tensorboard failed (")
    assert said.count("\n") == 1


def test_names_hold_only_what_every_tracker_takes():
    assert tag("q_value", "Counting & Probability/3") == "q_value/Counting___Probability/3"


STARTED = Started(1.0, socket.gethostname(), os.getpid(), 0, 10)


def test_the_live_log_comes_back_while_it_is_written(tmp_path):
    log = LiveLog(tmp_path / "run/live.jsonl")
    events = [STARTED, Validated(2.0, 0, 0.1, 0.5), Stepped(3.0, 1, 2.5, 300, 0.2, None)]
    for number, event in enumerate(events, start=1):
        log.add(event)
        assert read_live_log(tmp_path / "run/live.jsonl") == events[:number]
    log.close()


def test_half_a_line_of_a_killed_process_costs_that_line_alone(tmp_path):
    path = tmp_path / "live.jsonl"
    for step in (1, 2):
        log = LiveLog(path)
        log.add(Stepped(3.0, step, 2.5, 300, 0.2, "Algebra/1"))
        log.close()
        with path.open("a") as file:
            file.write('{"time": 4.0, "step"')
    assert [event.step for event in read_live_log(path)] == [1, 2]


def test_a_live_log_that_cannot_be_written_is_said_once(tmp_path, capsys):
    (tmp_path / "run").write_text("in the way")
    log = LiveLog(tmp_path / "run/live.jsonl")
    for _ in range(3):
        log.add(STARTED)
    log.close()
    said = capsys.readouterr().err
    assert said.count("cannot be written") == said.count("\n") == 1


def test_without_a_live_log_there_is_nothing_to_read(tmp_path):
    assert read_live_log(tmp_path / "live.jsonl") == []
    log = LiveLog(None)
    log.add(STARTED)
    log.close()
    assert list(tmp_path.iterdir()) == []
