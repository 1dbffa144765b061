"""mini_math: generated problems for the offline scale, equally many of every subject and level."""

from __future__ import annotations

from pipeline.common.errors import ParamsError
from pipeline.common.params import settings
from pipeline.common.seeding import python_rng
from pipeline.mini.problems import LEVELS, TASKS, generate_distinct
from pipeline.preparation.records import DROP_REASONS
from pipeline.preparation.settings import DataParams
from pipeline.preparation.splitting import Prepared, Splits, check
from pipeline.problems.record import SPLITS, Problem, Split

CELLS = len(TASKS) * len(LEVELS)


@settings
class Params:
    """No settings: sizes and seed are those of every source."""


def read(params: Params, data: DataParams) -> Prepared:
    """The splits of mini_math: equally many distinct problems of every subject and level.

    Raises:
        ParamsError: a size is missing, is no multiple of the number of cells, or exceeds what a cell holds.
    """
    sizes: dict[Split, int | None] = {
        "test": data.test_size,
        "validation": data.validation_size,
        "train": data.train_size,
    }
    per_cell = {split: _per_cell(split, size) for split, size in sizes.items()}
    splits: Splits = {split: [] for split in SPLITS}
    for subject in TASKS:
        for level in LEVELS:
            rng = python_rng(data.seed, "mini_math", subject, level)
            try:
                generated = iter(generate_distinct(subject, level, sum(per_cell.values()), rng))
            except ValueError as error:
                raise ParamsError(
                    f"mini_math does not hold {sum(per_cell.values())} different problems of {subject}, "
                    f"level {level}; lower data.train_size, now {data.train_size}, or the other sizes"
                ) from error
            slug = subject.lower().replace("&", "and").replace(" ", "_")
            for split, count in per_cell.items():
                splits[split] += [
                    Problem(
                        f"mini_math/{split}/{slug}/level_{level}/{number:03d}",
                        g.problem,
                        g.solution,
                        g.level,
                        g.subject,
                        g.answer,
                    )
                    for number, g in zip(range(count), generated, strict=False)
                ]
    check(splits)
    return Prepared(splits, {"train": dict.fromkeys(DROP_REASONS, 0)})


def _per_cell(split: Split, size: int | None) -> int:
    if size is None:
        raise ParamsError(f"data.{split}_size is null, but mini_math has no end; give a multiple of {CELLS}")
    if size % CELLS:
        raise ParamsError(
            f"data.{split}_size is {size}, but mini_math needs a multiple of {CELLS} ({len(TASKS)} "
            f"subjects x {len(LEVELS)} levels); {max(1, round(size / CELLS)) * CELLS} is the nearest"
        )
    return size // CELLS
