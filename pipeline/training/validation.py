"""The points of the learning curve: a student's greedy accuracy on the validation problems."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

from transformers import PreTrainedModel

from pipeline.language_models.generation import generate_answers
from pipeline.language_models.processes import Processes
from pipeline.language_models.prompts import Encoder
from pipeline.language_models.settings import GenerationParams
from pipeline.problems.grading import Grader
from pipeline.problems.record import Problem


@dataclass(frozen=True)
class ValidationResult:
    """Share of right answers, and how many answers took too long to grade and count as wrong."""

    accuracy: float
    timeouts: int


class Validation:
    """Knows the problems, how they are asked and how answers are judged; each process answers its share."""

    def __init__(
        self,
        problems: Sequence[Problem],
        encoder: Encoder,
        generation: GenerationParams,
        precision: AbstractContextManager[Any],
        grader: Grader,
        processes: Processes,
    ) -> None:
        """Encodes the prompts of this process's share once; students answer inside `precision`."""
        share = processes.share(problems)
        self._problems = len(problems)
        self._answers = [p.answer for p in share]
        self._prompts = [encoder.encode_prompt(p.problem) for p in share]
        self._tokenizer, self._generation, self._precision = encoder.tokenizer, generation, precision
        self._grader, self._processes = grader, processes

    def measure(self, student: PreTrainedModel) -> ValidationResult:
        student.eval()
        with self._precision:
            outputs = generate_answers(student, self._tokenizer, self._prompts, self._generation)
        grades = self._grader.grade(list(zip(self._answers, outputs, strict=True)))
        correct, timeouts = self._processes.sum_values(
            [sum(grade.correct for grade in grades), sum(grade.timed_out for grade in grades)], student.device
        )
        return ValidationResult(correct / self._problems, int(timeouts))
