"""What `dvc repro` costs: useful work and overhead of a cold run, and how the cost grows with the number of cells.

    python -m benchmarks.pipeline              a cold run of the default scale with one seed; the whole run from it
    python -m benchmarks.pipeline --whole      the whole cold default run
    python -m benchmarks.pipeline --cells      one more cell of rl beside 0, 4, 14 and 29 others, with short trainings
    python -m benchmarks.pipeline --tiny       both at their smallest, in a minute

Everything runs in a fresh clone of the last commit, with an empty DVC cache. A clock in each stage's process (see
_stage_clock) says how long it ran and how long it imported; what is left of the whole time is DVC's: its own start,
starting processes, digests, the lock file. Work is what a stage's process does besides importing.

The other cells of --cells are copies of one that has run, which `dvc commit` takes for results: DVC has as much to do
with them as with any other.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import shutil
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
from pipeline.common.errors import ResultsError
from pipeline.common.stage import exit_on_error

WHOLE_SEEDS = 3  # of the default params
FIRST_SEED = 99  # of the cell that the others of --cells are copies of
METHODS = ["rl", "traditional", "easy_to_hard", "hard_to_easy", "random"]
SHORT = {  # a cell of a few seconds: starting it is most of it
    "data": {
        "target": {"subjects": None, "levels": None},
        "train_size": 70,
        "probe_size": 35,
        "validation_size": 35,
        "test_size": 35,
    },
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

    def forget_cells(self) -> None:
        """Drops what the committed lock file says of cells: DVC would carry it along."""
        path = self.folder / "dvc.lock"
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
        values["stages"] = {name: stage for name, stage in values["stages"].items() if "@" not in name}
        path.write_text(yaml.safe_dump(values, sort_keys=False), encoding="utf-8")

    def repro(self) -> tuple[float, list[dict[str, Any]]]:
        """Seconds of a `dvc repro`, and what its stages' clocks noted.

        Raises:
            ResultsError: it failed.
        """
        self._clock.write_text("", encoding="utf-8")
        started = time.perf_counter()
        self._dvc("repro")
        seconds = time.perf_counter() - started
        return seconds, [json.loads(line) for line in self._clock.read_text(encoding="utf-8").splitlines()]

    def copy_cell(self, name: str, copies: list[tuple[str, int]]) -> None:
        """Gives cells the results of the cell `name`, and has DVC take them for their own."""
        for method, seed in copies:
            for path in ("models/students/{}", "data/runs/{}", "data/predictions/{}.jsonl"):
                old, new = self.folder / path.format(name), self.folder / path.format(f"{method}-{seed}")
                if old.is_dir():
                    shutil.copytree(old, new, dirs_exist_ok=True)
                else:
                    shutil.copyfile(old, new)
            for file, changes in (
                ("data/runs/{}/record.json", {"method": method, "seed": seed}),
                ("data/costs/training/{}.json", {"name": f"{method}-{seed}"}),
                ("data/costs/evaluation/{}.json", {"name": f"{method}-{seed}"}),
            ):
                values = json.loads((self.folder / file.format(name)).read_text(encoding="utf-8"))
                path = self.folder / file.format(f"{method}-{seed}")
                path.unlink(missing_ok=True)  # DVC's own are read-only
                path.write_text(json.dumps(values | changes), encoding="utf-8")
        if copies:
            stages = [f"{stage}@{method}-{seed}" for method, seed in copies for stage in ("train", "evaluate")]
            self._dvc("commit", "--force", *stages)

    def _dvc(self, *arguments: str) -> None:
        python = Path(sys.executable).parent
        settings = {
            "STAGE_CLOCK": str(self._clock),
            "PYTHONPATH": str(ROOT / "benchmarks/_stage_clock"),
            "PATH": f"{python}{os.pathsep}{os.environ['PATH']}",
        }
        command = [python / "dvc", *arguments]
        done = subprocess.run(
            command, cwd=self.folder, env=os.environ | settings, capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise ResultsError(f"`dvc {arguments[0]}` failed in {self.folder}: {done.stderr.strip()[-400:]}")


def measure_cold(seeds: list[int], tiny: bool) -> dict[str, Any]:
    """A cold run of the default scale with these seeds, split."""
    with tempfile.TemporaryDirectory() as folder:
        clone = Clone(Path(folder))
        if tiny:
            clone.change_params(lambda values: shorten(values, METHODS[:1], seeds))
        else:
            clone.change_params(lambda values: values.update(seeds=seeds))
        seconds, notes = clone.repro()
    stages: dict[str, dict[str, float]] = defaultdict(lambda: {"processes": 0, "seconds": 0.0, "imports": 0.0})
    for note in notes:
        row = stages[note["stage"].split()[0].removeprefix("pipeline.")]
        row["processes"] += 1
        row["seconds"] += note["seconds"]
        row["imports"] += note["imports"]
    imports = sum(note["imports"] for note in notes)
    in_stages = sum(note["seconds"] for note in notes)
    dvc = seconds - in_stages
    of_cells = [note["seconds"] for note in notes if "--seed" in note["stage"]]
    return {
        "seeds": seeds,
        "seconds": seconds,
        "work": in_stages - imports,
        "imports": imports,
        "dvc": dvc,
        "processes": len(notes),
        "overhead": 1 - (in_stages - imports) / seconds,
        "seconds per seed": (sum(of_cells) + len(of_cells) * dvc / len(notes)) / len(seeds),
        "stages": stages,
    }


def shorten(values: dict[str, Any], methods: list[str], seeds: list[int]) -> None:
    """Short trainings, and these cells."""
    for section, change in SHORT.items():
        values["scales"]["mini"][section].update(change)
    values["report"]["resamples"] = 200
    values.update(methods=methods, seeds=seeds)


def measure_cells(grids: list[tuple[int, int]], tiny: bool) -> dict[str, Any]:
    """Seconds of `dvc repro` that adds one cell to those of ever larger grids, and of one with nothing to do.

    Each grid is a number of methods and of seeds. Its last cell, one of rl, runs; the others are copies of an earlier
    one. Two are timed beside the fewest and beside the most.
    """
    rows: dict[str, dict[str, Any]] = {}
    have: set[tuple[str, int]] = set()
    unused_seeds = itertools.count(FIRST_SEED + 1)  # another each time, or DVC would have nothing to do
    with tempfile.TemporaryDirectory() as folder:
        clone = Clone(Path(folder))
        clone.forget_cells()
        clone.change_params(lambda values: shorten(values, METHODS[:1], [FIRST_SEED]))
        clone.repro()  # what all cells need, and the cell that is copied
        for methods, seeds in grids:
            repetitions = 2 if (methods, seeds) in (grids[0], grids[-1]) and not tiny else 1
            timed = []
            for last in itertools.islice(unused_seeds, repetitions):
                used = [*range(seeds - 1), last]
                clone.change_params(lambda values, m=methods, s=used: values.update(methods=METHODS[:m], seeds=s))
                others = {(method, seed) for method in METHODS[:methods] for seed in used} - {("rl", last)}
                clone.copy_cell(f"{METHODS[0]}-{FIRST_SEED}", sorted(others - have))
                have |= others | {("rl", last)}
                seconds, notes = clone.repro()
                timed.append((seconds, seconds - sum(note["seconds"] for note in notes)))
            cells = methods * seeds
            seconds, dvc = (spread(values) for values in zip(*timed, strict=True))
            rows[f"{cells} cells"] = {"seconds": seconds, "DVC": dvc}
            say(f"the last of {cells} cells, and the report: {seconds.median:.1f} s, of which DVC {dvc.median:.1f}")
        nothing = [clone.repro()[0] for _ in range(1 if tiny else 3)]
    return {"rows": rows, "nothing_to_do": spread(nothing), "cells": cells}


def goals_of(found: dict[str, Any]) -> list[Goal]:
    """Overhead, the whole run, a straight line, nothing to do."""
    goals = []
    if "cold" in found:
        cold = found["cold"]
        seeds = len(cold["seeds"])
        goals.append(
            Goal(f"overhead (imports and DVC) of a cold run, seeds: {seeds}", cold["overhead"], "at most", 0.15)
        )
        name, whole = (
            "minutes of a cold run, seeds: 3",
            cold["seconds"] + (WHOLE_SEEDS - seeds) * cold["seconds per seed"],
        )
        name += "" if seeds == WHOLE_SEEDS else f" (estimated from {seeds})"
        goals.append(Goal(name, whole / 60, "at most", 6))
    if "cells" in found:
        cells = found["cells"]
        medians = [row["seconds"].median for row in cells["rows"].values()]
        goals.append(
            Goal("seconds for one more cell, beside the most over none", medians[-1] / medians[0], "at most", 1.2)
        )
        nothing = cells["nothing_to_do"].median
        goals.append(Goal(f"seconds of `dvc repro` with nothing to do, {cells['cells']} cells", nothing, "at most", 2))
    return goals


@exit_on_error
def main() -> None:
    """Measures, prints and writes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tiny", action="store_true", help="few cells, short trainings")
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--whole", action="store_true", help="all three seeds")
    what.add_argument("--cells", action="store_true", help="how the cost grows with the number of cells")
    parser.add_argument("--out", type=Path, help="JSON file; default: benchmarks/results/pipeline[-whole|-cells].json")
    args = parser.parse_args()
    started = time.perf_counter()
    found: dict[str, Any] = {"benchmark": "pipeline", "environment": environment("cpu") | {"cpus": os.cpu_count()}}
    if args.tiny or not args.cells:
        found["cold"] = cold = measure_cold([*range(WHOLE_SEEDS if args.whole else 1)], args.tiny)
        say(f"cold run: {cold['seconds']:.0f} s, {cold['processes']} processes")
        say(f"work {cold['work']:.0f} s, imports {cold['imports']:.0f} s, DVC {cold['dvc']:.0f} s")
        print_rows(("processes", "seconds", "imports"), cold["stages"])
    if args.tiny or args.cells:
        found["cells"] = measure_cells([(2, 1)] if args.tiny else [(1, 1), (5, 1), (5, 3), (5, 6)], args.tiny)
        print_rows(("seconds", "DVC"), found["cells"]["rows"])
    goals = goals_of(found)
    print_goals(goals)
    found["seconds"] = round(time.perf_counter() - started, 1)
    say(f"\n{found['seconds']:.0f} s")
    name = f"pipeline{'-whole' * args.whole}{'-cells' * args.cells}.json"
    write_found(args.out or (None if args.tiny else ROOT / "benchmarks/results" / name), found, goals)


if __name__ == "__main__":
    main()
