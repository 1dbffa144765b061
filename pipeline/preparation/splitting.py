"""Splitting problems into the target's test, validation and probe problems, and the pool to train on.

Which problems a split gets follows from data.seed alone, by strata of subject x level. Test problems are
taken first, then validation, then the probe, then train, so that a smaller train split changes none of the others.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import TypeVar

from pipeline.common.errors import DataError, ParamsError
from pipeline.common.seeding import python_rng
from pipeline.preparation.records import DropReason, SourceSplit, drop_problems, normalised
from pipeline.preparation.settings import DataParams
from pipeline.preparation.target import EVERYTHING, Target, cells_of, only_target, target_of
from pipeline.problems.record import Problem, Split

Splits = dict[Split, list[Problem]]
K = TypeVar("K", bound=Hashable)


@dataclass(frozen=True)
class Prepared:
    """The splits, and the records dropped from each of the source's own splits by reason."""

    splits: Splits
    dropped: dict[str, dict[DropReason, int]]


def split_source(train: SourceSplit, test: SourceSplit | None, data: DataParams) -> Prepared:
    """Cuts a source into the splits; `data.target` says of what test, validation and probe are.

    The target's part of the source's own test split is the test split (a sample of `test_size` of it). Without one,
    test problems are held out of train. Validation and probe problems always come out of train.

    Raises:
        DataError: more problems are asked for than there are, or ids or problems are not distinct.
        ParamsError: there is no test split and no test_size to hold out, or the data does not hold the target.
    """
    target = target_of(data.target, cells_of([*train.problems, *(test.problems if test else ())]))
    dropped = {"train": train.dropped}
    require_room(train.problems, data, target, held_out_test=test is None)
    if test is None:
        test_problems, rest = take(train.problems, held_out_size(data), data.seed, "test", target)
    else:
        test = only_target(test, target)
        test_problems, _ = take(test.problems, data.test_size, data.seed, "test", target)
        rest = train.problems
        dropped["test"] = test.dropped
    validation, rest = take(rest, data.validation_size, data.seed, "validation", target)
    probe, rest = take(rest, data.probe_size, data.seed, "probe", target)
    kept, _ = take(rest, data.train_size, data.seed, "train")
    splits: Splits = {"train": kept, "probe": probe, "validation": validation, "test": test_problems}
    check(splits)
    return Prepared(splits, dropped)


def split_with_target(pool: SourceSplit, target: SourceSplit, test: SourceSplit | None, data: DataParams) -> Prepared:
    """Cuts the problems of a target into probe, validation and, without a test split, test; the pool is train.

    Problems of the pool that are in one of those splits are dropped.

    Raises:
        DataError: more problems are asked for than there are, or ids or problems are not distinct.
        ParamsError: there is no test split and no test_size to hold out.
    """
    dropped = {}
    require_room(target.problems, data, held_out_test=test is None)
    if test is None:
        test_problems, rest = take(target.problems, held_out_size(data), data.seed, "test")
    else:
        target = drop_problems(target, test.problems, "also_in_test")
        test_problems, _ = take(test.problems, data.test_size, data.seed, "test")
        rest = target.problems
        dropped["test"] = test.dropped
    validation, rest = take(rest, data.validation_size, data.seed, "validation")
    probe, _ = take(rest, data.probe_size, data.seed, "probe")
    pool = drop_problems(pool, test.problems if test else test_problems, "also_in_test")
    pool = drop_problems(pool, [*validation, *probe], "also_in_target")
    kept, _ = take(pool.problems, data.train_size, data.seed, "train")
    splits: Splits = {"train": kept, "probe": probe, "validation": validation, "test": test_problems}
    check(splits)
    return Prepared(splits, {"train": pool.dropped, "target": target.dropped, **dropped})


def held_out_size(data: DataParams) -> int:
    """How many test problems to hold out where the source has no test split.

    Raises:
        ParamsError: params.yaml does not say.
    """
    if data.test_size is None:
        raise ParamsError(
            "data.test_size is null and the source has no test split; say how many problems to hold "
            "out of train, or name a test file in data.path.test"
        )
    return data.test_size


def require_room(
    problems: Sequence[Problem], data: DataParams, target: Target = EVERYTHING, *, held_out_test: bool
) -> None:
    """Checks that the splits that are taken out of the same problems of the target fit into them, all at once.

    Raises:
        DataError: they do not; the message names all their sizes.
    """
    sizes = ({"test_size": held_out_size(data)} if held_out_test else {}) | {
        "validation_size": data.validation_size,
        "probe_size": data.probe_size,
    }
    there = sum(target.holds(p.subject, p.level) for p in problems)
    if not there:
        raise DataError(f"the source has no problems{target.suffix}; add records")
    if (wanted := sum(sizes.values())) > there:
        asked = ", ".join(f"data.{name} {size}" for name, size in sizes.items())
        raise DataError(
            f"{asked}: these splits need {wanted} problems{target.suffix} and the source has {there}; lower the sizes, "
            "and leave some problems to train on"
        )


def take(
    problems: Sequence[Problem], size: int | None, seed: int, split: Split, target: Target = EVERYTHING
) -> tuple[list[Problem], list[Problem]]:
    """Draws `size` problems (None: all) of the target, each stratum in proportion.

    Returns them and the rest, in source order.

    Raises:
        DataError: there are fewer than `size`, or none at all.
    """
    strata: dict[tuple[str, int], list[int]] = defaultdict(list)
    for index, problem in enumerate(problems):
        if target.holds(problem.subject, problem.level):
            strata[problem.subject, problem.level].append(index)
    there = sum(map(len, strata.values()))
    if not there:
        raise DataError(
            f"the source has no problems{target.suffix} left for the {split} split; add records or lower data's sizes"
        )
    size = there if size is None else size
    if size > there:
        raise DataError(
            f"data.{split}_size asks for {size} problems{target.suffix} and the source has only {there} left for "
            f"the {split} split; lower it to {there} or less"
        )
    quotas = proportional({stratum: len(indices) for stratum, indices in strata.items()}, size)
    chosen: set[int] = set()
    for stratum, indices in strata.items():
        chosen.update(python_rng(seed, "split", split, *stratum).sample(indices, quotas[stratum]))
    return ([p for i, p in enumerate(problems) if i in chosen], [p for i, p in enumerate(problems) if i not in chosen])


def proportional(weights: Mapping[K, float | Fraction], total: int) -> dict[K, int]:
    """Shares `total` out in proportion to weights, by the largest remainders (ties by name)."""
    whole = sum(Fraction(weight) for weight in weights.values())
    exact = {name: total * Fraction(weight) / whole for name, weight in weights.items()}
    quotas = {name: int(share) for name, share in exact.items()}
    by_remainder = sorted(exact, key=lambda name: (quotas[name] - exact[name], name))
    for name in by_remainder[: total - sum(quotas.values())]:
        quotas[name] += 1
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
