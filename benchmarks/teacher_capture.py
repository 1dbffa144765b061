"""How fast the teacher's logits are captured beside a bare forward pass, and what keeping them costs.

    python -m benchmarks.teacher_capture                      mini's teacher, and a vocabulary of 151,936
    python -m benchmarks.teacher_capture --smollm2 FOLDER     SmolLM2-135M-Instruct, alone
    python -m benchmarks.teacher_capture --tiny               the same code on next to nothing, in seconds

`capture_batch` is the stage's own: layers, lm_head on completion tokens, top k, exact tails, rows. It is compared with
two forward passes over the same padded batches: `least` computes layers and lm_head on completion tokens and keeps
nothing, the limit of any capture; `model` is the call `model(input_ids)`, logits of all tokens, what a trainer with the
teacher in memory does. They take turns. Fidelity is measured by cache_fidelity, reading by distillation_step.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel

from benchmarks._goals import Goal, print_goals, print_rows, spread, write_found
from benchmarks._measure import Shape, environment, random_model, say
from benchmarks._runs import (
    ROOT,
    Lengths,
    Params,
    capture_all,
    generated_problems,
    random_problems,
    read_params,
    real_params,
)
from pipeline.capture.capture import in_groups
from pipeline.common.stage import exit_on_error
from pipeline.language_models.batches import pad_examples, predicting_states
from pipeline.language_models.loading import load_encoder, load_model, vocabulary_size
from pipeline.language_models.processes import use_threads
from pipeline.language_models.prompts import EncodedProblem, longest_first


@dataclass(frozen=True)
class Case:
    """A teacher, the problems it reads, and the settings of the scale."""

    teacher: PreTrainedModel
    problems: list[EncodedProblem]
    params: Params
    vocabulary: int


def mini(per_cell: int) -> Case:
    """The default scale's teacher on its own kind of problems."""
    params = read_params("mini")
    models = real_params(None, params.models).models
    problems = load_encoder(models).encode_all(generated_problems(per_cell)).encoded
    return Case(load_model(models, "teacher"), problems, params, vocabulary_size(models))


def smollm2(folder: Path, count: int) -> Case:
    """SmolLM2 on random tokens of MATH's lengths."""
    params = read_params("smollm2")
    models = replace(
        params.models, teacher=str(folder), student=str(folder), teacher_revision=None, student_revision=None
    )
    teacher, vocabulary = load_model(models, "teacher"), vocabulary_size(models)
    problems = random_problems(count, Lengths(80, 190, models.max_tokens), vocabulary, "math")
    return Case(teacher, problems, params, vocabulary)


def random_teacher(shape: Shape, count: int, lengths: Lengths) -> Case:
    """A teacher of random weights on random tokens."""
    params = read_params("smollm2")
    problems = random_problems(count, lengths, shape.vocabulary, "math")
    return Case(random_model(shape, params.models, torch.float32, seed=0), problems, params, shape.vocabulary)


@torch.inference_mode()
def forward_least(case: Case, batches: list[list[EncodedProblem]]) -> None:
    """Layers for all tokens, lm_head for completion tokens."""
    for batch in batches:
        case.teacher.lm_head(predicting_states(case.teacher, pad_examples(batch)))


@torch.inference_mode()
def forward_model(case: Case, batches: list[list[EncodedProblem]]) -> None:
    """The whole model for all tokens."""
    for batch in batches:
        case.teacher(input_ids=pad_examples(batch).input_ids_BT, use_cache=False)


def measure(case: Case, repetitions: int) -> dict[str, Any]:
    """All three in turns."""
    params = case.params.teacher_logits
    batches = in_groups(longest_first(case.problems), params.batch_size)
    captured = capture_all(case.teacher, case.problems, params, case.vocabulary)
    ways: dict[str, Callable[[], Any]] = {
        "capture": lambda: capture_all(case.teacher, case.problems, params, case.vocabulary),
        "least": lambda: forward_least(case, batches),
        "model": lambda: forward_model(case, batches),
    }
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(repetitions):
        for name, way in ways.items():
            started = time.perf_counter()
            way()
            seconds[name].append(time.perf_counter() - started)
    tokens, completion = sum(e.length for e in case.problems), sum(len(e.completion_ids) for e in case.problems)
    medians = {name: spread(s).median for name, s in seconds.items()}
    return {
        "problems": len(case.problems),
        "tokens": tokens,
        "completion_tokens": completion,
        "vocabulary": case.vocabulary,
        "top_k": params.top_k,
        "temperatures": len(params.temperatures),
        "bytes_per_completion_token": sum(c.rows_N.nbytes for c in captured) / completion,
        "rows": {
            name: {
                "seconds": spread(s),
                "tokens per s": tokens / medians[name],
                "of its speed": medians[name] / medians["capture"],
            }
            for name, s in seconds.items()
        },
    }


def goals_of(found: dict[str, Any]) -> list[Goal]:
    """Capture at nine tenths of the forward pass, in 114 bytes per token."""
    goals = []
    for name, case in found["cases"].items():
        for way, what in (("model", "the model's forward pass"), ("least", "the least forward pass")):
            goals.append(Goal(f"{name}: capture's speed of {what}", case["rows"][way]["of its speed"], "at least", 0.9))
        size = case["bytes_per_completion_token"]
        goals.append(Goal(f"{name}: bytes per completion token", size, "at most", 114))
    return goals


@exit_on_error
def main() -> None:
    """Measures, prints and writes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tiny", action="store_true", help="tiny models, few problems")
    parser.add_argument("--smollm2", type=Path, help="folder of SmolLM2-135M-Instruct")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument(
        "--out", type=Path, help="JSON file; default: benchmarks/results/teacher_capture[-smollm2].json"
    )
    args = parser.parse_args()
    started = time.perf_counter()
    use_threads(args.threads)
    makers: dict[str, Callable[[], Case]] = {"mini": lambda: mini(1 if args.tiny else 12)}
    if args.tiny:
        makers["tiny"] = lambda: random_teacher(Shape(48, 2, 4, 2, 96, 70_000), 6, Lengths(8, 12, 40))
    else:
        makers["wide_vocab"] = lambda: random_teacher(Shape(256, 4, 4, 2, 512, 151936), 16, Lengths(80, 190, 1024))
    if args.smollm2:
        makers = {"smollm2": lambda: smollm2(args.smollm2, 8)}
    found: dict[str, Any] = {"benchmark": "teacher_capture", "environment": environment("cpu"), "cases": {}}
    for name, make in makers.items():
        found["cases"][name] = measure(make(), repetitions=2 if args.tiny else 9 if name == "mini" else 3)
        say(f"\n{name}: {found['cases'][name]['tokens']} tokens, vocabulary {found['cases'][name]['vocabulary']}")
        print_rows(("seconds", "tokens per s", "of its speed"), found["cases"][name]["rows"])
    goals = goals_of(found)
    print_goals(goals)
    found["seconds"] = round(time.perf_counter() - started, 1)
    say(f"\n{found['seconds']:.0f} s")
    name = f"teacher_capture{'-smollm2' if args.smollm2 else ''}.json"
    write_found(args.out or (None if args.tiny else ROOT / "benchmarks/results" / name), found, goals)


if __name__ == "__main__":
    main()
