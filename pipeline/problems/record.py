"""The problem record that every stage shares, and the files it is kept in."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from pipeline.common.errors import DataError
from pipeline.common.files import read_jsonl, write_jsonl
from pipeline.common.paths import PREPARED

# The pool, and three of the target: what a curriculum may look at, the learning curve, the final accuracy.
Split = Literal["train", "probe", "validation", "test"]
SPLITS: tuple[Split, ...] = ("train", "probe", "validation", "test")


@dataclass(frozen=True)
class Problem:
    """One MATH problem.

    `id` is unique over splits, `level` 1..5, `answer` the content of the solution's last box. `source` says where the
    problem comes from: a field of its record, or the file, the dataset's config or the generator that it was found in.
    """

    id: str
    problem: str
    solution: str
    level: int
    subject: str
    answer: str
    source: str


def write_problems(split: Split, problems: Sequence[Problem], folder: Path = PREPARED) -> None:
    """Writes one split as JSONL."""
    write_jsonl(folder / f"{split}.jsonl", map(asdict, problems))


def read_problems(split: Split, folder: Path = PREPARED) -> list[Problem]:
    """Reads one split.

    Raises:
        DataError: the split has not been prepared.
    """
    path = folder / f"{split}.jsonl"
    if not path.exists():
        raise DataError(f"{path} is missing; run `dvc repro prepare` first")
    return [Problem(**row) for row in read_jsonl(path)]
