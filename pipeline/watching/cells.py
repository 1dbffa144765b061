"""What is known of every cell, from files: dvc.lock, live logs, run logs, and DVC's list of what is being written."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path

import psutil

from pipeline.common.errors import ResultsError
from pipeline.common.params import ParamsFile
from pipeline.common.paths import (
    CHECKPOINTS,
    EVALUATION_COSTS,
    LEARNING_CURVE,
    LIVE_LOG,
    PREDICTIONS,
    RUNS,
    STUDENTS,
    TRAINING_COSTS,
    UNTRAINED_STUDENT,
)
from pipeline.live_log.events import Failed, Started, Stepped, Validated, read_live_log
from pipeline.results.files import read_csv, read_record
from pipeline.results.rows import CurvePoint, EvaluationCost, TrainingCost
from pipeline.watching.up_to_date import LockFile

SILENCE = 900.0  # seconds without a word after which a run on another machine counts as stopped
SHARED = ("prepare", "teacher_logits", "curriculum_code", "evaluate_teacher", "evaluate_untrained_student", "report")
RECENT = 50  # steps that a pace is taken over


class State(Enum):
    """Where a cell stands; of several copies of the project, that counts which comes first here.

    DVC trains all cells before it evaluates any, so a cell that is trained may have to wait for its evaluation.
    """

    DONE = "done"
    EVALUATING = "evaluating"
    TRAINING = "training"
    TRAINED = "trained"
    FAILED = "failed"
    STOPPED = "stopped"
    WAITING = "waiting"


@dataclass(frozen=True)
class Curve:
    """Validations so far: accuracy, and KL per token from the teacher."""

    accuracy_V: Sequence[float] = ()
    kl_V: Sequence[float] = ()


@dataclass(frozen=True)
class Cell:
    """One method with one seed.

    reason: why it failed. seconds_per_step: from one step's end to the next's, validations among them.
    """

    method: str
    seed: int
    state: State
    curve: Curve = field(default_factory=Curve)
    step: int = 0
    steps: int | None = None
    loss: float | None = None
    tokens_per_second: float | None = None
    favourite: str | None = None
    seconds_per_step: float | None = None
    reason: str | None = None

    @property
    def name(self) -> str:
        """METHOD-SEED."""
        return f"{self.method}-{self.seed}"

    @property
    def whole_seconds(self) -> float | None:
        """Of its training from start to end."""
        return None if self.seconds_per_step is None or self.steps is None else self.seconds_per_step * self.steps

    @property
    def seconds_left(self) -> float | None:
        """Of its training."""
        whole = self.whole_seconds
        return None if whole is None or self.steps is None else whole * (1 - self.step / self.steps)


@dataclass(frozen=True)
class Study:
    """All cells, method by method, the stages that they share, and what a cell took so far, in seconds.

    validation_problems: how many of them a learning curve's accuracy is of; None: all.
    """

    scale: str
    validation_problems: int | None
    cells: Sequence[Cell]
    shared: dict[str, State]
    seconds_per_cell: float | None
    seconds_per_evaluation: float | None

    def count(self, *states: State) -> int:
        """How many cells are in one of these states."""
        return sum(cell.state in states for cell in self.cells)

    def of(self, method: str) -> list[Cell]:
        """A method's cells."""
        return [cell for cell in self.cells if cell.method == method]

    @property
    def seconds_left(self) -> float | None:
        """Until all cells are done, if as many run at a time as do now; None where nothing runs or nothing is known."""
        running = [cell for cell in self.cells if cell.state in (State.TRAINING, State.EVALUATING)]
        paces = [cell.whole_seconds for cell in running if cell.whole_seconds is not None]
        whole = sum(paces) / len(paces) if paces else self.seconds_per_cell
        left = [self._seconds_left_of(cell, whole) for cell in self.cells]
        known = [seconds for seconds in left if seconds is not None]
        return sum(known) / len(running) if running and len(known) == len(left) else None

    def _seconds_left_of(self, cell: Cell, whole: float | None) -> float | None:
        """Of a cell's training, which takes `whole` seconds where it says nothing itself, and of its evaluation."""
        if cell.state is State.DONE:
            return 0.0
        training = 0.0 if cell.state in (State.TRAINED, State.EVALUATING) else whole
        if cell.state is State.TRAINING and cell.seconds_left is not None:
            training = cell.seconds_left
        return None if training is None else training + (self.seconds_per_evaluation or 0.0)


def read_study(projects: Sequence[Path]) -> Study:
    """The study of the first project; cells may be trained in the others, which are copies of it.

    Raises:
        ParamsError: params.yaml is not there or not valid.
    """
    params = ParamsFile(projects[0] / "params.yaml")
    methods = [*params.section("methods", list[str]), *params.section("replays", list[str])]
    seeds = params.section("seeds", list[int])
    found = [_Project(project, set(params.section("replays", list[str]))) for project in projects]
    order = list(State)
    cells = [
        min((project.cell(method, seed) for project in found), key=lambda cell: order.index(cell.state))
        for method in methods
        for seed in seeds
    ]
    shared = {name: min((project.shared(name) for project in found), key=order.index) for name in SHARED}
    names = [cell.name for cell in cells]
    return Study(
        params.scale,
        _answered(params),
        cells,
        shared,
        _mean(cost for p in projects for cost in _seconds(p / TRAINING_COSTS, names, TrainingCost)),
        _seconds_per_evaluation(projects, names),
    )


def _answered(params: ParamsFile) -> int | None:
    """How many of the validation problems are answered; None: all."""
    most = params.scale_section("training.validation_problems", int | None)  # type: ignore[arg-type]  # no type[T]
    return None if most is None or most >= params.scale_section("data.validation_size", int) else most


def _seconds_per_evaluation(projects: Sequence[Path], names: Sequence[str]) -> float | None:
    """What evaluations of cells took; before the first, what that of the untrained student did, which is as large."""
    by_cells, by_student = (
        _mean(cost for p in projects for cost in _seconds(p / EVALUATION_COSTS, evaluated, EvaluationCost))
        for evaluated in (names, [UNTRAINED_STUDENT])
    )
    return by_student if by_cells is None else by_cells


def _mean(values: Iterable[float]) -> float | None:
    known = list(values)
    return sum(known) / len(known) if known else None


def _seconds(folder: Path, names: Sequence[str], kind: type[TrainingCost] | type[EvaluationCost]) -> Iterable[float]:
    for name in names:
        try:
            yield read_record(folder / f"{name}.json", kind).seconds
        except ResultsError:  # not there yet
            continue


class _Project:
    """A copy of the project, at this moment."""

    def __init__(self, folder: Path, replays: set[str]) -> None:
        self._folder, self._replays = folder, replays
        self._lock = LockFile(folder)
        self._written = _being_written(folder)
        failed = folder / CHECKPOINTS / "logs/failed"  # of tools/run_cells.sh
        self._failed = failed.read_text(encoding="utf-8").split() if failed.exists() else []

    def shared(self, stage: str) -> State:
        if self._lock.is_done(stage):
            return State.DONE
        out = {"prepare": "data/prepared", "teacher_logits": "data/teacher_logits/train", "report": "plots/runs"}
        out |= {f"evaluate_{name}": f"{PREDICTIONS}/{name}.jsonl" for name in ("teacher", "untrained_student")}
        return State.TRAINING if out.get(stage, "data/curriculum_code") in self._written else State.WAITING

    def cell(self, method: str, seed: int) -> Cell:
        name, replay = f"{method}-{seed}", "_replay" * (method in self._replays)
        live = self._live_cell(method, seed)
        if live is not None and live.state is State.TRAINING:
            return live
        trained = self._lock.is_done(f"train{replay}@{name}")
        evaluated = trained and self._lock.is_done(f"evaluate{replay}@{name}")
        state = State.DONE if evaluated else self._state_by_others(name)
        if trained and state is State.WAITING:
            state = State.TRAINED
        if live is not None and state in (State.WAITING, State.FAILED):
            return live
        curve = self._finished_curve(name) if trained or state is State.EVALUATING else Curve()
        return Cell(method, seed, state, curve, reason=self._last_words(name) if state is State.FAILED else None)

    def _state_by_others(self, name: str) -> State:
        """What DVC and tools/run_cells.sh say of a cell that is not done."""
        if f"{PREDICTIONS}/{name}.jsonl" in self._written:
            return State.EVALUATING
        if f"{STUDENTS}/{name}" in self._written:
            return State.TRAINING
        return State.FAILED if name in self._failed else State.WAITING

    def _finished_curve(self, name: str) -> Curve:
        try:
            points = read_csv(self._folder / RUNS / name / LEARNING_CURVE, CurvePoint)
        except ResultsError:
            return Curve()
        return Curve(points["validation_accuracy"].tolist(), points["validation_kl"].tolist())

    def _last_words(self, name: str) -> str | None:
        log = self._folder / CHECKPOINTS / "logs" / f"{name}.log"
        lines = log.read_text(encoding="utf-8", errors="replace").splitlines() if log.exists() else []
        return next((line for line in reversed(lines) if line.startswith("error: ")), f"see {log}")

    def _live_cell(self, method: str, seed: int) -> Cell | None:
        """What a run that is not finished says of itself; of several with other params or code the newest counts."""
        logs = (self._folder / CHECKPOINTS).glob(f"train-{method}-{seed}-{'[0-9a-f]' * 20}/{LIVE_LOG}")
        newest = max(logs, key=lambda log: log.stat().st_mtime, default=None)
        return None if newest is None else _live_cell(method, seed, newest)


def _live_cell(method: str, seed: int, log: Path) -> Cell | None:
    events = read_live_log(log)
    starts = [event for event in events if isinstance(event, Started)]
    if not starts:
        return None
    start, last = starts[-1], events[-1]
    steps = {event.step: event for event in events if isinstance(event, Stepped)}  # after a kill some come again
    validations = {event.step: event for event in events if isinstance(event, Validated)}
    newest = steps.get(max(steps, default=0))
    failed = isinstance(last, Failed)
    state = State.FAILED if failed else State.TRAINING if _is_alive(start, last.time) else State.STOPPED
    return Cell(
        method,
        seed,
        state,
        Curve(*([getattr(v, what) for _, v in sorted(validations.items())] for what in ("accuracy", "kl"))),
        step=newest.step if newest else start.step,
        steps=start.steps,
        loss=newest.loss if newest else None,
        tokens_per_second=newest.tokens / newest.seconds if newest else None,
        favourite=newest.favourite if newest else None,
        seconds_per_step=_pace([e for e in events[events.index(start) :] if isinstance(e, Stepped)]),
        reason=last.reason if isinstance(last, Failed) else None,
    )


def _pace(steps: Sequence[Stepped]) -> float | None:
    recent = steps[-RECENT - 1 :]
    return (recent[-1].time - recent[0].time) / (len(recent) - 1) if len(recent) > 1 else None


def _is_alive(start: Started, last_word: float) -> bool:
    """Whether the process that a run started in still works on it."""
    if start.host != socket.gethostname():
        return time.time() - last_word < SILENCE
    try:
        return bool(psutil.Process(start.process).create_time() <= start.time)  # or the number is another's by now
    except psutil.NoSuchProcess:
        return False


def _being_written(project: Path) -> set[str]:
    """The outputs that stages write now, by DVC's own list, which is read without its lock."""
    try:
        writers = json.loads((project / ".dvc/tmp/rwlock").read_text(encoding="utf-8")).get("write", {})
    except (FileNotFoundError, json.JSONDecodeError):  # nothing runs, or the list is just being written
        return set()
    folder = project.resolve()
    alive = [Path(path) for path, writer in writers.items() if psutil.pid_exists(int(writer["pid"]))]
    return {path.relative_to(folder).as_posix() for path in alive if path.is_relative_to(folder)}
