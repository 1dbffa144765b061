"""Arms and the decks they are dealt from."""

from itertools import pairwise

import numpy as np
import pytest

from pipeline.arms.grouping import ArmSet, group_by_difficulty, group_into_arms
from pipeline.common.errors import DataError, ParamsError, TrainingError
from pipeline.problems.record import Problem
from pipeline.training.batch_sampler import BatchSampler


def problems(counts):
    """`counts` maps (subject, level) to a number of problems."""
    return [
        Problem(f"{s}-{level}-{i}", "p", "s", level, s, "a", f"{s.lower()}.jsonl")
        for (s, level), n in counts.items()
        for i in range(n)
    ]


SOME = problems({("Geometry", 2): 3, ("Algebra", 1): 5, ("Algebra", 2): 4})


@pytest.mark.parametrize(
    ("kind", "names", "sizes", "levels"),
    [
        ("level", ("level 1", "level 2"), (5, 7), (1, 2)),
        ("subject", ("Algebra", "Geometry"), (9, 3), (None, None)),
        ("level_subject", ("Algebra/1", "Algebra/2", "Geometry/2"), (5, 4, 3), (1, 2, 2)),
        ("source", ("algebra.jsonl", "geometry.jsonl"), (9, 3), (None, None)),
        ("all", ("all",), (12,), (None,)),
    ],
)
def test_arms_share_out_all_problems(kind, names, sizes, levels):
    arms = group_into_arms(SOME, kind)
    assert (arms.names, tuple(map(len, arms.members)), arms.levels) == (names, sizes, levels)
    assert sorted(np.concatenate(arms.members).tolist()) == list(range(12))


def draws(sampler, steps, probabilities_A, batch_size, dealt_A=None):
    """One draw after the other, each told what was dealt before it."""
    dealt_A = np.zeros(len(probabilities_A), dtype=np.int64) if dealt_A is None else dealt_A
    for step in steps:
        draw = sampler.draw(step, probabilities_A, batch_size, dealt_A)
        dealt_A = draw.dealt_A
        yield draw


def test_what_belongs_to_problems_is_split_by_their_arms():
    arms = ArmSet(("a", "b"), (None, None), (np.array([0, 3]), np.array([1, 2, 4])))
    assert arms.split("vwxyz") == [["v", "y"], ["w", "x", "z"]]


def test_a_problem_comes_back_only_after_its_whole_arm_was_dealt():
    arms = group_into_arms(SOME, "level_subject")
    dealt = {arm: [] for arm in range(3)}
    for draw in draws(BatchSampler(arms, seed=7), range(200), np.array([0.2, 0.3, 0.5]), 4):
        for arm, problem in zip(draw.arm_B, draw.problem_B, strict=True):
            assert problem in arms.members[arm]
            dealt[int(arm)].append(int(problem))
    for arm, sequence in dealt.items():
        size = len(arms.members[arm])
        rounds = [sequence[i : i + size] for i in range(0, len(sequence) - size + 1, size)]
        assert all(sorted(r) == sorted(arms.members[arm].tolist()) for r in rounds)
        assert len({tuple(r) for r in rounds}) > 1  # each round in another order


def test_draws_follow_the_probabilities():
    sampler = BatchSampler(group_into_arms(SOME, "level_subject"), seed=1)
    wanted = np.array([0.6, 0.3, 0.1])
    counts = sum(np.bincount(draw.arm_B, minlength=3) for draw in draws(sampler, range(400), wanted, 32))
    # five standard deviations of a binomial share over 12,800 draws
    assert np.abs(counts / counts.sum() - wanted).max() < 5 * np.sqrt(0.25 / 12800)


def test_a_new_sampler_goes_on_exactly_as_the_first_would_have():
    arms = group_into_arms(SOME, "level")
    uniform = np.full(2, 0.5)
    first = list(draws(BatchSampler(arms, seed=3), range(40), uniform, 5))
    second = list(draws(BatchSampler(arms, seed=3), range(11, 40), uniform, 5, first[10].dealt_A))
    assert [d.problem_B.tolist() for d in second] == [d.problem_B.tolist() for d in first[11:]]
    assert second[-1].dealt_A.tolist() == first[-1].dealt_A.tolist()


def test_a_draw_depends_on_what_it_is_given_alone_and_changes_none_of_it():
    arms, probabilities_A = group_into_arms(SOME, "level_subject"), np.array([0.2, 0.3, 0.5])
    sampler = BatchSampler(arms, seed=7)
    dealt_A = np.array([4, 3, 8])  # each arm in the middle of a round, and 6 examples take some into the next
    for given in (dealt_A, probabilities_A, *arms.members):
        given.setflags(write=False)
    first = sampler.draw(5, probabilities_A, 6, dealt_A)
    again = sampler.draw(5, probabilities_A, 6, dealt_A)
    for number in range(20):  # other rounds of the same arms
        sampler.draw(number, probabilities_A, 6, dealt_A + 5 * number)
    later = sampler.draw(5, probabilities_A, 6, dealt_A)
    fresh = BatchSampler(arms, seed=7).draw(5, probabilities_A, 6, dealt_A)
    for draw in (again, later, fresh):
        for name in ("arm_B", "problem_B", "dealt_A"):
            assert getattr(draw, name).tolist() == getattr(first, name).tolist()
    assert dealt_A.tolist() == [4, 3, 8]
    assert (first.dealt_A - dealt_A).tolist() == np.bincount(first.arm_B, minlength=3).tolist()
    assert (first.dealt_A // [5, 4, 3] > dealt_A // [5, 4, 3]).any()  # a deck was shuffled anew on the way


def test_seeds_order_problems_differently():
    arms = group_into_arms(SOME, "all")
    orders = {
        tuple(BatchSampler(arms, seed).draw(0, np.ones(1), 12, np.zeros(1, dtype=np.int64)).problem_B.tolist())
        for seed in range(5)
    }
    assert len(orders) == 5


@pytest.mark.parametrize("bad", [[0.5, 0.6], [1.5, -0.5], [np.nan, 1.0], [1.0]])
def test_probabilities_that_are_no_distribution_stop_the_run(bad):
    sampler = BatchSampler(group_into_arms(SOME, "level"), seed=0)
    with pytest.raises(
        TrainingError, match=r"step 4: the curriculum's probabilities .* are not a distribution over its 2"
    ):
        sampler.draw(4, np.array(bad), 2, np.zeros(2, dtype=np.int64))


def test_an_empty_arm_is_refused_by_name():
    with pytest.raises(DataError, match="arm 'Geometry/5' holds no problem that is short enough"):
        ArmSet(("Algebra/1", "Geometry/5"), (1, 5), (np.array([0]), np.array([], dtype=int)))


def test_arms_that_leave_no_choice_are_refused():
    with pytest.raises(DataError, match="arms by subject make 1 arm of 4 training problems"):
        group_into_arms(problems({("Algebra", 1): 2, ("Algebra", 2): 2}), "subject")


def test_an_arm_that_lost_all_its_problems_to_the_length_limit_is_named():
    with pytest.raises(DataError, match="arm 'Geometry/2' holds no problem that is short enough"):
        group_into_arms([p for p in SOME if p.subject == "Algebra"], "level_subject", SOME)


def test_an_unknown_kind_of_arm_is_refused():
    with pytest.raises(
        ParamsError, match="arms is 'topic', but arms are made by level, subject, level_subject, source, all"
    ):
        group_into_arms(SOME, "topic")


def test_difficulty_is_the_order_of_the_losses_cut_into_equal_arms():
    loss_P = np.array([3.0, 1.0, 2.0, 1.0, 5.0, 1.0, 4.0])  # ties go by position: 1, 3, 5, 2, 0, 6, 4
    arms = group_by_difficulty(loss_P, 3, np.array([0.5, 1.0, 1.5, 9.0]))
    assert [m.tolist() for m in arms.members] == [[1, 3, 5], [0, 2], [4, 6]]
    assert arms.names == ("difficulty 1", "difficulty 2", "difficulty 3")
    assert (arms.levels, arms.factors) == ((1, 2, 3), (("1",), ("2",), ("3",)))
    assert arms.probe_counts == (2, 1, 1)


@pytest.mark.parametrize("size", [5, 7, 23, 100])
def test_arms_by_difficulty_share_out_all_problems_and_differ_in_size_by_one_at_most(size):
    loss_P = np.random.default_rng(size).exponential(size=size).round(1)  # with ties
    arms = group_by_difficulty(loss_P)
    assert arms.levels == (1, 2, 3, 4, 5)
    assert sorted(np.concatenate(arms.members).tolist()) == list(range(size))
    assert max(map(len, arms.members)) - min(map(len, arms.members)) <= 1
    for easier, harder in pairwise(arms.members):
        assert loss_P[easier].max() <= loss_P[harder].min()


@pytest.mark.parametrize(
    ("loss_P", "words"),
    [(np.ones(4), "need at least 5 training problems .* there are 4"), (np.array([1, 2, 3, 4, np.nan]), "on 1 of 5")],
)
def test_losses_that_make_no_arms_are_refused(loss_P, words):
    with pytest.raises(DataError, match=words):
        group_by_difficulty(loss_P)


SHARES = np.array([0.31, 0.07, 0.62])


def systematic_counts(steps, batch_size=8):
    arms = ArmSet(("a", "b", "c"), (None,) * 3, tuple(np.arange(n, n + 5) for n in (0, 5, 10)))
    sampler, dealt_A = BatchSampler(arms, 3), np.zeros(3, dtype=np.int64)
    for step in range(steps):
        draw = sampler.draw(step, SHARES, batch_size, dealt_A, systematic=True)
        yield np.bincount(draw.arm_B, minlength=3)
        dealt_A = draw.dealt_A


def test_systematic_draws_give_each_arm_its_share_to_the_next_whole_example():
    for counts in systematic_counts(50):
        assert counts.sum() == 8
        assert (np.abs(counts - 8 * SHARES) < 1).all()


def test_systematic_draws_have_the_right_shares_on_average():
    counts = np.array(list(systematic_counts(4000)))
    assert counts.mean(axis=0) == pytest.approx(8 * SHARES, abs=5 * 0.5 / np.sqrt(4000))
