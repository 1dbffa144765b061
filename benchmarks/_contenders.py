"""Ways to take a training step on the same student and problems, each in a process of its own.

    project    `Run.step`: the curriculum's draw, reading the logits from disk, forward, fused loss, backward, clipping,
               AdamW, the curriculum's update, the log
    gain       the same with the reward target_gain, which holds every token against the target's gradient
    uniform    the same with uniform draws: what the curriculum adds is what project and gain take longer
    bare       forward, cross-entropy on the completion tokens (lm_head meets no others), backward, fused AdamW: the
               limit for a step without a teacher
    gkd        TRL's GKDTrainer off-policy (lmbda 0, forward KL), its own `training_step`, clipping, fused AdamW

A process is started with its set-up as one JSON argument, reads a number of steps per line of its standard input, and
answers with a JSON line: the seconds of each step, what it is charged for looks at the target, and memory.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch
from torch.nn.functional import cross_entropy
from transformers import PreTrainedModel

from benchmarks._measure import Shape, peak_resident_bytes, random_model, synchronize
from benchmarks._runs import (
    ROOT,
    Params,
    equal_arms,
    equal_problems,
    read_params,
    start_run,
    training_set,
    word_tokenizer,
)
from pipeline.common.seeding import numpy_rng
from pipeline.curricula.random import Random
from pipeline.language_models.batches import pad_examples, predicting_states
from pipeline.language_models.loading import load_model, precision
from pipeline.language_models.processes import use_threads
from pipeline.language_models.prompts import EncodedProblem
from pipeline.logit_store.store import LogitStore
from pipeline.training.batch_sampler import BatchSampler
from pipeline.training.run import Run, TrainingSet

Name = Literal["project", "gain", "uniform", "bare", "gkd"]
LEARNING_RATE = 1e-5


@dataclass(frozen=True)
class Pair:
    """Teacher and student, and the batches they see: `batch_size` problems of exactly `length` tokens.

    teacher, student: shapes of random models, or model folders. layers: how many of the student's are kept.
    """

    teacher: Shape | str
    student: Shape | str
    layers: int | None
    scale: str
    batch_size: int
    length: int
    device: str = "cpu"

    @property
    def params(self) -> Params:
        """The settings of the scale, for this pair's models and batches."""
        params = read_params(self.scale)
        folders = {
            role: (str(ROOT / model) if isinstance(model, str) else "random")
            for role, model in (("teacher", self.teacher), ("student", self.student))
        }
        return replace(
            params,
            models=replace(
                params.models,
                **folders,
                teacher_revision=None,
                student_revision=None,
                student_layers=self.layers,
                device=self.device,
            ),
            training=replace(params.training, batch_size=self.batch_size, temperature=1.0),
        )

    def model(self, role: Literal["teacher", "student"]) -> PreTrainedModel:
        """Teacher or student, as a stage would have it."""
        models, shape = self.params.models, getattr(self, role)
        if isinstance(shape, str):
            return load_model(models, role)
        dtype = getattr(torch, models.dtype) if role == "teacher" else torch.float32
        return random_model(shape, models, dtype, seed=int(role == "student"))

    @property
    def vocabulary(self) -> int:
        """Tokens that problems are made of; all have a logit."""
        if isinstance(self.student, Shape):
            return self.student.vocabulary
        return json.loads((ROOT / self.student / "config.json").read_text(encoding="utf-8"))["vocab_size"]

    def problems(self) -> list[EncodedProblem]:
        """Problems of equal length, so that no contender pads; three tenths of one are its prompt, as in MATH."""
        return equal_problems(35 * max(1, self.batch_size // 4), self.length, 3 * self.length // 10, self.vocabulary)


@dataclass(frozen=True)
class SetUp:
    """What a contender's process needs to know."""

    name: Name
    pair: Pair
    threads: int
    store: str

    def to_json(self) -> str:
        """As one line."""
        return json.dumps(asdict(self))

    @staticmethod
    def from_json(text: str) -> SetUp:
        """Back from `to_json`."""
        found = json.loads(text)
        pair = found["pair"]
        for role in ("teacher", "student"):
            if isinstance(pair[role], dict):
                pair[role] = Shape(**pair[role])
        return SetUp(found["name"], Pair(**pair), found["threads"], found["store"])


class Batches:
    """Batches of problems in a random order, for the contenders that have no curriculum."""

    def __init__(self, pair: Pair) -> None:
        """Starts with the first."""
        self._problems, self._size, self._step = pair.problems(), pair.batch_size, 0

    def __next__(self) -> list[EncodedProblem]:
        """The next one."""
        chosen = numpy_rng(0, "benchmark batches", self._step).choice(len(self._problems), self._size, replace=False)
        self._step += 1
        return [self._problems[i] for i in chosen]


class Project:
    """The project's step, and how long two parts of it took: the curriculum, and reading the teacher's logits."""

    def __init__(self, pair: Pair, store: Path) -> None:
        """A run with its curriculum over 35 arms, as many as MATH's levels and subjects make."""
        encoded = pair.problems()
        problems = training_set(encoded, equal_arms(35, len(encoded)), LogitStore(store, {}))
        self._run = run = self._start(pair, problems)
        self.parts = {"curriculum": 0.0, "reading": 0.0}
        self.charged: list[float] = []
        for part, holder, method in (
            ("curriculum", run.curriculum, "probabilities"),
            ("curriculum", BatchSampler, "draw"),
            *([("curriculum", run.learner, "update")] if run.learner else []),
            ("curriculum", run.log, "add_step"),
            ("reading", problems.store, "targets"),
        ):
            setattr(holder, method, self._timed(part, getattr(holder, method)))

    def _timed(self, part: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def timed(*arguments: Any, **named: Any) -> Any:
            started = time.perf_counter()
            result = call(*arguments, **named)
            self.parts[part] += time.perf_counter() - started
            return result

        return timed

    def _start(self, pair: Pair, problems: TrainingSet) -> Run:
        """A run with the adaptive curriculum as it comes."""
        return start_run(pair.model("student"), problems, pair.params, steps=10**6)

    def step(self) -> None:
        """One step of the run."""
        log = self._run.log
        compute, tokens = log.compute, log.tokens
        self._run.step()
        self.charged.append((log.compute - compute) / (log.tokens - tokens) - 1)


class Gain(Project):
    """The project's step with the reward target_gain."""

    def _start(self, pair: Pair, problems: TrainingSet) -> Run:
        params = pair.params
        changed = replace(params, curriculum=replace(params.curriculum, reward="target_gain"))
        return start_run(pair.model("student"), problems, changed, steps=10**6)


class Uniform(Project):
    """The project's step with uniform draws from the same arms."""

    def _start(self, pair: Pair, problems: TrainingSet) -> Run:
        return start_run(
            pair.model("student"), problems, pair.params, steps=10**6, curriculum=Random(len(problems.arms))
        )


class Bare:
    """The least that a training step can do."""

    def __init__(self, pair: Pair, store: Path) -> None:
        """The student and torch's own optimiser."""
        self._models, self._batches = pair.params.models, Batches(pair)
        self._student = pair.model("student")
        self._optimizer = torch.optim.AdamW(self._student.parameters(), lr=LEARNING_RATE, fused=True)
        self.parts: dict[str, float] = {}
        self.charged: list[float] = []

    def step(self) -> None:
        """Forward, loss, backward, update."""
        batch = pad_examples(next(self._batches))
        with precision(self._models, keep_casts=False):
            logits_NV = self._student.lm_head(predicting_states(self._student, batch))
            loss = cross_entropy(logits_NV.float(), batch.labels_N.to(logits_NV.device))
        loss.backward()
        self._optimizer.step()
        self._optimizer.zero_grad(set_to_none=True)


class Gkd:
    """TRL's off-policy distillation; the teacher computes its logits anew in every step."""

    def __init__(self, pair: Pair, store: Path) -> None:
        """TRL's trainer, from which only the step is used: no data loader, no logging."""
        from datasets import Dataset  # noqa: PLC0415 - TRL's, which is an extra of the benchmarks
        from trl.experimental.gkd import GKDConfig, GKDTrainer  # noqa: PLC0415

        self._batches, self._device = Batches(pair), pair.device
        config = GKDConfig(
            output_dir=tempfile.mkdtemp(),
            lmbda=0.0,
            beta=0.0,
            temperature=1.0,
            seq_kd=False,
            learning_rate=LEARNING_RATE,
            use_cpu=pair.device == "cpu",
            bf16=pair.params.models.dtype == "bfloat16",
            gradient_checkpointing=False,
            report_to=[],
        )
        student = pair.model("student")
        self._trainer = GKDTrainer(
            student,
            pair.model("teacher"),
            config,
            train_dataset=Dataset.from_dict({"row": [0]}),
            processing_class=word_tokenizer(pair.vocabulary),
            data_collator=lambda rows: rows,
        )
        self._trainer.current_gradient_accumulation_steps = 1  # as its training loop sets it
        self._optimizer = self._trainer.create_optimizer()
        self._student = student.train()
        self.parts: dict[str, float] = {}
        self.charged: list[float] = []

    def step(self) -> None:
        """One `training_step` of the trainer, and the update that its loop makes."""
        examples = next(self._batches)
        batch = pad_examples(examples)
        labels_BT = batch.input_ids_BT.clone()
        for row, example in enumerate(examples):
            labels_BT[row, : len(example.prompt_ids)] = -100
        inputs = {
            "input_ids": batch.input_ids_BT,
            "attention_mask": torch.ones_like(batch.input_ids_BT),
            "labels": labels_BT,
        }
        self._trainer.training_step(self._student, {k: t.to(self._device) for k, t in inputs.items()})
        torch.nn.utils.clip_grad_norm_(self._student.parameters(), 1.0)
        self._optimizer.step()
        self._optimizer.zero_grad(set_to_none=True)


CONTENDERS: dict[Name, type[Project] | type[Bare] | type[Gkd]] = {
    "project": Project,
    "gain": Gain,
    "uniform": Uniform,
    "bare": Bare,
    "gkd": Gkd,
}


def main() -> None:
    """Answers requests for steps until the input ends."""
    replies = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # nothing that a library prints may pass for an answer
    set_up = SetUp.from_json(sys.argv[1])
    use_threads(set_up.threads, set_up.pair.device)
    before = peak_resident_bytes()
    contender = CONTENDERS[set_up.name](set_up.pair, Path(set_up.store))
    for line in sys.stdin:
        seconds, parts_before, steps_before = [], dict(contender.parts), len(contender.charged)
        for _ in range(int(line)):
            synchronize(set_up.pair.device)
            started = time.perf_counter()
            contender.step()
            synchronize(set_up.pair.device)
            seconds.append(time.perf_counter() - started)
        peak = torch.cuda.max_memory_allocated() if set_up.pair.device == "cuda" else peak_resident_bytes()
        answer = {
            "seconds": seconds,
            "charged": contender.charged[steps_before:],
            "parts": {part: total - parts_before[part] for part, total in contender.parts.items()},
            "peak_memory_bytes": peak,
            "memory_bytes_before": before if set_up.pair.device == "cpu" else 0,
        }
        replies.write(json.dumps(answer) + "\n")


if __name__ == "__main__":
    main()
