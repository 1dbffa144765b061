"""Every stage in turn, on a miniature."""

import json

import pandas as pd
import pytest

from pipeline.analysis.metrics import measure
from pipeline.problems.record import read_problems
from pipeline.results.files import read_rows
from pipeline.results.rows import Prediction
from tests.end_to_end.conftest import change_params, digests


def test_the_pipeline_writes_everything_the_report_promises(small_project, stage):
    stage("evaluate", "--reference", "teacher")
    stage("evaluate", "--reference", "untrained_student")
    for method in ("rl", "traditional"):
        stage("train", "--method", method, "--seed", 0)
        stage("evaluate", "--method", method, "--seed", 0)
    stage("report")

    results = json.loads((small_project / "metrics/all_results_enhanced.json").read_text())
    assert results["scale"] == "mini"
    assert 0 <= results["untrained_student"]["accuracy"] <= results["teacher"]["accuracy"] <= 1
    for method in ("rl", "traditional"):
        entry = results["methods"][method]
        assert entry["accuracy"]["low"] <= entry["accuracy"]["mean"] <= entry["accuracy"]["high"]
        assert set(entry["accuracy_by_level"]) == set("12345")
        assert {"metrics", "examples_to_threshold", "aulc", "tokens", "seeds"} <= set(entry)
    comparison = results["comparisons"]["traditional"]["rl"]
    assert {"examples_ratio", "compute_ratio", "accuracy", "probability_of_improvement"} <= set(comparison)
    assert {"ratio", "low", "high", "trained", "test"} <= set(comparison["examples_ratio"])
    assert (small_project / "plots/comprehensive_comparison.png").read_bytes().startswith(b"\x89PNG")
    assert "traditional" in (small_project / "metrics/experiment_report.md").read_text()

    curve = pd.read_csv(small_project / "data/runs/rl-0/learning_curve.csv")
    assert curve["step"].tolist() == [0, 5, 10]
    assert curve["examples"].tolist() == [0, 40, 80]
    arms = pd.read_csv(small_project / "data/runs/rl-0/arm_log.csv")
    assert len(arms) == 10 * 35
    assert arms.groupby("step")["probability"].sum().tolist() == pytest.approx([1.0] * 10, abs=1e-4)
    assert arms.groupby("step")["count"].sum().tolist() == [8] * 10
    assert arms.loc[arms["reward"].notna(), "count"].min() >= 1
    assert (small_project / "plots/runs/rl-0.png").exists()
    assert not list((small_project / "checkpoints").glob("*/*"))  # finished work deletes its checkpoints

    predictions = [
        json.loads(line) for line in (small_project / "data/predictions/rl-0.jsonl").read_text().splitlines()
    ]
    evaluation, training = (
        json.loads((small_project / f"data/costs/{stage}/rl-0.json").read_text())
        for stage in ("evaluation", "training")
    )
    assert evaluation["problems"] == len(predictions) == 35
    for cost in (evaluation, training):
        assert cost["name"] == "rl-0"
        assert cost["seconds"] > 0
        assert cost["peak_memory_bytes"] > 2**20
        assert set(cost["provenance"]["versions"]) == {"torch", "transformers", "numpy", "tokenizers"}
    record = json.loads((small_project / "data/runs/rl-0/record.json").read_text())
    assert (record["method"], record["seed"], record["steps"], record["examples"]) == ("rl", 0, 10, 80)
    metrics = json.loads((small_project / "metrics/metrics_by_run.json").read_text())
    assert set(metrics) == {"teacher", "untrained_student", "rl-0", "traditional-0"}
    assert metrics["rl-0"]["accuracy"] == round(sum(p["correct"] for p in predictions) / 35, 6)
    assert metrics["rl-0"] == entry_of(results, "rl")


def entry_of(results, method):
    """The metrics of a method of one seed, which are those of its run."""
    return results["methods"][method]["metrics"]


def test_the_teacher_agrees_with_its_own_cache(small_project, stage):
    stage("evaluate", "--reference", "teacher")
    rows = read_rows(small_project / "data/predictions/teacher.jsonl", Prediction)
    metrics = measure(rows)
    # what is left is the rounding of 16-bit offsets
    assert abs(metrics["kl_per_token"]) < 1e-5
    assert metrics["top1_agreement"] > 0.999
    assert all(row.agrees == (row.answer is not None) for row in rows)


@pytest.mark.slow
def test_train_and_evaluate_again_give_the_same_bytes(small_project, stage):
    seen = []
    for _ in range(2):
        stage("evaluate", "--reference", "teacher")
        stage("train", "--method", "rl", "--seed", 1)
        stage("evaluate", "--method", "rl", "--seed", 1)
        folders = ("models/students/rl-1", "data/runs/rl-1", "data/predictions")
        seen.append([digests(small_project / folder) for folder in folders])
    assert seen[0] == seen[1]
    assert {"config.json", "model.safetensors"} <= set(seen[0][0])


def test_students_learn_the_teachers_own_words_where_targets_is_teacher(small_project, stage):
    def sample_widely(values):  # at 0.7 the teacher's solutions are those it was trained on, but for a rare one
        logits = values["scales"]["mini"]["teacher_logits"]
        logits["targets"], logits["solutions"]["temperature"] = "teacher", 1.4

    change_params(sample_widely)
    stage("teacher_logits")
    metrics = json.loads((small_project / "metrics/teacher_logits.json").read_text())
    assert metrics["targets"] == "teacher"
    assert metrics["problems_solved"] == metrics["splits"]["train"]["problems"] > 40
    assert metrics["problems_solved"] + metrics["problems_given_up"] == 70
    assert sum(metrics["given_up_by_level"].values()) == metrics["problems_given_up"]
    targets, prepared = (
        {p.id: p for p in read_problems("train", small_project / folder)}
        for folder in ("data/teacher_logits/train", "data/prepared")
    )
    assert set(targets) < set(prepared)
    assert any(p.solution != prepared[id].solution for id, p in targets.items())
    assert read_problems("test", small_project / "data/teacher_logits/test") == read_problems("test")
    assert not list((small_project / "checkpoints").glob("*/*"))
    stage("train", "--method", "traditional", "--seed", 0)
    assert (small_project / "models/students/traditional-0/model.safetensors").exists()


def test_a_student_learns_from_random_draws_and_is_measured_on_exact_ones(small_project, stage):
    stage("evaluate", "--reference", "teacher")
    change_params(lambda values: values["scales"]["mini"]["teacher_logits"].update(scheme="random_draws", draws=12))
    stage("teacher_logits")
    schemes = {
        split: json.loads((small_project / f"data/teacher_logits/{split}/manifest.json").read_text())["identity"]
        for split in ("train", "probe", "validation", "test")
    }
    assert (schemes["train"]["scheme"], schemes["train"]["draws"]) == ("random_draws", 12)
    assert schemes["probe"]["scheme"] == "random_draws"
    assert {schemes["validation"]["scheme"], schemes["test"]["scheme"]} == {"top_k"}
    stage("train", "--method", "rl", "--seed", 0)
    stage("evaluate", "--method", "rl", "--seed", 0)
    stage("evaluate", "--reference", "untrained_student")
    trained, untrained = (
        measure(read_rows(small_project / f"data/predictions/{name}.jsonl", Prediction))["kl_per_token"]
        for name in ("rl-0", "untrained_student")
    )
    assert 0 < trained < 2 * untrained


def test_too_small_a_cache_is_said_at_capture_and_draws_from_its_tail_make_it_do(small_project, stage, capsys):
    def keep(**changes):
        change_params(lambda values: values["scales"]["mini"]["teacher_logits"].update(changes))
        stage("teacher_logits")
        metrics = json.loads((small_project / "metrics/teacher_logits.json").read_text())
        said = [line for line in capsys.readouterr().err.splitlines() if "not told apart" in line]
        return metrics["splits"]["train"]["tail_mass"], metrics["splits"]["test"]["tail_mass"], said

    train, test, said = keep(top_k=2, temperatures=[1.0, 3.0])
    assert train["1.0"] < 0.1 < train["3.0"] < 1
    assert test == pytest.approx(train, rel=0.5)
    assert len(said) == 1
    assert said[0].startswith("data/teacher_logits/probe: at temperature 3.0, ")
    assert "before students are trained at it, set teacher_logits.scheme to top_k_tail_draws with 3.0 among" in said[0]
    drawn, exact, said = keep(scheme="top_k_tail_draws", draws=12, draw_temperatures=[3.0])
    assert (drawn, exact, said) == ({"1.0": train["1.0"], "3.0": 0.0}, test, [])
    change_params(lambda values: values["scales"]["mini"]["training"].update(temperature=3.0))
    stage("train", "--method", "rl", "--seed", 0)
    assert (small_project / "models/students/rl-0/model.safetensors").exists()
