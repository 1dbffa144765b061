"""Everything the project does on a GPU, checked and measured in one command of under 9 minutes.

    python -m benchmarks.gpu_check                       on a CUDA GPU
    python -m benchmarks.gpu_check --smollm2 FOLDER      the same, and the distillation with real weights
    python -m benchmarks.gpu_check --tiny                the same code at tiny shapes on the CPU, in seconds
    python -m benchmarks.gpu_check --only same_run_twice student_step     these checks and measurements alone

Models are randomly initialised at Qwen2's true shapes, since neither time nor memory depends on the weights; problems
are random tokens of the lengths that MATH has. What is timed is the project's own code: `Run.step` over a logit store
on disk, `capture_batch`, `generate_answers`. README.md beside this file says how each figure is taken.

A machine needs torch, transformers, accelerate, bitsandbytes, numpy, scipy, pydantic, PyYAML and tqdm, in the versions
of requirements.txt, and a C compiler; neither dvc nor datasets, nor the network.
"""

from __future__ import annotations

import argparse
import functools
import importlib.metadata
import re
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from benchmarks import _device_checks as device_checks
from benchmarks._gpu_measurements import Teacher, distil, host_times, measure_generation, measure_steps, profile_steps
from benchmarks._gpu_session import QWEN2, TINY, Session, number, verdict_of
from benchmarks._measure import GIB, environment, peak_tflops, say
from benchmarks._runs import ROOT, read_params
from pipeline.common.errors import ModelError
from pipeline.common.files import write_json
from pipeline.common.stage import exit_on_error
from pipeline.language_models.processes import use_threads
from pipeline.language_models.prompts import EncodedProblem

SMALL_GPU_BYTES = 15 * GIB // 2  # what a GPU of 8 GiB has left beside the CUDA context and a screen


def run_all(session: Session, smollm2: Path | None) -> None:
    """The checks, then the measurements, the most wanted first."""
    scale, params = session.scale, session.params
    setup = functools.cache(lambda: device_checks.prepare(session.folder, scale.checks, scale.check_lengths, params))
    for check in device_checks.CHECKS:
        session.check(check.__name__, lambda check=check: check(setup()))
    session.section("host_times", 5, lambda: host_times(session))
    teacher = Teacher(session)
    session.section("teacher_capture", 90, teacher.measure)

    def step_row(name: str, problems: list[EncodedProblem], **settings: Any) -> None:
        session.section(name, 45, lambda: measure_steps(session, problems, teacher.captured(), **settings))

    small_gpu = {"gradient_checkpointing": True, "cap": SMALL_GPU_BYTES}
    step_row("student_step", teacher.problems, gradient_checkpointing=False)
    if session.device == "cuda":
        step_row("student_step_compiled", teacher.problems, gradient_checkpointing=False, compiled=True)
    step_row("student_step_gradient_checkpointing", teacher.problems, gradient_checkpointing=True)
    step_row("student_step_on_8_gb", teacher.problems, moments="cpu", **small_gpu)
    step_row("student_step_on_8_gb_longest_problems", teacher.longest, moments="cpu", **small_gpu)
    step_row("student_step_on_8_gb_in_8_bits", teacher.problems, moments="8bit", **small_gpu)
    session.section("distillation", 60, lambda: distil(session, smollm2))
    session.section("student_generation", 60, lambda: measure_generation(session, scale.student, torch.float32))
    session.section("teacher_generation", 60, lambda: measure_generation(session, scale.teacher, torch.bfloat16))
    session.section(
        "student_generation_without_graphs",
        60,
        lambda: measure_generation(session, scale.student, torch.float32, graphs=False),
    )
    # the profiler slows down what comes after it
    session.section("student_step_profile", 30, lambda: profile_steps(session, teacher.problems, teacher.captured()))
    if session.device == "cuda":  # a CPU would need a C++ compiler and minutes
        session.check("resumed_compiled_run", lambda: device_checks.resumed_compiled_run(setup()), seconds=120)


def report(session: Session, machine: dict[str, Any], tiny: bool) -> dict[str, Any]:
    """Everything that was found, as a JSON value."""
    installed = importlib.metadata.packages_distributions()
    return {
        "benchmark": "gpu_check",
        "shapes": "tiny" if tiny else "Qwen2-1.5B and Qwen2-0.5B, random weights",
        "environment": machine,
        "peak_tflops_bfloat16": session.peak,
        "seconds": round(session.elapsed(), 1),
        "failures": session.failures(),
        "skipped": session.skipped(),
        "checks": session.checks,
        "sections": session.sections,
        "packages_imported": sorted({name.split(".")[0] for name in sys.modules} & set(installed)),
    }


def print_table(found: dict[str, Any]) -> None:
    """All figures once more, one under the other."""
    say(f"\n{found['environment']['device']}, torch {found['environment']['torch']}, {found['seconds']:.0f} s")
    if found["peak_tflops_bfloat16"] is None:
        say("MFU is unknown: this device's peak is not in benchmarks/_measure.py")
    for name, check in found["checks"].items():
        say(f"  {name:<40} {_state(check) or verdict_of(check)}")
    for name, section in found["sections"].items():
        say(f"\n{name}  {_state(section)}")
        for key, value in section.items():
            if key not in ("skipped", "error"):
                say(f"  {key:<40} {number(value)}")
    say(f"\nskipped: {', '.join(found['skipped']) or 'nothing'}\nfailed: {', '.join(found['failures']) or 'nothing'}")


def _state(found: dict[str, Any]) -> str:
    if "skipped" in found:
        return f"SKIPPED: {found['skipped']}"
    return f"FAIL: {found['error']}" if "error" in found else ""


@exit_on_error
def main() -> None:
    """Checks and measures, prints and writes what was found; status 1 where something failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tiny", action="store_true", help="tiny shapes on the CPU")
    parser.add_argument("--smollm2", type=Path, help="folder of SmolLM2-135M-Instruct, for the short distillation")
    parser.add_argument(
        "--out", type=Path, help="JSON file; default: benchmarks/results/gpu_check-DEVICE.json, or none"
    )
    parser.add_argument("--only", nargs="+", default=[], metavar="NAME", help="checks and measurements to carry out")
    parser.add_argument("--minutes", type=float, default=9.0, help="sections that would take longer are skipped")
    args = parser.parse_args()
    device = "cpu" if args.tiny else "cuda"
    if device == "cuda" and not torch.cuda.is_available():
        raise ModelError("torch finds no CUDA device; run on a GPU machine, or with --tiny on the CPU")
    params = read_params()
    params = replace(params, training=replace(params.training, compile=False))  # which one part turns on
    threads = 1 if args.tiny else params.models.threads
    use_threads(threads, device)
    name = torch.cuda.get_device_name(0) if device == "cuda" else "cpu"
    out = args.out or (
        None if args.tiny else ROOT / f"benchmarks/results/gpu_check-{re.sub('[^A-Za-z0-9]+', '-', name)}.json"
    )
    machine = environment(device)
    say(f"gpu_check on {name}, at most {args.minutes:g} minutes")
    with tempfile.TemporaryDirectory() as folder:
        session = Session(
            device,
            TINY if args.tiny else QWEN2,
            replace(params, models=replace(params.models, device=device, threads=threads)),
            Path(folder),
            60 * args.minutes,
            peak_tflops(name),
            frozenset(args.only),
        )
        run_all(session, args.smollm2)
        if unknown := session.only - session.offered:
            known = ", ".join(sorted(session.offered))
            raise ModelError(f"--only {min(unknown)}: nothing is called so; one of {known}")
        found = report(session, machine, args.tiny)
    print_table(found)
    if out:
        write_json(out, found)
        say(f"written to {out}")
    sys.exit(1 if found["failures"] else 0)


if __name__ == "__main__":
    main()
