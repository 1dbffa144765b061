"""A run in progress: everything that changes while one student is trained, and how it is kept and put back."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from pipeline.curricula import Curriculum, adaptive
from pipeline.distillation.arms import ArmSet
from pipeline.distillation.checkpoint import load_optimizer_tensors, optimizer_tensors
from pipeline.distillation.logit_store import LogitStore
from pipeline.distillation.loss import LossSettings
from pipeline.distillation.run_log import RunLog
from pipeline.distillation.sampler import Sampler
from pipeline.distillation.schedule import learning_rate_factor
from pipeline.distillation.step import StepSignals, accumulate_gradients
from pipeline.errors import TrainingError
from pipeline.language_models.prompts import EncodedProblem
from pipeline.params import TrainingParams


class Run:
    """Student, optimiser, curriculum, sampler and log; `steps_done` says how far it is."""

    def __init__(
        self,
        student: PreTrainedModel,
        curriculum: Curriculum,
        arms: ArmSet,
        seed: int,
        training: TrainingParams,
        steps: int,
    ) -> None:
        """Starts a run of `steps` steps; the student is trained in place."""
        self.student = student
        self.curriculum = curriculum
        self.learner = adaptive(curriculum)
        self.sampler = Sampler(arms, seed)
        self.log = RunLog(arms.names)
        self.steps_done = 0
        self.training_seconds = 0.0
        self.grading_timeouts = 0
        self._training, self._steps = training, steps
        self._loss_settings = LossSettings(
            training.temperature, training.distillation_weight, training.divergence, training.jsd_beta
        )
        matrices = [p for p in student.parameters() if p.ndim > 1]
        vectors = [p for p in student.parameters() if p.ndim <= 1]
        self._optimizer = torch.optim.AdamW(
            [{"params": matrices, "weight_decay": training.weight_decay}, {"params": vectors, "weight_decay": 0.0}],
            lr=training.learning_rate,
        )

    def step(
        self, encoded: Sequence[EncodedProblem], store: LogitStore, precision: AbstractContextManager[Any]
    ) -> tuple[float, int]:
        """One step: the curriculum's draw, the student's update, the curriculum's update. Returns loss and tokens.

        Raises:
            TrainingError: loss or gradient is not finite; the message names step and problems.
        """
        step = self.steps_done
        probabilities_A = self.curriculum.probabilities(step / self._steps)
        draw = self.sampler.draw(step, probabilities_A, self._training.batch_size)
        examples = [encoded[i] for i in draw.problem_B]
        try:
            with precision:
                seen = accumulate_gradients(
                    self.student, examples, store, self._loss_settings, self._training.micro_batch_tokens
                )
            self._update(step)
        except TrainingError as error:
            raise TrainingError(f"step {step}: {error}") from error
        rewards: dict[int, float] = {}
        q_values_A = None
        if self.learner is not None:
            rewards = self.learner.update(
                StepSignals(
                    step, draw.arm_B, seen.tokens_B, seen.teacher_log_prob_B, seen.student_log_prob_B, seen.divergence_B
                )
            )
            q_values_A = self.learner.q_values_A.copy()
        tokens = sum(e.length for e in examples)
        self.log.add_step(probabilities_A, q_values_A, rewards, draw.arm_B, tokens, seen.loss)
        self.steps_done += 1
        return seen.loss, tokens

    def _update(self, step: int) -> None:
        factor = learning_rate_factor(step, self._steps, self._training.warmup_share)
        for group in self._optimizer.param_groups:
            group["lr"] = self._training.learning_rate * factor
        norm = torch.nn.utils.clip_grad_norm_(self.student.parameters(), self._training.gradient_clip)
        if not torch.isfinite(norm):
            raise TrainingError(f"the gradient's norm is {norm.item()}; lower training.learning_rate")
        self._optimizer.step()
        self._optimizer.zero_grad(set_to_none=True)

    def favourite_arm(self) -> int:
        """The arm most likely to be drawn next."""
        return int(self.curriculum.probabilities(self.steps_done / self._steps).argmax())

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Everything that the rest of the run depends on, as tensors and a JSON value."""
        log_tensors, log_state = self.log.state()
        weights = {f"student.{name}": p for name, p in self.student.named_parameters()}
        return weights | optimizer_tensors(self._optimizer, "optimizer") | log_tensors, {
            "steps_done": self.steps_done,
            "training_seconds": self.training_seconds,
            "grading_timeouts": self.grading_timeouts,
            "log": log_state,
            "sampler": self.sampler.state(),
            "curriculum": self.learner.state() if self.learner else None,
        }

    @torch.no_grad()
    def load_state(self, tensors: dict[str, Tensor], state: dict[str, Any]) -> None:
        """Puts back what `state` returned."""
        for name, parameter in self.student.named_parameters():
            parameter.copy_(tensors[f"student.{name}"])
        load_optimizer_tensors(self._optimizer, "optimizer", tensors)
        self.log.load_state(tensors, state["log"])
        self.sampler.load_state(state["sampler"])
        if self.learner is not None:
            self.learner.load_state(state["curriculum"])
        self.steps_done, self.training_seconds = state["steps_done"], state["training_seconds"]
        self.grading_timeouts = state["grading_timeouts"]
