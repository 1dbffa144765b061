"""Targets in the teacher's own words: solutions that it samples, graded, the first correct one kept for each problem.

Every attempt asks for the problems that are still unsolved. Its batches follow from the attempts before it, and each
finished batch is a file, so a killed capture repeats at most one batch and ends with the same solutions.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tqdm import tqdm
from transformers import PreTrainedModel

from pipeline.capture.settings import SolutionParams
from pipeline.common.errors import DataError
from pipeline.common.files import read_jsonl, write_jsonl
from pipeline.common.seeding import derive
from pipeline.language_models.generation import Sampling, generate_completions
from pipeline.language_models.processes import Processes
from pipeline.language_models.prompts import Encoder
from pipeline.language_models.settings import GenerationParams
from pipeline.problems.grading import Grader
from pipeline.problems.record import Problem

GRADING_SECONDS = 5.0  # for one solution; past it the solution is not kept
GRADING_WORKERS = 2


@dataclass(frozen=True)
class TeacherSolutions:
    """Problems with the teacher's solutions in place of their own, and what they cost: see `summary`."""

    problems: list[Problem]
    unsolved: list[Problem]
    attempts: int
    grading_timeouts: int

    def summary(self) -> dict[str, Any]:
        """Counts for the metrics; problems that were given up are missing from training, mostly hard ones."""
        return {
            "solutions_sampled": self.attempts,
            "problems_solved": len(self.problems),
            "problems_given_up": len(self.unsolved),
            "given_up_by_level": _counts(str(p.level) for p in self.unsolved),
            "given_up_by_subject": _counts(p.subject for p in self.unsolved),
            "grading_timeouts": self.grading_timeouts,
        }


def sample_solutions(
    problems: Sequence[Problem],
    load_teacher: Callable[[], PreTrainedModel],
    encoder: Encoder,
    params: SolutionParams,
    folder: Path,
    processes: Processes,
) -> TeacherSolutions:
    """The problems that the teacher solves within `params.attempts` attempts, each with its own first solution.

    Finished batches are kept in `folder`, which must be named after all that decides them. The teacher is loaded only
    if one is missing.

    Raises:
        DataError: the teacher solves no problem.
    """
    solutions: dict[str, str] = {}
    attempts = timeouts = 0
    with Grader(GRADING_SECONDS, GRADING_WORKERS) as grader:
        for attempt in range(params.attempts):
            batches = batches_of([p for p in problems if p.id not in solutions], encoder, params.batch_size)
            paths = [folder / f"attempt-{attempt}/batch-{number:05d}.jsonl" for number in range(len(batches))]
            mine = processes.share(list(enumerate(zip(paths, batches, strict=True))))
            for number, (path, batch) in tqdm(
                mine, desc=f"teacher's solutions, attempt {attempt + 1}", unit="batch", disable=not processes.is_main
            ):
                if not path.exists():
                    seed = derive(params.seed, "teacher_solutions", attempt, number)
                    write_jsonl(path, sample_batch(batch, load_teacher(), encoder, params, seed, grader))
            processes.wait()
            for row in (row for path in paths for row in read_jsonl(path)):
                attempts += 1
                timeouts += row["timed_out"]
                if row["kept"]:
                    solutions[row["id"]] = row["solution"]
    solved = [replace(p, solution=solutions[p.id]) for p in problems if p.id in solutions]
    if not solved:
        raise DataError(
            f"the teacher solved none of {len(problems)} training problems in {params.attempts} attempts; check "
            "models.prompt, raise teacher_logits.solutions.attempts, or set teacher_logits.targets to reference"
        )
    return TeacherSolutions(solved, [p for p in problems if p.id not in solutions], attempts, timeouts)


def batches_of(problems: Sequence[Problem], encoder: Encoder, size: int) -> list[list[Problem]]:
    """The problems in batches of similar prompt length, the longest first, where memory would fail."""
    ordered = sorted(problems, key=lambda p: (-len(encoder.encode_prompt(p.problem)), p.id))
    return [ordered[start : start + size] for start in range(0, len(ordered), size)]


def sample_batch(
    batch: Sequence[Problem],
    teacher: PreTrainedModel,
    encoder: Encoder,
    params: SolutionParams,
    seed: int,
    grader: Grader,
) -> list[dict[str, Any]]:
    """One sampled solution per problem; it is kept if it ended by itself and the answer in its last box is correct."""
    completions = generate_completions(
        teacher,
        encoder.tokenizer,
        [encoder.encode_prompt(p.problem) for p in batch],
        GenerationParams(batch_size=params.batch_size, max_new_tokens=params.max_new_tokens),
        sampling=Sampling(params.temperature, seed),
    )
    texts = [encoder.decode(completion) for completion in completions]
    grades = grader.grade([(p.answer, text) for p, text in zip(batch, texts, strict=True)])
    return [
        {
            "id": p.id,
            "solution": text,
            "kept": grade.correct and len(completion) < params.max_new_tokens,
            "timed_out": grade.timed_out,
        }
        for p, completion, text, grade in zip(batch, completions, texts, grades, strict=True)
    ]


def _counts(values: Iterable[str]) -> dict[str, int]:
    counted = Counter(values)
    return {value: counted[value] for value in sorted(counted)}
