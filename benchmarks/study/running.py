"""Running what is missing of a study: a clone per setting, several cells at a time."""

from __future__ import annotations

import functools
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from benchmarks._measure import say
from benchmarks._runs import ROOT
from benchmarks.study.rows import Row, append, drop, is_of, read_all, row_of
from benchmarks.study.settings import REPLAYS, params_of
from pipeline.common.errors import ResultsError
from pipeline.common.locks import only_one

CLONES = ROOT / ".study"
SHARED = ("evaluate_untrained_student", "curriculum_code")  # the last stages that all cells share
Values = dict[str, Any]


def git(*arguments: str, folder: Path = ROOT) -> str:
    return subprocess.run(["git", *arguments], cwd=folder, check=True, capture_output=True, text=True).stdout


@functools.cache
def newest_commit() -> str:
    """The newest as this process began, to its end."""
    return git("rev-parse", "HEAD").strip()


@dataclass(frozen=True)
class Plan:
    """What is run under one name: the working copy is called so, and what params.yaml's values become in it.

    said: the values that rows are known by, where those of `change` name folders of this machine. commit: whose
    pipeline and params.yaml it is, whatever is committed meanwhile.
    """

    name: str
    change: Callable[[Values], Values]
    said: Callable[[Values], Values] | None = None
    commit: str = field(default_factory=newest_commit)

    def changed(self) -> Values:
        """The values of params.yaml in the working copy."""
        return self.change(params_in(self.commit))

    def expected(self) -> Values:
        """The values that a row must be of."""
        return (self.said or self.change)(params_in(self.commit))


def study_plan(setting: str, commit: str | None = None) -> Plan:
    """One of the study's settings, with the newest commit or one that it was begun with.

    Raises:
        ResultsError: there is no such commit.
    """
    return Plan(setting, lambda values: params_of(values, setting), commit=known_commit(commit))


def known_commit(commit: str | None) -> str:
    """A commit's full name; None is the newest.

    Raises:
        ResultsError: there is no such commit.
    """
    try:
        return git("rev-parse", "--verify", "--quiet", f"{commit or 'HEAD'}^{{commit}}").strip()
    except subprocess.CalledProcessError as error:
        raise ResultsError(f"there is no commit {commit}; give one of `git log`") from error


@functools.cache
def params_in(commit: str) -> Values:
    """params.yaml's values in a commit."""
    values: Values = yaml.safe_load(git("show", f"{commit}:params.yaml"))
    return values


def append_missing(plan: Plan, methods: Sequence[str], seeds: Sequence[int], processes: int) -> None:
    """Runs the cells that have no row yet, seed by seed, `processes` at a time; rows of other params are dropped.

    Raises:
        ResultsError: a cell failed; the message names its log. BusyError: another process is at it.
    """
    with only_one(f"study-{plan.name}"):
        values = plan.expected()
        if dropped := drop(plan.name, lambda row: is_of(row, values)):
            say(f"{plan.name}: {dropped} rows of other params are dropped; git has them where they were committed")
        done = {row.cell for row in read_all(plan.name)}
        missing = [f"{method}-{seed}" for seed in seeds for method in methods if f"{method}-{seed}" not in done]
        if not missing:
            return
        say(f"{plan.name}: {len(missing)} runs are missing")
        project = working_copy(plan)
        replays = [cell for cell in missing if cell.rpartition("-")[0] in REPLAYS]
        for cells in ([c for c in missing if c not in replays], replays):
            if cells is replays:
                make_replayed(project, replays, processes)
            for row in run_cells(project, cells, values, processes):
                append(plan.name, row)
                say(f"{plan.name}: {row.cell} {row.accuracy:.1%}, KL {row.validation_kl[-1]:.4f}")


def run_cells(project: Path, cells: Sequence[str], values: Values, processes: int) -> Iterator[Row]:
    """Runs cells, `processes` at a time, and yields their rows in the same order."""
    with ThreadPoolExecutor(processes) as pool:
        yield from pool.map(lambda cell: run_cell(project, cell, values), cells)


def working_copy(plan: Plan) -> Path:
    """A working copy of the plan's commit, with changed params and what all cells share; finished stages stay."""
    project = CLONES / plan.name
    if not project.exists():
        git("clone", "--quiet", str(ROOT), str(project))
    git("fetch", "--quiet", folder=project)
    lock = project / "dvc.lock"
    finished = lock.read_bytes() if lock.exists() else b""
    git("reset", "--quiet", "--hard", plan.commit, folder=project)
    if (project / "finished").exists() and finished:
        lock.write_bytes(finished)
    else:  # the committed lock file is of other params
        lock.unlink()
        (project / "finished").touch()
    text = yaml.safe_dump(plan.changed(), sort_keys=False)
    (project / "params.yaml").write_text(text, encoding="utf-8")
    dvc(project, "repro", *SHARED, log="shared")
    return project


def make_replayed(project: Path, replays: Sequence[str], processes: int) -> None:
    """Trains the runs that these cells replay, each once: a run may be known from its row alone, made long ago."""
    cells = sorted({f"rl-{cell.rpartition('-')[2]}" for cell in replays})
    with ThreadPoolExecutor(processes) as pool:
        list(pool.map(lambda cell: dvc(project, "repro", "--single-item", f"train@{cell}", log=cell), cells))


def run_cell(project: Path, cell: str, values: Values) -> Row:
    """Trains and evaluates one cell."""
    replay = "_replay" if cell.rpartition("-")[0] in REPLAYS else ""
    stages = [f"train{replay}@{cell}", f"evaluate{replay}@{cell}"]
    dvc(project, "repro", "--single-item", *stages, log=cell)
    return row_of(project, cell, stages, values)


def dvc(project: Path, *arguments: str, log: str) -> None:
    """Runs DVC; waits while another process of the study holds its lock."""
    path = project / "checkpoints/logs" / f"{log}.log"
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        command = [sys.executable, "-m", "dvc", "--wait-for-lock", *arguments]
        # stages are started as `python`, which is to be this one whether or not its environment is active
        paths = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
        environment = os.environ | {"PATH": paths}
        if subprocess.run(command, cwd=project, env=environment, stdout=file, stderr=file, check=False).returncode:
            raise ResultsError(
                f"{' '.join(arguments)} failed in {project}; see {path}, then run the same command again"
            )
