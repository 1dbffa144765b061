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

from pipeline.arms.grouping import ArmSet
from pipeline.arms.protocols import Curriculum, ProbeUse, adaptive, is_systematic, probe_use
from pipeline.arms.signals import StepSignals
from pipeline.common.errors import TrainingError
from pipeline.common.interrupts import uninterrupted
from pipeline.distillation.gradients import ExampleSignals, UnreadSignals, accumulate_gradients
from pipeline.distillation.loss import LossSettings
from pipeline.distillation.watch import Watch
from pipeline.language_models.devices import is_out_of_memory
from pipeline.language_models.processes import Processes
from pipeline.language_models.prompts import EncodedProblem
from pipeline.logit_store.store import LogitStore
from pipeline.probe.gradient import GradientProbe
from pipeline.probe.looks import Look, Probe, ProbeSet, Promise
from pipeline.probe.similarity import SimilarityProbe
from pipeline.training.adamw import AdamW, clip, gradient_of
from pipeline.training.batch_sampler import BatchSampler, Draw
from pipeline.training.compilation import compile_ahead, compile_layers, uncompiled
from pipeline.training.layers import checkpoint_layers, enable_checkpointing
from pipeline.training.moments import place_for
from pipeline.training.run_log import RunLog
from pipeline.training.schedule import budget_of, learning_rate_factor
from pipeline.training.settings import TrainingParams


@dataclass(frozen=True)
class TrainingSet:
    """What a run learns from: encoded problems, their arms, and the teacher's logits of them.

    probe: what a curriculum may look at; None where there is nothing to look at. forward_tokens: what it took to make
    the arms, which the run is charged.
    """

    encoded: Sequence[EncodedProblem]
    arms: ArmSet
    store: LogitStore
    probe: ProbeSet | None = None
    forward_tokens: int = 0


@dataclass(frozen=True)
class Step:
    """What is shown of a step: the loss in nats per completion token, the tokens trained on, the learning rate."""

    loss: float
    tokens: int
    learning_rate: float


@dataclass(frozen=True)
class Seen:
    """What a step found out before it changed anything: its examples, and what a look at the probe showed.

    divisor: what the optimiser is to divide the gradients by.
    """

    examples: ExampleSignals
    look: Look | None
    divisor: Tensor | None


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
        self.log.forward_tokens += problems.forward_tokens  # a checkpoint's count, which has them, takes its place
        self.steps = budget_of(training, len(problems.encoded)).steps
        self.steps_done = 0
        self.training_seconds = 0.0
        self.grading_timeouts = 0
        self.micro_batch_tokens = training.micro_batch_tokens
        self.gradient_checkpointing = bool(training.gradient_checkpointing)
        self._dealt_A = np.zeros(len(problems.arms), dtype=np.int64)
        self._sampler = BatchSampler(problems.arms, seed)
        self._training, self._processes = training, processes
        self._precision = precision if precision is not None else nullcontext()
        self._loss_settings = LossSettings(
            training.temperature,
            training.distillation_weight,
            training.divergence,
            training.jsd_beta,
            training.compile,
        )
        self._optimizer = AdamW(student, training.weight_decay, training.moments or place_for(student))
        self._probe_use = probe_use(curriculum)
        self._probe = self._probe_of(self._probe_use, seed)
        if training.compile:
            compile_layers(student)
        if self.gradient_checkpointing:
            enable_checkpointing(student)
        self._compile_ahead()

    def _probe_of(self, use: ProbeUse | None, seed: int) -> Probe | None:
        problems = self.problems.probe
        if use is None:
            return None
        if problems is None:
            raise TrainingError("the curriculum looks at the probe, but the run has none; give TrainingSet one")
        if use.sees == "gradient":
            return GradientProbe(problems, use, replace(self._loss_settings, compiled=False), seed, self.student)
        return SimilarityProbe(problems, use, seed, self.student)

    def step(self) -> Step:
        """One step, which happens whole or not at all: nothing that decides the result changes before `_commit`.

        Raises:
            RuntimeError: all steps of the budget are done.
            TrainingError: loss or gradient is not finite, or memory does not suffice for one example or the optimiser;
                the message names step and problems.
        """
        if self.steps_done >= self.steps:
            raise RuntimeError(f"the run has done all {self.steps} steps of its budget; start another one")
        probabilities_A = self.curriculum.probabilities(self.steps_done / self.steps)
        draw = self._sampler.draw(
            self.steps_done,
            probabilities_A,
            self._training.batch_size,
            self._dealt_A,
            systematic=is_systematic(self.curriculum),
        )
        examples = [self.problems.encoded[i] for i in draw.problem_B]
        try:
            seen = self._gradients(examples)
            self._reserve()
        except TrainingError as error:
            raise TrainingError(f"step {self.steps_done}: {error}") from error
        step = Step(seen.examples.loss, sum(e.length for e in examples), self._learning_rate())
        with uninterrupted():
            try:
                self._commit(probabilities_A, draw, seen, step)
            except TrainingError as error:  # the loop would save a checkpoint of half a step
                raise RuntimeError(f"step {self.steps_done} broke off while it was committed: {error}") from error
        return step

    def _commit(self, probabilities_A: np.ndarray, draw: Draw, seen: Seen, step: Step) -> None:
        """The step's only changes of what a checkpoint holds: student, optimiser, curriculum, log, sampler, count."""
        self._optimizer.step(step.learning_rate, seen.divisor)
        rewards: dict[int, float] = {}
        values_2A = None
        if self.learner is not None:
            rewards = self.learner.update(self._signals(draw, seen))
            values_2A = np.stack([self.learner.q_values_A, self.learner.standard_errors_A])
        if self._probe is not None and seen.look is not None:
            self._probe.commit(seen.look)
            self.log.forward_tokens += seen.look.tokens
        self.log.add_step(probabilities_A, values_2A, rewards, draw.arm_B, step.tokens, step.loss)
        self._dealt_A = draw.dealt_A
        self.steps_done += 1

    def _reserve(self) -> None:
        """Makes sure that the optimiser will not run out of memory when half of the student has changed."""
        if self._processes.any(not self._optimizer_has_room(), self.student.device):
            needed = sum(self._optimizer.step_bytes()) / 2**20
            raise TrainingError(
                f"the memory does not suffice for the optimiser, which needs {needed:.0f} MiB beside weights, "
                "gradients and moments; end what else uses the GPU, or take one with more memory"
            )

    def _optimizer_has_room(self) -> bool:
        for _ in range(2):
            try:
                self._optimizer.reserve()
                return True
            except (MemoryError, RuntimeError) as error:
                if not is_out_of_memory(error):
                    raise
            torch.cuda.empty_cache()  # memory in pieces, of sizes that a batch had use for
        return False

    def _learning_rate(self) -> float:
        training = self._training
        return training.learning_rate * learning_rate_factor(
            self.steps_done, self.steps, training.warmup_share, training.final_learning_rate_share
        )

    def _signals(self, draw: Draw, seen: Seen) -> StepSignals:
        examples = seen.examples
        promise = self._probe.promise(examples) if self._probe else Promise()
        return StepSignals(
            self.steps_done,
            draw.arm_B,
            examples.tokens_B,
            examples.teacher_log_prob_B,
            examples.student_log_prob_B,
            examples.divergence_B,
            promise.gain_B,
            promise.similarity_KB,
        )

    def _gradients(self, examples: Sequence[EncodedProblem]) -> Seen:
        """The batch's gradients in the student's parameters, and its signals; both are of all processes."""
        self.student.zero_grad(set_to_none=True)  # what a step that failed left there
        if self.gradient_checkpointing:
            checkpoint_layers(self.student)
        while (found := self._try_gradients(examples)) is None:
            self.student.zero_grad(set_to_none=True)
            torch.cuda.empty_cache()
            self._save_memory(examples)
        unread, look = found
        self._processes.sum_(gradient_of(p) for p in self._optimizer.parameters)
        norm, divisor = clip(self._optimizer.parameters, self._training.gradient_clip)
        signals, [norm_read] = unread.read(norm)  # the one time in a step that the host waits for the device
        seen = self._sum_over_processes(Seen(signals, look, divisor))
        if not np.isfinite(seen.examples.loss):
            faulty = ~np.isfinite(seen.examples.student_log_prob_B + seen.examples.divergence_B)
            names = [e.id for e, bad in zip(examples, faulty, strict=True) if bad or not faulty.any()]
            raise TrainingError(
                f"the loss is {seen.examples.loss} on problems {names}; lower training.learning_rate, or look at these "
                "problems' solutions"
            )
        if seen.look is not None and not seen.look.is_finite():
            raise TrainingError("what the student makes of the probe is not finite; lower training.learning_rate")
        if not np.isfinite(norm_read):
            raise TrainingError(f"the gradient's norm is {norm_read}; lower training.learning_rate")
        return seen

    def _try_gradients(self, examples: Sequence[EncodedProblem]) -> tuple[UnreadSignals, Look | None] | None:
        """The share of this process; None in all of them where the memory of one does not suffice."""
        found = None
        try:
            with self._precision:
                # examples are held against what was known before this step: a look counts from the next step on
                watch = self._probe.watch(self._precondition) if self._probe else Watch()
                look = None
                if self._probe and self._probe_use and self._probe_use.due(self.steps_done):
                    with uncompiled(compiled=self._training.compile):
                        look = self._probe.look(self.student, watch, self.micro_batch_tokens, self._processes)
                signals = accumulate_gradients(
                    self.student,
                    examples,
                    self.problems.store,
                    self._loss_settings,
                    self.micro_batch_tokens,
                    self._processes,
                    watch,
                )
                found = signals, look
            for p in self._optimizer.parameters:
                if p.grad is None:  # a process without a share, or a parameter that no loss reaches
                    p.grad = torch.zeros_like(p)
        except (MemoryError, RuntimeError) as error:
            found = None
            if not is_out_of_memory(error):
                raise
            # dealt with by the caller, where the exception no longer keeps its tensors alive
        return None if self._processes.any(found is None, self.student.device) else found

    def _precondition(self, gradient_VH: Tensor) -> Tensor:
        lm_head_VH = self.student.get_output_embeddings().weight
        return self._optimizer.preconditioned(lm_head_VH, gradient_VH, compile_it=self._training.compile)

    def _save_memory(self, examples: Sequence[EncodedProblem]) -> None:
        """Makes steps from now on need less memory: activations are made again, or micro-batches are halved."""
        may = self._training.gradient_checkpointing is None and self.student.supports_gradient_checkpointing
        if may and not self.gradient_checkpointing:
            self._checkpoint_from_now_on()
            how = "with gradient checkpointing"
        else:
            self._halve_micro_batches(examples)
            how = f"with micro-batches of at most {self.micro_batch_tokens} tokens"
        if self._processes.is_main:
            print(f"out of memory at step {self.steps_done}: going on {how}", file=sys.stderr)

    def _checkpoint_from_now_on(self) -> None:
        self.gradient_checkpointing = True
        enable_checkpointing(self.student)
        checkpoint_layers(self.student)
        self._compile_ahead()

    def _compile_ahead(self) -> None:
        if self._training.compile:
            gains = self._probe_use is not None and self._probe_use.sees == "gradient"
            with self._precision:
                compile_ahead(self.student, self._loss_settings, preconditions=gains)

    def _halve_micro_batches(self, examples: Sequence[EncodedProblem]) -> None:
        longest = max(e.length for e in examples)
        largest = min(self.micro_batch_tokens or sys.maxsize, longest * len(examples))
        if largest <= longest:
            raise TrainingError(
                f"the memory does not suffice for one example of {longest} tokens; lower models.max_tokens or "
                "set training.gradient_checkpointing to true"
            )
        self.micro_batch_tokens = largest // 2

    def _sum_over_processes(self, seen: Seen) -> Seen:
        if self._processes.count == 1:
            return seen
        arrays = {
            name: value
            for name, value in vars(seen.examples).items()
            if isinstance(value, np.ndarray) and name != "tokens_B"  # which every process knows of all examples
        }
        flat = [v for array in arrays.values() for v in array.reshape(-1)]
        loss, *values = self._processes.sum_values([seen.examples.loss, *flat], self.student.device)
        parts = np.split(np.array(values), np.cumsum([array.size for array in arrays.values()])[:-1])
        summed = {name: part.reshape(arrays[name].shape) for name, part in zip(arrays, parts, strict=True)}
        look = seen.look.summed(self._processes) if seen.look else None
        return Seen(replace(seen.examples, loss=loss, **summed), look, seen.divisor)

    @property
    def memory_saved_by(self) -> tuple[int | None, bool]:
        """The limit on micro-batches, and whether activations are made again: what changes when memory runs out."""
        return self.micro_batch_tokens, self.gradient_checkpointing

    def favourite_arm(self) -> str:
        """The name of the arm most likely to be drawn next."""
        return self.problems.arms.names[int(self.curriculum.probabilities(self.steps_done / self.steps).argmax())]

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Everything that the rest of the run depends on, as tensors and a JSON value."""
        log_tensors, log_state = self.log.state()
        weights = {f"student.{name}": p for name, p in self.student.named_parameters()}
        optimizer = {f"optimizer.{name}": t for name, t in self._optimizer.state().items()}
        probe_tensors, probe_state = self._probe.state() if self._probe else ({}, None)
        return weights | optimizer | log_tensors | probe_tensors, {
            "steps_done": self.steps_done,
            "training_seconds": self.training_seconds,
            "grading_timeouts": self.grading_timeouts,
            "micro_batch_tokens": self.micro_batch_tokens,
            "gradient_checkpointing": self.gradient_checkpointing,
            "log": log_state,
            "dealt": self._dealt_A.tolist(),
            "curriculum": self.learner.state() if self.learner else None,
            "probe": probe_state,
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
        if self._probe is not None:
            self._probe.load_state(tensors, state["probe"])
        self.steps_done, self.training_seconds = state["steps_done"], state["training_seconds"]
        self.grading_timeouts = state["grading_timeouts"]
        self.micro_batch_tokens = state["micro_batch_tokens"]
        if state["gradient_checkpointing"] and not self.gradient_checkpointing:
            self._checkpoint_from_now_on()
