"""The parts of the study and its benchmarks that can be checked by hand."""

import copy
import gzip
import json
from dataclasses import asdict, replace
from typing import Any

import numpy as np
import pytest
import yaml

from benchmarks import real_weights, reward_validity, sensitivity
from benchmarks.sensitivity import Tried
from benchmarks.study import report, running
from benchmarks.study import rows as rows_module
from benchmarks.study.rows import Row, append, drop, read_all, versions_of
from benchmarks.study.settings import METHODS, REPLAYS, SETTINGS, params_of
from pipeline import train as train_stage
from pipeline.common.errors import DataError, ResultsError
from pipeline.common.params import ParamsFile
from pipeline.params_check import require_runnable
from pipeline.registry import names_in
from pipeline.sources import source_of
from tests.conftest import ROOT

PARAMS = yaml.safe_load((ROOT / "params.yaml").read_text())
VALUES = params_of(PARAMS, "broad")
SCALE = rows_module.scale_digest(VALUES)


def row(method, seed, **changes):
    values = {
        "params": rows_module.method_params(method, PARAMS),
        "scale": SCALE,
        "made_of": "these",
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
    append("broad", row("rl", 2, scale="another"))
    drop("broad", lambda r: rows_module.is_of(r, VALUES))
    assert [r.seed for r in read_all("broad")] == [0]
    assert json.loads((folder / "broad.jsonl").read_text()) == asdict(row("rl", 0))
    drop("broad", lambda r: False)
    assert read_all("broad") == []


def test_a_replay_is_of_other_params_when_the_run_that_it_replays_is():
    own = row("rl_permuted", 0)
    assert rows_module.is_of(own, VALUES)
    assert own.params == VALUES["curricula"]["rl_permuted"] | {"rl": VALUES["curricula"]["rl"]}
    changed = copy.deepcopy(VALUES)
    changed["curricula"]["rl"]["tau"] = 9
    assert not rows_module.is_of(own, changed)
    assert rows_module.is_of(row("random", 0), changed)


def test_a_line_that_is_no_row_is_named(folder):
    append("broad", row("rl", 0))
    with (folder / "broad.jsonl").open("a") as file:
        file.write('{"method": "rl"}\n')
    with pytest.raises(
        ResultsError, match=r"broad\.jsonl:2 is no Row \(.*\); remove the line, and its run is made again"
    ):
        read_all("broad")


def test_only_missing_cells_are_run_and_replays_last(monkeypatch, tmp_path):
    append("broad", row("rl", 0))
    ran = []

    def run_cell(project, cell, values):
        ran.append(cell)
        method, _, seed = cell.rpartition("-")
        return row(method, int(seed))

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(running, "working_copy", lambda plan: tmp_path)
    monkeypatch.setattr(running, "params_in", lambda commit: PARAMS)
    monkeypatch.setattr(running, "run_cell", run_cell)
    monkeypatch.setattr(running, "dvc", lambda project, *arguments, log: ran.append(arguments[-1]))
    plan, methods = running.study_plan("broad"), ["rl_permuted", "static_mixture", "rl", "random"]
    running.append_missing(plan, methods, range(2), 1)
    replayed = ["train@rl-0", "train@rl-1"]  # each once, though two methods replay it
    replays = ["rl_permuted-0", "static_mixture-0", "rl_permuted-1", "static_mixture-1"]
    assert ran == ["random-0", "rl-1", "random-1", *replayed, *replays]
    ran.clear()
    running.append_missing(plan, methods, range(2), 1)
    assert ran == []
    assert len(read_all("broad")) == 8


def test_a_study_goes_on_with_the_commit_that_is_named():
    newest = running.newest_commit()
    assert running.study_plan("broad", newest[:10]).commit == newest
    with pytest.raises(ResultsError, match="there is no commit abcdefabcdef"):
        running.study_plan("broad", "abcdefabcdef")


def test_rows_of_other_rewards_are_dropped_in_their_setting_alone(tmp_path, monkeypatch):
    monkeypatch.setattr(reward_validity, "ROWS", tmp_path / "rows.jsonl")
    rows = [
        reward_validity.Row(setting, 100, 30, repeat, made_of, ["a", "b"], {"KL": [0.1, -0.1]}, {"r": [1.0, None]})
        for setting, repeat, made_of in [("broad", 0, "old"), ("broad", 1, "new"), ("same", 0, "old")]
    ]
    reward_validity.ROWS.write_text("".join(json.dumps(asdict(r)) + "\n" for r in rows))
    reward_validity.drop_outdated("broad", "new")
    assert reward_validity.read_rows() == rows[1:]


def test_gains_are_what_arms_have_above_their_mean():
    assert reward_validity.above_mean(np.array([0.1, 0.4, 0.4])) == pytest.approx([-0.2, 0.1, 0.1])
    gains = np.array([[1.0, 2.0, 3.0], [2.0, 4.0, 6.0], [3.0, 2.0, 1.0]])
    assert reward_validity.agreement(gains[:2]) == pytest.approx(1)
    assert reward_validity.agreement(gains) == pytest.approx(-1 / 3)


def test_spearman_is_one_for_any_rising_pair_and_has_an_interval():
    x = np.arange(12.0)
    assert reward_validity.spearman(x, x**3) == pytest.approx((1, 1, 1))
    rho, low, high = reward_validity.spearman(x, np.random.default_rng(0).normal(0, 4, 12) + x)
    assert -1 <= low < rho < high <= 1
    assert reward_validity.spearman(x, np.zeros(12)) == (0, 0, 0)


EXAMPLES = [0, 800, 1600, 2400, 3200]


def learner(method, seed, final, speed, rng):
    """A row whose validation accuracy, and minus the log of whose KL, rise along lines, `speed` times as fast."""
    way = np.array(EXAMPLES) / EXAMPLES[-1] * speed
    noise = rng.normal(0, 0.002)
    return row(
        method,
        seed,
        accuracy=final,
        correct="".join(str(int(right)) for right in rng.random(400) < final),
        kl_per_token=0.1,
        examples=EXAMPLES,
        compute=[100.0 * n for n in EXAMPLES],
        validation_accuracy=(0.1 + 0.2 * way + noise).tolist(),
        validation_kl=np.exp(-1 - way + noise).tolist(),
    )


@pytest.fixture
def finished():
    """rl is twice as fast as traditional; target_only answers best; one seed of rl is more than needed."""
    rng = np.random.default_rng(0)
    for seed in range(4):
        append("broad", learner("rl", seed, 0.4, 2, rng))
    for seed in range(3):
        append("broad", learner("traditional", seed, 0.4, 1, rng))
        append("broad", learner("target_only", seed, 0.6, 1, rng))
    append("broad", learner("ucb", 0, 0.4, 1, rng))


def test_the_studys_report_reads_ratios_off_the_rows(finished):
    found = report.studied("broad")
    assert (found.seeds, set(found.outcomes)) == (3, {"rl", "traditional", "target_only"})
    ratio = found.comparisons["traditional"]["rl"].kl_examples_ratio
    assert ratio.ratio == pytest.approx(0.5, abs=0.02)
    assert 0.4 < ratio.low < ratio.ratio < ratio.high < 0.6
    text = report.text_of([found])
    assert "## broad: 3 seeds" in text
    assert f"{ratio.ratio:.2f} ({ratio.low:.2f} to {ratio.high:.2f}) ▲" in text
    assert "| target_only |" in text.split("| rl |")[0]  # the best first
    means = {name: own.correct_SP.mean() for name, own in found.outcomes.items()}
    expected = (means["rl"] - means["traditional"]) / (means["target_only"] - means["traditional"])
    assert report.share_of_oracle(found) == pytest.approx(expected)


def test_what_a_report_leaves_out_or_mixes_is_said(finished):
    append("broad", row("random", 0))
    found = [r for r in read_all("broad") if r.cell == "traditional-1"]
    drop("broad", lambda r: r.cell != "traditional-2")
    append("broad", replace(found[0], seed=2, made_of="others"))
    text = report.text_of([report.studied("broad")])
    assert "Left out, with fewer seeds than the others: random and ucb." in text
    assert "More seeds than are compared, which are those that every method has: rl." in text
    assert "Rows made by different versions of code or data: traditional." in text
    drop("broad", lambda r: r.cell != "traditional-2")
    append("broad", replace(found[0], seed=2, versions={"torch": "3"}))
    with pytest.raises(ResultsError, match=r"broad: traditional-2 was made with \{'torch': '3'\} and "):
        report.studied("broad")


def test_a_method_that_is_not_finished_costs_the_others_no_seed(finished):
    append("broad", learner("traditional", 3, 0.4, 1, np.random.default_rng(1)))
    found = report.studied("broad")
    assert (found.seeds, set(found.outcomes)) == (4, {"rl", "traditional"})
    assert "Left out, with fewer seeds than the others: target_only and ucb." in found.notes


def test_the_studys_figure_has_a_panel_per_setting_and_a_row_per_method(finished):
    figure = report.figure_of([report.studied("broad")])
    (panel,) = figure.get_axes()
    assert panel.get_title() == "broad (3 seeds)"
    assert [label.get_text() for label in panel.get_yticklabels()] == ["rl", "target_only"]


def test_the_studys_report_says_what_q_predicts(finished):
    assert report.correlation_cell([None, None]) == "-"
    assert report.correlation_cell([0.25, 0.5]) == "+0.38"
    assert report.correlation_cell([None, -0.25]).startswith("-0.25 (1 of 2 seeds; ")
    correlations = report.studied("broad").q_correlations
    assert {method: len(found) for method, found in correlations.items()} == dict.fromkeys(correlations, 3)


def test_a_setting_with_too_few_seeds_has_no_report(finished, tmp_path, monkeypatch):
    drop("broad", lambda r: r.seed > 0)
    assert report.studied("broad") is None
    monkeypatch.setattr(report, "REPORT", tmp_path / "study.md")
    assert report.write_report() == []
    assert not (tmp_path / "study.md").exists()


def test_a_variant_changes_what_it_says_and_the_problems():
    default, changed = (sensitivity.changed(PARAMS, "broad", variant) for variant in ("default", "tau 1"))
    assert default["curricula"] == PARAMS["curricula"]
    assert default["scales"]["mini"]["data"]["seed"] != PARAMS["scales"]["mini"]["data"]["seed"]
    assert set(default["seeds"]).isdisjoint(range(100))
    assert changed["curricula"]["rl"].pop("tau") == 1.0
    assert default["curricula"]["rl"].pop("tau") == PARAMS["curricula"]["rl"]["tau"] != 1.0
    assert changed == default


@pytest.mark.parametrize("variant", sensitivity.VARIANTS)
def test_every_variant_can_be_run(variant, tmp_path):
    path = tmp_path / "params.yaml"
    path.write_text(yaml.safe_dump(sensitivity.changed(PARAMS, "broad", variant)))
    require_runnable(ParamsFile(path))


def test_the_baseline_runs_again_where_the_optimiser_changes():
    assert {cell.rpartition("-")[0] for cell in sensitivity.cells_of("tau 1")} == {"rl"}
    assert {cell.rpartition("-")[0] for cell in sensitivity.cells_of("twice the budget")} == {"rl", "traditional"}


def test_a_variant_is_held_against_the_baseline_under_the_same_optimiser():
    rng = np.random.default_rng(0)
    rows = [
        Tried("broad", variant, learner(method, seed, 0.4, speed, rng))
        for variant, method, speed in (
            ("default", "traditional", 1),
            ("tau 1", "rl", 2),
            ("twice the budget", "traditional", 0.5),
            ("twice the budget", "rl", 2),
            ("epsilon 0", "rl", 1),
        )
        for seed in range(100, 103 if variant != "epsilon 0" else 101)
    ]
    found = {f.variant: f for f in sensitivity.findings("broad", rows)}
    assert {name: one.seeds for name, one in found.items()} == {"tau 1": 3, "twice the budget": 3, "epsilon 0": 1}
    assert found["tau 1"].examples.ratio == pytest.approx(0.5, abs=0.02)
    assert found["twice the budget"].examples.ratio == pytest.approx(0.25, abs=0.02)


def test_real_weights_take_the_short_problems_of_either_file(tmp_path):
    lines = [
        json.dumps({"problem": "p", "solution": "s" * n}) + "\n"
        for n in (10, real_weights.LONGEST - 1, real_weights.LONGEST)
    ]
    (tmp_path / "train.jsonl").write_text("".join(lines))
    assert list(real_weights.short_problems(tmp_path)) == lines[:2]
    (tmp_path / "train.jsonl.gz").write_bytes(gzip.compress((tmp_path / "train.jsonl").read_bytes()))
    (tmp_path / "train.jsonl").unlink()
    assert list(real_weights.short_problems(tmp_path)) == lines[:2]
    (tmp_path / "train.jsonl.gz").unlink()
    with pytest.raises(DataError, match=r"has neither train\.jsonl nor train\.jsonl\.gz; --math names"):
        list(real_weights.short_problems(tmp_path))


@pytest.mark.parametrize("target", real_weights.TARGETS)
def test_the_params_of_real_weights_are_valid(target, tmp_path):
    values = real_weights.changed(copy.deepcopy(PARAMS), target, "weights", "problems.jsonl", "cuda")
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(values))
    file = ParamsFile(tmp_path / "params.yaml")
    for method in real_weights.METHODS:
        models = train_stage.read_params(file, method).models
        assert (models.teacher, models.device) == ("weights", "cuda")
    data = file.scale_section("data", dict[str, Any])
    assert data["path"]["train"] == "problems.jsonl"
    assert data["target"]["subjects"] == real_weights.TARGETS[target]


def test_rows_of_every_target_and_kind_of_machine_have_a_file_of_their_own():
    names = [real_weights.rows_name(t, d) for d in real_weights.DEVICES for t in real_weights.TARGETS]
    assert names == ["real", "real_algebra", "real_cuda", "real_algebra_cuda"]


def test_rows_of_all_seeds_are_made_of_the_same_code_and_data(tmp_path):
    def lock(**changes):
        md5 = {"pipeline/train.py": "1", "data/prepared/test.jsonl": "2"} | changes
        stages = {
            f"{stage}@rl-{seed}": {
                "deps": [
                    *({"path": path, "md5": value} for path, value in md5.items()),
                    *([{"path": f"models/students/rl-{seed}", "md5": f"own {seed}"}] if stage == "evaluate" else []),
                ]
            }
            for stage in ("train", "evaluate")
            for seed in (0, 1)
        }
        (tmp_path / "dvc.lock").write_text(yaml.safe_dump({"stages": stages}))
        return [rows_module.made_of(tmp_path, [f"train@rl-{seed}", f"evaluate@rl-{seed}"]) for seed in (0, 1)]

    first, second = lock()
    assert first == second
    assert lock(**{"pipeline/train.py": "another"})[0] != first


def test_versions_are_found_also_where_the_commit_is_from_before_costs_had_files_of_their_own(tmp_path):
    for folder, torch in (("metrics/training", "2"), ("data/costs/training", "3")):
        (tmp_path / folder).mkdir(parents=True)
        cost = {"provenance": {"versions": {"torch": torch}, "commits": {}}, "seconds": 1.0}
        (tmp_path / folder / "rl-0.json").write_text(json.dumps(cost))
        assert versions_of(tmp_path, "rl-0") == {"torch": torch}
