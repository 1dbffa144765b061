"""Each benchmark at its smallest: every figure that its goals and tables need is there, whatever it is."""

import numpy as np
import pytest

from benchmarks._goals import Goal, Spread, spread
from benchmarks.coverage import TINY, all_cases
from benchmarks.distillation_step import beyond

pytestmark = pytest.mark.slow


@pytest.fixture
def tiny(tiny_benchmark):
    """What a benchmark wrote and said; other libraries' programs, which it is timed beside, may warn."""

    def run(name, *arguments):
        found, text = tiny_benchmark(name, *arguments, warnings="default")
        for goal in found["goals"]:
            assert goal["name"] in text
            assert goal["state"] in ("met", "MISSED", "not measured")
        return found, text

    return run


def states(found):
    return {goal["name"]: goal["state"] for goal in found["goals"]}


def test_training_steps_are_timed_beside_the_bare_loop(tiny):
    found, text = tiny("distillation_step")
    assert found["left_out"] == ["gkd: --tiny"]
    for rows in found["pairs"]["tiny"]["allocators"].values():
        assert set(rows) == {"project", "bare"}
        for row in rows.values():
            seconds = row["seconds per step"]
            assert 0 < seconds["lowest"] <= seconds["median"] <= seconds["highest"]
            assert row["tokens per s"] == pytest.approx(8 * 20 / seconds["median"])
            assert row["peak MB"] > row["peak MB above start"] > 0
        ratio = rows["bare"]["seconds per step"]["median"] / rows["project"]["seconds per step"]["median"]
        assert rows["project"]["of bare"] == pytest.approx(ratio)
        assert 0 < sum(rows["project"]["shares of step"].values()) < 1
    assert "tokens per s" in text
    added = found["pairs"]["tiny"]["beyond uniform draws"]
    assert set(added) == {"project", "gain"}
    for row in added.values():
        assert row["low"] <= row["step"] <= row["high"]
        assert 8 <= row["rounds"] < 200  # the others had a look
        assert row["charged"] > 0


def test_what_a_curriculum_adds_is_told_from_what_its_looks_cost():
    found = beyond(np.array([2.0, 1.1, 1.3, 1.2]), np.ones(4), np.array([0.6, 0.0, 0.0, 0.0]))
    assert (found["step"], found["all"], found["charged"]) == pytest.approx((0.2, 0.4, 0.15))
    assert (found["low"], found["high"]) == pytest.approx((0.1, 0.3))
    assert found["rounds"] == 3


def test_generate_gives_the_same_answers_and_math_verify_grades_gold_answers_right(tiny):
    found, _ = tiny("evaluation")
    assert found["generation"]["same_answers"] is True
    assert set(found["generation"]["rows"]) == {"project", "generate, batch 8", "generate, batch 35"}
    for way in ("as in an evaluation", "Math-Verify alone"):
        assert found["grading"]["mini_math"][way]["correct"] == found["grading"]["mini_math"]["answers"]
    assert states(found)["answers are those of generate (1: all)"] == "met"


def test_capture_is_held_against_both_forward_passes(tiny):
    found, _ = tiny("teacher_capture")
    mini, wide = found["cases"]["mini"], found["cases"]["tiny"]
    assert mini["bytes_per_completion_token"] == 16 * (1 + 2) + 2 * 4 + 4  # one byte names a token
    assert wide["bytes_per_completion_token"] == 24 * (2 + 1 / 8 + 2) + 2 * 4 + 4  # 17 bits do
    for case in (mini, wide):
        assert set(case["rows"]) == {"capture", "least", "model"}
        assert case["rows"]["capture"]["of its speed"] == 1


def test_a_cold_run_is_split_into_work_imports_and_dvc(tiny):
    found, _ = tiny("pipeline")
    cold = found["cold"]
    assert cold["seconds"] == pytest.approx(cold["work"] + cold["imports"] + cold["dvc"])
    stages = {name: row["processes"] for name, row in cold["stages"].items()}
    once = dict.fromkeys(("local_inputs", "prepare", "teacher_logits", "curriculum_code", "train", "report"), 1)
    assert stages == once | {"evaluate": 3}
    assert all(0 < row["imports"] < row["seconds"] for row in cold["stages"].values())
    assert cold["seconds"] > cold["seconds per seed"] > cold["stages"]["train"]["seconds"]
    assert list(found["cells"]["rows"]) == ["2 cells"]
    assert all(row["seconds"]["median"] > row["DVC"]["median"] > 0 for row in found["cells"]["rows"].values())
    assert found["cells"]["nothing_to_do"]["repetitions"] == 1


def test_intervals_are_held_against_simulated_experiments(tiny):
    found, text = tiny("coverage", "--processes", "2")
    assert set(found["accuracy"]) == {
        f"100 problems, {name}, 3 seeds" for name in ("2 points", "baseline 2, others 0.5", "both 2, others 0.5")
    }
    tables = ("accuracy", "ratio", "kl ratio")
    for row in [row for table in tables for row in found[table].values()]:
        assert all(0 <= value <= 1 for name, value in row.items() if name != "width, points")
    goals = {goal["name"]: goal["measured"] for goal in found["goals"]}
    assert goals["least coverage of an accuracy"] == min(row["accuracy covered"] for row in found["accuracy"].values())
    for table in ("ratio", "kl ratio"):
        falsely = {name: row["false among 3"] for name, row in found[table].items() if "false among 3" in row}
        assert [name.partition(",")[0] for name in falsely] == ["speed 1"]
        assert goals[f"families with a false verdict, {table}: most"] == max(falsely.values())
    assert "kl ratio: of 1 shares of truly 5%" in text
    in_one_process = {name: {row: case() for row, case in cases.items()} for name, cases in all_cases(TINY).items()}
    assert {name: found[name] for name in tables} == in_one_process


@pytest.mark.parametrize(
    ("measured", "should_be", "state"),
    [(0.9, "at least", "met"), (0.89, "at least", "MISSED"), (0.9, "at most", "met"), (0.91, "at most", "MISSED")],
)
def test_a_goal_is_met_on_its_bound_and_missed_beyond(measured, should_be, state):
    assert Goal("x", measured, should_be, 0.9).state == state
    assert Goal("x", None, should_be, 0.9).state == "not measured"


def test_a_spread_is_median_and_range():
    assert spread([3.0, 1.0, 10.0]) == Spread(3.0, 1.0, 10.0, 3)
