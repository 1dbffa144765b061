"""What gpu_check measures: capture, training steps, generation and a short distillation by the project's own code."""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity, profile
from transformers import PreTrainedModel

from benchmarks._device_checks import Verdict
from benchmarks._gpu_session import Session
from benchmarks._measure import (
    Shape,
    clear_memory,
    forward_flops,
    memory_cap,
    peak_memory,
    random_model,
    seconds_of,
    synchronize,
    training_flops,
    utilisation,
)
from benchmarks._runs import (
    capture_all,
    equal_arms,
    generated_problems,
    longest_problems,
    open_store,
    random_problems,
    real_params,
    start_run,
    training_set,
    word_tokenizer,
)
from pipeline.arms.grouping import group_into_arms
from pipeline.capture.capture import in_groups
from pipeline.language_models import generation as generating
from pipeline.language_models.batches import micro_batches, pad_examples
from pipeline.language_models.devices import CUBLAS, kind_of
from pipeline.language_models.generation import generate_answers
from pipeline.language_models.loading import in_precision, load_encoder, load_model, vocabulary_size
from pipeline.language_models.prompts import EncodedProblem, longest_first
from pipeline.logit_store.store import LogitStore
from pipeline.training.batch_sampler import BatchSampler
from pipeline.training.moments import Place, place_for


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
