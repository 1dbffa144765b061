"""Splitting problems into train, validation and test.

Which problems a split gets follows from data.seed alone, by strata of subject x level. Test problems are
taken first, then validation, then train, so that a smaller train split changes neither of the others.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

from pipeline.common.errors import DataError, ParamsError
from pipeline.common.seeding import python_rng
from pipeline.preparation.records import DropReason, SourceSplit, normalised
from pipeline.preparation.settings import DataParams
from pipeline.problems.record import Problem, Split

Splits = dict[Split, list[Problem]]


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
