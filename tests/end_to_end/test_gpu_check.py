"""The GPU benchmark's own code, run on the CPU at tiny shapes: every check and every figure is there."""

import json
import sys

import pytest

pytestmark = pytest.mark.slow

CHECKS = {
    "float32_products",
    "loss_float32",
    "loss_bfloat16",
    "target_gains_float32",
    "target_gains_bfloat16",
    "captured_rows",
    "same_run_twice",
    "same_run_twice_with_checkpointing",
    "gradient_checkpointing",
    "moments_on_cpu",
    "moments_in_8_bits",
    "resumed_run",
    "resumed_run_in_8_bits",
    "out_of_memory",
    "answers_by_graphs",
    "same_answers_twice",
    "kl_falls",
}
STEP_ROWS = (
    "student_step",
    "student_step_gradient_checkpointing",
    "student_step_on_8_gb",
    "student_step_on_8_gb_longest_problems",
    "student_step_on_8_gb_in_8_bits",
)
GENERATION_ROWS = ("student_generation", "student_generation_without_graphs", "teacher_generation")
PROFILE = "student_step_profile"
NEVER = {"dvc", "datasets", "trl", "math_verify", "pandas", "matplotlib"}


@pytest.fixture(scope="module")
def tiny(tiny_benchmark):
    """What it writes, and what it says."""
    return tiny_benchmark("gpu_check")


def test_every_check_passes_and_the_divergence_falls(tiny):
    found, text = tiny
    assert set(found["checks"]) == CHECKS
    assert all(check["passed"] for check in found["checks"].values())
    assert found["failures"] == found["skipped"] == []
    distillation = found["sections"]["distillation"]
    assert distillation["last_five_steps_kl_nats_per_token"] < distillation["first_five_steps_kl_nats_per_token"]
    assert text.count("PASS") == 2 * len(CHECKS)  # as it goes, and in the table


def test_every_row_has_its_figures(tiny):
    sections = tiny[0]["sections"]
    assert set(sections) == {"host_times", "teacher_capture", *STEP_ROWS, PROFILE, "distillation", *GENERATION_ROWS}
    assert len([value for name, value in sections["host_times"].items() if "microseconds" in name and value > 0]) == 5
    capture = sections["teacher_capture"]
    assert capture["capture_tokens_per_s"] > 0
    assert capture["forward_tokens_per_s"] > 0
    top_k, drawn = 12 * (2 + 2) + 2 * 4 + 4, 2 * 80 // 8 + 26  # two temperatures; 80 draws of 500 tokens at one of them
    assert capture["bytes_per_completion_token"] == top_k + drawn
    for row in STEP_ROWS:
        assert 0 < sections[row]["tokens_per_s"] <= sections[row]["padded_tokens_per_s"]
        assert sections[row]["mfu"] is None  # a CPU's peak is not known, and no default stands in for it
        assert sections[row]["moments"] == ("8bit" if "8_bits" in row else "cpu" if "8_gb" in row else "device")
    assert sections[PROFILE]["kernels_and_copies"] == 0  # the CPU has none
    for row in GENERATION_ROWS:
        assert 0 < sections[row]["new_tokens"] <= sections[row]["prompts"] * sections[row]["max_new_tokens"]


def test_a_bare_gpu_machine_needs_neither_dvc_nor_datasets(tiny):
    assert not NEVER & set(tiny[0]["packages_imported"])
    assert "torch" in tiny[0]["packages_imported"]


@pytest.fixture
def in_process(tmp_path, monkeypatch, capsys):
    """Runs the benchmark in this process; returns its status, its text and what it wrote."""
    from benchmarks.gpu_check import main

    def run(*arguments):
        out = tmp_path / "out.json"
        monkeypatch.setattr(sys, "argv", ["gpu_check", "--out", str(out), *arguments])
        with pytest.raises(SystemExit) as ended:
            main()
        return ended.value.code, capsys.readouterr(), json.loads(out.read_text()) if out.exists() else None

    return run


def test_what_there_is_no_time_for_is_skipped_and_named(in_process):
    status, text, found = in_process("--tiny", "--minutes", "0")
    assert status == 0
    assert set(found["skipped"]) == {*CHECKS - {"kl_falls"}, *found["sections"]}
    assert "teacher_capture: SKIPPED, it may take 90 s, but only 0 s are left" in text.out


def test_parts_can_be_taken_alone(in_process):
    status, _, found = in_process("--tiny", "--only", "loss_float32", "student_step")
    assert status == 0
    assert set(found["checks"]) == {"loss_float32"}
    assert set(found["sections"]) == {"student_step"}
    assert found["sections"]["student_step"]["tokens_per_s"] > 0


def test_a_part_that_does_not_exist_is_named(in_process):
    status, text, found = in_process("--tiny", "--only", "loss_float64")
    assert (status, found) == (1, None)
    assert text.err.startswith("error: --only loss_float64: nothing is called so; one of answers_by_graphs, ")


def test_without_a_gpu_it_says_so(in_process, monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    status, text, found = in_process()
    assert (status, found) == (1, None)
    assert text.err == "error: torch finds no CUDA device; run on a GPU machine, or with --tiny on the CPU\n"


def test_a_failure_in_one_part_leaves_the_others_and_gives_status_1(in_process, monkeypatch):
    from benchmarks import _device_checks, gpu_check

    def broken(_):
        raise RuntimeError("no such kernel")

    def wrong(_):
        return _device_checks.Verdict(float("nan"), 1.0, "nothing")

    monkeypatch.setattr(_device_checks, "CHECKS", (broken, wrong, _device_checks.loss_float32))
    monkeypatch.setattr(gpu_check.Teacher, "measure", broken)
    monkeypatch.setattr(gpu_check, "distil", lambda *_: {})
    status, _, found = in_process("--tiny")
    assert status == 1
    assert found["failures"] == ["broken", "wrong", "teacher_capture", *STEP_ROWS, PROFILE]
    assert found["checks"]["broken"] == {"error": "RuntimeError: no such kernel"}
    assert found["checks"]["wrong"]["figure"] is None
    assert found["checks"]["loss_float32"]["passed"]
    assert "new_tokens_per_s" in found["sections"]["student_generation"]
