"""A run in progress: everything that changes while one student is trained, and how it is kept and put back."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedModel
from transformers.modeling_layers import GradientCheckpointingLayer

from pipeline.arms.grouping import ArmSet
from pipeline.arms.protocols import Curriculum, adaptive
from pipeline.arms.signals import StepSignals
from pipeline.common.errors import TrainingError
from pipeline.common.interrupts import uninterrupted
from pipeline.distillation.gradients import ExampleSignals, accumulate_gradients
from pipeline.distillation.loss import LossSettings
from pipeline.language_models.processes import Processes
from pipeline.language_models.prompts import EncodedProblem
from pipeline.logit_store.store import LogitStore
from pipeline.training.adamw import AdamW, moments_fit
from pipeline.training.batch_sampler import BatchSampler, Draw
from pipeline.training.run_log import RunLog
from pipeline.training.schedule import budget_of, learning_rate_factor
from pipeline.training.settings import TrainingParams

OUT_OF_MEMORY = ("can't allocate memory", "CUDA error: out of memory", "ALLOC_FAILED")  # the last is cuBLAS's


@dataclass(frozen=True)
class TrainingSet:
    """What a run learns from: encoded problems, their arms, and the teacher's logits of them."""

    encoded: Sequence[EncodedProblem]
    arms: ArmSet
    store: LogitStore


@dataclass(frozen=True)
class Step:
    """What a step's progress line shows: the loss in nats per completion token, and the tokens trained on."""

    loss: float
    tokens: int


class Run:
    """Student, optimiser, curriculum and log; `steps_done` of `steps` says how far it is."""

    def __init__(
        self,
        student: PreTrainedModel,
        curriculum: Curriculum,
        problems: TrainingSet,
        training: TrainingParams,
        seed: int,
        *,
        precision: AbstractContextManager[Any] | None = None,
        processes: Processes = Processes(),  # noqa: B008 - frozen
    ) -> None:
        """Starts a run; the student is trained in place, and computes inside `precision` where that is given."""
        self.student = student
        self.curriculum = curriculum
        self.problems = problems
        self.learner = adaptive(curriculum)
        self.log = RunLog(problems.arms.names)
        self.steps = budget_of(training, len(problems.encoded)).steps
        self.steps_done = 0
        self.training_seconds = 0.0
        self.grading_timeouts = 0
        self.micro_batch_tokens = training.micro_batch_tokens
        self._dealt_A = np.zeros(len(problems.arms), dtype=np.int64)
        self._sampler = BatchSampler(problems.arms, seed)
        self._training, self._processes = training, processes
        self._precision = precision if precision is not None else nullcontext()
        self._loss_settings = LossSettings(
            training.temperature, training.distillation_weight, training.divergence, training.jsd_beta
        )
        self._optimizer = AdamW(student, training.weight_decay, moments_on_cpu=not moments_fit(student))
        if training.gradient_checkpointing:
            student.activation_checkpointing_enable({"use_reentrant": False, "preserve_rng_state": False})

    def step(self) -> Step:
        """One step, which happens whole or not at all: nothing that decides the result changes before `_commit`.

        Raises:
            TrainingError: loss or gradient is not finite, or not even one example fits into memory; the message names
                step and problems.
        """
        probabilities_A = self.curriculum.probabilities(self.steps_done / self.steps)
        draw = self._sampler.draw(self.steps_done, probabilities_A, self._training.batch_size, self._dealt_A)
        examples = [self.problems.encoded[i] for i in draw.problem_B]
        try:
            seen = self._gradients(examples)
            self._clip_gradients()
        except TrainingError as error:
            raise TrainingError(f"step {self.steps_done}: {error}") from error
        step = Step(seen.loss, sum(e.length for e in examples))
        with uninterrupted():
            try:
                self._commit(probabilities_A, draw, seen, step)
            except TrainingError as error:  # the loop would save a checkpoint of half a step
                raise RuntimeError(f"step {self.steps_done} broke off while it was committed: {error}") from error
        return step

    def _commit(self, probabilities_A: np.ndarray, draw: Draw, seen: ExampleSignals, step: Step) -> None:
        """The step's only changes of what a checkpoint holds: student, optimiser, curriculum, log, sampler, count."""
        factor = learning_rate_factor(self.steps_done, self.steps, self._training.warmup_share)
        self._optimizer.step(self._training.learning_rate * factor)
        rewards: dict[int, float] = {}
        values_2A = None
        if self.learner is not None:
            signals = StepSignals(
                self.steps_done,
                draw.arm_B,
                seen.tokens_B,
                seen.teacher_log_prob_B,
                seen.student_log_prob_B,
                seen.divergence_B,
            )
            rewards = self.learner.update(signals)
            values_2A = np.stack([self.learner.q_values_A, self.learner.standard_errors_A])
        self.log.add_step(probabilities_A, values_2A, rewards, draw.arm_B, step.tokens, step.loss)
        self._dealt_A = draw.dealt_A
        self.steps_done += 1

    def _gradients(self, examples: Sequence[EncodedProblem]) -> ExampleSignals:
        """The batch's gradients in the student's parameters, and its signals, both summed over all processes."""
        self.student.zero_grad(set_to_none=True)  # what a step that failed left there
        if self._training.gradient_checkpointing:
            checkpoint_layers(self.student)
        while (seen := self._try_gradients(examples)) is None:
            self.student.zero_grad(set_to_none=True)
            self._halve_micro_batches(examples)
        seen = self._sum_over_processes(seen)
        if not np.isfinite(seen.loss):
            faulty = ~np.isfinite(seen.student_log_prob_B + seen.divergence_B)
            names = [e.id for e, bad in zip(examples, faulty, strict=True) if bad or not faulty.any()]
            raise TrainingError(
                f"the loss is {seen.loss} on problems {names}; lower training.learning_rate, or look at these "
                "problems' solutions"
            )
        return seen

    def _try_gradients(self, examples: Sequence[EncodedProblem]) -> ExampleSignals | None:
        """The share of this process; None in all of them where the memory of one does not suffice."""
        seen = None
        try:
            with self._precision:
                seen = accumulate_gradients(
                    self.student,
                    examples,
                    self.problems.store,
                    self._loss_settings,
                    self.micro_batch_tokens,
                    self._processes,
                )
            for p in self._optimizer.parameters:
                if p.grad is None:  # a process without a share, or a parameter that no loss reaches
                    p.grad = torch.zeros_like(p)
        except (MemoryError, RuntimeError) as error:
            seen = None
            if not is_out_of_memory(error):
                raise
            # dealt with by the caller, where the exception no longer keeps its tensors alive
        return None if self._processes.any(seen is None, self.student.device) else seen

    def _halve_micro_batches(self, examples: Sequence[EncodedProblem]) -> None:
        longest = max(e.length for e in examples)
        largest = min(self.micro_batch_tokens or sys.maxsize, longest * len(examples))
        if largest <= longest:
            raise TrainingError(
                f"the memory does not suffice for one example of {longest} tokens; lower models.max_tokens or "
                "set training.gradient_checkpointing to true"
            )
        self.micro_batch_tokens = largest // 2
        torch.cuda.empty_cache()
        if self._processes.is_main:
            print(
                f"out of memory at step {self.steps_done}: going on with micro-batches of at most "
                f"{self.micro_batch_tokens} tokens",
                file=sys.stderr,
            )

    def _sum_over_processes(self, seen: ExampleSignals) -> ExampleSignals:
        if self._processes.count == 1:
            return seen
        self._processes.sum_(p.grad for p in self._optimizer.parameters if p.grad is not None)
        arrays = (seen.teacher_log_prob_B, seen.student_log_prob_B, seen.divergence_B)
        loss, *values = self._processes.sum_values([seen.loss, *np.concatenate(arrays)], self.student.device)
        teacher_B, student_B, divergence_B = np.array(values).reshape(3, -1)
        return replace(
            seen, loss=loss, teacher_log_prob_B=teacher_B, student_log_prob_B=student_B, divergence_B=divergence_B
        )

    def _clip_gradients(self) -> None:
        norm = torch.nn.utils.clip_grad_norm_(self._optimizer.parameters, self._training.gradient_clip)
        if not torch.isfinite(norm):
            raise TrainingError(f"the gradient's norm is {norm.item()}; lower training.learning_rate")

    def favourite_arm(self) -> str:
        """The name of the arm most likely to be drawn next."""
        return self.problems.arms.names[int(self.curriculum.probabilities(self.steps_done / self.steps).argmax())]

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Everything that the rest of the run depends on, as tensors and a JSON value."""
        log_tensors, log_state = self.log.state()
        weights = {f"student.{name}": p for name, p in self.student.named_parameters()}
        optimizer = {f"optimizer.{name}": t for name, t in self._optimizer.state().items()}
        return weights | optimizer | log_tensors, {
            "steps_done": self.steps_done,
            "training_seconds": self.training_seconds,
            "grading_timeouts": self.grading_timeouts,
            "micro_batch_tokens": self.micro_batch_tokens,
            "log": log_state,
            "dealt": self._dealt_A.tolist(),
            "curriculum": self.learner.state() if self.learner else None,
        }

    @torch.no_grad()
    def load_state(self, tensors: dict[str, Tensor], state: dict[str, Any]) -> None:
        for name, parameter in self.student.named_parameters():
            parameter.copy_(tensors[f"student.{name}"])
        self._optimizer.load_state(
            {name.removeprefix("optimizer."): t for name, t in tensors.items() if name.startswith("optimizer.")}
        )
        self.log.load_state(tensors, state["log"])
        self._dealt_A = np.array(state["dealt"], dtype=np.int64)
        if self.learner is not None:
            self.learner.load_state(state["curriculum"])
        self.steps_done, self.training_seconds = state["steps_done"], state["training_seconds"]
        self.grading_timeouts = state["grading_timeouts"]
        self.micro_batch_tokens = state["micro_batch_tokens"]


def is_out_of_memory(error: BaseException) -> bool:
    """Whether memory ran out, on a GPU or a CPU; outside of torch's own allocator only the message tells."""
    return isinstance(error, (torch.OutOfMemoryError, MemoryError)) or any(m in str(error) for m in OUT_OF_MEMORY)


def checkpoint_layers(student: PreTrainedModel) -> None:
    """Makes layers with gradient checkpointing use it: they do so in training mode alone.

    Only the layers' own flag is set, not that of what is inside, so dropout stays off.
    """
    for module in student.modules():
        if isinstance(module, GradientCheckpointingLayer) and module.gradient_checkpointing:
            module.training = True
