"""What the project knows of a run that is trained, evaluated and compared."""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd

from pipeline.analysis.metrics import measure
from pipeline.analysis.summary import Method, Summary
from pipeline.common.errors import ResultsError
from pipeline.common.files import file_digest
from pipeline.common.paths import (
    LEARNING_CURVE,
    PREDICTIONS,
    PREPARED,
    RECORD,
    RESULTS,
    RUN_PICTURES,
    RUNS,
    TEACHER_LOGITS_METRICS,
    TRAINING_COSTS,
)
from pipeline.problems.record import SPLITS, Problem, Split, read_problems
from pipeline.publishing.students import require_student
from pipeline.results.files import AGAIN, read_csv, read_record, read_rows
from pipeline.results.rows import CurvePoint, Prediction, TrainingCost, TrainingRecord


@dataclass(frozen=True)
class CapturedSplit:
    """What metrics/teacher_logits.json says of a split: how many of its problems could be learnt from."""

    problems: int


@dataclass(frozen=True)
class Captured:
    """The part of metrics/teacher_logits.json that says what a student learnt from."""

    splits: dict[str, CapturedSplit]


@dataclass(frozen=True)
class FinishedRun:
    """One run and the comparison it is part of.

    learning_curve: a row per validation, as CurvePoint. metrics: of its answers to the test problems, by name.
    problems, digests: of each split's file. learnt_from: training problems that could be learnt from; others were too
    long, or the teacher did not solve them.
    """

    record: TrainingRecord
    cost: TrainingCost
    learning_curve: pd.DataFrame
    metrics: dict[str, float]
    summary: Summary
    problems: dict[Split, list[Problem]]
    digests: dict[Split, str]
    learnt_from: int

    @property
    def name(self) -> str:
        """METHOD-SEED."""
        return f"{self.record.method}-{self.record.seed}"

    @property
    def method(self) -> Method:
        """The run's method over all its seeds."""
        return self.summary.methods[self.record.method]


def read_finished_run(method: str, seed: int) -> FinishedRun:
    """Reads what training, evaluation and report left.

    Raises:
        ResultsError: the student is not trained, the report does not compare it, or a file is missing or malformed.
    """
    name = f"{method}-{seed}"
    require_student(name)
    summary = read_record(RESULTS, Summary)
    require_compared(method, seed, summary)
    if not (picture := RUN_PICTURES / f"{name}.png").exists():
        raise ResultsError(f"{picture} is missing; {AGAIN}")
    return FinishedRun(
        record=read_record(RUNS / name / RECORD, TrainingRecord),
        cost=read_record(TRAINING_COSTS / f"{name}.json", TrainingCost),
        learning_curve=read_csv(RUNS / name / LEARNING_CURVE, CurvePoint),
        metrics=measure(read_rows(PREDICTIONS / f"{name}.jsonl", Prediction)),
        summary=summary,
        problems={split: read_problems(split) for split in SPLITS},
        digests={split: file_digest(PREPARED / f"{split}.jsonl") for split in SPLITS},
        learnt_from=read_record(TEACHER_LOGITS_METRICS, Captured).splits["train"].problems,
    )


def require_compared(method: str, seed: int, summary: Summary) -> None:
    """Raises ResultsError unless the report compares the run with the others."""
    remedy = (
        f"put {method} among the methods and {seed} among the seeds of params.yaml and run `dvc repro`, which trains "
        "and compares it"
    )
    if method not in summary.methods:
        raise ResultsError(f"{RESULTS} holds the methods {', '.join(summary.methods)}; {remedy}")
    if seed not in (seeds := summary.methods[method].seeds):
        raise ResultsError(f"{RESULTS} holds the seeds {', '.join(map(str, seeds))}; {remedy}")
