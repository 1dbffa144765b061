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
import math
import os
import re
import statistics
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity, profile
from transformers import PreTrainedModel

from benchmarks import _device_checks as device_checks
from benchmarks._device_checks import Verdict
from benchmarks._measure import (
    GIB,
    Shape,
    clear_memory,
    environment,
    forward_flops,
    memory_cap,
    peak_memory,
    peak_tflops,
    random_model,
    say,
    seconds_of,
    synchronize,
    training_flops,
    utilisation,
)
from benchmarks._runs import (
    ROOT,
    Lengths,
    Params,
    capture_all,
    equal_arms,
    generated_problems,
    longest_problems,
    open_store,
    random_problems,
    read_params,
    real_params,
    start_run,
    training_set,
    word_tokenizer,
)
from pipeline.arms.grouping import group_into_arms
from pipeline.capture.capture import in_groups
from pipeline.common.errors import ModelError
from pipeline.common.files import write_json
from pipeline.common.stage import exit_on_error
from pipeline.language_models import generation as generating
from pipeline.language_models.batches import micro_batches, pad_examples
from pipeline.language_models.devices import CUBLAS, kind_of
from pipeline.language_models.generation import generate_answers
from pipeline.language_models.loading import in_precision, load_encoder, load_model, vocabulary_size
from pipeline.language_models.processes import use_threads
from pipeline.language_models.prompts import EncodedProblem, longest_first
from pipeline.language_models.settings import GenerationParams
from pipeline.logit_store.store import LogitStore
from pipeline.training.batch_sampler import BatchSampler
from pipeline.training.moments import Place, place_for

SMALL_GPU_BYTES = 15 * GIB // 2  # what a GPU of 8 GiB has left beside the CUDA context and a screen


@dataclass(frozen=True)
class Scale:
    """How large everything is."""

    teacher: Shape
    student: Shape
    lengths: Lengths
    problems: int
    warm_up_steps: int
    steps: int
    capture_passes: int
    generation: GenerationParams
    distillation_steps: int
    checks: Shape
    check_lengths: Lengths


QWEN2 = Scale(
    teacher=Shape(1536, 28, 12, 2, 8960, 151936),
    student=Shape(896, 24, 14, 2, 4864, 151936),
    lengths=Lengths(prompt=80, completion=190, most=1024),
    problems=256,
    warm_up_steps=3,
    steps=12,
    capture_passes=3,
    generation=GenerationParams(batch_size=64, max_new_tokens=256),
    distillation_steps=50,
    checks=Shape(256, 6, 4, 2, 768, 8192),
    check_lengths=Lengths(prompt=60, completion=200, most=512),
)
TINY = Scale(
    teacher=Shape(48, 3, 4, 2, 96, 500),
    student=Shape(32, 2, 4, 2, 64, 500),
    lengths=Lengths(prompt=8, completion=12, most=40),
    problems=30,
    warm_up_steps=1,
    steps=3,
    capture_passes=1,
    generation=GenerationParams(batch_size=4, max_new_tokens=8),
    distillation_steps=30,
    checks=Shape(32, 2, 4, 2, 64, 500),
    check_lengths=Lengths(prompt=8, completion=12, most=40),
)


@dataclass
class Session:
    """What has been found so far, and how much time is left."""

    device: str
    scale: Scale
    params: Params
    folder: Path
    seconds: float
    peak: float | None
    only: frozenset[str] = frozenset()  # names of checks and sections; none stands for all
    offered: set[str] = field(default_factory=set)
    started: float = field(default_factory=time.perf_counter)
    checks: dict[str, dict[str, Any]] = field(default_factory=dict)
    sections: dict[str, dict[str, Any]] = field(default_factory=dict)

    def elapsed(self) -> float:
        """Seconds since the beginning."""
        return time.perf_counter() - self.started

    def wants(self, name: str) -> bool:
        """Whether a check or section is to be done."""
        self.offered.add(name)
        return not self.only or name in self.only

    def check(self, name: str, work: Callable[[], Verdict], seconds: float = 20) -> None:
        """Carries out a check; whatever goes wrong in it is a failure of this check alone."""
        if not self.wants(name):
            return

        def judged() -> dict[str, Any]:
            verdict = work()
            figure = verdict.figure if math.isfinite(verdict.figure) else None  # JSON has no NaN
            return {"passed": verdict.passed, "figure": figure, "limit": verdict.limit, "what": verdict.what}

        self.checks[name] = self._guarded(name, seconds, judged)

    def section(self, name: str, seconds: float, work: Callable[[], dict[str, Any]]) -> None:
        """Takes measurements that should be done in so many seconds, unless too little time is left."""
        if self.wants(name):
            self.sections[name] = self._guarded(name, seconds, work)

    def _guarded(self, name: str, seconds: float, work: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        clear_memory(self.device)
        if self.elapsed() + seconds > self.seconds:
            reason = f"it may take {seconds:.0f} s, but only {max(0, self.seconds - self.elapsed()):.0f} s are left"
            say(f"{name}: SKIPPED, {reason}")
            return {"skipped": reason}
        began = self.elapsed()
        try:
            found = work()
        except Exception as error:  # on a new device anything may fail, and the rest is still wanted
            traceback.print_exc(file=sys.stdout)
            message = f"{type(error).__name__}: {error}"
            say(f"{name}: FAIL, {message}")
            return {"error": message}
        found["section_seconds"] = round(self.elapsed() - began, 2)
        say(f"{name}: {verdict_of(found) if 'passed' in found else 'done'} in {found['section_seconds']} s")
        return found

    def failures(self) -> list[str]:
        """What went wrong; what was skipped is no failure."""
        failed = [name for name, c in self.checks.items() if "error" in c or c.get("passed") is False]
        return failed + [name for name, s in self.sections.items() if "error" in s]

    def skipped(self) -> list[str]:
        """What there was no time for."""
        return [name for name, found in (self.checks | self.sections).items() if "skipped" in found]


def verdict_of(check: dict[str, Any]) -> str:
    """A check's verdict in one line."""
    verdict = "PASS" if check["passed"] else "FAIL"
    return f"{verdict}, {_number(check['figure'])} (at most {_number(check['limit'])}): {check['what']}"


def _number(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:.4g}" if abs(value) < 1000 else f"{value:.0f}"
    return str(value)


class Teacher:
    """The teacher's logits, and how fast they are made."""

    def __init__(self, session: Session) -> None:
        """Takes random problems of MATH's lengths, and some that are as long as may be."""
        vocabulary = session.scale.teacher.vocabulary
        self._session = session
        self.problems = random_problems(session.scale.problems, session.scale.lengths, vocabulary, "math")
        self.longest = longest_problems(2 * session.params.training.batch_size, session.scale.lengths, vocabulary)
        self.store: LogitStore | None = None

    def measure(self) -> dict[str, Any]:
        """Tokens per second of `capture_batch` and of a bare forward pass over the same batches."""
        session, shape = self._session, self._session.scale.teacher
        device, params = session.device, session.params.teacher_logits
        teacher = random_model(shape, session.params.models, torch.bfloat16, seed=0)
        batches = in_groups(longest_first(self.problems), params.batch_size)
        capture_all(teacher, batches[0], params, shape.vocabulary), forward_all(teacher, batches[:1])  # warm-up
        clear_memory(device)
        forward_seconds = [seconds_of(lambda: forward_all(teacher, batches), device)[0] for _ in self._passes()]
        forward_peak = peak_memory(device)
        clear_memory(device)
        capture_seconds = []
        for _ in self._passes():
            seconds, captured = seconds_of(
                lambda: capture_all(teacher, self.problems, params, shape.vocabulary), device
            )
            capture_seconds.append(seconds)
        capture_peak = peak_memory(device)
        longest = capture_all(teacher, self.longest, params, shape.vocabulary)
        self.store = open_store(session.folder / "math", [*captured, *longest], params)
        tokens = sum(e.length for e in self.problems)
        completion_tokens = sum(len(e.completion_ids) for e in self.problems)
        fast, slow = (statistics.median(s) for s in (forward_seconds, capture_seconds))
        flops = forward_flops(shape, [e.length for e in self.problems])
        return {
            "tokens": tokens,
            "completion_tokens": completion_tokens,
            "capture_tokens_per_s": tokens / slow,
            "forward_tokens_per_s": tokens / fast,
            "capture_share_of_forward_speed": fast / slow,
            "forward_model_tflops_per_s": flops / fast / 1e12,
            "forward_mfu": utilisation(flops, fast, session.peak),
            "bytes_per_completion_token": sum(c.rows_N.nbytes for c in captured) / completion_tokens,
            **{f"capture_{name}": value for name, value in capture_peak.items()},
            **{f"forward_{name}": value for name, value in forward_peak.items()},
        }

    def captured(self) -> LogitStore:
        """The store that `measure` leaves behind; a session of training steps alone makes it without measuring."""
        if self.store is None and self._session.only and "teacher_capture" not in self._session.only:
            self.measure()
        if self.store is None:
            raise RuntimeError("there are no teacher logits, since teacher_capture has failed or was skipped")
        return self.store

    def _passes(self) -> range:
        return range(self._session.scale.capture_passes)


@torch.inference_mode()
def forward_all(teacher: PreTrainedModel, batches: list[list[EncodedProblem]]) -> None:
    """The pass that any capture needs: the layers alone, without lm_head."""
    for batch in batches:
        teacher.base_model(input_ids=pad_examples(batch).input_ids_BT.to(teacher.device), use_cache=False)


def measure_steps(
    session: Session,
    problems: list[EncodedProblem],
    store: LogitStore,
    *,
    gradient_checkpointing: bool,
    compiled: bool = False,
    moments: Place | None = None,
    cap: int | None = None,
) -> dict[str, Any]:
    """Speed and memory of whole optimiser steps of the student."""
    training = replace(
        session.params.training, gradient_checkpointing=gradient_checkpointing, compile=compiled, moments=moments
    )
    params = replace(session.params, training=training)
    of_run = training_set(problems, equal_arms(5, len(problems)), store)
    with memory_cap(session.device, cap), recorded_draws(problems) as drawn:
        student = random_model(session.scale.student, params.models, torch.float32, seed=0)
        warm_up, steps = session.scale.warm_up_steps, session.scale.steps
        run = start_run(student, of_run, params, warm_up + steps)
        seconds = [seconds_of(run.step, session.device)[0] for _ in range(warm_up + steps)]
        memory = peak_memory(session.device)
    measured = list(zip(seconds, drawn, strict=True))[warm_up:]
    flops = [training_flops(session.scale.student, examples) for _, examples in measured]
    return {
        "batch_size": training.batch_size,
        "seconds_per_step": statistics.median(s for s, _ in measured),
        "tokens_per_s": statistics.median(sum(e.length for e in examples) / s for s, examples in measured),
        "padded_tokens_per_s": statistics.median(
            padded_tokens(examples, run.micro_batch_tokens, student.device) / s for s, examples in measured
        ),
        "completion_tokens_per_s": statistics.median(
            sum(len(e.completion_ids) for e in examples) / s for s, examples in measured
        ),
        "tokens_per_step": statistics.mean(sum(e.length for e in examples) for _, examples in measured),
        "model_tflops_per_s": statistics.median(f / s / 1e12 for f, (s, _) in zip(flops, measured, strict=True)),
        "mfu": None
        if session.peak is None
        else statistics.median(utilisation(f, s, session.peak) for f, (s, _) in zip(flops, measured, strict=True)),
        "micro_batch_tokens": run.micro_batch_tokens,
        "moments": moments or place_for(student),
        "memory_cap_bytes": cap if session.device == "cuda" else None,
        **memory,
    }


def host_times(session: Session) -> dict[str, Any]:
    """Microseconds the host takes to start an operation, as stages set it up and with cuBLAS's variable in sight."""
    device, repeats = session.device, 500
    a, bias = torch.ones(64, 64, device=device, dtype=torch.bfloat16), torch.ones(64, device=device).bfloat16()

    def microseconds(work: Callable[[], object]) -> float:
        work(), synchronize(device)
        started = time.perf_counter()
        for _ in range(repeats):
            work()
        elapsed = time.perf_counter() - started
        synchronize(device)
        return 1e6 * elapsed / repeats

    found = {"addition": microseconds(lambda: a + a)}
    for suffix, value in (("", os.environ.get(CUBLAS)), ("_with_the_variable", ":4096:8")):
        with patch.dict(os.environ, {} if value is None else {CUBLAS: value}):
            found[f"product{suffix}"] = microseconds(lambda: a @ a)
            found[f"product_and_bias{suffix}"] = microseconds(lambda: torch.addmm(bias, a, a))
    return {f"host_microseconds_of_{name}": value for name, value in found.items()}


def profile_steps(session: Session, problems: list[EncodedProblem], store: LogitStore) -> dict[str, Any]:
    """What the GPU does in a step, by torch's profiler; the rest of seconds_per_step it waits for the host."""
    training = replace(session.params.training, gradient_checkpointing=False)
    of_run = training_set(problems, equal_arms(5, len(problems)), store)
    student = random_model(session.scale.student, session.params.models, torch.float32, seed=0)
    warm_up, steps = session.scale.warm_up_steps, session.scale.steps
    run = start_run(student, of_run, replace(session.params, training=training), warm_up + steps)
    for _ in range(warm_up):
        run.step()
    activity = ProfilerActivity.CUDA if session.device == "cuda" else ProfilerActivity.CPU
    with profile(activities=[activity]) as profiler:
        for _ in range(steps):
            run.step()
    on_gpu = [event for event in profiler.events() if event.device_type == DeviceType.CUDA]
    return {
        "kernels_and_copies": len(on_gpu) / steps,
        "busy_seconds_per_step": sum(event.device_time_total for event in on_gpu) / steps / 1e6,
    }


@contextmanager
def recorded_draws(problems: list[EncodedProblem]) -> Iterator[list[list[EncodedProblem]]]:
    """A list to which each step taken meanwhile adds the examples that it draws."""
    drawn: list[list[EncodedProblem]] = []
    original = BatchSampler.draw

    def draw(*arguments, **named):
        result = original(*arguments, **named)
        drawn.append([problems[i] for i in result.problem_B])
        return result

    with patch.object(BatchSampler, "draw", draw):
        yield drawn


def padded_tokens(examples: list[EncodedProblem], micro_batch_tokens: int | None, device: torch.device) -> int:
    """What is computed with the padding."""
    groups = micro_batches(examples, micro_batch_tokens, device)
    return sum(len(group) * max(examples[i].length for i in group) for group in groups)


def measure_generation(session: Session, shape: Shape, dtype: torch.dtype, *, graphs: bool = True) -> dict[str, Any]:
    """Greedy answers to one batch of prompts; a student computes as it does when it is validated."""
    generation = session.scale.generation
    tokenizer = word_tokenizer(shape.vocabulary)
    in_bfloat16 = replace(session.params.models, dtype="bfloat16")
    model = in_precision(random_model(shape, session.params.models, dtype, seed=0), in_bfloat16)
    problems = random_problems(generation.batch_size, session.scale.lengths, shape.vocabulary - 2, "prompts")
    prompts = [e.prompt_ids.tolist() for e in problems]
    with patch.object(generating, "GRAPHS_ON", (kind_of(model.device),) if graphs else ()):
        generate_answers(model, tokenizer, prompts, replace(generation, max_new_tokens=4))  # warm-up
        clear_memory(session.device)
        seconds, answers = seconds_of(lambda: generate_answers(model, tokenizer, prompts, generation), session.device)
    tokens = sum(len(answer.split()) for answer in answers)  # a word is a token, and end tokens are left out
    return {
        "prompts": len(prompts),
        "prompt_tokens": sum(map(len, prompts)),
        "max_new_tokens": generation.max_new_tokens,
        "new_tokens": tokens,
        "seconds": seconds,
        "new_tokens_per_s": tokens / seconds,
        **peak_memory(session.device),
    }


def distil(session: Session, smollm2: Path | None) -> dict[str, Any]:
    """A short distillation with real weights: the divergence from the teacher must fall.

    The loss is the forward KL alone at temperature 1, so that a step's loss is its KL per completion token.
    """
    params = real_params(smollm2, session.params.models)
    split = load_encoder(params.models).encode_all(generated_problems(2))
    captured = capture_all(
        load_model(params.models, "teacher"),
        split.encoded,
        params.teacher_logits,
        vocabulary_size(params.models),
    )
    store = open_store(session.folder / "real", captured, params.teacher_logits)
    problems = training_set(split.encoded, group_into_arms(split.problems, "level"), store)
    steps = session.scale.distillation_steps
    run = start_run(load_model(params.models, "student"), problems, params, steps)
    kl = [run.step().loss for _ in range(steps)]
    first, last = statistics.mean(kl[:5]), statistics.mean(kl[-5:])
    fall = Verdict(last / first, 0.9, "mean KL of the last 5 steps over that of the first 5")
    session.check("kl_falls", lambda: fall, seconds=0)
    return {
        "weights": "mini" if smollm2 is None else smollm2.name,
        "problems": len(split.encoded),
        "steps": steps,
        "first_five_steps_kl_nats_per_token": first,
        "last_five_steps_kl_nats_per_token": last,
    }


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
                say(f"  {key:<40} {_number(value)}")
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
