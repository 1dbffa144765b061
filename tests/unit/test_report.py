from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest
import yaml
from dvc_render.vega import VegaRenderer
from report_inputs import BATCH, EXAMPLES, SUBJECTS, write, write_inputs

from pipeline import report
from pipeline.analysis.results import read_results
from pipeline.analysis.statistics import Interval
from pipeline.analysis.summary import examples_to_target, verdict
from pipeline.common.params import ParamsFile

PROJECT = Path(__file__).parents[2]
OUTPUTS = (report.RESULTS, report.REPORT, report.PICTURE, report.CURVES)
SKILLS = {"rl": 0.45, "traditional": 0.4, "random": 0.42}


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run_report():
    report.main()
    return json.loads(report.RESULTS.read_text()), report.REPORT.read_text()


def failure(capsys):
    with pytest.raises(SystemExit) as exit_info:
        report.main()
    assert exit_info.value.code == 1
    assert not any(path.exists() for path in OUTPUTS)
    message = capsys.readouterr().err
    assert message.count("\n") == 1
    return message


def change(path, **values):
    write(path, json.dumps(json.loads(Path(path).read_text()) | values))


def test_results_hold_every_promised_key(here):
    write_inputs(SKILLS, [0, 1, 2])
    results, _ = run_report()
    assert results["scale"] == "mini"
    assert 0 < results["untrained_student"]["accuracy"] < results["teacher"]["accuracy"] < 1
    assert list(results["methods"]) == list(SKILLS)
    for method in results["methods"].values():
        assert method["accuracy"]["low"] < method["accuracy"]["mean"] < method["accuracy"]["high"]
        assert list(method["accuracy_by_level"]) == ["1", "2", "3", "4", "5"]
        assert set(method["accuracy_by_subject"]) == set(SUBJECTS)
        assert (method["seeds"], method["agreement"], method["training_seconds"]) == ([0, 1, 2], 0.5, 101.0)
        assert method["tokens"] == 90 * EXAMPLES + 1
        assert {"examples_to_target", "aulc", "accuracy_iqm", "kl_per_token", "calibration_error"} <= set(method)
    assert list(results["comparisons"]) == ["rl", "random"]
    for comparison in results["comparisons"].values():
        assert comparison["low"] <= comparison["difference"] <= comparison["high"]
        assert 0 <= comparison["probability_of_improvement"] <= 1
        assert 0 < comparison["p"] <= comparison["p_holm"] <= 1


def test_accuracies_are_those_of_the_predictions(here):
    write_inputs(SKILLS, [0, 1])
    results, _ = run_report()
    rows = [
        json.loads(line)
        for seed in (0, 1)
        for line in Path(f"data/predictions/rl-{seed}.jsonl").read_text().split("\n")[:-1]
    ]
    for level in (1, 5):
        chosen = [row["correct"] for row in rows if row["level"] == level]
        assert results["methods"]["rl"]["accuracy_by_level"][str(level)] == pytest.approx(
            sum(chosen) / len(chosen), abs=1e-6
        )
    difference = results["methods"]["rl"]["accuracy"]["mean"] - results["methods"]["traditional"]["accuracy"]["mean"]
    assert results["comparisons"]["rl"]["difference"] == pytest.approx(difference, abs=2e-6)


def test_a_clear_winner_and_a_clear_loser_are_named(here):
    write_inputs({"rl": 0.75, "traditional": 0.4, "hard_to_easy": 0.15}, [0, 1, 2])
    results, text = run_report()
    assert [c["verdict"] for c in results["comparisons"].values()] == ["better", "worse"]
    assert "**rl is better than traditional**" in text
    assert "**hard_to_easy is worse than traditional**" in text
    assert text.splitlines()[2].startswith("**Better than traditional: rl (+")


def test_no_difference_is_said_as_plainly(here):
    write_inputs({"rl": 0.4, "traditional": 0.4}, [0, 1, 2])
    results, text = run_report()
    assert results["comparisons"]["rl"]["verdict"] == "no difference shown"
    assert text.splitlines()[2].startswith("**No difference shown")
    assert "better than traditional**" not in text


@pytest.mark.parametrize(
    ("low", "high", "p_holm", "seeds", "expected"),
    [
        (0.01, 0.05, 0.049, 3, "better"),
        (0.01, 0.05, 0.05, 3, "no difference shown"),  # the interval alone is not enough
        (0.0, 0.05, 0.01, 3, "no difference shown"),  # nor is the p-value
        (-0.05, -0.01, 0.01, 3, "worse"),
        (0.01, 0.05, 0.001, 1, "one seed cannot tell"),
    ],
)
def test_a_verdict_needs_both_the_corrected_p_and_the_interval(low, high, p_holm, seeds, expected):
    assert verdict(Interval((low + high) / 2, low, high), p_holm, 0.95, seeds) == expected


def test_an_interval_without_zero_that_correction_undoes_is_explained(here, monkeypatch):
    monkeypatch.setattr("pipeline.analysis.summary.holm", lambda p: dict.fromkeys(p, 0.2))
    write_inputs({"rl": 0.75, "traditional": 0.4, "random": 0.4}, [0, 1, 2])
    _, text = run_report()
    assert "rl: no difference shown" in text
    assert "with 2 comparisons that is not enough" in text


def test_one_seed_gives_intervals_over_problems_and_no_verdict(here):
    write_inputs({"rl": 0.75, "traditional": 0.4}, [7])
    results, text = run_report()
    assert results["comparisons"]["rl"]["verdict"] == "one seed cannot tell"
    assert results["methods"]["rl"]["aulc"]["low"] is None
    assert "intervals are over problems only" in results["warnings"][0]
    assert text.splitlines()[2].startswith("**One seed per method cannot tell")


def test_few_seeds_and_few_problems_are_warned_of(here):
    write_inputs(SKILLS, [0, 1], problems_per_cell=2)
    results, text = run_report()
    assert [w.split(":")[0] for w in results["warnings"]] == [
        "There are only 2 seeds per method",
        "Few test problems on " + ", ".join(f"level {n} (6)" for n in range(1, 6)),
    ]
    assert all(warning in text for warning in results["warnings"])


@pytest.mark.parametrize(
    ("skills", "reason"),
    [
        ({"rl": 0.4, "random": 0.4}, "traditional is not among the methods"),
        ({"traditional": 0.4}, "traditional is the only method"),
        ({"rl": 0.4}, "traditional is not among the methods"),
    ],
)
def test_without_anything_to_compare_the_report_says_why(here, skills, reason):
    write_inputs(skills, [0, 1])
    results, text = run_report()
    assert results["comparisons"] == {}
    assert reason in text


def test_a_method_of_the_users_own_is_compared_like_any_other(here):
    write_inputs({"mine": 0.45, "traditional": 0.4}, [0, 1, 2], {"mine": "subject"})
    results, text = run_report()
    assert list(results["comparisons"]) == ["mine"]
    assert "| mine |" in text


def test_seeds_that_never_reach_the_target_are_censored(here):
    write_inputs({"rl": 0.5, "traditional": 0.4}, [0, 1])
    path = Path("plots/runs/rl-1/learning_curve.csv")
    curve = pd.read_csv(path)
    curve["validation_accuracy"] = 0.1
    curve.to_csv(path, index=False)
    got = examples_to_target(read_results(["rl", "traditional"], [0, 1]).runs["rl"], 0.3)
    first = got.by_seed["0"]
    assert 0 < first < EXAMPLES
    assert got.by_seed == {"0": first, "1": None}
    assert (got.seeds_reached, got.restricted_mean) == (1, (first + EXAMPLES) / 2)
    _, text = run_report()
    assert f"| 1 of 2 | at least {got.restricted_mean:,.0f} | {first:,}, never |" in text


def test_the_same_inputs_give_the_same_bytes(here):
    write_inputs(SKILLS, [0, 1])
    report.main()
    first = [path.read_bytes() for path in OUTPUTS]
    report.main()
    assert [path.read_bytes() for path in OUTPUTS] == first


@pytest.mark.parametrize(
    "path",
    [
        "metrics/runs/rl-1.json",
        "metrics/runs/teacher.json",
        "data/predictions/random-0.jsonl",
        "metrics/training/traditional-1.json",
        "plots/runs/rl-0/learning_curve.csv",
        "plots/runs/rl-0/arm_log.csv",
    ],
)
def test_a_missing_file_is_named_and_nothing_is_written(here, capsys, path):
    write_inputs(SKILLS, [0, 1])
    Path(path).unlink()
    assert failure(capsys) == f"error: {path} is missing; run `dvc repro` to make it\n"


@pytest.mark.parametrize(
    ("path", "text", "expected"),
    [
        ("metrics/runs/rl-0.json", "{", "metrics/runs/rl-0.json:1 is not valid JSON"),
        ("metrics/runs/rl-0.json", '{"name": "rl-0"}', "metrics/runs/rl-0.json has no accuracy"),
        (
            "data/predictions/rl-0.jsonl",
            '{"id": "x", "level": 1}\n',
            "rl-0.jsonl:1 is not a row of predictions (subject",
        ),
        ("data/predictions/rl-0.jsonl", "", "rl-0.jsonl:1 is not a row of predictions"),
        ("plots/runs/rl-0/learning_curve.csv", "step,examples\n0,0\n", "learning_curve.csv has no column tokens"),
        ("plots/runs/rl-0/learning_curve.csv", "", "learning_curve.csv is not a CSV file"),
        (
            "plots/runs/rl-0/learning_curve.csv",
            "step,examples,tokens,validation_accuracy,loss\n0,0,0,0.1,\n",
            "needs at least two rows",
        ),
        (
            "plots/runs/rl-0/learning_curve.csv",
            "step,examples,tokens,validation_accuracy,loss\n0,0,0,,\n8,64,9,0.1,1\n",
            "column validation_accuracy must hold a number in every row",
        ),
    ],
)
def test_malformed_files_are_named_with_what_is_wrong(here, capsys, path, text, expected):
    write_inputs(SKILLS, [0, 1])
    write(path, text)
    assert expected in failure(capsys)


@pytest.mark.parametrize("what", ["steps", "examples"])
def test_unequal_budgets_are_refused_by_name(here, capsys, what):
    write_inputs(SKILLS, [0, 1])
    change("metrics/training/random-1.json", **{what: 7})
    message = failure(capsys)
    assert f"random-1 had 7 {what}" in message
    assert "rl-0" in message
    assert "only equal budgets can be compared" in message


def test_unequal_validation_points_are_refused(here, capsys):
    write_inputs(SKILLS, [0, 1])
    path = Path("plots/runs/random-0/learning_curve.csv")
    pd.read_csv(path).iloc[[0, 2, 4]].to_csv(path, index=False)
    assert "plots/runs/random-0 and plots/runs/rl-0 were validated after different" in failure(capsys)


def test_other_test_problems_are_refused(here, capsys):
    write_inputs(SKILLS, [0, 1])
    path = Path("data/predictions/random-1.jsonl")
    rows = path.read_text().split("\n")
    path.write_text("\n".join([rows[1], rows[0], *rows[2:]]))
    assert failure(capsys).startswith("error: data/predictions/random-1.jsonl is for other test problems")


def test_metrics_of_another_evaluation_are_refused(here, capsys):
    write_inputs(SKILLS, [0, 1])
    change("metrics/runs/rl-0.json", accuracy=0.999)
    assert "metrics/runs/rl-0.json does not belong to data/predictions/rl-0.jsonl" in failure(capsys)


def test_arm_logs_with_different_arms_are_refused(here):
    write_inputs({"rl": 0.4, "traditional": 0.4}, [0, 1], {"rl": "level"})
    path = Path("plots/runs/rl-1/arm_log.csv")
    pd.read_csv(path).replace({"arm": {"level 5": "level 6"}}).to_csv(path, index=False)
    with pytest.raises(SystemExit):
        report.main()
    assert not any(path.exists() for path in OUTPUTS)


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [("methods", [], "methods is empty"), ("seeds", [], "seeds is empty"), ("seeds", [1, 0, 1], "seeds names 1 twice")],
)
def test_a_grid_that_makes_no_sense_is_refused(here, capsys, key, value, expected):
    write_inputs(SKILLS, [0, 1])
    write("params.yaml", yaml.safe_dump(yaml.safe_load(Path("params.yaml").read_text()) | {key: value}))
    assert expected in failure(capsys)


def test_leftovers_of_a_larger_grid_are_not_read(here):
    write_inputs(SKILLS | {"hard_to_easy": 0.2}, [0, 1, 2])
    write_inputs(SKILLS, [0, 1])
    results, _ = run_report()
    assert list(results["methods"]) == list(SKILLS)
    assert set(pd.read_csv(report.CURVES)["method"]) == set(SKILLS)


def test_the_stage_reads_no_other_params(here):
    write_inputs(SKILLS, [0])
    file = ParamsFile()
    report.read_params(file)
    assert file.keys_read == {"scale", "methods", "seeds", "report"}


@pytest.mark.parametrize("revisions", [["workspace"], ["workspace", "main"]])
def test_the_plot_template_draws_every_method_and_revision(here, revisions):
    write_inputs(SKILLS, [0, 1])
    report.main()
    curves = pd.read_csv(report.CURVES, dtype=str)  # as DVC reads it
    points = [row | {"rev": rev} for rev in revisions for row in curves.to_dict("records")]
    filled = VegaRenderer(
        points,
        "curves",
        template="method_curves",
        template_dir=str(PROJECT / ".dvc" / "plots"),
        x="examples",
        y="validation_accuracy",
        x_label="training examples",
        y_label="validation accuracy",
    ).get_filled_template()
    text = json.dumps(filled)
    assert "<DVC_METRIC" not in text
    assert "datum['examples']" in text
    assert filled["encoding"]["color"]["field"] == "method"
    assert filled["transform"][-1]["groupby"] == ["rev", "method", "x_value"]
    assert filled["layer"][1]["encoding"]["strokeDash"]["field"] == "rev"
    assert {row["method"] for row in filled["data"]["values"]} == set(SKILLS)


def test_the_long_csv_holds_every_validation_of_every_run(here):
    write_inputs(SKILLS, [0, 1])
    report.main()
    curves = pd.read_csv(report.CURVES)
    assert list(curves) == ["method", "seed", "step", "examples", "validation_accuracy"]
    assert len(curves) == 3 * 2 * 5
    one = curves[(curves["method"] == "random") & (curves["seed"] == 1)]
    expected = pd.read_csv("plots/runs/random-1/learning_curve.csv")
    assert one["validation_accuracy"].tolist() == expected["validation_accuracy"].tolist()
    assert (one["examples"] == one["step"] * BATCH).all()


def test_answers_that_ran_out_of_time_are_told_for_test_and_validation(here):
    write_inputs(SKILLS, [0, 1, 2])
    for path, count in (("metrics/runs/rl-1.json", 3), ("metrics/training/random-2.json", 5)):
        values = json.loads(Path(path).read_text())
        Path(path).write_text(json.dumps(values | {"grading_timeouts": count}))
    results, text = run_report()
    assert results["warnings"][-2:] == [
        "Answers counted as wrong because grading them ran out of time: rl-1 3.",
        "Answers to validation problems counted as wrong because grading them ran out of time: random-2 5.",
    ]
    assert all(warning in text for warning in results["warnings"])
