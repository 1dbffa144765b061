"""The parts of the study and its benchmarks that can be checked by hand."""

import copy
import json
from dataclasses import asdict
from typing import Any

import numpy as np
import pytest
import yaml

from benchmarks import reward_validity, room
from benchmarks.study import rows as rows_module
from benchmarks.study import running
from benchmarks.study.rows import Row, append, drop, read_all
from benchmarks.study.settings import METHODS, REPLAYS, SETTINGS, params_of
from pipeline.common.params import ParamsFile
from pipeline.registry import names_in
from pipeline.sources import source_of
from tests.conftest import ROOT

PARAMS = yaml.safe_load((ROOT / "params.yaml").read_text())


def row(method, seed, **changes):
    values = {
        "params": PARAMS["curricula"][method],
        "accuracy": 0.5,
        "correct": "10",
        "kl_per_token": 0.1,
        "examples": [0, 32],
        "compute": [0.0, 2000.0],
        "validation_accuracy": [0.1, 0.5],
        "validation_kl": [0.2, 0.1],
        "shares": {"all": 1.0},
        "q_correlation": None,
        "versions": {"torch": "2"},
    }
    return Row(method, seed, **(values | changes))


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.setattr(rows_module, "FOLDER", tmp_path)
    return tmp_path


def test_the_study_has_every_curriculum():
    assert {*METHODS, *REPLAYS} == set(names_in("pipeline.curricula"))


@pytest.mark.parametrize("setting", SETTINGS)
def test_every_setting_can_be_prepared(setting, tmp_path):
    values = params_of(copy.deepcopy(PARAMS), setting)
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(values))
    splits = source_of(ParamsFile(tmp_path / "params.yaml").scale_section("data", dict[str, Any]), "data").read().splits
    assert len(splits["test"]) == 1050
    assert len(splits["train"]) == 2100


def test_rows_come_back_as_they_were():
    append("broad", row("rl", 0))
    append("broad", row("traditional", 1))
    assert read_all("broad") == [row("rl", 0), row("traditional", 1)]
    assert read_all("same") == []


def test_rows_of_other_params_are_dropped(folder):
    append("broad", row("rl", 0))
    append("broad", row("rl", 1, params={"tau": 9}))
    drop("broad", lambda r: r.params == PARAMS["curricula"][r.method])
    assert [r.seed for r in read_all("broad")] == [0]
    assert json.loads((folder / "broad.jsonl").read_text()) == asdict(row("rl", 0))


def test_only_missing_cells_are_run_and_replays_last(monkeypatch, tmp_path):
    append("broad", row("rl", 0))
    ran = []

    def run_cell(project, cell, curricula):
        ran.append(cell)
        method, _, seed = cell.rpartition("-")
        return row(method, int(seed))

    monkeypatch.setattr(running, "shared_project", lambda setting: tmp_path)
    monkeypatch.setattr(running, "run_cell", run_cell)
    running.run_missing("broad", ["rl_permuted", "rl", "random"], range(2), 1)
    assert ran == ["random-0", "rl-1", "random-1", "rl_permuted-0", "rl_permuted-1"]
    running.run_missing("broad", ["rl_permuted", "rl", "random"], range(2), 1)
    assert len(ran) == 5
    assert len(read_all("broad")) == 6


@pytest.mark.parametrize(
    ("target", "teacher", "student", "name"),
    [
        (0.1, 0.9, 0.2, "off-target"),
        (0.5, 0.4, 0.2, "hopeless"),
        (0.5, 0.9, 0.88, "mastered"),
        (0.5, 0.9, 0.5, "learnable"),
        (float("nan"), 0.9, 0.5, "never drawn"),
    ],
)
def test_arms_are_called_by_what_a_calibration_saw(target, teacher, student, name):
    assert room.kind(target, teacher, student, typical=0.9) == name


def test_the_bound_is_the_share_of_learnable_arms():
    arms = [room.Arm(str(i), kind, 0.5, 0.9, 0.5) for i, kind in enumerate(["learnable"] * 3 + ["off-target"] * 4)]
    assert room.shares(arms) == {"learnable": 3 / 7, "mastered": 0.0, "hopeless": 0.0, "off-target": 4 / 7}


FACTORS = [(subject, level) for subject in "abc" for level in "12"]


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


def test_spearman_is_one_for_any_rising_pair_and_has_an_interval():
    x = np.arange(12.0)
    assert reward_validity.spearman(x, x**3) == pytest.approx((1, 1, 1))
    rho, low, high = reward_validity.spearman(x, np.random.default_rng(0).normal(0, 4, 12) + x)
    assert -1 <= low < rho < high <= 1
    assert reward_validity.spearman(x, np.zeros(12)) == (0, 0, 0)
