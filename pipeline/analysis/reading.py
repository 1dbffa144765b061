"""Reading what the train and evaluate stages wrote, and checking that it fits together.

Nothing is searched for in folders: the methods and seeds asked for decide which files are read.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from pipeline.analysis.graders import parted
from pipeline.analysis.metrics import measure
from pipeline.common.errors import ResultsError
from pipeline.common.paths import (
    ARM_LOG,
    EVALUATION_COSTS,
    LEARNING_CURVE,
    PREDICTIONS,
    RECORD,
    RUNS,
    TEACHER,
    TRAINING_COSTS,
    UNTRAINED_STUDENT,
)
from pipeline.problems.record import Problem, read_problems
from pipeline.results.files import AGAIN, read_csv, read_record, read_rows
from pipeline.results.rows import (
    ArmStep,
    CurvePoint,
    EvaluationCost,
    Prediction,
    Provenance,
    TrainingCost,
    TrainingRecord,
)

Cell = tuple[str, int]  # subject and level


@dataclass(frozen=True)
class TestProblem:
    """What groups test problems."""

    __test__ = False  # no test, whatever pytest thinks of its name

    id: str
    level: int
    subject: str


@dataclass(frozen=True)
class Evaluation:
    """One model on the P test problems: METHOD-SEED, or one of the references.

    correct_P: whether each answer is right. metrics: by name, see metrics.py. parted: gold, answer and the project's
    verdict where Minerva's is another.
    """

    name: str
    correct_P: np.ndarray
    metrics: dict[str, float]
    parted: list[tuple[str, str, bool]]
    cost: EvaluationCost

    @property
    def accuracy(self) -> float:
        """Share of right answers."""
        return float(self.correct_P.mean())


@dataclass(frozen=True)
class TrainedRun:
    """One run: what it was and cost, its evaluation, and its logs.

    learning_curve: a row per validation, as CurvePoint. arm_log: a row per step and arm, as ArmStep.
    """

    record: TrainingRecord
    cost: TrainingCost
    evaluation: Evaluation
    learning_curve: pd.DataFrame
    arm_log: pd.DataFrame

    @property
    def name(self) -> str:
        """METHOD-SEED."""
        return f"{self.record.method}-{self.record.seed}"


@dataclass(frozen=True)
class Results:
    """All that is compared: the pool, level and subject of the test problems, the references, each method's runs.

    target_cells: those of validation, test and probe problems together, since one of the three may lack a rare cell.
    """

    pool: list[Problem]
    target_cells: frozenset[Cell]
    level_P: np.ndarray
    subject_P: np.ndarray
    teacher: Evaluation
    untrained_student: Evaluation
    runs: dict[str, tuple[TrainedRun, ...]]

    def correct_SP(self, method: str) -> np.ndarray:
        """Right (1) or wrong (0) of each of a method's seeds on each problem."""
        return np.stack([run.evaluation.correct_P for run in self.runs[method]]).astype(np.float64)

    def all_runs(self) -> list[TrainedRun]:
        """The runs of all methods, one after the other."""
        return [run for group in self.runs.values() for run in group]

    def all_models(self) -> list[Evaluation]:
        """The references and every run."""
        return [self.teacher, self.untrained_student, *(run.evaluation for run in self.all_runs())]


def read_results(methods: Sequence[str], seeds: Sequence[int]) -> Results:
    """Reads the two references and every method with every seed.

    Raises:
        ResultsError: a file is missing, malformed, or disagrees with another, the test problems differ between
            files, or the runs had different budgets or were made with different versions.
        DataError: the pool, or the validation or probe problems, are missing.
    """
    _require_a_grid(methods, seeds)
    problems = [_problem(row) for row in read_rows(PREDICTIONS / f"{TEACHER}.jsonl", Prediction)]
    results = Results(
        pool=read_problems("train"),
        target_cells=cells_of(problems) | cells_of(read_problems("validation")) | cells_of(read_problems("probe")),
        level_P=np.array([p.level for p in problems]),
        subject_P=np.array([p.subject for p in problems]),
        teacher=_read_evaluation(TEACHER, problems),
        untrained_student=_read_evaluation(UNTRAINED_STUDENT, problems),
        runs={method: tuple(_read_run(method, seed, problems) for seed in seeds) for method in methods},
    )
    require_equal_budgets(results.all_runs())
    require_equal_provenance(
        {f"the training of {run.name}": run.cost.provenance for run in results.all_runs()}
        | {f"the evaluation of {model.name}": model.cost.provenance for model in results.all_models()}
    )
    return results


def _problem(row: Prediction) -> TestProblem:
    return TestProblem(row.id, row.level, row.subject)


def cells_of(problems: Iterable[TestProblem | Problem]) -> frozenset[Cell]:
    """The pairs of subject and level that some problems have."""
    return frozenset((problem.subject, problem.level) for problem in problems)


def _require_a_grid(methods: Sequence[str], seeds: Sequence[int]) -> None:
    named: dict[str, list[str | int]] = {"methods": list(methods), "seeds": list(seeds)}
    for key, values in named.items():
        if not values:
            raise ResultsError(f"params.yaml: {key} is empty; name at least one")
        if len(set(values)) < len(values):
            raise ResultsError(f"params.yaml: {key} names {max(values, key=values.count)} twice; name each once")


def require_equal_budgets(runs: Sequence[TrainedRun]) -> None:
    """Raises ResultsError unless all runs have the same steps, examples, validation problems and validations."""
    first = runs[0]
    for run in runs[1:]:
        for what in ("steps", "examples"):
            if getattr(run.record, what) != getattr(first.record, what):
                raise ResultsError(
                    f"{run.name} had {getattr(run.record, what)} {what} of training and {first.name} had "
                    f"{getattr(first.record, what)}, and only equal budgets can be compared; "
                    "run `dvc repro` to bring both up to date"
                )
        answered = run.record.validation_problems, first.record.validation_problems
        if len(set(answered)) > 1:
            ours, theirs = ("all" if n is None else f"{n} of the" for n in answered)
            raise ResultsError(
                f"{run.name} answered {ours} validation problems and {first.name} {theirs} validation problems, and "
                "only curves of the same can be compared; run `dvc repro` to bring both up to date"
            )
        if run.learning_curve["examples"].tolist() != first.learning_curve["examples"].tolist():
            raise ResultsError(
                f"{RUNS / run.name} and {RUNS / first.name} were validated after different numbers of "
                "examples; run `dvc repro` to bring both up to date"
            )


def require_equal_provenance(made_with: dict[str, Provenance]) -> None:
    """Raises ResultsError unless all results were made with the same versions and model commits; it names two."""
    (first, expected), *others = made_with.items()
    for name, found in others:
        for what in ("versions", "commits"):
            ours, theirs = getattr(found, what), getattr(expected, what)
            for key in sorted(ours.keys() | theirs.keys()):
                if ours.get(key) != theirs.get(key):
                    raise ResultsError(
                        f"{name} was made with {key} {ours.get(key)} and {first} with {key} {theirs.get(key)}, and "
                        f"only results of the same {what} can be compared; make the older ones again with "
                        "`dvc repro --force --single-item STAGE`"
                    )


def _read_evaluation(name: str, problems: list[TestProblem]) -> Evaluation:
    predictions = PREDICTIONS / f"{name}.jsonl"
    rows = read_rows(predictions, Prediction)
    if list(map(_problem, rows)) != problems:
        raise ResultsError(
            f"{predictions} is for other test problems, or in another order, than "
            f"{PREDICTIONS / TEACHER}.jsonl; run `dvc repro` to bring both up to date"
        )
    path = EVALUATION_COSTS / f"{name}.json"
    cost = read_record(path, EvaluationCost)
    if (cost.name, cost.problems) != (name, len(rows)):
        raise ResultsError(f"{path} does not belong to {predictions}; run `dvc repro` to bring both up to date")
    return Evaluation(name, np.array([row.correct for row in rows]), measure(rows), parted(rows), cost)


def _read_run(method: str, seed: int, problems: list[TestProblem]) -> TrainedRun:
    name = f"{method}-{seed}"
    record = read_record(path := RUNS / name / RECORD, TrainingRecord)
    _require_of(name, f"{record.method}-{record.seed}", path)
    cost = read_record(path := TRAINING_COSTS / f"{name}.json", TrainingCost)
    _require_of(name, cost.name, path)
    curve = read_csv(RUNS / name / LEARNING_CURVE, CurvePoint)
    if len(curve) < 2 or not curve["examples"].is_monotonic_increasing or not curve["examples"].is_unique:
        raise ResultsError(f"{RUNS / name / LEARNING_CURVE} needs at least two rows of growing examples; {AGAIN}")
    return TrainedRun(record, cost, _read_evaluation(name, problems), curve, read_csv(RUNS / name / ARM_LOG, ArmStep))


def _require_of(name: str, found: str, path: Path) -> None:
    if found != name:
        raise ResultsError(f"{path} is of {found}; run `dvc repro` to bring it up to date")
