"""What benchmarks/room.py makes of what it saw; tests/end_to_end/test_branches.py runs it on real models."""

import itertools
import math
from types import SimpleNamespace

import numpy as np
import pytest

from benchmarks import room

FACTORS = [(subject, level) for subject in "abc" for level in "12"]


@pytest.mark.parametrize(
    ("target", "teacher", "student", "name"),
    [
        (-1.2, 0.9, 0.2, "off-target"),
        (-1.0, 0.4, 0.2, "hopeless"),
        (0.5, 0.9, 0.88, "mastered"),
        (0.5, 0.9, 0.5, "learnable"),
        (float("nan"), 0.9, 0.5, "never drawn"),
    ],
)
def test_arms_are_called_by_what_a_calibration_saw(target, teacher, student, name):
    assert room.kind(target, teacher, student, typical=0.9) == name


def arms(*kinds):
    return [room.Arm(str(i), kind, 0.5, 0.9, 0.5) for i, kind in enumerate(kinds)]


def test_every_arm_counts_in_the_shares_also_one_that_was_never_drawn():
    found = room.shares(arms(*["learnable"] * 3, *["off-target"] * 4, "never drawn"))
    nothing = {"mastered": 0, "hopeless": 0}
    assert found == {"learnable": 3 / 8, "off-target": 4 / 8, "never drawn": 1 / 8} | nothing


def test_the_share_of_learnable_arms_is_told_as_an_estimate_and_no_bound(capsys):
    room.tell(arms(*["learnable"] * 2, *["off-target"] * 3))
    said = " ".join(capsys.readouterr().out.split())
    assert "Estimate: if all learnable arms taught alike, draws from these alone would need 0.40 times" in said
    assert "no bound: differences among learnable arms are not seen here" in said
    assert "Nearly all arms are learnable" not in said


def test_a_pool_of_learnable_arms_is_not_said_to_leave_no_room():
    said = room.expectation(room.shares(arms(*["learnable"] * 91, *["mastered"] * 9)))
    assert "would need 0.91 times" in said
    assert "may need fewer" in said
    assert "Nearly all arms are learnable: leaving out the others saves little." in said
    assert "no room" not in said.lower()
    assert "never drawn" not in said


def test_arms_that_were_never_drawn_are_left_out_of_the_estimate():
    said = room.expectation(room.shares(arms(*["learnable"] * 3, "off-target", *["never drawn"] * 4)))
    assert "would need 0.75 times" in said
    assert "50% of the arms were never drawn and are left out: give more --steps." in said


def test_without_learnable_arms_there_is_no_estimate():
    for seen in (["mastered", "never drawn"], ["never drawn"]):
        assert room.expectation(room.shares(arms(*seen))).startswith("No estimate: no arm is learnable.")


def test_what_a_search_found_is_told_with_its_range_over_seeds():
    said = room.searched(
        {
            "steps": 65,
            "look_ahead_steps": 64,
            "r_squared": 0.77,
            "best_mixture": {"a": 0.2, "b": 0.45, "c": 0.35},
            "uniform": [0.1, 0.2, 0.3],
            "mixture": [0.4, 0.4, 0.4],
            "uniform_as_long_as_the_look_ahead": [0.1, 0.1, 0.4],
            "look_ahead": [0.3, 0.2, 0.7],
        }
    ).splitlines()
    assert [" ".join(line.split()) for line in said[1:]] == [
        "Mean probability of the target's whole solutions, and its range over 3 seeds:",
        "uniform, 65 steps 0.200 (0.100 to 0.300)",
        "best mixture, 65 steps 0.400 (0.400 to 0.400)",
        "uniform, 64 steps 0.200 (0.100 to 0.400)",
        "look-ahead oracle, 64 steps 0.400 (0.200 to 0.700)",
        "R squared of the regression on mixtures: 0.77",
        "Arms that the best mixture favours: b 45%, c 35%",
    ]


def test_random_mixtures_are_products_of_factor_shares():
    share_A = room.random_mixture(FACTORS, 3)
    assert share_A.sum() == pytest.approx(1)
    table = share_A.reshape(3, 2)
    assert table == pytest.approx(np.outer(table.sum(axis=1), table.sum(axis=0)))
    assert room.factor_shares(FACTORS, share_A) == pytest.approx([*table.sum(axis=1), *table.sum(axis=0)])
    assert room.random_mixture(FACTORS, 4).tolist() != share_A.tolist()


def test_a_tilted_mixture_favours_what_the_regression_favours():
    table = room.tilted(FACTORS, np.array([0.0, 1.0, 2.0, 0.0, 0.0])).reshape(3, 2)
    assert table.sum() == pytest.approx(1)
    assert (np.diff(table, axis=0) > 0).all()
    assert table[:, 0] == pytest.approx(table[:, 1])


BENCH = SimpleNamespace(problems=SimpleNamespace(arms=SimpleNamespace(factors=FACTORS)))


class PretendedRun:
    """A run whose student is the list of shares that it was trained with, one for each call of take_steps."""

    def __init__(self, share_A, before):
        self.shares = [*before]
        self.share_A = share_A
        self.student = SimpleNamespace(eval=lambda: self.shares)


@pytest.fixture
def pretended(monkeypatch):
    """Runs that train nothing; what is returned is told their seeds and steps."""
    seen = []

    def start(bench, curriculum, seed, state=None):
        seen.append(seed)
        return PretendedRun(curriculum.share_A, state or [])

    def take_steps(run, steps):
        run.shares.append(run.share_A)
        return run

    monkeypatch.setattr(room, "start", start)
    monkeypatch.setattr(room, "take_steps", take_steps)
    monkeypatch.setattr(room, "copy_of", lambda run: [*run.shares])
    return seen


def test_the_best_mixture_favours_the_subject_and_the_level_that_pay(pretended, monkeypatch):
    """Where the log of what a mixture is worth is linear in its shares, the regression explains it."""
    worth_A = np.array([2.0 * (subject == "b") + 1.0 * (level == "2") for subject, level in FACTORS])
    monkeypatch.setattr(room, "solution_probability", lambda shares, bench: math.exp(worth_A @ shares[-1]))
    share_A, r_squared = room.best_mixture(BENCH)
    table = share_A.reshape(3, 2)
    assert share_A.argmax() == FACTORS.index(("b", "2"))
    assert table[1].sum() > 0.6
    assert table[:, 1].sum() > 0.6
    assert 0.98 < r_squared <= 1
    assert len(set(pretended)) == room.MIXTURES
    assert set(pretended).isdisjoint(room.CONFIRMED_ON)


def test_mixtures_that_are_worth_the_same_but_for_noise_are_hardly_explained(pretended, monkeypatch):
    rng = np.random.default_rng(0)
    monkeypatch.setattr(room, "solution_probability", lambda shares, bench: math.exp(rng.normal()))
    assert room.best_mixture(BENCH)[1] < 0.4


def test_the_look_ahead_goes_on_from_the_best_that_it_tried(pretended, monkeypatch):
    """What is wanted is another subject after each choice: only who keeps the best each time has it all."""
    wanted = itertools.islice(itertools.cycle("bca"), room.LOOK_AHEADS)
    is_wanted = np.array([[subject == name for subject, _ in FACTORS] for name in wanted])

    def found(shares, bench):
        return sum(share_A @ is_wanted[choice] for choice, share_A in enumerate(shares))

    monkeypatch.setattr(room, "solution_probability", found)
    favoured = 0.7 + 0.3 / 3
    assert room.look_ahead(BENCH, 5) == pytest.approx(room.LOOK_AHEADS * favoured)
    assert pretended == [500 + number for number in range(room.LOOK_AHEADS) for _ in "abc"]  # tried on equal terms
