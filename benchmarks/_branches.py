"""Branched runs: the same student, trained on from the same moment in different ways, and what the target gains."""

from __future__ import annotations

import copy
import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from pipeline.arms.protocols import Curriculum
from pipeline.bandit.settings import BanditParams
from pipeline.capture.settings import TeacherLogitsParams
from pipeline.common.files import file_digest
from pipeline.common.params import ParamsFile
from pipeline.common.paths import PREPARED, TEACHER_LOGITS
from pipeline.distillation.gradients import forward_loss
from pipeline.distillation.loss import LossSettings
from pipeline.language_models.loading import load_encoder, load_model, precision
from pipeline.language_models.processes import join_processes
from pipeline.language_models.prompts import EncodedProblem, Encoder
from pipeline.language_models.settings import ModelsParams
from pipeline.logit_store.store import LogitStore, store_identity
from pipeline.problems.record import read_problems
from pipeline.training.difficulty import completion_losses
from pipeline.training.run import Run, TrainingSet
from pipeline.training.settings import TrainingParams
from pipeline.training.training_set import load_training_set

State = tuple[dict[str, Tensor], dict[str, Any]]


@dataclass(frozen=True)
class Bench:
    """What all branches share: the settings, the pool with its arms and probe, and the target's test problems."""

    models: ModelsParams
    training: TrainingParams
    rewards: dict[str, dict[str, Any]]
    problems: TrainingSet
    test: Sequence[EncodedProblem]
    test_store: LogitStore


def load_bench() -> Bench:
    """Loads what the project in the working directory has prepared."""
    file = ParamsFile()
    models, training = file.scale_section("models", ModelsParams), file.scale_section("training", TrainingParams)
    scheme = file.scale_section("teacher_logits", TeacherLogitsParams).scheme
    curriculum = file.section("curricula.rl", BanditParams)
    join_processes(models)
    encoder = load_encoder(models)
    untrained = functools.partial(completion_losses, load_model(models, "student"), precision=precision(models))
    problems = load_training_set(encoder, scheme, training.temperature, curriculum.arms, untrained)
    test, store = load_test(encoder)
    return Bench(models, training, curriculum.rewards, problems, test, store)


def load_test(encoder: Encoder) -> tuple[Sequence[EncodedProblem], LogitStore]:
    identity = store_identity(encoder) | {"scheme": "top_k", "problems": file_digest(PREPARED / "test.jsonl")}
    return encoder.encode_all(read_problems("test")).encoded, LogitStore(TEACHER_LOGITS / "test", identity)


def start(bench: Bench, curriculum: Curriculum, seed: int, state: State | None = None) -> Run:
    """A run from the untrained student, or on from a state that another run was in; it computes as in `train`."""
    run = Run(
        load_model(bench.models, "student"),
        curriculum,
        bench.problems,
        bench.training,
        seed,
        precision=precision(bench.models, keep_casts=False),
    )
    if state is not None:
        run.load_state(*copy.deepcopy(state))
    return run


def take_steps(run: Run, steps: int) -> Run:
    """The run after so many more steps, or at the end of its budget: beyond it the learning rate is below zero."""
    for _ in range(min(steps, run.steps - run.steps_done)):
        run.step()
    return run


def copy_of(run: Run) -> State:
    """A run's state, which its further steps leave as it is."""
    tensors, state = run.state()
    return {name: tensor.detach().clone() for name, tensor in tensors.items()}, copy.deepcopy(state)


@torch.no_grad()
def solution_probability(student: PreTrainedModel, bench: Bench, group: int = 105) -> float:
    """Mean over the test problems of the probability of the whole reference solution, in the precision of training."""
    training = bench.training
    settings = LossSettings(1.0, training.distillation_weight, "forward_kl", training.jsd_beta)
    total = 0.0
    for start in range(0, len(bench.test), group):
        examples = bench.test[start : start + group]
        with precision(bench.models):
            _, signals, _ = forward_loss(student, examples, bench.test_store, settings, 1)
        lengths = [len(e.completion_ids) for e in examples]
        total += sum(part.sum().exp().item() for part in signals.log_prob_N.double().split(lengths))
    return total / len(bench.test)
