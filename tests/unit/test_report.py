from __future__ import annotations

import json
import math
import sys
from dataclasses import asdict, replace
from pathlib import Path

import pandas as pd
import pytest
import yaml
from dvc_render.vega import VegaRenderer
from report_inputs import BATCH, EXAMPLES, PROVENANCE, REPORT, SUBJECTS, write, write_inputs

from pipeline import report
from pipeline.analysis import metrics
from pipeline.analysis.reading import read_results
from pipeline.analysis.summary import examples_to_threshold, summarise, threshold_accuracy
from pipeline.analysis.tables import verdict_in
from pipeline.analysis.verdict import CONTROLS, DRAWS, NOTHING_TO_REACH, Finding, Ratio, pairs, verdict
from pipeline.analysis.wording import headline, ratio_span, ratio_text, sentence
from pipeline.common.params import ParamsFile

PROJECT = Path(__file__).parents[2]
OUTPUTS = (
    report.OVERVIEW,
    report.COSTS,
    report.RESULTS,
    report.METRICS_BY_RUN,
    report.REPORT,
    report.PAGE,
    report.PICTURE,
    report.CURVES,
    report.RUN_PICTURES,
)
CANNOT_TELL = "fewer than 3 seeds cannot tell"
SKILLS = {"rl": 0.45, "traditional": 0.4, "random": 0.42}
# of every model in `write_inputs`, apart from its accuracy
MEASURED = {
    "agreement": 0.5,
    "top1_agreement": 0.75,
    "kl_per_token": 0.25,
    "calibration_error": 0.125,
    "grading_timeouts": 0,
}

QUESTIONS = ("examples_ratio", "compute_ratio", "kl_examples_ratio", "kl_compute_ratio", "accuracy")


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def quick(here, monkeypatch):
    """Leaves out the runs' pictures and the page, which take most of the time and which few tests are about."""
    monkeypatch.setattr(report, "run_picture", lambda run: run.name.encode())
    monkeypatch.setattr(report, "report_page", lambda results, summary, problems: "<!DOCTYPE html>")
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
        assert method["seeds"] == [0, 1, 2]
        assert ({"accuracy": method["accuracy"]["mean"]} | MEASURED).items() <= method["metrics"].items()
        assert method["tokens"] == 90 * EXAMPLES + 1
        assert {"examples_to_threshold", "aulc", "accuracy_iqm"} <= set(method)
        assert method["compute"] == 90 * EXAMPLES
        assert {"q_correlation", "q_predicts", "entropy_share"} <= set(method["curriculum"])
    assert [name for name, method in results["methods"].items() if method["draws"]] == ["rl"]
    of_pool, of_target = {"problems", "by_subject", "by_level", "of_target"}, {"target_subjects", "target_levels"}
    assert set(results["pool"]) == of_pool | of_target | {"same_as_target"}
    assert {rival: list(methods) for rival, methods in results["comparisons"].items()} == {
        "traditional": ["rl", "random"],
        "random": ["rl"],
    }
    for comparison in [c for methods in results["comparisons"].values() for c in methods.values()]:
        accuracy, ratio = comparison["accuracy"], comparison["examples_ratio"]
        assert accuracy["low"] <= accuracy["difference"] <= accuracy["high"]
        assert ratio["low"] <= ratio["ratio"] <= (ratio["high"] or ratio["trained"])
        assert ratio == comparison["compute_ratio"]  # all spend the same per example
        # the log of the KL is a falling straight line of accuracy here, so it gives the same ratio
        assert comparison["kl_examples_ratio"]["ratio"] == pytest.approx(ratio["ratio"], abs=1e-3)
        assert comparison["kl_examples_ratio"] == comparison["kl_compute_ratio"]
        assert 0 <= comparison["probability_of_improvement"] <= 1
        for question in QUESTIONS:
            test = comparison[question]["test"]
            assert 0 < test["p"] <= test["p_holm"] <= 1
            assert test["smallest_detectable"] > 0


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
    assert results["comparisons"]["traditional"]["rl"]["accuracy"]["difference"] == pytest.approx(difference, abs=2e-6)


def verdicts(results, question):
    """By method, of one question against the baseline."""
    return {name: c[question]["test"]["verdict"] for name, c in results["comparisons"]["traditional"].items()}


def test_a_clear_winner_and_a_clear_loser_are_named(quick):
    write_inputs({"rl": 0.74, "traditional": 0.4, "hard_to_easy": 0.15}, [0, 1, 2])
    results, text = run_report()
    for question in QUESTIONS:
        assert verdicts(results, question) == {"rl": "better", "hard_to_easy": "worse"}
    ratio = results["comparisons"]["traditional"]["rl"]["examples_ratio"]
    rows = {line.split(" | ")[0]: line for line in text.splitlines() if " / traditional | " in line}
    assert f"| {ratio['ratio']:.2f} ({ratio['low']:.2f} to {ratio['high']:.2f}) ▲ |" in rows["| rl / traditional"]
    assert rows["| hard_to_easy / traditional"].count("| more than 1 ▼ |") >= 2
    assert (rows["| rl / traditional"].count("▲"), rows["| hard_to_easy / traditional"].count("▼")) == (5, 5)
    first = text.splitlines()[2]
    span = f"{ratio['ratio']:.2f} times its examples ({ratio['low']:.2f} to {ratio['high']:.2f})"
    assert first.startswith(f"**rl reaches traditional's final accuracy with {span}; hard_to_easy needs more.**")
    assert "In final accuracy on the test problems: rl (+" in first
    near = results["comparisons"]["traditional"]["rl"]["kl_examples_ratio"]
    numbers = f"{near['ratio']:.2f} times ({near['low']:.2f} to {near['high']:.2f})"
    said = (
        f"Examples to come as near to the teacher (KL per token) as traditional: rl {numbers}; hard_to_easy needs more."
    )
    assert first.endswith(said)
    assert "above traditional, hard_to_easy (-" in first
    assert verdict_in(text) == first.replace("**", "")


def test_no_difference_is_said_as_plainly_and_with_what_would_have_been_shown(quick):
    write_inputs({"rl": 0.4, "traditional": 0.4}, [0, 1, 2])
    results, text = run_report()
    assert verdicts(results, "examples_ratio") == verdicts(results, "accuracy") == {"rl": "no difference shown"}
    assert text.splitlines()[2].startswith(
        "**No curriculum is shown to need fewer, or more, examples to reach traditional's final"
    )
    assert "No curriculum is shown to come as near to the teacher as traditional with fewer examples." in text
    assert not [line for line in text.splitlines() if "rl / traditional" in line and ("▲" in line or "▼" in line)]
    comparison = results["comparisons"]["traditional"]["rl"]
    lead, nearer = (comparison[name]["test"]["smallest_detectable"] for name in ("examples_ratio", "kl_examples_ratio"))
    assert f"| no difference shown | {100 * lead:.1f} points more |" in text
    assert f"| no difference shown | a KL {math.exp(nearer):.2f} times lower |" in text
    least = 100 * comparison["accuracy"]["test"]["smallest_detectable"]
    assert f"| no difference shown | {least:.1f} points |" in text


@pytest.mark.parametrize(
    ("value", "p_holm", "expected"),
    [
        (0.05, 0.049, "better"),
        (0.05, 0.05, "no difference shown"),
        (-0.05, 0.01, "worse"),
        (0.0, 1.0, "no difference shown"),
    ],
)
def test_a_verdict_needs_a_small_corrected_p(value, p_holm, expected):
    assert verdict(value, p_holm, 0.95) == expected


def test_everyone_meets_the_baseline_and_rl_its_controls():
    assert pairs(["rl", "traditional", "random", "mine", "static_mixture"]) == [
        ("rl", "traditional"),
        ("random", "traditional"),
        ("mine", "traditional"),
        ("static_mixture", "traditional"),
        ("rl", "random"),
        ("rl", "static_mixture"),
    ]
    assert pairs(["rl", *CONTROLS]) == [*(("rl", name) for name in CONTROLS), DRAWS]
    assert pairs(["mine", *CONTROLS]) == [DRAWS] == [("stratified", "random")]
    assert pairs(["mine", "random"]) == pairs(["traditional"]) == []


def test_each_question_is_one_family_over_all_pairs(quick):
    write_inputs({"rl": 0.5, "traditional": 0.4, "random": 0.42, "rl_permuted": 0.41}, [0, 1, 2])
    results, text = run_report()
    assert {rival: list(methods) for rival, methods in results["comparisons"].items()} == {
        "traditional": ["rl", "random", "rl_permuted"],
        "random": ["rl"],
        "rl_permuted": ["rl"],
    }
    for question in QUESTIONS:
        tests = [c[question]["test"] for methods in results["comparisons"].values() for c in methods.values()]
        smallest = min(tests, key=lambda test: test["p"])
        assert smallest["p_holm"] == pytest.approx(min(1, 5 * smallest["p"]), abs=1e-5)
    assert "| rl / rl_permuted |" in text
    assert "p-value corrected for 5 comparisons" in text


def test_an_interval_without_zero_that_correction_undoes_has_no_mark(quick, monkeypatch):
    monkeypatch.setattr("pipeline.analysis.verdict.holm", lambda p: dict.fromkeys(p, 0.2))
    write_inputs({"rl": 0.75, "traditional": 0.4, "random": 0.4}, [0, 1, 2])
    results, text = run_report()
    ratio = results["comparisons"]["traditional"]["rl"]["examples_ratio"]
    assert ratio["high"] < 1
    row = next(line for line in text.splitlines() if line.startswith("| rl / traditional"))
    assert f"| {ratio['ratio']:.2f} ({ratio['low']:.2f} to " in row
    assert "▲" not in row


def test_what_a_curriculum_spends_besides_is_charged_in_the_ratio_of_compute(quick):
    write_inputs({"rl": 0.6, "traditional": 0.4}, [0, 1, 2])
    for seed in (0, 1, 2):
        path = Path(f"data/runs/rl-{seed}/learning_curve.csv")
        curve = pd.read_csv(path)
        curve.assign(compute=curve["compute"] * 1.5).to_csv(path, index=False)
    results, _ = run_report()
    comparison = results["comparisons"]["traditional"]["rl"]
    assert comparison["compute_ratio"]["ratio"] == pytest.approx(1.5 * comparison["examples_ratio"]["ratio"], rel=1e-4)
    assert comparison["compute_ratio"]["trained"] == pytest.approx(1.5)
    assert comparison["examples_ratio"]["trained"] == 1
    assert results["methods"]["rl"]["compute"] == pytest.approx(1.5 * results["methods"]["traditional"]["compute"])


def ratio(value, low, high, trained=1.0):
    return Ratio(value, low, high, trained, 0.0, Finding(0.5, 1.0, 0.05, "no difference shown"))


@pytest.mark.parametrize(
    ("found", "text", "interval"),
    [
        (ratio(0.62, 0.5, 0.77), "0.62", "0.50 to 0.77"),
        (ratio(0.9, 0.7, None), "0.90", "0.70 or more"),
        (ratio(None, 0.83, None), "more than 1", "0.83 or more"),
        (ratio(None, 1.0, None), "more than 1", "more than 1"),
        (ratio(None, 1.12, None, trained=1.12), "more than 1.12", "more than 1.12"),
        (ratio(0.62, None, None), "0.62", ""),
        (ratio(0.0, 0.0, 0.3), "less than 0.01", "0.00 to 0.30"),
        (ratio(0.004, 0.0, 0.004), "less than 0.01", "0.00 to less than 0.01"),
        (replace(ratio(None, None, None), test=NOTHING_TO_REACH), "-", ""),
    ],
)
def test_ratios_in_words(found, text, interval):
    assert (ratio_text(found), ratio_span(found)) == (text, interval)


def change_curves(method, **columns):
    """Sets columns of all learning curves of a method to functions of their values."""
    for path in Path("data/runs").glob(f"{method}-[0-9]*/learning_curve.csv"):
        curve = pd.read_csv(path)
        curve.assign(**{name: change(curve[name]) for name, change in columns.items()}).to_csv(path, index=False)


@pytest.mark.parametrize("seeds", [[0], [0, 1, 2, 3, 4]])
def test_where_the_rival_ends_no_better_than_it_began_nothing_is_claimed(quick, seeds):
    """Everybody's KL rises, and so does the accuracy: the ratios of KL mean nothing, those of accuracy stay."""
    write_inputs({"rl": 0.6, "traditional": 0.4}, seeds)
    change_curves("traditional", validation_kl=lambda kl: 0.3 / kl)
    change_curves("rl", validation_kl=lambda kl: 0.1 / kl)
    results, text = run_report()
    comparison = results["comparisons"]["traditional"]["rl"]
    for name in ("kl_examples_ratio", "kl_compute_ratio"):
        found = comparison[name]
        assert (found["ratio"], found["low"], found["high"], found["test"]["p_holm"]) == (None, None, None, None)
        assert found["test"]["verdict"] == "the rival ended no better than it began"
        assert name not in json.loads(report.OVERVIEW.read_text())["rl"]
    assert comparison["examples_ratio"]["ratio"] < 1
    row = next(line for line in text.splitlines() if line.startswith("| rl / traditional"))
    assert row.endswith(" | - | - |")
    assert "By KL traditional ended no better than it began, so there is nothing to reach, and no ratio." in text
    assert "By validation accuracy traditional ended" not in text
    assert "traditional ended no nearer to the teacher (KL per token) than it began" in text.splitlines()[2]
    assert "0.00" not in row

    change_curves("traditional", validation_accuracy=lambda accuracy: 0.2 - accuracy / 10)
    results, text = run_report()
    assert text.splitlines()[2].startswith(
        "**traditional ended no more accurate on the validation problems than it began, so"
    )
    assert "By validation accuracy traditional ended no better than it began" in text
    summary = summarise(read_results(["rl", "traditional"], seeds), "mini", REPORT)
    said = sentence(("rl", "traditional"), summary.comparisons["traditional"]["rl"], 0.95)
    assert said.startswith(
        "**rl: traditional ended no more accurate on the validation problems than it began**, so there is"
    )
    assert "(KL per token), the rival ended no better than it began. Final accuracy" in said
    assert "times as many" not in said


def test_a_single_comparison_is_not_corrected(quick):
    write_inputs({"rl": 0.6, "traditional": 0.4}, [0, 1, 2])
    _, text = run_report()
    assert "corrected for" not in text.split("### ")[0]


def test_the_headline_names_several_and_leaves_intervals_to_the_table(quick):
    skills = {"traditional": 0.3} | {f"m{i}": 0.6 + i / 100 for i in range(4)}
    write_inputs(skills, [0, 1, 2])
    summary = summarise(read_results(list(skills), [0, 1, 2]), "mini", REPORT)
    assert headline(summary).startswith("Examples to reach traditional's final accuracy: m3 0.")
    assert "(" not in headline(summary)
    few = {"m0": summary.comparisons["traditional"]["m0"], "m1": summary.comparisons["traditional"]["m1"]}
    assert headline(replace(summary, comparisons={"traditional": few})).count(" to ") == 3


def test_targets_lie_between_the_curves_beginning_and_the_teacher(quick):
    write_inputs(SKILLS, [0, 1])
    results = read_results(list(SKILLS), [0, 1])
    floor = sum(run.learning_curve["validation_accuracy"][0] for run in results.all_runs()) / 6
    assert threshold_accuracy(results, 0.0) == pytest.approx(floor)
    assert threshold_accuracy(results, 1.0) == pytest.approx(results.teacher.accuracy)
    assert threshold_accuracy(results, 0.25) == pytest.approx(0.75 * floor + 0.25 * results.teacher.accuracy)


def test_one_seed_gives_intervals_over_problems_and_no_verdict(quick):
    write_inputs({"rl": 0.75, "traditional": 0.4}, [7])
    results, text = run_report()
    comparison = results["comparisons"]["traditional"]["rl"]
    assert verdicts(results, "accuracy") == verdicts(results, "examples_ratio") == {"rl": CANNOT_TELL}
    assert comparison["accuracy"]["low"] < comparison["accuracy"]["difference"] < comparison["accuracy"]["high"]
    assert (comparison["examples_ratio"]["low"], comparison["examples_ratio"]["test"]["p"]) == (None, None)
    assert results["methods"]["rl"]["aulc"]["low"] is None
    assert "intervals are over problems only" in results["warnings"][0]
    assert text.splitlines()[2].startswith("**Fewer than 3 seeds per method cannot tell which curriculum needs fewer")
    assert "Fewer than 3 seeds cannot tell anybody apart, so nothing is marked." in text


def test_two_seeds_give_wide_intervals_and_no_verdict(quick):
    write_inputs({"rl": 0.75, "traditional": 0.4}, [0, 1])
    results, _ = run_report()
    assert verdicts(results, "accuracy") == verdicts(results, "compute_ratio") == {"rl": CANNOT_TELL}
    assert results["comparisons"]["traditional"]["rl"]["examples_ratio"]["low"] is not None


def test_a_teacher_below_its_student_is_warned_of(quick):
    write_inputs(SKILLS, [0, 1, 2])
    change_rows("data/predictions/teacher.jsonl", correct=lambda i: i < 3)
    results, _ = run_report()
    assert results["warnings"] == [
        "The teacher is no better than the untrained student: examples to a threshold mean nothing."
    ]


def test_few_seeds_and_few_problems_are_warned_of(quick):
    write_inputs(SKILLS, [0, 1], problems_per_cell=2)
    results, text = run_report()
    assert [w.split(":")[0] for w in results["warnings"]] == [
        "There are only 2 seeds per method",
        "Few test problems on " + ", ".join(f"level {n} (6)" for n in range(1, 6)),
    ]
    assert all(warning in text for warning in results["warnings"])


def test_too_few_resamples_for_any_verdict_are_warned_of(quick):
    for resamples, warned in ((118, 1), (119, 0)):
        write_inputs(SKILLS, [0, 1, 2], resamples=resamples)
        results, _ = run_report()
        said = [w for w in results["warnings"] if w.startswith(f"With report.resamples = {resamples} no difference")]
        assert len(said) == warned
        shown = {verdict for verdict in verdicts(results, "accuracy").values() if verdict == "better"}
        assert not (shown and warned)


@pytest.mark.parametrize(
    ("skills", "reason"),
    [
        ({"mine": 0.4, "random": 0.4}, "Nothing is compared with traditional, because it is not among the methods"),
        ({"traditional": 0.4}, "traditional is the only method"),
        ({"rl": 0.4}, "Nothing is compared with traditional, because it is not among the methods"),
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
    assert list(results["comparisons"]["traditional"]) == ["mine"]
    assert "| mine |" in text


def test_seeds_that_never_reach_the_target_are_censored(quick):
    write_inputs({"rl": 0.5, "traditional": 0.4}, [0, 1])
    path = Path("data/runs/rl-1/learning_curve.csv")
    curve = pd.read_csv(path)
    curve["validation_accuracy"] = 0.1
    curve.to_csv(path, index=False)
    got = examples_to_threshold(read_results(["rl", "traditional"], [0, 1]).runs["rl"], 0.3)
    first = got.by_seed["0"]
    assert 0 < first < EXAMPLES
    assert got.by_seed == {"0": first, "1": None}
    assert (got.seeds_reached, got.restricted_mean) == (1, (first + EXAMPLES) / 2)
    _, text = run_report()
    assert "| 1 of 2 | at least " in row_of("rl", "## How fast they learn", text)
    assert ", never |" in row_of("rl", "## How fast they learn", text)


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
        "data/costs/evaluation/rl-1.json",
        "data/costs/evaluation/teacher.json",
        "data/predictions/random-0.jsonl",
        "data/costs/training/traditional-1.json",
        "data/runs/random-1/record.json",
        "data/runs/rl-0/learning_curve.csv",
        "data/runs/rl-0/arm_log.csv",
    ],
)
def test_a_missing_file_is_named_and_nothing_is_written(quick, capsys, path):
    write_inputs(SKILLS, [0, 1])
    Path(path).unlink()
    assert failure(capsys) == f"error: {path} is missing; run `dvc repro` to make it\n"


@pytest.mark.parametrize("split", ["train", "validation", "probe"])
def test_missing_problems_are_named_and_nothing_is_written(quick, capsys, split):
    write_inputs(SKILLS, [0])
    Path(f"data/prepared/{split}.jsonl").unlink()
    assert failure(capsys) == f"error: data/prepared/{split}.jsonl is missing; run `dvc repro prepare` first\n"


@pytest.mark.parametrize(
    ("path", "text", "expected"),
    [
        ("data/costs/evaluation/rl-0.json", "{", "EvaluationCost (invalid json"),
        (
            "data/costs/evaluation/rl-0.json",
            '{"name": "rl-0"}',
            "EvaluationCost (problems: field required)",
        ),
        (
            "data/runs/rl-0/record.json",
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
            "step,examples,tokens,compute,validation_accuracy,validation_kl,loss\n0,0,0,0,0.1,1,\n",
            "needs at least two rows",
        ),
        (
            "data/runs/rl-0/learning_curve.csv",
            "step,examples,tokens,compute,validation_accuracy,validation_kl,loss\n0,0,0,0,,1,\n8,64,9,9,0.1,1,1\n",
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
    change("data/runs/random-1/record.json", **{what: 7})
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
def test_the_cost_of_another_evaluation_is_refused(quick, capsys, values):
    write_inputs(SKILLS, [0, 1])
    change("data/costs/evaluation/rl-0.json", **values)
    assert "data/costs/evaluation/rl-0.json does not belong to data/predictions/rl-0.jsonl" in failure(capsys)


@pytest.mark.parametrize("values", [{"method": "random"}, {"seed": 0}])
def test_the_record_of_another_run_is_refused(quick, capsys, values):
    write_inputs(SKILLS, [0, 1])
    change("data/runs/rl-1/record.json", **values)
    found = f"{values.get('method', 'rl')}-{values.get('seed', 1)}"
    assert f"data/runs/rl-1/record.json is of {found}; run `dvc repro`" in failure(capsys)


def test_the_cost_of_another_run_is_refused(quick, capsys):
    write_inputs(SKILLS, [0, 1])
    change("data/costs/training/rl-1.json", name="rl-0")
    assert "data/costs/training/rl-1.json is of rl-0; run `dvc repro`" in failure(capsys)


@pytest.mark.parametrize(
    ("path", "model", "first"),
    [
        ("data/costs/training/random-1.json", "the training of random-1", "the training of rl-0"),
        ("data/costs/evaluation/random-1.json", "the evaluation of random-1", "the training of rl-0"),
        ("data/costs/evaluation/teacher.json", "the evaluation of teacher", "the training of rl-0"),
        ("data/costs/evaluation/untrained_student.json", "the evaluation of untrained_student", "the training of rl-0"),
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
    for path in Path("data/costs").glob("*/*.json"):
        change(path, provenance={"versions": {"torch": "3.0"}, "commits": {"teacher": None}})
    results, _ = run_report()
    assert list(results["methods"]) == list(SKILLS)


def test_what_it_cost_stands_on_a_page_of_its_own_and_changes_no_result(quick):
    write_inputs(SKILLS, [0, 1, 2])
    report.main()
    here = contents()
    page = report.COSTS.read_text()
    assert "| rl | 101 | 512 | 21 | 256 |" in page
    assert "| teacher |  |  | 20 | 256 |" in page
    assert "- torch: `2.9.1`" in page
    assert "- teacher's commit on the hub: `12fd25f7`" in page
    for path in Path("data/costs").glob("*/*.json"):
        versions = {"versions": PROVENANCE.versions | {"torch": "9.9.9"}, "commits": PROVENANCE.commits}
        change(path, seconds=7.0, peak_memory_bytes=2**30, provenance=versions)
    report.main()
    elsewhere = contents()
    assert [path for path in here if here[path] != elsewhere[path]] == [report.COSTS]


def test_the_overview_holds_what_experiments_are_compared_by(quick):
    write_inputs(SKILLS, [0, 1, 2])
    results, _ = run_report()
    overview = json.loads(report.OVERVIEW.read_text())
    assert list(overview) == ["rl", "traditional", "random", "teacher", "untrained_student"]
    against = results["comparisons"]["traditional"]["rl"]
    assert overview["rl"] == {
        "accuracy": results["methods"]["rl"]["accuracy"]["mean"],
        "kl_per_token": 0.25,
        "area_under_curve": results["methods"]["rl"]["aulc"]["mean"],
        **{name: against[name]["ratio"] for name in QUESTIONS[:4]},
    }
    assert set(overview["traditional"]) == {"accuracy", "kl_per_token", "area_under_curve"}
    assert overview["teacher"] == {"accuracy": results["teacher"]["accuracy"], "kl_per_token": 0.25}


def test_the_overview_of_the_default_methods_fits_a_screen(quick):
    write_inputs(dict.fromkeys(yaml.safe_load((PROJECT / "params.yaml").read_text())["methods"], 0.4), [0])
    report.main()
    numbers = [value for model in json.loads(report.OVERVIEW.read_text()).values() for value in model]
    assert len(numbers) <= 38  # and two lines of headings


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
    assert file.keys_read == {"scale", "methods", "replays", "seeds", "report"}


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
    assert "lowest to the highest seed" in filled["title"]["subtitle"]
    assert filled["layer"][0]["encoding"]["y"]["axis"]["labelExpr"].startswith("'validation_accuracy' ===")
    assert {row["method"] for row in filled["data"]["values"]} == set(SKILLS)


def test_the_long_csv_holds_every_validation_of_every_run(quick):
    write_inputs(SKILLS, [0, 1])
    report.main()
    curves = pd.read_csv(report.CURVES)
    assert list(curves) == ["method", "seed", "step", "examples", "validation_accuracy", "validation_kl"]
    assert len(curves) == 3 * 2 * 5
    one = curves[(curves["method"] == "random") & (curves["seed"] == 1)]
    expected = pd.read_csv("data/runs/random-1/learning_curve.csv")
    for measured in ("validation_accuracy", "validation_kl"):
        assert one[measured].tolist() == expected[measured].tolist()
    assert (one["examples"] == one["step"] * BATCH).all()


def test_answers_that_ran_out_of_time_are_told_for_test_and_validation(quick):
    write_inputs(SKILLS, [0, 1, 2])
    change_rows("data/predictions/rl-1.jsonl", timed_out=lambda i: i in (4, 8, 9))
    change("data/runs/random-2/record.json", grading_timeouts=5)
    results, text = run_report()
    assert [results["methods"][name]["metrics"]["grading_timeouts"] for name in SKILLS] == [3, 0, 0]
    assert results["warnings"][-2:] == [
        "Answers counted as wrong because grading them ran out of time: rl-1 3.",
        "Answers to validation problems counted as wrong because grading them ran out of time: random-2 5.",
    ]
    assert all(warning in text for warning in results["warnings"])


def test_an_accuracy_of_a_part_of_the_validation_problems_says_so(quick):
    write_inputs(SKILLS, [0, 1, 2])
    assert "of the validation problems, always the same" not in run_report()[1]
    for name in (f"{method}-{seed}" for method in SKILLS for seed in range(3)):
        change(f"data/runs/{name}/record.json", validation_problems=250)
    results, text = run_report()
    assert results["warnings"] == [
        "Validation accuracy, and what is read off it, is of 250 of the validation problems, always the same; KL is of "
        "all."
    ]
    assert results["warnings"][0] in text


def test_curves_of_different_validation_problems_are_refused_by_name(quick, capsys):
    write_inputs(SKILLS, [0, 1])
    change("data/runs/random-1/record.json", validation_problems=250)
    assert failure(capsys) == (
        "error: random-1 answered 250 of the validation problems and rl-0 all validation problems, and only curves of "
        "the same can be compared; run `dvc repro` to bring both up to date\n"
    )


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


def test_both_accuracies_are_shown_and_where_the_graders_part(quick):
    write_inputs({"rl": 0.4, "traditional": 0.4}, [0])
    _, text = run_report()
    assert "They agree on every answer." in text
    change_rows("data/predictions/rl-0.jsonl", correct=lambda i: i < 60, minerva_correct=lambda i: 30 <= i < 72)
    change_rows("data/predictions/rl-0.jsonl", gold=lambda i: "1|2", answer=lambda i: "a`b\nc" if i < 30 else None)
    results, text = run_report()
    section = text.split("## Two graders")[1].split("\n## ")[0]
    assert "| rl | 50.0% | 35.0% | 35.0% |" in section
    assert "| `1\\|2` | `a'b c` | Math-Verify | 30 |\n| `1\\|2` | - | Minerva | 12 |" in section
    assert results["graders_part"][0] == {"gold": "1|2", "answer": "a`b\nc", "correct": True, "times": 30}


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
