"""The live view: what it says of each cell agrees with DVC, and it touches nothing."""

import io
import json
import os
import shutil
import socket
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from dvc.repo import Repo
from report_inputs import write, write_inputs
from rich.console import Console

from pipeline import report, watch
from pipeline.live_log.events import Failed, Started, Stepped, Validated
from pipeline.live_log.log import LiveLog
from pipeline.watching.cells import SILENCE, Cell, Curve, State, Study, read_study
from pipeline.watching.frame import duration, frame, sparkline
from pipeline.watching.up_to_date import LockFile
from tests.conftest import ROOT
from tests.end_to_end.conftest import change_params, digests
from tests.finished_project import tell_dvc

STAGES = ("train@rl-0", "evaluate@rl-0", "report")
REPORTED = (*(p for p in vars(report).values() if isinstance(p, Path) and p.suffix), "plots/runs/rl-0.png")
GONE = 2**22 + 1  # above the highest number that Linux gives a process


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A project in which rl-0 is done and DVC knows it; rl-1 and traditional have results that DVC does not know."""
    project = tmp_path_factory.mktemp("finished")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(project)
        write_inputs({"rl": 0.75, "traditional": 0.4}, [0, 1], resamples=200)
        values = yaml.safe_load((ROOT / "params.yaml").read_text()) | yaml.safe_load(Path("params.yaml").read_text())
        Path("params.yaml").write_text(yaml.safe_dump(values))
        for path in REPORTED:
            write(path, "stands in for the report's")
        write("models/students/rl-0/config.json", "{}")
        shutil.copy(ROOT / ".dvcignore", ".")
        for path in ("a/b.py", "a/__pycache__/b.pyc", "c.py"):
            write(f"pipeline/common/{path}", path)
        tell_dvc("rl-0")
    return project


@pytest.fixture
def project(finished, tmp_path, monkeypatch):
    """A copy of it; the working directory."""
    shutil.copytree(finished, tmp_path / "project")
    monkeypatch.chdir(tmp_path / "project")
    return tmp_path / "project"


def done():
    lock = LockFile(Path())
    return {stage for stage in STAGES if lock.is_done(stage)}


def done_by_dvc():
    """What DVC finds unchanged, and nothing that comes after something changed."""
    with Repo() as repo:
        changed = set(repo.status(list(STAGES)))
    return set(STAGES) - changed - ({"evaluate@rl-0"} if "train@rl-0" in changed else set())


def test_what_is_done_is_what_dvc_says(project):
    assert done() == done_by_dvc() == set(STAGES)


@pytest.mark.parametrize(
    ("change", "left"),
    [
        (lambda: change_params(lambda v: v["curricula"]["rl"].update(tau=0.7)), {"report"}),
        (lambda: change_params(lambda v: v["curricula"]["traditional"].update(arms="level")), set(STAGES)),
        (lambda: change_params(lambda v: v["report"].update(seed=7)), {"train@rl-0", "evaluate@rl-0"}),
        (lambda: Path("pipeline/train.py").write_text("another\n"), {"report"}),
        (lambda: Path("pipeline/common/a/b.py").write_text("another\n"), set()),
        (lambda: Path("pipeline/common/a/__pycache__/b.pyc").write_text("another\n"), set(STAGES)),
        (lambda: shutil.rmtree("models/students/rl-0"), {"report"}),
        (lambda: Path("data/predictions/teacher.jsonl").write_text("{}\n"), {"train@rl-0"}),
    ],
    ids=["its param", "another's param", "the report's param", "a file", "a folder", "ignored", "an output", "a dep"],
)
def test_a_change_undoes_what_depends_on_it_as_dvc_says(project, change, left):
    change()
    assert done() == done_by_dvc() == left


def live(cell, *events):
    log = LiveLog(Path("checkpoints") / f"train-{cell}-{'0' * 20}/live.jsonl")
    for event in events:
        log.add(event)
    log.close()


def waits_for_its_evaluation(cell):
    """Makes dvc.lock say that a cell is trained, as while DVC trains the others."""
    lock = yaml.safe_load(Path("dvc.lock").read_text())
    del lock["stages"][f"evaluate@{cell}"]
    Path("dvc.lock").write_text(yaml.safe_dump(lock))


def started(host=None, process=None, when=None):
    return Started(when or time.time(), host or socket.gethostname(), process or os.getpid(), 0, 10)


def steps(when, *numbers):
    return [Stepped(when + 2 * n, n, 3.0 - 0.1 * n, 300, 0.5, "Algebra/1") for n in numbers]


def cell(name):
    study = read_study([Path()])
    return next(cell for cell in study.cells if cell.name == name)


def test_cells_are_done_or_waiting_where_nothing_runs(project):
    study = read_study([Path()])
    assert {cell.name: cell.state for cell in study.cells} == {
        "rl-0": State.DONE,
        "rl-1": State.WAITING,
        "traditional-0": State.WAITING,
        "traditional-1": State.WAITING,
    }
    curve = study.cells[0].curve
    assert (len(curve.accuracy_V), len(curve.kl_V)) == (5, 5)
    assert study.cells[1].curve == Curve()
    assert study.seconds_left is None
    assert study.shared["report"] is State.DONE
    assert study.shared["prepare"] is State.WAITING


def test_a_cell_that_waits_for_its_evaluation_is_trained(project):
    waits_for_its_evaluation("rl-0")
    found = cell("rl-0")
    assert found.state is State.TRAINED
    assert len(found.curve.accuracy_V) == 5
    live("rl-0", started(process=GONE))  # left by a run with other params
    assert cell("rl-0").state is State.TRAINED
    live("rl-1", started(), *steps(time.time(), 1, 2))
    assert "mini: 4 cells: 0 done, 1 training, 1 trained, 2 waiting; about" in drawn(read_study([Path()]))


def test_an_evaluation_takes_as_long_as_others_did_or_the_untrained_students(project):
    def evaluated(name, seconds):
        path = Path(f"data/costs/evaluation/{name}.json")
        cost = json.loads(path.read_text())
        path.write_text(json.dumps(cost | {"seconds": seconds}))

    for name in ("rl-0", "rl-1", "traditional-0", "traditional-1"):
        evaluated(name, 8.0)
    evaluated("untrained_student", 5.0)
    evaluated("teacher", 50.0)
    assert read_study([Path()]).seconds_per_evaluation == pytest.approx(8.0)
    for name in ("rl-0", "rl-1", "traditional-0", "traditional-1"):
        Path(f"data/costs/evaluation/{name}.json").unlink()
    assert read_study([Path()]).seconds_per_evaluation == pytest.approx(5.0)


def test_a_run_that_trains_is_seen_with_its_curve_and_pace(project):
    now = time.time()
    live("rl-1", started(), Validated(now, 0, 0.1, 0.5), *steps(now, 1, 2, 3), Validated(now, 3, 0.2, 0.4))
    found = cell("rl-1")
    assert (found.state, found.step, found.steps, found.favourite) == (State.TRAINING, 3, 10, "Algebra/1")
    assert found.curve == Curve([0.1, 0.2], [0.5, 0.4])
    assert (found.loss, found.tokens_per_second) == (pytest.approx(2.7), 600.0)
    assert found.seconds_per_step == pytest.approx(2.0)
    assert found.seconds_left == pytest.approx(14.0)


def test_steps_that_come_again_after_a_kill_count_once(project):
    now = time.time()
    live("rl-1", started(process=GONE), *steps(now, 1, 2, 3), Validated(now, 3, 0.2, 0.4))
    live("rl-1", started(), *steps(now + 60, 3, 4), Validated(now, 3, 0.2, 0.4))
    found = cell("rl-1")
    assert (found.state, found.step, found.curve.accuracy_V) == (State.TRAINING, 4, [0.2])
    assert found.seconds_per_step == pytest.approx(2.0)  # not the minute between the two processes


@pytest.mark.parametrize(
    ("events", "state"),
    [
        ([started(process=GONE)], State.STOPPED),
        ([started(when=1.0)], State.STOPPED),  # this process has its number, but is younger
        ([started(host="elsewhere", process=GONE)], State.TRAINING),
        ([started(host="elsewhere", when=time.time() - 2 * SILENCE)], State.STOPPED),
        ([started(), Failed(2.0, "the loss is nan")], State.FAILED),
    ],
    ids=["gone", "another process", "elsewhere", "elsewhere and silent", "failed"],
)
def test_what_became_of_a_run_that_is_not_finished(project, events, state):
    live("rl-1", *events)
    assert cell("rl-1").state is state
    live("rl-0", *events)  # with other params, say: what is done is done, unless it is made again now
    assert cell("rl-0").state is (state if state is State.TRAINING else State.DONE)


def test_why_a_run_failed_is_said(project):
    live("rl-1", started(), Failed(2.0, "the loss is nan"))
    Path("checkpoints/logs").mkdir(parents=True)
    Path("checkpoints/logs/failed").write_text("traditional-0\ntraditional-1\n")
    Path("checkpoints/logs/traditional-0.log").write_text("x\nerror: no space left\nERROR: failed to reproduce\n")
    assert [cell(name).reason for name in ("rl-1", "traditional-0", "traditional-1")] == [
        "the loss is nan",
        "error: no space left",
        "see checkpoints/logs/traditional-1.log",
    ]
    assert cell("traditional-0").state is State.FAILED


def test_what_dvc_writes_now_is_running(project):
    def written(path, process):
        lock = {"write": {str(project / path): {"pid": process, "cmd": "dvc repro"}}, "read": {}}
        Path(".dvc/tmp/rwlock").write_text(json.dumps(lock))
        return cell("rl-1").state

    assert written("data/predictions/rl-1.jsonl", os.getpid()) is State.EVALUATING
    assert written("models/students/rl-1", os.getpid()) is State.TRAINING
    assert written("models/students/rl-1", GONE) is State.WAITING
    assert written("../elsewhere/models/students/rl-1", os.getpid()) is State.WAITING
    written("data/prepared", os.getpid())
    assert read_study([Path()]).shared["prepare"] is State.TRAINING
    Path(".dvc/tmp/rwlock").write_text('{"write": {"half')
    assert cell("rl-1").state is State.WAITING


def test_cells_may_be_trained_in_copies_of_the_project(project):
    copy = project.parent / "copy"
    shutil.copytree(project, copy)
    shutil.rmtree("models/students/rl-0")
    assert cell("rl-0").state is State.WAITING
    now = time.time()
    log = LiveLog(copy / f"checkpoints/train-rl-1-{'0' * 20}/live.jsonl")
    for event in (started(), *steps(now, 1, 2)):
        log.add(event)
    log.close()
    states = {cell.name: cell.state for cell in read_study([Path(), copy]).cells}
    assert (states["rl-0"], states["rl-1"]) == (State.DONE, State.TRAINING)


def test_looking_on_changes_no_file_and_needs_no_lock(project, monkeypatch, capsys):
    now = time.time()
    live("rl-1", started(), *steps(now, 1, 2))
    Path(".dvc/tmp/lock").write_text("held")
    before = digests(project), sorted(project.glob("**/*"))
    monkeypatch.setattr(sys, "argv", ["watch", "--once"])
    watch.main()
    assert (digests(project), sorted(project.glob("**/*"))) == before
    said = capsys.readouterr().out
    assert "mini: 4 cells: 1 done, 1 training, 2 waiting; about" in said
    assert "rl           0● 1◐" in said


def test_a_folder_that_is_no_copy_is_refused(project, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["watch", ".", "nowhere", "--once"])
    with pytest.raises(SystemExit):
        watch.main()
    assert capsys.readouterr().err == (
        "error: nowhere holds no dvc.yaml; name folders that are copies of the project\n"
    )


def study_of(*cells, per_cell=None, evaluation=None):
    return Study("mini", None, cells, dict.fromkeys(("prepare", "report"), State.DONE), per_cell, evaluation)


TRAINING = Cell("rl", 0, State.TRAINING, Curve([0.1, 0.3], [0.5, 0.4]), 4, 10, 2.5, 900.0, "Algebra/1", 3.0)
WAITING = Cell("rl", 1, State.WAITING)
TRAINED = Cell("rl", 2, State.TRAINED)
DONE = Cell("random", 0, State.DONE, Curve([0.1, 0.6], [0.5, 0.2]))


def test_the_time_left_is_the_work_left_over_the_cells_that_run():
    assert study_of(TRAINING, WAITING, DONE).seconds_left == pytest.approx(18 + 30)
    assert study_of(TRAINING, WAITING, DONE, evaluation=5.0).seconds_left == pytest.approx(23 + 35)
    assert study_of(TRAINING, TRAINING, WAITING).seconds_left == pytest.approx((18 + 18 + 30) / 2)
    evaluating = Cell("rl", 0, State.EVALUATING)
    assert study_of(evaluating, WAITING, per_cell=60.0, evaluation=5.0).seconds_left == pytest.approx(5 + 65)
    assert study_of(evaluating, WAITING).seconds_left is None
    assert study_of(WAITING, DONE, per_cell=60.0).seconds_left is None
    assert study_of(TRAINING, TRAINED, DONE, evaluation=5.0).seconds_left == pytest.approx(23 + 5)
    assert study_of(evaluating, TRAINED, DONE, evaluation=5.0).seconds_left == pytest.approx(5 + 5)


def drawn(study, width=100):
    console = Console(width=width, file=io.StringIO())
    console.print(frame(study))
    return console.file.getvalue()


@pytest.mark.parametrize(("most", "said"), [(1, 1), (10_000, None), (None, None)])
def test_more_problems_than_there_are_is_all_of_them(project, most, said):
    values = yaml.safe_load(Path("params.yaml").read_text())
    values["scales"][values["scale"]]["training"]["validation_problems"] = most
    Path("params.yaml").write_text(yaml.safe_dump(values))
    assert read_study([Path()]).validation_problems == said


def test_a_frame_says_how_many_problems_an_accuracy_is_of():
    study = study_of(DONE)
    assert "validation accuracy  " in drawn(study)
    assert "validation accuracy (250 problems)  " in drawn(replace(study, validation_problems=250))


def test_a_frame_has_a_line_per_method_and_one_for_each_cell_that_is_at_work_or_in_trouble():
    failed = Cell("ucb", 3, State.FAILED, step=4, steps=10, reason="the loss is nan")
    stopped = Cell("ddk", 2, State.STOPPED, step=5, steps=10)
    text = drawn(study_of(TRAINING, WAITING, DONE, failed, stopped))
    lines = [" ".join(line.split()) for line in text.splitlines()]
    assert lines[0] == "mini: 5 cells: 1 done, 1 training, 1 failed, 1 stopped, 1 waiting; about 2 min left"
    assert "rl 0◐ 1○ ▂▅ 30.0% 0.4000" in lines
    assert "random 0● ▂█ 60.0% 0.2000" in lines
    (training,) = [line for line in lines if line.startswith("rl-0")]
    assert training.startswith("rl-0 training 4/10 ")
    assert training.endswith("2.500 900 ▂▅ 18 s Algebra/1")
    assert any(line.startswith("ucb-3 failed 4/10") for line in lines)
    assert any(line.startswith("ddk-2 stopped 5/10") for line in lines)
    assert lines[-2:] == ["ucb-3: the loss is nan", "ddk-2: its process has ended; the same command goes on"]
    assert not any(line.startswith(("rl-1", "random-0")) for line in lines)


def test_the_signs_in_sight_are_explained():
    legend = "● done  ◐ training  ◎ trained, to be evaluated  ○ waiting"
    assert legend in drawn(study_of(TRAINING, TRAINED, WAITING, DONE)).splitlines()[5].rstrip()
    assert drawn(study_of(DONE)).splitlines()[-1].rstrip() == "● done"


@pytest.mark.parametrize("width", [100, 60, 40, 12])
def test_a_narrow_screen_has_fewer_columns_and_none_that_is_cut(width):
    seeds = [replace(DONE, seed=seed) for seed in range(5)]
    text = drawn(study_of(TRAINING, *seeds), width)
    assert "…" not in text
    assert max(map(len, text.splitlines())) <= width
    assert ("likeliest arm" in text) == (width > 60)
    assert ("accuracy" in text) == (width > 40)
    assert "rl-0" in text


def test_a_stopped_run_is_in_no_mean_beside_others():
    stopped = replace(DONE, seed=1, state=State.STOPPED, curve=Curve([0.9], [0.001]))
    assert f"{DONE.curve.accuracy_V[-1]:.1%}" in drawn(study_of(DONE, stopped))
    assert "90.0%" not in drawn(study_of(DONE, stopped))
    assert "90.0%" in drawn(study_of(stopped))


def test_methods_curves_are_means_as_far_as_all_seeds_have_got():
    text = drawn(study_of(TRAINING, Cell("rl", 1, State.DONE, Curve([0.3, 0.5, 0.6], [0.5, 0.2, 0.1]))))
    assert "40.0%  0.3000" in text


@pytest.mark.parametrize(
    ("values", "highest", "bars"), [([], 1.0, ""), ([0, 0], 0.0, "▁▁"), ([0, 0.5, 1], 1.0, "▁▅█"), ([0.1], 0.8, "▂")]
)
def test_bars_go_from_nothing_to_the_highest(values, highest, bars):
    assert sparkline(values, highest) == bars


def test_durations_are_in_the_unit_that_fits():
    assert [duration(s) for s in (48.4, 89, 720, 5000, 12_600)] == ["48 s", "89 s", "12 min", "83 min", "3.5 h"]
