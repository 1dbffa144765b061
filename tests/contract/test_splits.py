"""What every source promises of its splits: they never overlap, and of a target all but the pool hold nothing else."""

import random

from hypothesis import assume, given, settings
from hypothesis import strategies as st

from pipeline.common.errors import DataError
from pipeline.preparation.records import DROP_REASONS, SourceSplit, drop_test_problems, normalised
from pipeline.preparation.settings import DataParams, TargetParams
from pipeline.preparation.splitting import split_source, split_with_target
from pipeline.problems.record import SPLITS, Problem
from pipeline.sources import mini_math

SUBJECTS = ("Algebra", "Geometry", "Number Theory")


def some(values):
    return st.none() | st.lists(st.sampled_from(values), min_size=1, unique=True)


@st.composite
def records(draw, name, size):
    """A source's split; texts come from a small range, so that splits share some."""
    numbers = random.Random(draw(st.integers(0, 99))).sample(range(400), size)
    problems = [
        Problem(f"{name}/{n}", f"problem {n}", f"$\\boxed{{{n}}}$", 1 + n % 5, SUBJECTS[n % 3], str(n), name)
        for n in numbers
    ]
    return SourceSplit(problems, dict.fromkeys(DROP_REASONS, 0))


def data(draw, target, most):
    probe, validation, test = (draw(st.integers(1, most)) for _ in range(3))
    return DataParams(
        source="path",
        target=target,
        train_size=None,
        probe_size=probe,
        validation_size=validation,
        test_size=test,
        seed=draw(st.integers(0, 9)),
    )


def require_apart(splits):
    """Every split is there, and no two share a problem."""
    assert set(splits) == set(SPLITS)
    assert all(splits.values())
    texts = [{normalised(p.problem) for p in problems} for problems in splits.values()]
    ids = [{p.id for p in problems} for problems in splits.values()]
    assert len(set().union(*texts)) == len(set().union(*ids)) == sum(map(len, splits.values()))


def require_of_target(splits, target):
    for split in set(SPLITS) - {"train"}:
        assert target.subjects is None or {p.subject for p in splits[split]} <= set(target.subjects)
        assert target.levels is None or {p.level for p in splits[split]} <= set(target.levels)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_splits_of_a_source_never_overlap_and_hold_only_the_target(drawn):
    train = drawn.draw(records("train", 250))
    test = drawn.draw(st.none() | records("test", 100))
    everything = [*train.problems, *(test.problems if test else ())]
    target = TargetParams(
        subjects=drawn.draw(some(sorted({p.subject for p in everything}))),
        levels=drawn.draw(some(sorted({p.level for p in everything}))),
    )
    params = data(drawn.draw, target, 4)
    try:
        prepared = split_source(drop_test_problems(train, test) if test else train, test, params)
    except DataError:
        assume(False)
    require_apart(prepared.splits)
    require_of_target(prepared.splits, target)
    assert [len(prepared.splits[s]) for s in ("probe", "validation")] == [params.probe_size, params.validation_size]


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_splits_of_a_pool_and_a_file_of_target_problems_never_overlap(drawn):
    pool, target = (drawn.draw(records(name, size)) for name, size in (("train", 200), ("target", 90)))
    test = drawn.draw(st.none() | records("test", 50))
    params = data(drawn.draw, TargetParams(subjects=None, levels=None), 20)
    try:
        splits = split_with_target(pool, target, test, params).splits
    except DataError:
        assume(False)
    require_apart(splits)
    assert {p.id.split("/")[0] for p in [*splits["probe"], *splits["validation"]]} == {"target"}
    assert {p.id.split("/")[0] for p in splits["test"]} == {"target" if test is None else "test"}
    assert {p.id.split("/")[0] for p in splits["train"]} == {"train"}


@settings(max_examples=12, deadline=None)
@given(st.data())
def test_splits_of_mini_math_never_overlap_and_hold_only_the_target(drawn):
    target = TargetParams(subjects=drawn.draw(some(mini_math.BY_RANK)), levels=drawn.draw(some([1, 2, 3, 4, 5])))
    cells = len(target.subjects or mini_math.BY_RANK) * len(target.levels or range(5))
    params = DataParams(
        source="mini_math",
        target=target,
        train_size=35 * drawn.draw(st.integers(8, 12)),
        probe_size=cells,
        validation_size=2 * cells,
        test_size=cells,
        seed=drawn.draw(st.integers(0, 9)),
    )
    skew = drawn.draw(st.sampled_from([0.0, 0.3, 1.0]))
    splits = mini_math.read(mini_math.Params(spoiled=[], skew=skew), params).splits
    require_apart(splits)
    require_of_target(splits, target)
    assert len(splits["train"]) == params.train_size
