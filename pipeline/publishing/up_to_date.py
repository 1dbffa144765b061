"""Whether a student and what the report says of it still belong together; DVC knows."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from dvc.exceptions import DvcException
from dvc.repo import Repo

from pipeline.common.errors import ResultsError, one_line
from pipeline.common.paths import CURRICULUM_CODE


def require_up_to_date(run: str) -> None:
    """Checks that the student, the params and data it was made from, and the report are those of one `dvc repro`.

    Changes of code are let pass: a card says nothing of it.

    Raises:
        ResultsError: something has changed since; the message names the first thing.
    """
    try:
        with Repo() as repo:
            status = repo.status([f"train@{run}", f"evaluate@{run}", "report"])
    except DvcException as error:
        raise ResultsError(
            f"DVC cannot tell whether {run} is up to date ({one_line(error)}); run `dvc repro` first"
        ) from error
    for stage, changes in status.items():
        for what in _changed(changes):
            raise ResultsError(f"{run} is not up to date: {what} of stage {stage} has changed; run `dvc repro` first")


def _changed(changes: list[Any]) -> Iterator[str]:
    """What a stage's status names, code left out. Changed params come as a mapping under their file, others as text."""
    for change in changes:
        if isinstance(change, str):  # "changed command"
            yield change.removeprefix("changed ")
            continue
        for paths in change.values():
            for path, how in paths.items():
                if isinstance(how, dict):
                    yield from (f"{key} in {path}" for key in how)
                elif not path.startswith(("pipeline/", f"{CURRICULUM_CODE}/")):
                    yield path
