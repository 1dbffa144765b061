"""Reading what the train and evaluate stages wrote, and checking that it fits together.

Nothing is searched for in folders: the methods and seeds asked for decide which files are read.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from pipeline.common.errors import ResultsError
from pipeline.common.paths import (
    ARM_LOG,
    EVALUATION_METRICS,
    LEARNING_CURVE,
    PREDICTIONS,
    RUNS,
    TEACHER,
    TRAINING_METRICS,
    UNTRAINED_STUDENT,
)

MEASURED = ("agreement", "top1_agreement", "kl_per_token", "calibration_error", "grading_timeouts")
CURVE_COLUMNS = ("step", "examples", "tokens", "validation_accuracy")
ARM_COLUMNS = ("step", "arm", "probability", "q_value", "count")
AGAIN = "run `dvc repro` to make it"

Problem = tuple[str, int, str]  # id, level, subject


@dataclass(frozen=True)
class Evaluation:
    """One model on the test problems.

    name: METHOD-SEED, or one of the references. correct_P: whether each answer is right. agreement: share of
    answers that equal the teacher's. kl_per_token: nats. calibration_error: expected calibration error.
    grading_timeouts: answers that took too long to grade.
    """

    name: str
    correct_P: np.ndarray
    agreement: float
    top1_agreement: float
    kl_per_token: float
    calibration_error: float
    grading_timeouts: int

    @property
    def accuracy(self) -> float:
        """Share of right answers."""
        return float(self.correct_P.mean())


@dataclass(frozen=True)
class TrainedRun:
    """One run: its evaluation, what it cost and its logs.

    validation_timeouts: answers to validation problems that took too long to grade. learning_curve: a row per
    validation. arm_log: a row per step and arm.
    """

    method: str
    seed: int
    evaluation: Evaluation
    steps: int
    examples: int
    tokens: int
    training_seconds: float
    peak_memory_bytes: int
    validation_timeouts: int
    learning_curve: pd.DataFrame
    arm_log: pd.DataFrame

    @property
    def name(self) -> str:
        """METHOD-SEED."""
        return f"{self.method}-{self.seed}"


@dataclass(frozen=True)
class Results:
    """All that is compared: level and subject of the test problems, the references, each method's runs by seed."""

    level_P: np.ndarray
    subject_P: np.ndarray
    teacher: Evaluation
    untrained_student: Evaluation
    runs: dict[str, tuple[TrainedRun, ...]]

    def correct_SP(self, method: str) -> np.ndarray:  # noqa: N802 - the suffix names the shape
        """Right (1) or wrong (0) of each of a method's seeds on each problem."""
        return np.stack([run.evaluation.correct_P for run in self.runs[method]]).astype(np.float64)


def read_results(methods: Sequence[str], seeds: Sequence[int]) -> Results:
    """Reads the two references and every method with every seed.

    Raises:
        ResultsError: a file is missing, malformed, or disagrees with another, the test problems differ between
            files, or the runs did not have the same budget.
    """
    _require_a_grid(methods, seeds)
    rows = _read_jsonl(PREDICTIONS / f"{TEACHER}.jsonl")
    problems = [_problem(row) for row in rows]
    teacher, untrained = (_read_evaluation(name, problems) for name in (TEACHER, UNTRAINED_STUDENT))
    runs = {method: tuple(_read_run(method, seed, problems) for seed in seeds) for method in methods}
    require_equal_budgets([run for group in runs.values() for run in group])
    _, levels, subjects = zip(*problems, strict=True)
    return Results(np.array(levels), np.array(subjects), teacher, untrained, runs)


def _problem(row: dict[str, Any]) -> Problem:
    return row["id"], row["level"], row["subject"]


def _require_a_grid(methods: Sequence[str], seeds: Sequence[int]) -> None:
    for key, values in (("methods", methods), ("seeds", seeds)):
        if not values:
            raise ResultsError(f"params.yaml: {key} is empty; name at least one")
        if len(set(values)) < len(values):
            raise ResultsError(f"params.yaml: {key} names {max(values, key=list(values).count)} twice; name each once")


def require_equal_budgets(runs: Sequence[TrainedRun]) -> None:
    """Raises ResultsError unless all runs have the same steps, examples and points on their learning curves."""
    first = runs[0]
    for run in runs[1:]:
        for what in ("steps", "examples"):
            if getattr(run, what) != getattr(first, what):
                raise ResultsError(
                    f"{run.name} had {getattr(run, what)} {what} of training and {first.name} had "
                    f"{getattr(first, what)}, and only equal budgets can be compared; "
                    "run `dvc repro` to bring both up to date"
                )
        if run.learning_curve["examples"].tolist() != first.learning_curve["examples"].tolist():
            raise ResultsError(
                f"{RUNS / run.name} and {RUNS / first.name} were validated after different numbers of "
                "examples; run `dvc repro` to bring both up to date"
            )


def _read_evaluation(name: str, problems: list[Problem]) -> Evaluation:
    predictions = PREDICTIONS / f"{name}.jsonl"
    rows = _read_jsonl(predictions)
    if [_problem(row) for row in rows] != problems:
        raise ResultsError(
            f"{predictions} is for other test problems, or in another order, than "
            f"{PREDICTIONS / TEACHER}.jsonl; run `dvc repro` to bring both up to date"
        )
    path = EVALUATION_METRICS / f"{name}.json"
    values = _read_json(path, ("name", "accuracy", *MEASURED))
    correct_P = np.array([row["correct"] for row in rows])
    if values["name"] != name or abs(values["accuracy"] - correct_P.mean()) > 1e-6:
        raise ResultsError(f"{path} does not belong to {predictions}; run `dvc repro` to bring both up to date")
    return Evaluation(name, correct_P, **{key: values[key] for key in MEASURED})


def _read_run(method: str, seed: int, problems: list[Problem]) -> TrainedRun:
    name = f"{method}-{seed}"
    path = TRAINING_METRICS / f"{name}.json"
    costs = ("steps", "examples", "tokens", "training_seconds", "peak_memory_bytes", "grading_timeouts")
    values = _read_json(path, ("method", "seed", *costs))
    if (values["method"], values["seed"]) != (method, seed):
        raise ResultsError(f"{path} is of {values['method']}-{values['seed']}; run `dvc repro` to bring it up to date")
    curve = _read_csv(RUNS / name / LEARNING_CURVE, CURVE_COLUMNS, ("validation_accuracy",))
    if len(curve) < 2 or not curve["examples"].is_monotonic_increasing or not curve["examples"].is_unique:
        raise ResultsError(f"{RUNS / name / LEARNING_CURVE} needs at least two rows of growing examples; {AGAIN}")
    arm_log = _read_csv(RUNS / name / ARM_LOG, ARM_COLUMNS, ("probability",))
    return TrainedRun(
        method,
        seed,
        _read_evaluation(name, problems),
        *(values[key] for key in costs),
        curve,
        arm_log,
    )


def _read_json(path: Path, keys: tuple[str, ...]) -> dict[str, Any]:
    try:
        values = json.loads(_read_text(path))
    except json.JSONDecodeError as error:
        raise ResultsError(f"{path}:{error.lineno} is not valid JSON ({error.msg}); {AGAIN} again") from error
    for key in keys:
        if not isinstance(values, dict) or values.get(key) is None:
            raise ResultsError(f"{path} has no {key}; {AGAIN} again")
    return values


def _read_jsonl(path: Path) -> list[dict[str, Any]]:
    rows = []
    # not splitlines(): outputs may hold characters such as U+2028, which would end a line there
    for number, line in enumerate(_read_text(path).removesuffix("\n").split("\n"), start=1):
        try:
            row = json.loads(line)
            _require_prediction(row)
        except (ValueError, TypeError) as error:
            raise ResultsError(f"{path}:{number} is not a row of predictions ({error}); {AGAIN} again") from error
        rows.append(row)
    return rows


def _require_prediction(row: Any) -> None:
    """Raises TypeError unless the fields that the report uses are there and of their types."""
    for key, kind in (("id", str), ("level", int), ("subject", str), ("correct", bool)):
        if not isinstance(row, dict) or not isinstance(row.get(key), kind):
            raise TypeError(f"{key} is missing or not of type {kind.__name__}")


def _read_csv(path: Path, columns: tuple[str, ...], complete: tuple[str, ...]) -> pd.DataFrame:
    """A table with at least `columns`, of which `complete` have no empty cell."""
    _read_text(path)
    try:
        table = pd.read_csv(path)
    except (pd.errors.ParserError, pd.errors.EmptyDataError) as error:
        raise ResultsError(f"{path} is not a CSV file ({' '.join(str(error).split())}); {AGAIN} again") from error
    for column in columns:
        if column not in table:
            raise ResultsError(f"{path} has no column {column}; {AGAIN} again")
    for column in complete:
        if not pd.api.types.is_numeric_dtype(table[column]) or table[column].isna().any():
            raise ResultsError(f"{path}: column {column} must hold a number in every row; {AGAIN} again")
    return table


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise ResultsError(f"{path} is missing; {AGAIN}") from error
    except (OSError, UnicodeDecodeError) as error:
        raise ResultsError(f"{path} cannot be read ({error}); {AGAIN} again") from error
