"""The study's raw results: a row per run, kept in git."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import yaml
from pydantic import TypeAdapter, ValidationError

from benchmarks._runs import ROOT
from benchmarks.study.settings import REPLAYS
from pipeline.analysis.curriculum import q_correlation
from pipeline.common.errors import ResultsError, one_line
from pipeline.common.files import digest_of, write_text
from pipeline.common.paths import ARM_LOG, LEARNING_CURVE, PREDICTIONS, RUNS, STUDENTS, TRAINING_COSTS
from pipeline.replay.schedule import REPLAYED
from pipeline.results.files import read_csv, read_record, read_rows
from pipeline.results.rows import ArmStep, CurvePoint, Prediction, Provenance

FOLDER = ROOT / "benchmarks/results/study"
DIGITS = 12  # hexadecimal digits of a digest in a row
T = TypeVar("T")


@dataclass(frozen=True)
class Row:
    """One run. Lists go with the points of the learning curve.

    params: what the method is known by, see `method_params`. scale: a digest of the scale's block. A row of others is
    run again.
    made_of: a digest of all that DVC says its stages depend on, code and data, by which the report sees rows that were
    made by different versions of it.
    correct: a digit per test problem, 1 where the answer was right. kl_per_token: from the teacher, on the test
    problems' solutions. shares: of each arm in the second half of the run. q_correlation: of an arm's Q-value with its
    next reward, within steps; None where the method has none.
    """

    method: str
    seed: int
    params: dict[str, Any]
    scale: str
    made_of: str
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


def scale_digest(values: dict[str, Any]) -> str:
    """A digest of the scale's block of params.yaml's values."""
    return digest_of(values["scales"][values["scale"]])[:DIGITS]


def method_params(method: str, values: dict[str, Any]) -> dict[str, Any]:
    """A method's section of params.yaml's values; with that of the run that it replays, where it does."""
    own: dict[str, Any] = values["curricula"][method]
    return own | {REPLAYED: values["curricula"][REPLAYED]} if method in REPLAYS else own


def is_of(row: Row, values: dict[str, Any]) -> bool:
    """Whether a row was made with these values of params.yaml."""
    return row.params == method_params(row.method, values) and row.scale == scale_digest(values)


def read_all(setting: str) -> list[Row]:
    """The rows that are there.

    Raises:
        ResultsError: a line is no row; the message names it.
    """
    return read_lines(FOLDER / f"{setting}.jsonl", Row)


def read_lines(path: Path, kind: type[T]) -> list[T]:
    """Rows of a file in git; none where there is no file.

    Raises:
        ResultsError: a line is no row; the message names it.
    """
    adapter, rows = TypeAdapter(kind), []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines() if path.exists() else [], start=1):
        try:
            rows.append(adapter.validate_json(line))
        except ValidationError as error:
            raise ResultsError(
                f"{path}:{number} is no {kind.__name__} ({one_line(error)}); remove the line, and its run is made again"
            ) from error
    return rows


def append(setting: str, row: Row) -> None:
    """Adds a row; a line is short enough to be written at once."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    with (FOLDER / f"{setting}.jsonl").open("a", encoding="utf-8") as file:
        file.write(json.dumps(asdict(row)) + "\n")


def drop(setting: str, keep: Callable[[Row], bool]) -> int:
    """Removes the rows that are not to be kept; returns how many."""
    found = read_all(setting)
    kept = [row for row in found if keep(row)]
    if len(kept) < len(found):
        write_text(FOLDER / f"{setting}.jsonl", "".join(json.dumps(asdict(row)) + "\n" for row in kept))
    return len(found) - len(kept)


def row_of(project: Path, cell: str, stages: Sequence[str], values: dict[str, Any]) -> Row:
    """What a finished cell left in a working copy of the project; `values` are those of params.yaml."""
    method, _, seed = cell.rpartition("-")
    curve = read_csv(project / RUNS / cell / LEARNING_CURVE, CurvePoint)
    log = read_csv(project / RUNS / cell / ARM_LOG, ArmStep)
    predictions = read_rows(project / PREDICTIONS / f"{cell}.jsonl", Prediction)
    late = log[log["step"] >= curve["step"].iloc[-1] // 2]
    return Row(
        method=method,
        seed=int(seed),
        params=method_params(method, values),
        scale=scale_digest(values),
        made_of=made_of(project, stages),
        accuracy=float(np.mean([p.correct for p in predictions])),
        correct="".join(str(int(p.correct)) for p in predictions),
        kl_per_token=round(sum(p.kl for p in predictions) / sum(p.tokens for p in predictions), 6),
        examples=curve["examples"].tolist(),
        compute=curve["compute"].tolist(),
        validation_accuracy=curve["validation_accuracy"].tolist(),
        validation_kl=curve["validation_kl"].tolist(),
        shares=late.groupby("arm")["probability"].mean().round(5).to_dict(),
        q_correlation=q_correlation(log),
        versions=versions_of(project, cell),
    )


@dataclass(frozen=True)
class MadeWith:
    """The part of a run's cost that says what it was made with."""

    provenance: Provenance


def versions_of(project: Path, cell: str) -> dict[str, str]:
    """The versions that a finished cell was made with."""
    path, earlier = (project / folder / f"{cell}.json" for folder in (TRAINING_COSTS, "metrics/training"))
    # the working copy may be of a commit from before costs had files of their own
    return read_record(earlier if earlier.exists() and not path.exists() else path, MadeWith).provenance.versions


def made_of(project: Path, stages: Sequence[str]) -> str:
    """A digest of the dependencies of stages in dvc.lock, the same for all seeds of a method."""
    lock = yaml.safe_load((project / "dvc.lock").read_text(encoding="utf-8"))["stages"]
    deps = {dep["path"]: dep["md5"] for name in stages for dep in lock[name]["deps"]}
    own = (f"{STUDENTS}/", f"{RUNS}/")  # of the seed
    return digest_of({path: md5 for path, md5 in deps.items() if not path.startswith(own)})[:DIGITS]
