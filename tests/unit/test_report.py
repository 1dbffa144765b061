from __future__ import annotations

import json
import sys
from dataclasses import asdict, replace
from pathlib import Path

import pandas as pd
import pytest
import yaml
from dvc_render.vega import VegaRenderer
from report_inputs import BATCH, EXAMPLES, PROVENANCE, SUBJECTS, write, write_inputs

from pipeline import report
from pipeline.analysis import metrics
from pipeline.analysis.reading import read_results
from pipeline.analysis.statistics import Interval
from pipeline.analysis.summary import examples_to_target
from pipeline.analysis.verdict import verdict
from pipeline.common.params import ParamsFile

PROJECT = Path(__file__).parents[2]
OUTPUTS = (
    report.RESULTS,
    report.METRICS_BY_RUN,
    report.REPORT,
    report.PICTURE,
    report.CURVES,
    report.RUN_PICTURES,
)
SKILLS = {"rl": 0.45, "traditional": 0.4, "random": 0.42}
# of every model in `write_inputs`, apart from its accuracy
MEASURED = {
    "agreement": 0.5,
    "top1_agreement": 0.75,
    "kl_per_token": 0.25,
    "calibration_error": 0.125,
    "grading_timeouts": 0,
}


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def quick(here, monkeypatch):
    """Leaves out the runs' pictures, which take most of the time and which few tests are about."""
    monkeypatch.setattr(report, "run_picture", lambda run: run.name.encode())
    return here


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


def contents():
    """Every file that the report wrote, and what is in it."""
    files = [path for output in OUTPUTS for path in ([output] if output.is_file() else output.iterdir())]
    return {path: path.read_bytes() for path in files}


def change(path, **values):
    write(path, json.dumps(json.loads(Path(path).read_text()) | values))


def change_rows(path, **values):
    """Sets columns of the predictions to a function of the row's number."""
    rows = [json.loads(line) for line in Path(path).read_text().split("\n")[:-1]]
    changed = [row | {key: value(i) for key, value in values.items()} for i, row in enumerate(rows)]
    write(path, "".join(json.dumps(row) + "\n" for row in changed))


def test_results_hold_every_promised_key(quick):
    write_inputs(SKILLS, [0, 1, 2])
    results, _ = run_report()
    assert results["scale"] == "mini"
    assert 0 < results["untrained_student"]["accuracy"] < results["teacher"]["accuracy"] < 1
    assert list(results["methods"]) == list(SKILLS)
    for method in results["methods"].values():
        assert method["accuracy"]["low"] < method["accuracy"]["mean"] < method["accuracy"]["high"]
        assert list(method["accuracy_by_level"]) == ["1", "2", "3", "4", "5"]
        assert set(method["accuracy_by_subject"]) == set(SUBJECTS)
        assert (method["seeds"], method["training_seconds"]) == ([0, 1, 2], 101.0)
        assert ({"accuracy": method["accuracy"]["mean"]} | MEASURED).items() <= method["metrics"].items()
        assert method["tokens"] == 90 * EXAMPLES + 1
        assert {"examples_to_target", "aulc", "accuracy_iqm"} <= set(method)
    assert list(results["comparisons"]) == ["rl", "random"]
    for comparison in results["comparisons"].values():
        assert comparison["low"] <= comparison["difference"] <= comparison["high"]
        assert 0 <= comparison["probability_of_improvement"] <= 1
        assert 0 < comparison["p"] <= comparison["p_holm"] <= 1


def test_accuracies_are_those_of_the_predictions(quick):
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


def test_a_clear_winner_and_a_clear_loser_are_named(quick):
    write_inputs({"rl": 0.75, "traditional": 0.4, "hard_to_easy": 0.15}, [0, 1, 2])
    results, text = run_report()
    assert [c["verdict"] for c in results["comparisons"].values()] == ["better", "worse"]
    assert "**rl is better than traditional**" in text
    assert "**hard_to_easy is worse than traditional**" in text
    assert text.splitlines()[2].startswith("**Better than traditional: rl (+")


def test_no_difference_is_said_as_plainly(quick):
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


def test_an_interval_without_zero_that_correction_undoes_is_explained(quick, monkeypatch):
    monkeypatch.setattr("pipeline.analysis.verdict.holm", lambda p: dict.fromkeys(p, 0.2))
    write_inputs({"rl": 0.75, "traditional": 0.4, "random": 0.4}, [0, 1, 2])
    _, text = run_report()
    assert "rl: no difference shown" in text
    assert "with 2 comparisons that is not enough" in text


def test_one_seed_gives_intervals_over_problems_and_no_verdict(quick):
    write_inputs({"rl": 0.75, "traditional": 0.4}, [7])
    results, text = run_report()
    assert results["comparisons"]["rl"]["verdict"] == "one seed cannot tell"
    assert results["methods"]["rl"]["aulc"]["low"] is None
    assert "intervals are over problems only" in results["warnings"][0]
    assert text.splitlines()[2].startswith("**One seed per method cannot tell")


def test_few_seeds_and_few_problems_are_warned_of(quick):
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
def test_without_anything_to_compare_the_report_says_why(quick, skills, reason):
    write_inputs(skills, [0, 1])
    results, text = run_report()
    assert results["comparisons"] == {}
    assert reason in text


def test_a_method_of_the_users_own_is_compared_like_any_other(quick):
    write_inputs({"mine": 0.45, "traditional": 0.4}, [0, 1, 2], {"mine": "subject"})
    results, text = run_report()
    assert list(results["comparisons"]) == ["mine"]
    assert "| mine |" in text


def test_seeds_that_never_reach_the_target_are_censored(quick):
    write_inputs({"rl": 0.5, "traditional": 0.4}, [0, 1])
    path = Path("data/runs/rl-1/learning_curve.csv")
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
    write_inputs({"rl": 0.45, "traditional": 0.4}, [3])
    report.main()
    first = contents()
    assert set(first) == {*OUTPUTS[:-1], report.RUN_PICTURES / "rl-3.png", report.RUN_PICTURES / "traditional-3.png"}
    assert all(picture.startswith(b"\x89PNG") for path, picture in first.items() if path.suffix == ".png")
    report.main()
    assert contents() == first


@pytest.mark.parametrize(
    "path",
    [
        "metrics/evaluation/rl-1.json",
        "metrics/evaluation/teacher.json",
        "data/predictions/random-0.jsonl",
        "metrics/training/traditional-1.json",
        "data/runs/rl-0/learning_curve.csv",
        "data/runs/rl-0/arm_log.csv",
    ],
)
def test_a_missing_file_is_named_and_nothing_is_written(quick, capsys, path):
    write_inputs(SKILLS, [0, 1])
    Path(path).unlink()
    assert failure(capsys) == f"error: {path} is missing; run `dvc repro` to make it\n"


@pytest.mark.parametrize(
    ("path", "text", "expected"),
    [
        ("metrics/evaluation/rl-0.json", "{", "EvaluationRecord (invalid json"),
        (
            "metrics/evaluation/rl-0.json",
            '{"name": "rl-0"}',
            "EvaluationRecord (problems: field required)",
        ),
        (
            "metrics/training/rl-0.json",
            '{"method": "rl", "seed": "0"}',
            "TrainingRecord (seed: input should be a valid integer)",
        ),
        (
            "data/predictions/rl-0.jsonl",
            '{"id": "x", "level": 1}\n',
            "rl-0.jsonl:1 is not a valid Prediction (subject",
        ),
        ("data/predictions/rl-0.jsonl", "", "rl-0.jsonl:1 is not a valid Prediction (invalid json"),
        ("data/runs/rl-0/learning_curve.csv", "step,examples\n0,0\n", "learning_curve.csv has no column tokens"),
        ("data/runs/rl-0/learning_curve.csv", "", "learning_curve.csv is not a CSV file"),
        (
            "data/runs/rl-0/learning_curve.csv",
            "step,examples,tokens,compute,validation_accuracy,loss\n0,0,0,0,0.1,\n",
            "needs at least two rows",
        ),
        (
            "data/runs/rl-0/learning_curve.csv",
            "step,examples,tokens,compute,validation_accuracy,loss\n0,0,0,0,,\n8,64,9,9,0.1,1\n",
            "column validation_accuracy must hold a number in every row",
        ),
    ],
)
def test_malformed_files_are_named_with_what_is_wrong(quick, capsys, path, text, expected):
    write_inputs(SKILLS, [0, 1])
    write(path, text)
    message = failure(capsys)
    assert message.startswith(f"error: {path}")
    assert expected in message


@pytest.mark.parametrize("what", ["steps", "examples"])
def test_unequal_budgets_are_refused_by_name(quick, capsys, what):
    write_inputs(SKILLS, [0, 1])
    change("metrics/training/random-1.json", **{what: 7})
    message = failure(capsys)
    assert f"random-1 had 7 {what}" in message
    assert "rl-0" in message
    assert "only equal budgets can be compared" in message


def test_unequal_validation_points_are_refused(quick, capsys):
    write_inputs(SKILLS, [0, 1])
    path = Path("data/runs/random-0/learning_curve.csv")
    pd.read_csv(path).iloc[[0, 2, 4]].to_csv(path, index=False)
    assert "data/runs/random-0 and data/runs/rl-0 were validated after different" in failure(capsys)


def test_other_test_problems_are_refused(quick, capsys):
    write_inputs(SKILLS, [0, 1])
    path = Path("data/predictions/random-1.jsonl")
    rows = path.read_text().split("\n")
    path.write_text("\n".join([rows[1], rows[0], *rows[2:]]))
    assert failure(capsys).startswith("error: data/predictions/random-1.jsonl is for other test problems")


@pytest.mark.parametrize("values", [{"name": "rl-1"}, {"problems": 119}])
def test_metrics_of_another_evaluation_are_refused(quick, capsys, values):
    write_inputs(SKILLS, [0, 1])
    change("metrics/evaluation/rl-0.json", **values)
    assert "metrics/evaluation/rl-0.json does not belong to data/predictions/rl-0.jsonl" in failure(capsys)


@pytest.mark.parametrize("values", [{"method": "random"}, {"seed": 0}])
def test_the_record_of_another_run_is_refused(quick, capsys, values):
    write_inputs(SKILLS, [0, 1])
    change("metrics/training/rl-1.json", **values)
    found = f"{values.get('method', 'rl')}-{values.get('seed', 1)}"
    assert f"metrics/training/rl-1.json is of {found}; run `dvc repro`" in failure(capsys)


@pytest.mark.parametrize(
    ("path", "model", "first"),
    [
        ("metrics/training/random-1.json", "the training of random-1", "the training of rl-0"),
        ("metrics/evaluation/random-1.json", "the evaluation of random-1", "the training of rl-0"),
        ("metrics/evaluation/teacher.json", "the evaluation of teacher", "the training of rl-0"),
        ("metrics/evaluation/untrained_student.json", "the evaluation of untrained_student", "the training of rl-0"),
    ],
)
@pytest.mark.parametrize(
    ("what", "values", "this", "that"),
    [
        ("versions", PROVENANCE.versions | {"torch": "9.9.9"}, "torch 9.9.9", "torch 2.9.1"),
        ("versions", PROVENANCE.versions | {"jax": "1.0"}, "jax 1.0", "jax None"),
        ("commits", {"teacher": "0badc0de", "student": None}, "teacher 0badc0de", "teacher 12fd25f7"),
        ("commits", {"teacher": "12fd25f7", "student": "5eed"}, "student 5eed", "student None"),
    ],
)
def test_results_of_different_provenance_are_refused_by_name(
    quick, capsys, path, model, first, what, values, this, that
):
    write_inputs(SKILLS, [0, 1])
    change(path, provenance=asdict(PROVENANCE) | {what: values})
    message = failure(capsys)
    assert f"{model} was made with {this} and {first} with {that}" in message
    assert f"only results of the same {what} can be compared" in message
    assert "`dvc repro --force --single-item STAGE`" in message


def test_results_of_one_other_provenance_are_compared(quick):
    write_inputs(SKILLS, [0, 1])
    for path in [*Path("metrics/training").iterdir(), *Path("metrics/evaluation").iterdir()]:
        change(path, provenance={"versions": {"torch": "3.0"}, "commits": {"teacher": None}})
    results, _ = run_report()
    assert list(results["methods"]) == list(SKILLS)


def test_arm_logs_with_different_arms_are_refused(quick):
    write_inputs({"rl": 0.4, "traditional": 0.4}, [0, 1], {"rl": "level"})
    path = Path("data/runs/rl-1/arm_log.csv")
    pd.read_csv(path).replace({"arm": {"level 5": "level 6"}}).to_csv(path, index=False)
    with pytest.raises(SystemExit):
        report.main()
    assert not any(path.exists() for path in OUTPUTS)


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [("methods", [], "methods is empty"), ("seeds", [], "seeds is empty"), ("seeds", [1, 0, 1], "seeds names 1 twice")],
)
def test_a_grid_that_makes_no_sense_is_refused(quick, capsys, key, value, expected):
    write_inputs(SKILLS, [0, 1])
    write("params.yaml", yaml.safe_dump(yaml.safe_load(Path("params.yaml").read_text()) | {key: value}))
    assert expected in failure(capsys)


def test_leftovers_of_a_larger_grid_are_not_read(quick):
    write_inputs(SKILLS | {"hard_to_easy": 0.2}, [0, 1, 2])
    write_inputs(SKILLS, [0, 1])
    results, _ = run_report()
    assert list(results["methods"]) == list(SKILLS)
    assert set(pd.read_csv(report.CURVES)["method"]) == set(SKILLS)


def test_the_stage_reads_no_other_params(quick):
    write_inputs(SKILLS, [0])
    file = ParamsFile()
    report.read_params(file)
    assert file.keys_read == {"scale", "methods", "seeds", "report"}


@pytest.mark.parametrize("revisions", [["workspace"], ["workspace", "main"]])
def test_the_plot_template_draws_every_method_and_revision(quick, revisions):
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


def test_the_long_csv_holds_every_validation_of_every_run(quick):
    write_inputs(SKILLS, [0, 1])
    report.main()
    curves = pd.read_csv(report.CURVES)
    assert list(curves) == ["method", "seed", "step", "examples", "validation_accuracy"]
    assert len(curves) == 3 * 2 * 5
    one = curves[(curves["method"] == "random") & (curves["seed"] == 1)]
    expected = pd.read_csv("data/runs/random-1/learning_curve.csv")
    assert one["validation_accuracy"].tolist() == expected["validation_accuracy"].tolist()
    assert (one["examples"] == one["step"] * BATCH).all()


def test_answers_that_ran_out_of_time_are_told_for_test_and_validation(quick):
    write_inputs(SKILLS, [0, 1, 2])
    change_rows("data/predictions/rl-1.jsonl", timed_out=lambda i: i in (4, 8, 9))
    change("metrics/training/random-2.json", grading_timeouts=5)
    results, text = run_report()
    assert [results["methods"][name]["metrics"]["grading_timeouts"] for name in SKILLS] == [3, 0, 0]
    assert results["warnings"][-2:] == [
        "Answers counted as wrong because grading them ran out of time: rl-1 3.",
        "Answers to validation problems counted as wrong because grading them ran out of time: random-2 5.",
    ]
    assert all(warning in text for warning in results["warnings"])


def test_every_metric_is_that_of_the_predictions(quick):
    """Against the definitions, over the tokens of all problems and not as a mean of the problems' means."""
    write_inputs({"rl": 0.4, "traditional": 0.4}, [0, 1])
    change_rows(
        "data/predictions/rl-1.jsonl",
        agrees=lambda i: i < 30,
        tokens=lambda i: 2 if i < 60 else 10,
        top1_matches=lambda i: 2 if i < 60 else 1,
        kl=lambda i: 0.0 if i < 60 else 3.0,
        # the first bin's gaps cancel between problems, the second's do not
        calibration_gaps=lambda i: [-0.5, 0.25] if i % 2 else [0.5, 0.25],
        timed_out=lambda i: i < 7,
    )
    change_rows("data/predictions/rl-1.jsonl", correct=lambda i: i < 12)
    results, text = run_report()
    got = json.loads(report.METRICS_BY_RUN.read_text())
    tokens = 60 * 2 + 60 * 10
    expected = {
        "accuracy": 12 / 120,
        "agreement": 30 / 120,
        "top1_agreement": (60 * 2 + 60 * 1) / tokens,
        "kl_per_token": 60 * 3 / tokens,
        "calibration_error": 120 * 0.25 / tokens,
        "grading_timeouts": 7,
    }
    assert {name: got["rl-1"][name] for name in expected} == pytest.approx(expected, abs=1e-6)
    assert list(got) == ["teacher", "untrained_student", "rl-0", "rl-1", "traditional-0", "traditional-1"]
    method = results["methods"]["rl"]["metrics"]
    for name in ("accuracy", "agreement", "top1_agreement", "kl_per_token", "calibration_error"):
        assert method[name] == pytest.approx((got["rl-0"][name] + got["rl-1"][name]) / 2, abs=2e-6)
    assert method["grading_timeouts"] == 7
    assert "| 37.5% | 50.0% | 0.2500 | 0.0833 | 7 |" in row_of("rl", "## All metrics", text)


def row_of(name, heading, text):
    """The line of a model in the table below a heading."""
    (line,) = [line for line in text.split(heading)[1].split("\n## ")[0].split("\n") if line.startswith(f"| {name} |")]
    return line


def test_a_new_metric_is_one_entry(quick, monkeypatch):
    """Nothing but the registry changes, and what evaluate wrote is left as it was."""
    write_inputs({"rl": 0.4, "traditional": 0.4}, [0, 1])
    change_rows("data/predictions/rl-1.jsonl", output=lambda i: "long answer" if i < 30 else "")
    run_report()
    inputs = {path: path.read_bytes() for path in Path("data").glob("**/*.*")}
    columns = {name: text.count("|") for name, text in sections(report.REPORT.read_text()).items()}
    length = metrics.Metric(
        "answer_length",
        "characters in an answer",
        lambda rows: sum(len(row.output) for row in rows) / len(rows),
        lambda value: f"{value:.2f} characters",
        "lower",
        over_seeds=max,
    )
    add_metric(monkeypatch, length)

    results, text = run_report()

    by_run = json.loads(report.METRICS_BY_RUN.read_text())
    plain, changed = len("so \u2028 it is"), len("long answer") / 4
    assert {name: values["answer_length"] for name, values in by_run.items()} == dict.fromkeys(by_run, plain) | {
        "rl-1": changed
    }
    assert results["methods"]["rl"]["metrics"]["answer_length"] == max(plain, changed)
    assert results["teacher"]["metrics"]["answer_length"] == plain
    assert row_of("method", "## All metrics", text).endswith(" | characters in an answer ↓ |")
    for name in ("rl", "traditional", "teacher", "untrained student"):
        assert row_of(name, "## All metrics", text).endswith(" | 10.00 characters |")
    wider = {name: text.count("|") - columns[name] for name, text in sections(text).items()}
    assert {name for name, more in wider.items() if more} == {"All metrics"}
    assert {path: path.read_bytes() for path in Path("data").glob("**/*.*")} == inputs


def add_metric(monkeypatch, metric):
    """METRICS with one more entry, as if it stood in the file: everywhere the registry was imported."""
    registry, more = metrics.METRICS, (*metrics.METRICS, metric)
    for module in list(sys.modules.values()):
        if getattr(module, "METRICS", None) is registry:
            monkeypatch.setattr(module, "METRICS", more)


def sections(text):
    """The report's sections by heading."""
    return {part.split("\n")[0]: part for part in text.split("\n## ")[1:]}


def test_a_metric_says_which_end_is_good_or_that_neither_is(quick, monkeypatch):
    write_inputs({"rl": 0.4, "traditional": 0.4}, [0, 1])
    kl = next(metric for metric in metrics.METRICS if metric.name == "kl_per_token")
    for name, better in (("up", "higher"), ("down", "lower"), ("neither", None)):
        add_metric(monkeypatch, replace(kl, name=name, heading=name, better=better))
    _, text = run_report()
    assert row_of("method", "## All metrics", text).endswith("| up ↑ | down ↓ | neither |")


def test_names_of_metrics_are_not_used_twice():
    names, headings = ([getattr(metric, what) for metric in metrics.METRICS] for what in ("name", "heading"))
    assert len(set(names)) == len(names)
    assert len(set(headings)) == len(headings)


def test_pictures_of_runs_that_are_no_longer_asked_for_go(quick):
    write_inputs(SKILLS, [0, 1])
    report.main()
    write_inputs(SKILLS, [0])
    report.main()
    assert sorted(path.name for path in report.RUN_PICTURES.iterdir()) == [
        "random-0.png",
        "rl-0.png",
        "traditional-0.png",
    ]
