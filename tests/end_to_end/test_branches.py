"""Branched runs, and the benchmarks that are made of them, on the real models and few problems.

The target is two of the pool's seven subjects, and the pool's solutions of one of these two are another problem's.
"""

import importlib
import json
import sys
from copy import deepcopy
from dataclasses import asdict, replace

import numpy as np
import pytest
import torch
from scipy import stats

from benchmarks import gradient_sketch, reward_validity, room
from benchmarks._branches import copy_of, load_bench, solution_probability, start, take_steps
from pipeline.language_models.loading import load_model, precision
from pipeline.registry import names_in
from pipeline.training.run import Run
from tests.conftest import make_project
from tests.end_to_end.conftest import SMALL, change_params

pytestmark = pytest.mark.slow

LEARNABLE, SPOILED = TARGET = ("Number Theory", "Precalculus")
DATA = {
    "target": {"subjects": [*TARGET], "levels": None},
    "mini_math": {"spoiled": [SPOILED], "skew": 0.0},
    "train_size": 420,
    "probe_size": 100,
    "validation_size": 30,
    "test_size": 60,
}


def shrink(values):
    mini = values["scales"]["mini"]
    for section, change in SMALL.items():
        mini[section].update(change)
    mini["data"].update(DATA)
    mini["training"].update(epochs=2, steps_per_epoch=10, batch_size=16)
    values["curricula"]["rl"]["arms"] = "subject"


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """The folder of a project with its teacher logits, and what branches share there."""
    folder = tmp_path_factory.mktemp("branches")
    make_project(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        change_params(shrink)
        for name in ("prepare", "teacher_logits"):
            patch.setattr(sys, "argv", [name])
            importlib.import_module(f"pipeline.{name}").main()
        return folder, load_bench()


@pytest.fixture
def bench(prepared, monkeypatch):
    folder, bench = prepared
    monkeypatch.chdir(folder)
    return bench


def mixture(bench, favourite=0):
    """Half of the draws from one arm."""
    arms = len(bench.problems.arms)
    return room.Mixture(0.5 / arms + 0.5 * (np.arange(arms) == favourite))


def direct(bench, curriculum, seed, **arguments):
    """A run made without the code under test."""
    student = load_model(bench.models, "student")
    return Run(student, curriculum, bench.problems, bench.training, seed, **arguments)


def assert_same(found, expected):
    """Bit by bit; the log has NaN where there is nothing."""
    torch.testing.assert_close(found, expected, rtol=0, atol=0, equal_nan=True)


def test_a_branch_begins_where_the_trunk_was_and_leaves_it_as_it_is(bench):
    trunk = take_steps(start(bench, mixture(bench), 3), 2)
    state = copy_of(trunk)
    kept = deepcopy(state)
    branch = start(bench, mixture(bench, favourite=1), 4, state)
    assert_same(copy_of(branch), kept)
    take_steps(branch, 2)
    embeddings = "student.model.embed_tokens.weight"
    assert not torch.equal(copy_of(branch)[0][embeddings], kept[0][embeddings])
    assert_same(state, kept)
    assert_same(copy_of(trunk), kept)
    take_steps(trunk, 2)
    assert_same(state, kept)
    as_if_never_branched = take_steps(direct(bench, mixture(bench), 3), 4)
    on = take_steps(start(bench, mixture(bench), 3, state), 2)
    for run in (trunk, on):
        assert_same(copy_of(run), copy_of(as_if_never_branched))


def test_a_run_takes_no_step_beyond_its_budget(bench):
    short = replace(bench, training=replace(bench.training, epochs=1, steps_per_epoch=2))
    run = take_steps(start(short, mixture(bench), 0), 1)
    assert take_steps(run, 5).steps_done == 2


def test_a_run_computes_in_the_precision_that_train_computes_in(bench):
    halved = replace(bench, models=replace(bench.models, dtype="bfloat16"))
    casts = precision(halved.models, keep_casts=False)
    found, as_in_train = start(halved, mixture(bench), 0), direct(halved, mixture(bench), 0, precision=casts)
    loss = found.step().loss
    assert loss == as_in_train.step().loss
    assert loss != start(bench, mixture(bench), 0).step().loss
    probability = solution_probability(found.student.eval(), halved)
    assert probability != solution_probability(found.student, bench)
    assert probability == pytest.approx(solution_probability(found.student, bench), rel=0.1)


def test_a_calibration_calls_arms_what_they_were_made_to_be(bench):
    found = {arm.name: arm for arm in room.calibrate(bench, 20)}
    assert tuple(found) == bench.problems.arms.names
    assert (found[LEARNABLE].kind, found[SPOILED].kind) == ("learnable", "hopeless")
    others = [arm for name, arm in found.items() if name not in TARGET]
    ratios = [arm.target_log_ratio for arm in others]
    assert max(ratios) < 0 < min(found[name].target_log_ratio for name in TARGET)
    assert [arm.kind == "off-target" for arm in others].count(True) >= 3
    assert found[SPOILED].teacher_confidence < 0.5 < min(arm.teacher_confidence for arm in others)
    assert all(arm.student_confidence < arm.teacher_confidence for arm in others)


def test_room_tells_what_it_found_in_the_working_directory(bench, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["room", "--steps", "4"])
    room.main()
    said = capsys.readouterr().out
    assert all(name in said for name in bench.problems.arms.names)
    assert room.expectation(room.shares(room.calibrate(bench, 4))) in said


def test_room_asks_for_teacher_logits_where_there_are_none(project, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["room"])
    with pytest.raises(SystemExit):
        room.main()
    assert f"{project} has no teacher logits yet" in capsys.readouterr().err


@pytest.fixture
def short_search(monkeypatch):
    for name, value in {"MIXTURES": 4, "MIXTURE_STEPS": 2, "LOOK_AHEADS": 1, "LOOK_AHEAD_STEPS": 2}.items():
        monkeypatch.setattr(room, name, value)
    monkeypatch.setattr(room, "CONFIRMED_ON", (7, 8))


def test_what_a_search_found_is_what_runs_with_these_shares_have(bench, short_search):
    def value(curriculum, seed):
        return solution_probability(take_steps(direct(bench, curriculum, seed), 2).student.eval(), bench)

    found = room.search(bench)
    best_A, r_squared = room.best_mixture(bench)
    assert found["r_squared"] == r_squared
    assert list(found["best_mixture"].values()) == pytest.approx(best_A.tolist(), abs=5e-5)
    uniform_A = np.full(len(best_A), 1 / len(best_A))
    assert found["mixture"] == [value(room.Mixture(best_A), seed) for seed in (7, 8)]
    assert found["uniform"] == [value(room.Mixture(uniform_A), seed) for seed in (7, 8)]
    tried = [value(room.Mixture(0.3 * uniform_A + 0.7 * np.eye(len(best_A))[arm]), 700) for arm in range(len(best_A))]
    assert found["look_ahead"][0] == max(tried) > min(tried)
    assert len(found["look_ahead"]) == 2


@pytest.fixture
def short_branches(monkeypatch, tmp_path):
    monkeypatch.setattr(reward_validity, "STAGES", (2, 4))
    monkeypatch.setattr(reward_validity, "BRANCH_STEPS", 2)
    monkeypatch.setattr(reward_validity, "ROWS", tmp_path / "rows.jsonl")


def test_rewards_watch_a_uniform_run_and_do_not_disturb_it(bench, short_branches):
    rewards, states = reward_validity.followed(bench, 5)
    names = set(names_in("pipeline.bandit.rewards")) - reward_validity.NOT_ALONE
    assert {stage: set(found) for stage, found in rewards.items()} == {2: names, 4: names}
    arms = len(bench.problems.arms)
    uniform = room.Mixture(np.full(arms, 1 / arms))
    uniform.draws = "independent"
    trunk = direct(bench, uniform, 5)
    for stage in (2, 4):
        take_steps(trunk, 2)
        tensors, state = states[stage]
        assert state["steps_done"] == trunk.steps_done == stage
        own = copy_of(trunk)[0]
        weights = [name for name in own if name.startswith(("student.", "optimizer."))]
        assert [name for name in weights if not torch.equal(tensors[name], own[name])] == []
    assert (rewards[2]["learnability"] != rewards[4]["learnability"]).any()
    confident_A = rewards[4]["confidence_gap"]
    assert np.nanargmin(confident_A) == bench.problems.arms.names.index(SPOILED)  # the teacher is surer of all others


def test_a_branch_draws_its_arm_half_of_the_time(bench, short_branches, monkeypatch):
    monkeypatch.setattr(reward_validity, "BRANCH_STEPS", 12)
    arm, arms = 4, len(bench.problems.arms)
    state = copy_of(take_steps(start(bench, mixture(bench), 5), 1))
    kept = deepcopy(state)
    started = []
    monkeypatch.setattr(reward_validity, "start", lambda *given: started.append(start(*given)) or started[0])
    assert reward_validity.branch(bench, state, arm, 9, lambda student: {"is": not student.training}) == {"is": True}
    (run,) = started
    assert run.steps_done == 13
    drawn_A = run.log.state()[0]["log.arms"][1:, 4].sum(dim=0).numpy()  # without the trunk's step
    draws, chance = drawn_A.sum(), 0.5 + 0.5 / arms
    assert draws == 12 * bench.training.batch_size
    low, high = stats.binom.ppf([0.001, 0.999], draws, chance)
    assert low <= drawn_A[arm] <= high
    assert (np.delete(drawn_A, arm) > 0).all()
    assert_same(state, kept)


def test_rows_are_the_gains_of_branches_and_are_made_once(bench, short_branches, monkeypatch):
    monkeypatch.setattr(reward_validity, "STAGES", (2,))
    monkeypatch.setattr(reward_validity, "study_plan", lambda setting: None)
    monkeypatch.setattr(reward_validity, "working_copy", lambda plan: ".")
    (row,) = reward_validity.main_rows("broad", 5, 1)
    assert (row.setting, row.seed, row.stage, row.repeat) == ("broad", 5, 2, 0)
    assert row.arms == list(bench.problems.arms.names)
    assert set(row.gains) == {"solution probability", "accuracy", "KL"}
    assert all(sum(gains) == pytest.approx(0, abs=1e-5) for gains in row.gains.values())
    rewards, states = reward_validity.followed(bench, 5)
    assert {name: [q is None for q in values] for name, values in row.rewards.items()} == {
        name: np.isnan(q_A).tolist() for name, q_A in rewards[2].items()
    }

    def measure(student):
        return {"p": solution_probability(student, bench)}

    first, last = (reward_validity.branch(bench, states[2], arm, 5000, measure)["p"] for arm in (0, -1))
    gain = row.gains["solution probability"]
    assert gain[0] - gain[-1] == pytest.approx(first - last, abs=2e-6)
    reward_validity.ROWS.write_text(json.dumps(asdict(row)) + "\n")
    monkeypatch.setattr(reward_validity, "load_bench", None)  # nothing is run
    assert list(reward_validity.main_rows("broad", 5, 1)) == []


def test_sketches_say_the_more_of_gains_the_larger_they_are(bench):
    found = gradient_sketch.compare(bench, steps=2, count=140, problems=30, repeats=3)
    assert found["examples"] == 7 * 20
    assert found["shape"] == list(load_model(bench.models, "student").get_output_embeddings().weight.shape)
    means = [np.mean(found["sizes"][size]["examples"]) for size in gradient_sketch.SIZES]
    assert means == sorted(means)
    assert means[-1] > 0.7
    assert 0 < found["median_cosine"] < 1
