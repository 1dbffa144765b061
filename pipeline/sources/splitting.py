"""Splitting problems into train, validation and test, and making the splits of mini_math.

Which problems a split gets follows from data.seed alone, by strata of subject x level. Test problems are
taken first, then validation, then train, so that a smaller train split changes neither of the others.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

from pipeline.common.errors import DataError, ParamsError
from pipeline.common.params import DataParams
from pipeline.common.seeding import python_rng
from pipeline.problems.record import SPLITS, Problem, Split
from pipeline.sources.mini_math import LEVELS, TASKS, generate_distinct
from pipeline.sources.reading import DROP_REASONS, DropReason, SourceSplit, normalised

Splits = dict[Split, list[Problem]]
CELLS = len(TASKS) * len(LEVELS)


@dataclass(frozen=True)
class Prepared:
    """The three splits, and the records dropped from each of the source's own splits by reason."""

    splits: Splits
    dropped: dict[str, dict[DropReason, int]]


def split_source(train: SourceSplit, test: SourceSplit | None, data: DataParams) -> Prepared:
    """Cuts a source into the three splits.

    The source's own test split is the test split (a sample of `test_size` of it). Without one, test problems
    are held out of train. Validation problems always come out of train.

    Raises:
        DataError: more problems are asked for than there are, or ids or problems are not distinct.
        ParamsError: there is no test split and no test_size to hold out.
    """
    if test is None:
        if data.test_size is None:
            raise ParamsError(
                "data.test_size is null and the source has no test split; say how many problems to hold "
                "out of train, or name a test file in data.path.test"
            )
        test_problems, rest = take(train.problems, data.test_size, data.seed, "test")
    else:
        test_problems, _ = take(test.problems, data.test_size, data.seed, "test")
        rest = train.problems
    validation, rest = take(rest, data.validation_size, data.seed, "validation")
    kept, _ = take(rest, data.train_size, data.seed, "train")
    splits: Splits = {"train": kept, "validation": validation, "test": test_problems}
    check(splits)
    dropped = {"train": train.dropped} | ({} if test is None else {"test": test.dropped})
    return Prepared(splits, dropped)


def take(problems: Sequence[Problem], size: int | None, seed: int, split: Split) -> tuple[list[Problem], list[Problem]]:
    """Draws `size` problems (None: all), each stratum in proportion; returns them and the rest, in source order.

    Raises:
        DataError: there are fewer than `size`, or none at all.
    """
    if not problems:
        raise DataError(f"the source has no problems left for the {split} split; add records or lower data's sizes")
    if size is None:
        return list(problems), []
    if size > len(problems):
        raise DataError(
            f"data.{split}_size asks for {size} problems and the source has only {len(problems)} left for "
            f"the {split} split; lower it to {len(problems)} or less"
        )
    strata: dict[tuple[str, int], list[int]] = defaultdict(list)
    for index, problem in enumerate(problems):
        strata[problem.subject, problem.level].append(index)
    quotas = proportional({stratum: len(indices) for stratum, indices in strata.items()}, size)
    chosen: set[int] = set()
    for stratum, indices in strata.items():
        chosen.update(python_rng(seed, "split", split, *stratum).sample(indices, quotas[stratum]))
    return ([p for i, p in enumerate(problems) if i in chosen], [p for i, p in enumerate(problems) if i not in chosen])


def proportional(sizes: dict[tuple[str, int], int], total: int) -> dict[tuple[str, int], int]:
    """Shares `total` out over strata in proportion to their sizes, by the largest remainders (ties by name)."""
    exact = {stratum: Fraction(total * size, sum(sizes.values())) for stratum, size in sizes.items()}
    quotas = {stratum: int(share) for stratum, share in exact.items()}
    by_remainder = sorted(exact, key=lambda stratum: (quotas[stratum] - exact[stratum], stratum))
    for stratum in by_remainder[: total - sum(quotas.values())]:
        quotas[stratum] += 1
    return quotas


def generate_splits(data: DataParams) -> Prepared:
    """The splits of mini_math: equally many distinct problems of every subject and level.

    Raises:
        ParamsError: a size is missing, is no multiple of the number of cells, or exceeds what a cell holds.
    """
    per_cell = {
        split: _per_cell(split, size)
        for split, size in (("test", data.test_size), ("validation", data.validation_size), ("train", data.train_size))
    }
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


def check(splits: Splits) -> None:
    """Makes sure that no two problems of all splits share their id or their text.

    Raises:
        DataError: two of them do.
    """
    ids: dict[str, str] = {}
    texts: dict[str, str] = {}
    for split, problems in splits.items():
        for problem in problems:
            if problem.id in ids:
                raise DataError(
                    f"id {problem.id!r} stands for a problem in {ids[problem.id]} and for another in "
                    f"{split}; give every problem its own unique_id"
                )
            if (text := normalised(problem.problem)) in texts:
                raise DataError(f"problem {problem.id!r} of {split} is also in {texts[text]}; remove one of the two")
            ids[problem.id] = texts[text] = split
