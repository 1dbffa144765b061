import hashlib
import json
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from pipeline.common.errors import DataError, ParamsError
from pipeline.mini.problems import pool_of
from pipeline.preparation.records import DROP_REASONS, SourceSplit, normalised
from pipeline.preparation.settings import DataParams, TargetParams
from pipeline.preparation.splitting import check, proportional, split_source, split_with_target, take
from pipeline.problems.boxed import last_boxed
from pipeline.problems.record import SPLITS, Problem
from pipeline.sources import mini_math

ALL = TargetParams(subjects=None, levels=None)
DATA = DataParams(
    source="mini_math", target=ALL, train_size=350, probe_size=35, validation_size=70, test_size=105, seed=0
)
CLEAN = mini_math.Params(spoiled=[], skew=0.0)


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
            name,
        )
        for i in range(count)
    ]


def source(count, name="train"):
    return SourceSplit(problems(count, name), dict.fromkeys(DROP_REASONS, 0))


def data(train, validation, test, seed=0, probe=10, **target):
    return replace(
        DATA,
        source="path",
        target=replace(ALL, **target),
        train_size=train,
        probe_size=probe,
        validation_size=validation,
        test_size=test,
        seed=seed,
    )


def generated(**changes):
    return mini_math.read(CLEAN, replace(DATA, **changes))


def cells(items):
    return Counter((p.subject, p.level) for p in items)


def sizes(prepared):
    return {split: len(items) for split, items in prepared.splits.items()}


def test_the_source_s_test_split_is_kept_and_validation_comes_from_train():
    prepared = split_source(source(100), source(30, "test"), data(None, 20, None))
    assert sizes(prepared) == {"train": 70, "probe": 10, "validation": 20, "test": 30}
    assert prepared.splits["test"] == problems(30, "test")
    out_of_train = [p for split in ("train", "probe", "validation") for p in prepared.splits[split]]
    assert {p.id for p in out_of_train} == {p.id for p in problems(100)}


def test_without_a_test_split_one_is_held_out_of_train():
    prepared = split_source(source(100), None, data(None, 20, 30))
    assert sizes(prepared) == {"train": 40, "probe": 10, "validation": 20, "test": 30}
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
    for split in SPLITS:
        assert other_seed.splits[split] != first.splits[split]
    larger = split_source(source(100), source(30, "test"), data(60, 20, 10))
    for split in ("probe", "validation", "test"):
        assert larger.splits[split] == first.splits[split]
    more_probed = split_source(source(100), source(30, "test"), data(40, 20, 10, probe=30))
    for split in ("validation", "test"):
        assert more_probed.splits[split] == first.splits[split]


@pytest.mark.parametrize(
    ("wanted", "words"),
    [
        (data(90, 20, None), "data.train_size asks for 90 problems and the source has only 70"),
        (
            data(None, 101, None),
            "data.validation_size 101, data.probe_size 10: these splits need 111 problems and the ",
        ),
        (data(None, 20, 31), "data.test_size asks for 31 problems and the source has only 30"),
        (data(None, 90, None), "no problems left for the train split"),
        (data(None, 20, None, probe=81), "need 101 problems and the source has 100; lower the sizes, and leave some"),
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
    assert sizes(prepared) == {"train": 350, "probe": 35, "validation": 70, "test": 105}
    for split, per_cell in (("train", 10), ("probe", 1), ("validation", 2), ("test", 3)):
        assert len(cells(prepared.splits[split])) == 35
        assert set(cells(prepared.splits[split]).values()) == {per_cell}
    everything = [p for split in prepared.splits.values() for p in split]
    assert len({normalised(p.problem) for p in everything}) == len({p.id for p in everything}) == 560
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
        ({"train_size": 35 * 5000}, "mini_math does not hold 5006 different problems of Algebra, level 1"),
    ],
)
def test_mini_math_sizes_that_cannot_be(changes, words):
    with pytest.raises(ParamsError) as caught:
        generated(**changes)
    assert words in str(caught.value)


def test_of_a_target_are_all_splits_but_the_pool_and_what_the_test_split_lost_is_counted():
    prepared = split_source(source(100), source(30, "test"), data(None, 8, None, subjects=["geometry"], levels=[1, 2]))
    held = {("Geometry", 1), ("Geometry", 2)}
    for split in ("probe", "validation", "test"):
        assert set(cells(prepared.splits[split])) <= held
    on_target = [p for p in problems(30, "test") if (p.subject, p.level) in held]
    assert prepared.splits["test"] == on_target
    assert prepared.dropped["test"]["off_target"] == 30 - len(on_target)
    assert len(prepared.splits["train"]) == 100 - 8 - 10
    assert {subject for subject, _ in cells(prepared.splits["train"])} == {"Algebra", "Geometry"}


@pytest.mark.parametrize(
    ("target", "error", "words"),
    [
        ({"subjects": ["Geometri"]}, ParamsError, "data.target.subjects names 'Geometri', of which the data holds no"),
        ({"subjects": ["Geometri"]}, ParamsError, "choose from Algebra, Geometry"),
        ({"levels": [1, 4]}, ParamsError, "data.target.levels names 4, of which the data holds no problem"),
        ({"subjects": ["Geometry"]}, DataError, "these splits need 50 problems of the target and the source has"),
        ({"subjects": ["Geometry"], "levels": [5]}, DataError, "of the target and the source has 13"),
    ],
)
def test_a_target_that_the_data_does_not_hold_or_holds_too_little_of(target, error, words):
    with pytest.raises(error) as caught:
        split_source(source(100), source(30, "test"), data(None, 40, None, **target))
    assert words in str(caught.value)


def test_a_target_of_its_own_gives_all_splits_but_the_pool():
    pool, target = problems(60), problems(50, "target")
    shared = [replace(p, id=f"train/again {p.id}") for p in target[:50]]
    pool = SourceSplit([*pool, *shared], dict.fromkeys(DROP_REASONS, 0))
    prepared = split_with_target(pool, source(50, "target"), None, data(None, 20, 15))
    assert sizes(prepared) == {"train": 60 + 5, "probe": 10, "validation": 20, "test": 15}
    for split in ("probe", "validation", "test"):
        assert {p.id.split("/")[0] for p in prepared.splits[split]} == {"target"}
    assert prepared.dropped["train"] == dict.fromkeys(DROP_REASONS, 0) | {"also_in_test": 15, "also_in_target": 30}
    tested = split_with_target(pool, source(50, "target"), source(9, "test"), data(None, 20, None))
    assert sizes(tested) == {"train": 60 + 20, "probe": 10, "validation": 20, "test": 9}
    assert set(tested.dropped) == {"train", "target", "test"}


def digest(items):
    rows = [[p.id, p.problem, p.solution, p.level, p.subject, p.answer] for p in items]
    return hashlib.sha256(json.dumps(rows).encode()).hexdigest()[:16]


def test_mini_math_splits_are_those_that_earlier_results_were_made_with():
    splits = mini_math.read(
        CLEAN, replace(DATA, train_size=2100, probe_size=105, validation_size=210, test_size=420)
    ).splits
    assert {split: digest(splits[split]) for split in ("train", "validation", "test")} == {
        "train": "aa3b841d8d2b7a97",
        "validation": "152ee98387cd6768",
        "test": "a5fe26a18fb2adf4",
    }


BROAD = {"subjects": ["Number Theory", "Precalculus", "Intermediate Algebra"], "levels": None}


def test_mini_math_fills_every_cell_of_the_target_alike_and_the_pool_as_ever():
    prepared = generated(target=replace(ALL, **BROAD), probe_size=15, validation_size=30, test_size=45)
    for split, per_cell in (("probe", 1), ("validation", 2), ("test", 3)):
        assert cells(prepared.splits[split]) == {
            (s, level): per_cell for s in BROAD["subjects"] for level in range(1, 6)
        }
    assert cells(prepared.splits["train"]) == dict.fromkeys(mini_math.CELLS, 10)
    with pytest.raises(ParamsError, match=r"data\.test_size is 104, .* 15 \(.* of the target\); 105 is"):
        generated(target=replace(ALL, **BROAD), probe_size=15, validation_size=30, test_size=104)


@pytest.mark.parametrize("skew", [0.0, 0.5, 1.0, 3.0, 9.0])
def test_a_skewed_pool_has_shares_of_rank_to_the_minus_skew_and_leaves_the_other_splits(skew):
    counts = mini_math.train_counts(20, skew)
    by_subject = [counts[subject, 1] for subject in mini_math.BY_RANK]
    assert sum(counts.values()) == 35 * 20
    assert all(counts[s, level] == counts[s, 1] for s, level in mini_math.CELLS)
    assert by_subject == sorted(by_subject, reverse=True)
    weights = [rank**-skew for rank in range(1, 8)]
    exact = [140 * weight / sum(weights) for weight in weights]
    if skew <= 1:
        assert np.abs(np.subtract(by_subject, exact)).max() < 1
    assert min(by_subject) >= 1


def test_skew_and_spoiling_change_no_split_but_train():
    clean = generated()
    changed = mini_math.read(replace(CLEAN, skew=0.5, spoiled=["Algebra", "Geometry/3"]), DATA)
    for split in ("probe", "validation", "test"):
        assert changed.splits[split] == clean.splits[split]
    assert cells(changed.splits["train"])["Prealgebra", 2] > 10 > cells(changed.splits["train"])["Precalculus", 2]


def test_spoiled_problems_exchange_their_solutions_inside_the_cell_and_none_keeps_its_answer():
    clean = generated().splits["train"]
    spoiled = mini_math.read(replace(CLEAN, spoiled=["Algebra", "Geometry/3"]), DATA).splits["train"]
    wanted = {("Algebra", level) for level in range(1, 6)} | {("Geometry", 3)}
    for before, after in zip(clean, spoiled, strict=True):
        if (before.subject, before.level) in wanted:
            assert after == replace(before, solution=after.solution, answer=after.answer)
            assert after.answer != before.answer
            assert last_boxed(after.solution) == after.answer
        else:
            assert after == before
    for cell in wanted:
        given = [sorted(p.solution for p in split if (p.subject, p.level) == cell) for split in (clean, spoiled)]
        assert given[0] == given[1]
    assert mini_math.read(replace(CLEAN, spoiled=["Algebra", "Geometry/3"]), DATA).splits["train"] == spoiled


@pytest.mark.parametrize(
    ("arm", "train", "words"),
    [
        (
            "Algebra/6",
            350,
            "names 'Algebra/6'; write SUBJECT or SUBJECT/LEVEL, with a subject out of Algebra, ",
        ),
        ("Algebra/1", 35, "1 of 1 train problems of Algebra, level 1 have the same answer"),
    ],
)
def test_arms_that_cannot_be_spoiled(arm, train, words):
    with pytest.raises(ParamsError) as caught:
        mini_math.read(replace(CLEAN, spoiled=[arm]), replace(DATA, train_size=train))
    assert words in str(caught.value)
