"""Budgets, validation points, the learning rate, and what a run writes down."""

import numpy as np
import pandas as pd
import pytest
import yaml

from pipeline.common.params import checked
from pipeline.training.run_log import RunLog
from pipeline.training.schedule import budget_of, learning_rate_factor, validation_steps
from pipeline.training.settings import TrainingParams
from tests.conftest import ROOT


def training(**changes):
    values = yaml.safe_load((ROOT / "params.yaml").read_text())["scales"]["mini"]["training"]
    return checked(values | changes, TrainingParams, "training")


@pytest.mark.parametrize(
    ("changes", "problems", "steps"),
    [
        ({"epochs": 3, "batch_size": 8, "steps_per_epoch": None}, 80, 30),
        ({"epochs": 3, "batch_size": 8, "steps_per_epoch": None}, 87, 30),
        ({"epochs": 3, "batch_size": 8, "steps_per_epoch": None}, 5, 3),
        ({"epochs": 2, "batch_size": 8, "steps_per_epoch": 7}, 80, 14),
    ],
)
def test_the_budget_is_epochs_times_steps(changes, problems, steps):
    budget = budget_of(training(**changes), problems)
    assert (budget.steps, budget.examples) == (steps, steps * 8)


def test_validations_are_evenly_spaced_from_start_to_end():
    assert sorted(validation_steps(100, 4)) == [0, 25, 50, 75, 100]
    assert sorted(validation_steps(3, 8)) == [0, 1, 2, 3]


def test_the_learning_rate_warms_up_and_falls_in_straight_lines():
    factors = [learning_rate_factor(step, 100, 0.1, 0.0) for step in range(100)]
    assert factors[:10] == pytest.approx(np.arange(1, 11) / 10)
    assert factors[10:] == pytest.approx(np.arange(90, 0, -1) / 90)


def test_without_warm_up_the_first_step_is_the_fastest():
    assert [learning_rate_factor(step, 4, 0.0, 0.0) for step in range(4)] == pytest.approx([1, 0.75, 0.5, 0.25])


def test_the_fall_ends_at_a_share_of_the_peak():
    factors = [learning_rate_factor(step, 100, 0.1, 0.25) for step in range(101)]
    assert factors[:11] == pytest.approx([*np.arange(1, 11) / 10, 1.0])
    assert factors[10:] == pytest.approx(np.linspace(1, 0.25, 91))
    assert {learning_rate_factor(step, 8, 0.0, 1.0) for step in range(8)} == {1.0}


def fill(log, steps):
    for step in steps:
        log.add_step(
            np.array([0.25, 0.75]),
            np.array([[0.0, 0.5 * step], [0.1, 0.2]]),
            {1: -1.5},
            np.array([1, 1, 0]),
            30,
            2.0 + step,
        )
        log.forward_tokens += 15
        if step % 2:
            log.add_validation(step + 1, step / 10, 1 / (step + 1))


def test_the_log_says_what_happened(tmp_path):
    log = RunLog(("easy", "hard"))
    log.add_validation(0, 0.05, 2.0)
    fill(log, range(4))
    log.write(tmp_path)
    curve = pd.read_csv(tmp_path / "learning_curve.csv")
    assert curve["step"].tolist() == [0, 2, 4]
    assert curve["examples"].tolist() == [0, 6, 12]
    assert curve["tokens"].tolist() == [0, 60, 120]
    assert curve["compute"].tolist() == [0, 70, 140]
    assert curve["validation_accuracy"].tolist() == [0.05, 0.1, 0.3]
    assert curve["validation_kl"].tolist() == [2.0, 0.5, 0.25]
    assert np.isnan(curve["loss"][0])
    assert curve["loss"][1:].tolist() == [2.5, 4.5]
    arms = pd.read_csv(tmp_path / "arm_log.csv")
    assert arms[arms["step"] == 3].drop(columns="step").values.tolist()[1] == ["hard", 0.75, 1.5, 0.2, -1.5, 2]
    assert arms[arms["arm"] == "easy"]["reward"].isna().all()
    assert arms[arms["arm"] == "easy"]["count"].tolist() == [1] * 4


def test_a_restored_log_goes_on_exactly(tmp_path):
    whole, first, second = RunLog(("a", "b")), RunLog(("a", "b")), RunLog(("a", "b"))
    fill(whole, range(7))
    fill(first, range(3))
    second.load_state(*first.state())
    fill(second, range(3, 7))
    whole.write(tmp_path / "whole")
    second.write(tmp_path / "second")
    for name in ("learning_curve.csv", "arm_log.csv"):
        assert (tmp_path / "whole" / name).read_bytes() == (tmp_path / "second" / name).read_bytes()
