"""The target: what the student should become good at. Validation, test and probe problems are of the target alone."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from pipeline.common.errors import ParamsError
from pipeline.preparation.records import SourceSplit, proper_subject
from pipeline.preparation.settings import TargetParams
from pipeline.problems.record import Problem

Cell = tuple[str, int]  # subject and level


@dataclass(frozen=True)
class Target:
    """The subjects and levels of the target; None for all."""

    subjects: frozenset[str] | None = None
    levels: frozenset[int] | None = None

    def holds(self, subject: str, level: int) -> bool:
        """Whether problems of this subject and level are of the target."""
        return (self.subjects is None or subject in self.subjects) and (self.levels is None or level in self.levels)

    @property
    def is_everything(self) -> bool:
        """Whether the target is the pool's own mix."""
        return self.subjects is None and self.levels is None

    @property
    def suffix(self) -> str:
        """What error messages add to a number of problems."""
        return "" if self.is_everything else " of the target"


EVERYTHING = Target()


def target_of(params: TargetParams, cells: Iterable[Cell]) -> Target:
    """The target that params.yaml names, in data that holds these cells.

    Raises:
        ParamsError: the data holds no problem of a subject or level of the target.
    """
    held = set(cells)
    subjects = None if params.subjects is None else [proper_subject(subject) for subject in params.subjects]
    _require_held("subjects", subjects, {subject for subject, _ in held})
    _require_held("levels", params.levels, {level for _, level in held})
    return Target(
        None if subjects is None else frozenset(subjects),
        None if params.levels is None else frozenset(params.levels),
    )


def _require_held(key: str, wanted: Iterable[str | int] | None, held: Iterable[str | int]) -> None:
    there = sorted(held, key=str)
    missing = [value for value in wanted or () if value not in there]
    if missing:
        raise ParamsError(
            f"data.target.{key} names {missing[0]!r}, of which the data holds no problem; choose from "
            f"{', '.join(map(str, there))}"
        )


def cells_of(problems: Iterable[Problem]) -> set[Cell]:
    """The subjects and levels of some problems."""
    return {(problem.subject, problem.level) for problem in problems}


def only_target(split: SourceSplit, target: Target) -> SourceSplit:
    """The problems of a split that are of the target; the others are counted as dropped."""
    kept = [problem for problem in split.problems if target.holds(problem.subject, problem.level)]
    return SourceSplit(kept, split.dropped | {"off_target": len(split.problems) - len(kept)})
