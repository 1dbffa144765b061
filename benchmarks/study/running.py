"""Running what is missing of the study: a clone per setting, several cells at a time."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import yaml

from benchmarks._measure import say
from benchmarks._runs import ROOT
from benchmarks.study.rows import Row, append, drop, read_all, row_of
from benchmarks.study.settings import REPLAYS, params_of
from pipeline.common.errors import ResultsError

CLONES = ROOT / ".study"
SHARED = ("evaluate_untrained_student", "curriculum_code")  # the last stages that all cells share


def run_missing(setting: str, methods: Sequence[str], seeds: Sequence[int], processes: int) -> None:
    """Runs the cells of a setting that have no row yet.

    Raises:
        ResultsError: a cell failed; the message names its log.
    """
    append_missing(setting, methods, seeds, processes, lambda: shared_project(setting))


def append_missing(
    setting: str, methods: Sequence[str], seeds: Sequence[int], processes: int, get_ready: Callable[[], Path]
) -> None:
    """Runs the cells that have no row yet, seed by seed, `processes` at a time, in the working copy of `get_ready`.

    Raises:
        ResultsError: a cell failed; the message names its log.
    """
    curricula = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))["curricula"]
    drop(setting, lambda row: row.params == curricula[row.method])
    done = {row.cell for row in read_all(setting)}
    missing = [f"{method}-{seed}" for seed in seeds for method in methods if f"{method}-{seed}" not in done]
    if not missing:
        return
    say(f"{setting}: {len(missing)} runs are missing")
    project = get_ready()
    replays = {cell for cell in missing if cell.rpartition("-")[0] in REPLAYS}
    for cells in ([c for c in missing if c not in replays], [c for c in missing if c in replays]):
        for row in run_cells(project, cells, curricula, processes):
            append(setting, row)
            say(f"{setting}: {row.cell} {row.accuracy:.1%}")


def run_cells(project: Path, cells: Sequence[str], curricula: dict[str, Any], processes: int) -> Iterator[Row]:
    """Runs cells, `processes` at a time, and yields their rows in the same order."""
    with ThreadPoolExecutor(processes) as pool:
        yield from pool.map(lambda cell: run_cell(project, cell, curricula), cells)


def shared_project(setting: str) -> Path:
    """The setting's working copy with all that its cells share."""
    return working_copy(setting, lambda values: params_of(values, setting))


def working_copy(name: str, change: Callable[[dict[str, Any]], dict[str, Any]]) -> Path:
    """A working copy at the last commit, with changed params and what all cells share; finished stages stay."""
    project = CLONES / name
    if not project.exists():
        subprocess.run(["git", "clone", "--quiet", str(ROOT), str(project)], check=True)
    subprocess.run(["git", "fetch", "--quiet"], cwd=project, check=True)
    lock = project / "dvc.lock"
    finished = lock.read_bytes() if lock.exists() else b""
    subprocess.run(["git", "reset", "--quiet", "--hard", "origin/HEAD"], cwd=project, check=True)
    if (project / "finished").exists() and finished:
        lock.write_bytes(finished)
    else:  # the committed lock file is of other params
        lock.unlink()
        (project / "finished").touch()
    path = project / "params.yaml"
    values = change(yaml.safe_load(path.read_text(encoding="utf-8")))
    path.write_text(yaml.safe_dump(values, sort_keys=False), encoding="utf-8")
    dvc(project, "repro", *SHARED, log="shared")
    return project


def run_cell(project: Path, cell: str, curricula: dict[str, Any]) -> Row:
    """Trains and evaluates one cell."""
    method, _, seed = cell.rpartition("-")
    replay = "_replay" if method in REPLAYS else ""
    if replay:  # what it replays may be known from its row alone
        dvc(project, "repro", "--single-item", f"train@rl-{seed}", log=f"{cell}-rl")
    dvc(project, "repro", "--single-item", f"train{replay}@{cell}", f"evaluate{replay}@{cell}", log=cell)
    return row_of(project, cell, curricula[method])


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
