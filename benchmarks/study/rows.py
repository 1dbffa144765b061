"""The study's raw results: a row per run, kept in git."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks._runs import ROOT
from pipeline.analysis.curriculum import q_correlation
from pipeline.common.files import write_text
from pipeline.common.paths import ARM_LOG, LEARNING_CURVE, PREDICTIONS, RUNS, TRAINING_METRICS
from pipeline.results.files import read_csv, read_record, read_rows
from pipeline.results.rows import ArmStep, CurvePoint, Prediction, TrainingRecord

FOLDER = ROOT / "benchmarks/results/study"


@dataclass(frozen=True)
class Row:
    """One run. Lists go with the points of the learning curve.

    params: the method's section of params.yaml; a row of others is run again.
    correct: a digit per test problem, 1 where the answer was right. kl_per_token: from the teacher, on the test
    problems' solutions. shares: of each arm in the second half of the run. q_correlation: of an arm's Q-value with its
    next reward, None where the method has none.
    """

    method: str
    seed: int
    params: dict[str, Any]
    accuracy: float
    correct: str
    kl_per_token: float
    examples: list[int]
    compute: list[float]
    validation_accuracy: list[float]
    validation_kl: list[float]
    shares: dict[str, float]
    q_correlation: float | None
    versions: dict[str, str]

    @property
    def cell(self) -> str:
        """METHOD-SEED."""
        return f"{self.method}-{self.seed}"


def read_all(setting: str) -> list[Row]:
    """The rows that are there."""
    path = FOLDER / f"{setting}.jsonl"
    return [Row(**json.loads(line)) for line in path.read_text().splitlines()] if path.exists() else []


def append(setting: str, row: Row) -> None:
    """Adds a row; a line is short enough to be written at once."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    with (FOLDER / f"{setting}.jsonl").open("a", encoding="utf-8") as file:
        file.write(json.dumps(asdict(row)) + "\n")


def drop(setting: str, keep: Callable[[Row], bool]) -> None:
    """Removes the rows that are not to be kept."""
    found = read_all(setting)
    kept = [row for row in found if keep(row)]
    if len(kept) < len(found):
        write_text(FOLDER / f"{setting}.jsonl", "".join(json.dumps(asdict(row)) + "\n" for row in kept))


def row_of(project: Path, cell: str, params: dict[str, Any]) -> Row:
    """What a finished cell left in a working copy of the project."""
    record = read_record(project / TRAINING_METRICS / f"{cell}.json", TrainingRecord)
    curve = read_csv(project / RUNS / cell / LEARNING_CURVE, CurvePoint)
    log = read_csv(project / RUNS / cell / ARM_LOG, ArmStep)
    predictions = read_rows(project / PREDICTIONS / f"{cell}.jsonl", Prediction)
    late = log[log["step"] >= record.steps // 2]
    return Row(
        method=record.method,
        seed=record.seed,
        params=params,
        accuracy=float(np.mean([p.correct for p in predictions])),
        correct="".join(str(int(p.correct)) for p in predictions),
        kl_per_token=round(sum(p.kl for p in predictions) / sum(p.tokens for p in predictions), 6),
        examples=curve["examples"].tolist(),
        compute=curve["compute"].tolist(),
        validation_accuracy=curve["validation_accuracy"].tolist(),
        validation_kl=curve["validation_kl"].tolist(),
        shares=late.groupby("arm")["probability"].mean().round(5).to_dict(),
        q_correlation=q_correlation(log),
        versions=record.provenance.versions,
    )
