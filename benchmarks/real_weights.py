"""The question once more with real weights on real problems: SmolLM2-135M-Instruct to 10 of its layers, on MATH.

    python -m benchmarks.real_weights --smollm2 FOLDER --math FOLDER     what is missing: two hours on two cores
    python -m benchmarks.real_weights --smollm2 FOLDER --math FOLDER --target algebra     another target
    python -m benchmarks.real_weights --smollm2 FOLDER --math FOLDER --device cuda --seeds 6     on a GPU: minutes
    python -m benchmarks.real_weights --report                           the tables alone

FOLDER of --math holds train.jsonl or train.jsonl.gz in MATH's schema. The pool is all subjects, the target two of them;
problems are short ones, so that completions are whole and a run takes ten minutes. So few steps teach nobody
to solve MATH: what counts is the KL per token from the teacher on held-out problems of the target. It can be stopped at
any time: each finished run is a row of results/study/real*.jsonl, a file per target and kind of machine, and is not run
again.
"""

from __future__ import annotations

import argparse
import copy
import gzip
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks._measure import say
from benchmarks.study.report import Studied, studied
from benchmarks.study.running import CLONES, Plan, append_missing, known_commit
from pipeline.analysis.comparison_tables import ratio_cell
from pipeline.analysis.markdown import NONE, table
from pipeline.analysis.statistics import LEAST_SEEDS
from pipeline.analysis.verdict import BASELINE
from pipeline.common.errors import DataError
from pipeline.common.files import write_text
from pipeline.common.stage import exit_on_error

# settings of rl were chosen with problems of "numbers" in sight, and none with those of "algebra"
TARGETS = {
    "numbers": ["Counting & Probability", "Number Theory"],
    "algebra": ["Intermediate Algebra", "Precalculus"],
}
DEVICES = ("cpu", "cuda")
LONGEST = 500  # characters of problem and solution together
METHODS = ["traditional", "rl", "random", "target_only"]
SEEDS = 3
SCALE = "smollm2"
# changes to scales.smollm2
CHANGES: dict[str, dict[str, Any]] = {
    "data": {
        "source": "path",
        "train_size": None,  # of few the target's are repeated so often that even the oracle overfits
        "probe_size": 60,
        "validation_size": 60,
        "test_size": 40,
    },
    "models": {"max_tokens": 384, "threads": 1, "dtype": "bfloat16"},  # twice as fast where the processor multiplies it
    "training": {"epochs": 1, "steps_per_epoch": 150, "validations": 6},
    "generation": {"batch_size": 60, "max_new_tokens": 2},  # answers are beyond a student of so few steps
    "grading": {"workers": 1},
}


def short_problems(folder: Path) -> Iterator[str]:
    """Lines of the training problems that are short enough.

    Raises:
        DataError: the folder has no train.jsonl or train.jsonl.gz, or a line of it is no record.
    """
    path = next((p for p in (folder / "train.jsonl", folder / "train.jsonl.gz") if p.exists()), None)
    if path is None:
        raise DataError(f"{folder} has neither train.jsonl nor train.jsonl.gz; --math names the folder of MATH")
    with gzip.open(path, "rt", encoding="utf-8") if path.suffix == ".gz" else path.open(encoding="utf-8") as file:
        for number, line in enumerate(file, start=1):
            try:
                record = json.loads(line)
                length = len(record["problem"]) + len(record["solution"])
            except (ValueError, KeyError, TypeError) as error:
                raise DataError(f"{path}:{number} is no record with problem and solution; --math names MATH") from error
            if length <= LONGEST:
                yield line


def rows_name(target: str, device: str) -> str:
    """What the rows are called; those of two targets or two kinds of machine are not compared with one another."""
    return "_".join(["real", *([target] if target != "numbers" else []), *([device] if device != "cpu" else [])])


def changed(values: dict[str, Any], target: str, smollm2: str, problems: str, device: str) -> dict[str, Any]:
    """params.yaml's values for this study, with this target and these weights and problems."""
    values = copy.deepcopy(values)
    scale = values["scales"][SCALE]
    for section, changes in CHANGES.items():
        scale[section] |= changes
    scale["data"]["target"] = {"subjects": TARGETS[target], "levels": None}
    scale["data"]["path"]["train"] = problems
    scale["models"] |= dict.fromkeys(("teacher", "student"), smollm2)
    scale["models"] |= dict.fromkeys(("teacher_revision", "student_revision")) | {"device": device}
    return values | {"scale": SCALE, "methods": METHODS, "replays": [], "seeds": list(range(SEEDS))}


def plan(target: str, smollm2: Path, math: Path, device: str, commit: str | None = None) -> Plan:
    """What is run; rows are known by values that name no folder of this machine.

    Raises:
        ResultsError: there is no such commit.
    """
    problems = CLONES / "real-problems.jsonl"
    write_text(problems, "".join(short_problems(math)))
    return Plan(
        rows_name(target, device),
        lambda values: changed(values, target, str(smollm2.resolve()), str(problems), device),
        lambda values: changed(values, target, "SmolLM2-135M-Instruct", "MATH", device),
        known_commit(commit),
    )


def tell(name: str, found: Studied | None) -> None:
    """Prints who comes as near to the teacher as the baseline with how much; accuracies mean nothing here."""
    if found is None:
        say(f"{name}: {BASELINE} and another method need {LEAST_SEEDS} seeds each before there is anything to compare")
        return
    rows = []
    for method, own in found.outcomes.items():
        compared = found.comparisons[BASELINE].get(method)
        ratios = () if compared is None else (compared.kl_examples_ratio, compared.kl_compute_ratio)
        kl = np.mean([curve["validation_kl"].iloc[-1] for curve in own.learning_curves])
        rows.append([method, f"{kl:.4f}", *(map(ratio_cell, ratios) if ratios else [NONE] * 2)])
    say(f"{name}: {found.seeds} seeds\n")
    say(table(["method", "final KL", f"examples, over those of {BASELINE}", "training compute"], rows))


@exit_on_error
def main() -> None:
    """Runs what is missing and prints the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--smollm2", type=Path, help="folder of SmolLM2-135M-Instruct")
    parser.add_argument("--math", type=Path, help="folder of MATH's training problems")
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=METHODS)
    parser.add_argument("--seeds", type=int, default=SEEDS, help="the first so many seeds")
    parser.add_argument("--target", choices=TARGETS, default="numbers", help="whose two subjects are the target")
    parser.add_argument("--device", choices=DEVICES, default="cpu")
    parser.add_argument("--processes", type=int, default=os.cpu_count(), help="runs at a time, one core each")
    parser.add_argument("--commit", help="the version that it was begun with; default: the newest")
    parser.add_argument("--report", action="store_true", help="the tables alone")
    args = parser.parse_args()
    if not args.report:
        if args.smollm2 is None or args.math is None:
            parser.error("give --smollm2 and --math, or --report")
        found = plan(args.target, args.smollm2, args.math, args.device, args.commit)
        append_missing(found, args.methods, range(args.seeds), args.processes)
    every = [rows_name(target, device) for target in TARGETS for device in DEVICES]
    for name in every if args.report else [rows_name(args.target, args.device)]:
        tell(name, studied(name))


if __name__ == "__main__":
    main()
