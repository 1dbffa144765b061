from collections import Counter
from dataclasses import replace

import pytest

from pipeline.common.errors import DataError, ParamsError
from pipeline.mini.problems import pool_of
from pipeline.preparation.records import DROP_REASONS, SourceSplit, normalised
from pipeline.preparation.settings import DataParams
from pipeline.preparation.splitting import check, proportional, split_source, take
from pipeline.problems.record import Problem
from pipeline.sources import mini_math

DATA = DataParams("mini_math", 350, 70, 105, 0)


def problems(count, name="train"):
    """Two subjects and five levels in unequal shares."""
    return [
        Problem(
            f"{name}/{i}",
            f"{name} problem {i}",
            f"$\\boxed{{{i}}}$",
            1 + (i * i) % 5,
            "Algebra" if i % 3 else "Geometry",
            str(i),
        )
        for i in range(count)
    ]


def source(count, name="train"):
    return SourceSplit(problems(count, name), dict.fromkeys(DROP_REASONS, 0))


def data(train, validation, test, seed=0):
    return replace(DATA, source="path", train_size=train, validation_size=validation, test_size=test, seed=seed)


def generated(**changes):
    return mini_math.read(mini_math.Params(), replace(DATA, **changes))


def cells(items):
    return Counter((p.subject, p.level) for p in items)


def sizes(prepared):
    return {split: len(items) for split, items in prepared.splits.items()}


def test_the_source_s_test_split_is_kept_and_validation_comes_from_train():
    prepared = split_source(source(100), source(30, "test"), data(None, 20, None))
    assert sizes(prepared) == {"train": 80, "validation": 20, "test": 30}
    assert prepared.splits["test"] == problems(30, "test")
    assert {p.id for p in prepared.splits["train"] + prepared.splits["validation"]} == {p.id for p in problems(100)}


def test_without_a_test_split_one_is_held_out_of_train():
    prepared = split_source(source(100), None, data(None, 20, 30))
    assert sizes(prepared) == {"train": 50, "validation": 20, "test": 30}
    assert len({p.id for split in prepared.splits.values() for p in split}) == 100
    with pytest.raises(ParamsError, match=r"data\.test_size is null and the source has no test split"):
        split_source(source(100), None, data(None, 20, None))


def test_samples_are_stratified_by_subject_and_level():
    whole = cells(problems(500))
    for split in split_source(source(500), source(500, "test"), data(200, 100, 50)).splits.values():
        for cell, count in cells(split).items():
            assert abs(count - whole[cell] * len(split) / 500) <= 1.5, cell


def test_the_seed_alone_decides_and_no_size_disturbs_the_splits_taken_earlier():
    first = split_source(source(100), source(30, "test"), data(40, 20, 10))
    assert split_source(source(100), source(30, "test"), data(40, 20, 10)) == first
    other_seed = split_source(source(100), source(30, "test"), data(40, 20, 10, seed=1))
    for split in ("train", "validation", "test"):
        assert other_seed.splits[split] != first.splits[split]
    larger = split_source(source(100), source(30, "test"), data(60, 20, 10))
    assert larger.splits["validation"] == first.splits["validation"]
    assert larger.splits["test"] == first.splits["test"]


@pytest.mark.parametrize(
    ("wanted", "words"),
    [
        (data(90, 20, None), "data.train_size asks for 90 problems and the source has only 80"),
        (data(None, 101, None), "data.validation_size asks for 101 problems and the source has only 100"),
        (data(None, 20, 31), "data.test_size asks for 31 problems and the source has only 30"),
        (data(None, 100, None), "no problems left for the train split"),
    ],
)
def test_asking_for_too_much_names_the_numbers(wanted, words):
    with pytest.raises(DataError) as caught:
        split_source(source(100), source(30, "test"), wanted)
    assert words in str(caught.value)


def test_take_returns_a_partition_in_source_order():
    taken, rest = take(problems(50), 17, 3, "validation")
    assert len(taken) == 17
    assert sorted(taken + rest, key=lambda p: int(p.answer)) == problems(50)
    assert [int(p.answer) for p in taken] == sorted(int(p.answer) for p in taken)


def test_proportional_shares_add_up_and_never_exceed_a_stratum():
    strata = {("A", 1): 1, ("B", 1): 3, ("C", 1): 3, ("D", 2): 90}
    for total in range(sum(strata.values()) + 1):
        shares = proportional(strata, total)
        assert sum(shares.values()) == total
        assert all(shares[cell] <= size for cell, size in strata.items())
    assert proportional({("A", 1): 20, ("B", 1): 7, ("C", 1): 3}, 4) == {("A", 1): 3, ("B", 1): 1, ("C", 1): 0}
    assert proportional({("A", 1): 1, ("B", 1): 1}, 1) == {("A", 1): 1, ("B", 1): 0}


def test_repeated_ids_and_texts_over_splits_are_errors():
    first, second = problems(2)
    with pytest.raises(DataError, match="id 'train/0' stands for a problem in test and for another in train"):
        check({"test": [first], "train": [replace(second, id=first.id)]})
    with pytest.raises(DataError, match="problem 'train/1' of train is also in test"):
        check({"test": [first], "train": [replace(second, problem=first.problem.replace(" ", "\n"))]})


def test_mini_math_splits_fill_every_cell_alike_with_problems_of_the_study():
    prepared = generated()
    assert sizes(prepared) == {"train": 350, "validation": 70, "test": 105}
    for split, per_cell in (("train", 10), ("validation", 2), ("test", 3)):
        assert len(cells(prepared.splits[split])) == 35
        assert set(cells(prepared.splits[split]).values()) == {per_cell}
    everything = [p for split in prepared.splits.values() for p in split]
    assert len({normalised(p.problem) for p in everything}) == len({p.id for p in everything}) == 525
    assert {pool_of(p.problem) for p in everything} == {"study"}
    assert prepared.splits["test"][8].id == "mini_math/test/algebra/level_3/002"
    assert any(p.id.startswith("mini_math/train/counting_and_probability/level_5/") for p in prepared.splits["train"])
    assert set(prepared.dropped["train"].values()) == {0}


def test_mini_math_splits_follow_the_seed_and_a_larger_train_split_keeps_the_others():
    assert generated() == generated()
    assert generated(seed=1).splits["test"] != generated().splits["test"]
    larger = generated(train_size=700)
    assert larger.splits["test"] == generated().splits["test"]
    assert larger.splits["validation"] == generated().splits["validation"]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"train_size": None}, "data.train_size is null"),
        ({"test_size": None}, "data.test_size is null"),
        ({"validation_size": 72}, "data.validation_size is 72, but mini_math needs a multiple of 35"),
        ({"train_size": 10}, "35 is the nearest"),
        ({"train_size": 35 * 5000}, "mini_math does not hold 5005 different problems of Algebra, level 1"),
    ],
)
def test_mini_math_sizes_that_cannot_be(changes, words):
    with pytest.raises(ParamsError) as caught:
        generated(**changes)
    assert words in str(caught.value)
