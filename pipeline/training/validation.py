"""The points of the learning curve: greedy accuracy on the validation problems, and how near the teacher is on them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from transformers import PreTrainedModel

from pipeline.distillation.observation import observe
from pipeline.language_models.generation import generate_answers
from pipeline.language_models.loading import in_precision
from pipeline.language_models.processes import Processes
from pipeline.language_models.prompts import EncodedProblem, Encoder
from pipeline.language_models.settings import GenerationParams
from pipeline.logit_store.store import LogitStore
from pipeline.problems.grading import Grader
from pipeline.problems.record import Problem


@dataclass(frozen=True)
class ValidationResult:
    """Share of right answers, KL(teacher || student) in nats per token of all reference solutions, at temperature 1.

    timeouts: answers that took too long to grade and count as wrong.
    """

    accuracy: float
    kl_per_token: float
    timeouts: int


@dataclass(frozen=True)
class ValidationSet:
    """What a point of the learning curve is measured on.

    problems: those that are answered. solutions: the reference solutions of all validation problems, as far as they
    fit. store: the teacher's logits of these. part: how many are answered where these are not all, else None.
    """

    problems: Sequence[Problem]
    solutions: Sequence[EncodedProblem]
    store: LogitStore
    part: int | None = None


class Validation:
    """Knows the problems, how they are asked and how answers are judged; each process answers its share."""

    def __init__(
        self,
        problems: ValidationSet,
        encoder: Encoder,
        generation: GenerationParams,
        grader: Grader,
        processes: Processes,
    ) -> None:
        """Encodes the prompts of this process's share once."""
        share = processes.share(problems.problems)
        self._problems = len(problems.problems)
        self._answers = [p.answer for p in share]
        self._prompts = [encoder.encode_prompt(p.problem) for p in share]
        self._solutions, self._store = processes.share(problems.solutions), problems.store
        self._tokenizer, self._models, self._generation = encoder.tokenizer, encoder.models, generation
        self._grader, self._processes = grader, processes

    def measure(self, student: PreTrainedModel) -> ValidationResult:
        student.eval()
        model = in_precision(student, self._models)
        outputs = generate_answers(model, self._tokenizer, self._prompts, self._generation)
        divergences = [seen.divergence_N for _, seen in observe(model, self._solutions, self._store)]
        grades = self._grader.grade(list(zip(self._answers, outputs, strict=True)))
        own = [
            sum(grade.correct for grade in grades),
            sum(float(kl_N.sum()) for kl_N in divergences),
            sum(map(len, divergences)),
            sum(grade.timed_out for grade in grades),
        ]
        correct, kl, tokens, timeouts = self._processes.sum_values(own, student.device)
        return ValidationResult(correct / self._problems, kl / tokens, int(timeouts))


def validation_generation(generation: GenerationParams, new_tokens: int | None) -> GenerationParams:
    """How a student answers while it is trained: as in the test, but cut after so many tokens; None: there too."""
    return generation if new_tokens is None else replace(generation, max_new_tokens=new_tokens)


def spread(problems: Sequence[Problem], count: int | None) -> list[Problem]:
    """At most so many of the problems, at equal distances, since they may be in order of subject; None: all."""
    if count is None or count >= len(problems):
        return list(problems)
    return [problems[i * len(problems) // count] for i in range(count)]
