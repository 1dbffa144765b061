"""What `dvc repro` costs: useful work and overhead of a cold run, and how the cost grows with the number of cells.

    python -m benchmarks.pipeline              a cold run of the default scale, 6 minutes on 2 cores
    python -m benchmarks.pipeline --cells      1, 5, 15 and 30 cells with short trainings, 6 minutes
    python -m benchmarks.pipeline --tiny       both at their smallest, in a minute

Everything runs in a fresh clone of the last commit, with an empty DVC cache. A clock in each stage's process (see
_stage_clock) says how long it ran and how long it imported; what is left of the whole time is DVC's: its own start,
starting processes, digests, the lock file. Work is what a stage's process does besides importing.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

from benchmarks._goals import Goal, print_goals, print_rows, spread, write_found
from benchmarks._measure import environment, say
from benchmarks._runs import ROOT
from pipeline.errors import ResultsError, exit_on_error

METHODS = ["rl", "traditional", "easy_to_hard", "hard_to_easy", "random"]
SHORT = {  # a cell of a few seconds: starting it is most of it
    "data": {"train_size": 70, "validation_size": 35, "test_size": 35},
    "training": {"epochs": 1, "steps_per_epoch": 3, "validations": 1},
    "generation": {"max_new_tokens": 16},
}


class Clone:
    """A fresh clone of the project, without results."""

    def __init__(self, folder: Path) -> None:
        """Clones the last commit."""
        self.folder, self._clock = folder / "project", folder / "clock.jsonl"
        subprocess.run(["git", "clone", "--quiet", str(ROOT), str(self.folder)], check=True)

    def change_params(self, change: Callable[[dict[str, Any]], Any]) -> None:
        """Applies `change` to the values of params.yaml."""
        path = self.folder / "params.yaml"
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
        change(values)
        path.write_text(yaml.safe_dump(values, sort_keys=False), encoding="utf-8")

    def repro(self) -> tuple[float, list[dict[str, Any]]]:
        """Seconds of a `dvc repro`, and what its stages' clocks noted.

        Raises:
            ResultsError: it failed.
        """
        self._clock.write_text("", encoding="utf-8")
        python = Path(sys.executable).parent
        settings = {
            "STAGE_CLOCK": str(self._clock),
            "PYTHONPATH": str(ROOT / "benchmarks/_stage_clock"),
            "PATH": f"{python}{os.pathsep}{os.environ['PATH']}",
        }
        started = time.perf_counter()
        done = subprocess.run(
            [python / "dvc", "repro"],
            cwd=self.folder,
            env=os.environ | settings,
            capture_output=True,
            text=True,
            check=False,
        )
        seconds = time.perf_counter() - started
        if done.returncode:
            raise ResultsError(f"`dvc repro` failed in {self.folder}: {done.stderr.strip()[-400:]}")
        return seconds, [json.loads(line) for line in self._clock.read_text(encoding="utf-8").splitlines()]


def measure_cold(tiny: bool) -> dict[str, Any]:
    """A cold default run, split."""
    with tempfile.TemporaryDirectory() as folder:
        clone = Clone(Path(folder))
        if tiny:
            clone.change_params(lambda values: shorten(values, METHODS[:1], [0]))
        seconds, notes = clone.repro()
    stages: dict[str, dict[str, float]] = defaultdict(lambda: {"processes": 0, "seconds": 0.0, "imports": 0.0})
    for note in notes:
        row = stages[note["stage"].split()[0].removeprefix("pipeline.")]
        row["processes"] += 1
        row["seconds"] += note["seconds"]
        row["imports"] += note["imports"]
    imports = sum(note["imports"] for note in notes)
    in_stages = sum(note["seconds"] for note in notes)
    return {
        "seconds": seconds,
        "work": in_stages - imports,
        "imports": imports,
        "dvc": seconds - in_stages,
        "processes": len(notes),
        "overhead": 1 - (in_stages - imports) / seconds,
        "stages": stages,
    }


def shorten(values: dict[str, Any], methods: list[str], seeds: list[int]) -> None:
    """Short trainings, and these cells."""
    for section, change in SHORT.items():
        values["scales"]["mini"][section].update(change)
    values["report"]["resamples"] = 200
    values.update(methods=methods, seeds=seeds)


def measure_cells(grids: list[tuple[int, int]]) -> dict[str, Any]:
    """Seconds per cell as more cells are added to one project, and of a run with nothing to do at the end."""
    rows, before = {}, 0
    with tempfile.TemporaryDirectory() as folder:
        clone = Clone(Path(folder))
        clone.change_params(lambda values: shorten(values, METHODS[:1], [99]))
        clone.repro()  # what all cells need, and one that is left out later
        for methods, seeds in grids:
            clone.change_params(
                lambda values, m=methods, s=seeds: values.update(methods=METHODS[:m], seeds=[*range(s)])
            )
            seconds, _ = clone.repro()
            cells = methods * seeds
            rows[f"{cells} cells"] = {
                "cells added": cells - before,
                "seconds": seconds,
                "seconds per cell": seconds / (cells - before),
            }
            before = cells
            say(f"{cells} cells: {seconds:.1f} s for {rows[f'{cells} cells']['cells added']} more")
        nothing = [clone.repro()[0] for _ in range(3)]
    return {"rows": rows, "nothing_to_do": spread(nothing), "cells": before}


def goals_of(found: dict[str, Any]) -> list[Goal]:
    """Overhead, the whole run, a straight line, nothing to do."""
    goals = []
    if "cold" in found:
        cold = found["cold"]
        goals.append(Goal("overhead (imports and DVC) of a cold run", cold["overhead"], "at most", 0.15))
        goals.append(Goal("minutes of a cold run", cold["seconds"] / 60, "at most", 6))
    if "cells" in found:
        cells = found["cells"]
        per_cell = [row["seconds per cell"] for row in cells["rows"].values() if row["cells added"] > 1]
        goals.append(
            Goal("seconds per cell, the last added over the first", per_cell[-1] / per_cell[0], "at most", 1.2)
        )
        nothing = cells["nothing_to_do"].median
        goals.append(Goal(f"seconds of `dvc repro` with nothing to do, {cells['cells']} cells", nothing, "at most", 2))
    return goals


@exit_on_error
def main() -> None:
    """Measures, prints and writes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tiny", action="store_true", help="few cells, short trainings")
    parser.add_argument("--cells", action="store_true", help="how the cost grows with the number of cells")
    parser.add_argument("--out", type=Path, help="JSON file; default: benchmarks/results/pipeline[-cells].json")
    args = parser.parse_args()
    started = time.perf_counter()
    found: dict[str, Any] = {"benchmark": "pipeline", "environment": environment("cpu") | {"cpus": os.cpu_count()}}
    if args.tiny or not args.cells:
        found["cold"] = cold = measure_cold(args.tiny)
        say(f"cold run: {cold['seconds']:.0f} s, {cold['processes']} processes")
        say(f"work {cold['work']:.0f} s, imports {cold['imports']:.0f} s, DVC {cold['dvc']:.0f} s")
        print_rows(("processes", "seconds", "imports"), cold["stages"])
    if args.tiny or args.cells:
        found["cells"] = measure_cells([(1, 1), (3, 1)] if args.tiny else [(1, 1), (5, 1), (5, 3), (5, 6)])
        print_rows(("cells added", "seconds", "seconds per cell"), found["cells"]["rows"])
    goals = goals_of(found)
    print_goals(goals)
    found["seconds"] = round(time.perf_counter() - started, 1)
    say(f"\n{found['seconds']:.0f} s")
    name = "pipeline-cells.json" if args.cells else "pipeline.json"
    write_found(args.out or (None if args.tiny else ROOT / "benchmarks/results" / name), found, goals)


if __name__ == "__main__":
    main()
