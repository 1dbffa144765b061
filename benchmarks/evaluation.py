"""How fast answers are generated and graded: beside transformers' `generate`, and on MATH's gold answers.

    python -m benchmarks.evaluation                 the mini student on the default scale's test problems
    python -m benchmarks.evaluation --math FILE     and grading on the answers of a file of MATH problems
    python -m benchmarks.evaluation --tiny          the same code on a few problems, in seconds

Both sides answer the same prompts greedily with the same model and the same number of threads, taking turns, and must
give the same text. `generate` gets left-padded batches in the data's order, at every batch size in turn; the best one
counts. Grading is measured twice: as an evaluation does it, and with Math-Verify judging every pair, equal texts too.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from benchmarks._goals import Goal, print_goals, print_rows, spread, write_found
from benchmarks._measure import environment, say
from benchmarks._runs import ROOT, generated_problems, read_params, real_params
from pipeline.common.params import ParamsFile
from pipeline.common.stage import exit_on_error
from pipeline.language_models.generation import generate_answers, pad_left
from pipeline.language_models.loading import load_encoder, load_model
from pipeline.language_models.processes import use_threads
from pipeline.language_models.settings import GenerationParams
from pipeline.preparation.reading import read_split
from pipeline.problems import grading
from pipeline.problems.grading import Grader


@dataclass(frozen=True)
class Scale:
    """How much is done. problems_per_cell: of each subject and level; 12 make the default scale's test split."""

    problems_per_cell: int
    batch_sizes: tuple[int, ...]
    repetitions: int
    answers: int


FULL = Scale(12, (32, 64, 128, 210, 420), 9, 500)
TINY = Scale(1, (8, 35), 2, 30)


def generate_plainly(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[list[int]],
    params: GenerationParams,
) -> list[str]:
    """The answers of transformers' own `generate`, batch by batch."""
    answers = []
    for start in range(0, len(prompts), params.batch_size):
        input_ids_BT, mask_BT = pad_left(prompts[start : start + params.batch_size], tokenizer.pad_token_id)
        with torch.inference_mode():
            output_BT = model.generate(
                input_ids=input_ids_BT,
                attention_mask=mask_BT,
                max_new_tokens=params.max_new_tokens,
                do_sample=False,
                pad_token_id=tokenizer.pad_token_id,
                eos_token_id=tokenizer.eos_token_id,
            )
        answers += tokenizer.batch_decode(output_BT[:, input_ids_BT.shape[1] :], skip_special_tokens=True)
    return answers


def measure_generation(scale: Scale) -> dict[str, Any]:
    """New tokens per second of both, with `generate` at each batch size; and whether all answers are the same."""
    params = read_params("mini")
    models = real_params(None, params.models).models
    encoder, model = load_encoder(models), load_model(models, "student")
    tokenizer = encoder.tokenizer
    prompts = [encoder.encode_prompt(p.problem) for p in generated_problems(scale.problems_per_cell)]
    settings = ParamsFile(ROOT / "params.yaml").section("scales.mini.generation", GenerationParams)
    ways: dict[str, Callable[[], list[str]]] = {
        "project": lambda: generate_answers(model, tokenizer, prompts, settings)
    } | {
        f"generate, batch {size}": lambda size=size: generate_plainly(
            model, tokenizer, prompts, replace(settings, batch_size=size)
        )
        for size in scale.batch_sizes
    }
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    answers: dict[str, list[str]] = {}
    for _ in range(scale.repetitions):
        for name, way in ways.items():
            started = time.perf_counter()
            answers[name] = way()
            seconds[name].append(time.perf_counter() - started)
    tokens = sum(len(tokenizer.encode(a, add_special_tokens=False)) for a in answers["project"])
    rows = {name: {"seconds": spread(s), "new tokens per s": tokens / spread(s).median} for name, s in seconds.items()}
    best = max((name for name in ways if name != "project"), key=lambda name: rows[name]["new tokens per s"])
    return {
        "problems": len(prompts),
        "new_tokens": tokens,
        "rows": rows,
        "best_batch": best,
        "same_answers": all(answers[name] == answers["project"] for name in ways),
        "times_generate": rows["project"]["new tokens per s"] / rows[best]["new tokens per s"],
    }


def measure_grading(answers: list[str], workers: int) -> dict[str, Any]:
    """Answers graded per second and worker, each held against itself; the workers' start is left out."""
    pairs = [(answer, f"\\boxed{{{answer}}}") for answer in answers]
    found: dict[str, Any] = {"answers": len(pairs), "different": len(set(answers)), "workers": workers}
    for name, ask in (("as in an evaluation", grading.question), ("Math-Verify alone", lambda *pair: ((pair,),))):
        with patch.object(grading, "question", ask), Grader(20.0, workers) as grader:
            warm = [(f"{i}/{j}", f"\\boxed{{{i}/{j}}}") for i in range(2, 8) for j in range(11, 13)]
            grader.grade([(f"x+{gold}", f"\\boxed{{{gold}+x}}") for gold, _ in warm])
            started = time.perf_counter()
            grades = grader.grade(pairs)
            seconds = time.perf_counter() - started
        found[name] = {
            "seconds": seconds,
            "answers per s and worker": len(pairs) / seconds / workers,
            "correct": sum(g.correct for g in grades),
        }
    return found


def goals_of(found: dict[str, Any]) -> list[Goal]:
    """Twice as fast as `generate`, the same answers, 300 answers graded per second and core."""
    generation, gradings = found["generation"], found["grading"]
    goals = [
        Goal("new tokens per s, over those of generate at its best batch", generation["times_generate"], "at least", 2),
        Goal("answers are those of generate (1: all)", float(generation["same_answers"]), "at least", 1),
    ]
    for name, graded in gradings.items():
        for way in ("as in an evaluation", "Math-Verify alone"):
            speed = graded[way]["answers per s and worker"]
            goals.append(Goal(f"answers graded per s and core, {name}, {way}", speed, "at least", 300))
    return goals


@exit_on_error
def main() -> None:
    """Measures, prints and writes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tiny", action="store_true", help="a few problems")
    parser.add_argument("--math", type=Path, help="MATH problems, as JSONL or JSONL.GZ")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads of both")
    parser.add_argument("--workers", type=int, default=1, help="processes that grade")
    parser.add_argument("--out", type=Path, help="JSON file; default: benchmarks/results/evaluation.json")
    args = parser.parse_args()
    scale = TINY if args.tiny else FULL
    started = time.perf_counter()
    use_threads(args.threads)
    found: dict[str, Any] = {"benchmark": "evaluation", "environment": environment("cpu"), "scale": asdict(scale)}
    found["generation"] = measure_generation(scale)
    print_rows(("seconds", "new tokens per s"), found["generation"]["rows"])
    answers = {"mini_math": [p.answer for p in generated_problems(scale.problems_per_cell)][: scale.answers]}
    if args.math:
        answers["MATH"] = [p.answer for p in read_split([args.math], "test").problems][: scale.answers]
    found["grading"] = {name: measure_grading(golds, args.workers) for name, golds in answers.items()}
    found["left_out"] = [] if args.math else ["MATH: no file was given"]
    goals = goals_of(found)
    print_goals(goals)
    found["seconds"] = round(time.perf_counter() - started, 1)
    say(f"\nleft out: {', '.join(found['left_out']) or 'nothing'}; {found['seconds']:.0f} s")
    write_found(args.out or (None if args.tiny else ROOT / "benchmarks/results/evaluation.json"), found, goals)


if __name__ == "__main__":
    main()
