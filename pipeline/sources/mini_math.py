"""mini_math: generated problems for the offline scale, equally many of every subject and level.

Its train split can be made uneven or dirty, to study what curricula do with such pools; the other splits never are.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from itertools import islice

from pipeline.common.errors import ParamsError
from pipeline.common.params import NonNegativeFloat, settings
from pipeline.common.seeding import python_rng
from pipeline.mini.problems import LEVELS, TASKS, GeneratedProblem, generate_distinct
from pipeline.preparation.records import DROP_REASONS
from pipeline.preparation.settings import DataParams
from pipeline.preparation.splitting import Prepared, Splits, check, proportional
from pipeline.preparation.target import Cell, target_of
from pipeline.problems.record import SPLITS, Problem, Split

CELLS: tuple[Cell, ...] = tuple((subject, level) for subject in TASKS for level in LEVELS)
BY_RANK = (  # under `skew`, the subject with the most train problems first
    "Prealgebra",
    "Algebra",
    "Geometry",
    "Counting & Probability",
    "Number Theory",
    "Precalculus",
    "Intermediate Algebra",
)


@settings
class Params:
    """How train departs from clean and even.

    spoiled: arms, "Subject/level" or "Subject", whose problems carry solution and answer of another problem of the same
    subject and level. skew: a subject's share is proportional to 1 / rank^skew.
    """

    spoiled: list[str]
    skew: NonNegativeFloat


def require(params: Params, data: DataParams) -> None:
    """Checks sizes, target and spoiled arms.

    Raises:
        ParamsError: a size is missing or no multiple of the number of cells, or the target or a spoiled arm is none of
            them.
    """
    spoiled_cells(params.spoiled)
    even_counts(data)


def read(params: Params, data: DataParams) -> Prepared:
    """The splits of mini_math: distinct problems, equally many of every subject and level (of the target, but train).

    Raises:
        ParamsError: a size is missing, is no multiple of the number of cells, or exceeds what a cell holds; or the
            target or a spoiled arm is not one of the cells.
    """
    spoiled = spoiled_cells(params.spoiled)
    counts = even_counts(data)
    train = train_counts(counts["train"][CELLS[0]], params.skew)
    splits: Splits = {split: [] for split in SPLITS}
    for cell in CELLS:
        even = {split: cells.get(cell, 0) for split, cells in counts.items()}
        problems = problems_of_cell(cell, even, train[cell], data)
        if cell in spoiled:
            problems["train"] = spoil(problems["train"])
        for split in SPLITS:
            splits[split] += problems[split]
    check(splits)
    return Prepared(splits, {"train": dict.fromkeys(DROP_REASONS, 0)})


def even_counts(data: DataParams) -> dict[Split, dict[Cell, int]]:
    """How many problems of each cell a split holds, in the order in which splits are generated, train without skew."""
    target = target_of(data.target, CELLS)
    of_target = [cell for cell in CELLS if target.holds(*cell)]
    return {
        "test": _evenly("test", data.test_size, of_target, target.suffix),
        "validation": _evenly("validation", data.validation_size, of_target, target.suffix),
        "train": _evenly("train", data.train_size, CELLS, ""),
        "probe": _evenly("probe", data.probe_size, of_target, target.suffix),
    }


def _evenly(split: Split, size: int | None, cells: Sequence[Cell], suffix: str) -> dict[Cell, int]:
    count = len(cells)
    if size is None:
        raise ParamsError(f"data.{split}_size is null, but mini_math has no end; give a multiple of {count}")
    if size % count:
        raise ParamsError(
            f"data.{split}_size is {size}, but mini_math needs a multiple of {count} (the subjects x levels"
            f"{suffix}); {max(1, round(size / count)) * count} is the nearest"
        )
    return dict.fromkeys(cells, size // count)


def train_counts(per_cell: int, skew: float) -> dict[Cell, int]:
    """Train problems of each cell: on average `per_cell`, equal over a subject's levels, at least 1."""
    weights = {subject: rank**-skew for rank, subject in enumerate(BY_RANK, start=1)}
    counts = proportional(weights, per_cell * len(BY_RANK))
    for subject in BY_RANK:
        if counts[subject] == 0:
            counts[subject] = 1
            counts[BY_RANK[0]] -= 1
    return {(subject, level): counts[subject] for subject, level in CELLS}


def problems_of_cell(cell: Cell, even: dict[Split, int], train: int, data: DataParams) -> dict[Split, list[Problem]]:
    """Distinct problems of one cell: `train` train problems, and of the other splits as many as `even` says.

    They are generated in the order of `even`, and after all of them those that train has more than its even share: so
    no skew changes another split.

    Raises:
        ParamsError: the cell does not hold so many.
    """
    subject, level = cell
    wanted = sum(even.values()) + max(0, train - even["train"])
    try:
        generated = iter(generate_distinct(subject, level, wanted, python_rng(data.seed, "mini_math", subject, level)))
    except ValueError as error:
        raise ParamsError(
            f"mini_math does not hold {wanted} different problems of {subject}, "
            f"level {level}; lower data.train_size, now {data.train_size}, or the other sizes"
        ) from error
    drawn = {split: list(islice(generated, count)) for split, count in even.items()}
    drawn["train"] = [*drawn["train"], *generated][:train]
    return {split: [_numbered(split, n, g) for n, g in enumerate(problems)] for split, problems in drawn.items()}


def _numbered(split: Split, number: int, g: GeneratedProblem) -> Problem:
    slug = g.subject.lower().replace("&", "and").replace(" ", "_")
    name = f"mini_math/{split}/{slug}/level_{g.level}/{number:03d}"
    return Problem(name, g.problem, g.solution, g.level, g.subject, g.answer, "mini_math")


def spoiled_cells(arms: list[str]) -> set[Cell]:
    """The cells of the arms that are to be spoiled.

    Raises:
        ParamsError: one is no arm.
    """
    cells_of = {subject: [(subject, level) for level in LEVELS] for subject in TASKS}
    cells_of |= {f"{subject}/{level}": [(subject, level)] for subject, level in CELLS}
    for arm in arms:
        if arm not in cells_of:
            raise ParamsError(
                f"data.mini_math.spoiled names {arm!r}; write SUBJECT or SUBJECT/LEVEL, with a subject out of "
                f"{', '.join(TASKS)} and a level from {LEVELS[0]} to {LEVELS[-1]}"
            )
    return {cell for arm in arms for cell in cells_of[arm]}


def spoil(problems: list[Problem]) -> list[Problem]:
    """The problems of one cell, each with solution and answer of another whose answer differs, every one used once.

    With equal answers side by side, a cyclic shift by as many places as the most frequent answer takes leaves no
    problem its own. The order of the answers is that of their digests, so that wrong ones tell nothing of right ones.

    Raises:
        ParamsError: more than half of the problems have the same answer.
    """
    order = sorted(range(len(problems)), key=lambda i: (hashlib.sha256(problems[i].answer.encode()).digest(), i))
    shift = max(Counter(p.answer for p in problems).values())
    if 2 * shift > len(problems):
        raise ParamsError(
            f"data.mini_math.spoiled: {shift} of {len(problems)} train problems of {problems[0].subject}, level "
            f"{problems[0].level} have the same answer, so they cannot exchange theirs; raise data.train_size"
        )
    donor_of = {i: problems[order[(rank + shift) % len(order)]] for rank, i in enumerate(order)}
    return [replace(p, solution=donor_of[i].solution, answer=donor_of[i].answer) for i, p in enumerate(problems)]
