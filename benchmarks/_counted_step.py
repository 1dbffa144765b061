"""A step of a run on the fake GPU of _fake_gpu.py, and which of its parts asks for what."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor
from torch.utils.flop_counter import flop_registry
from transformers import AutoModelForCausalLM, PreTrainedModel, masking_utils

from benchmarks._compiled_layer import CompiledLayer
from benchmarks._fake_gpu import NAME, Count, Device, Meter, pinned
from benchmarks._measure import Shape, qwen2_config
from benchmarks._runs import (
    Lengths,
    Params,
    equal_arms,
    equal_problems,
    open_store,
    random_problems,
    read_params,
    training_set,
)
from pipeline.capture.capture import scheme_of
from pipeline.curricula import rl
from pipeline.curricula.random import Random
from pipeline.distillation import gradients as gradients_module
from pipeline.distillation import loss as loss_module
from pipeline.language_models.batches import micro_batches
from pipeline.language_models.prompts import EncodedProblem
from pipeline.logit_store import chunks
from pipeline.logit_store.store import CapturedProblem, LogitStore
from pipeline.probe.gradient import GradientProbe
from pipeline.probe.similarity import SimilarityProbe
from pipeline.training import adamw as adamw_module
from pipeline.training import compilation as compilation_module
from pipeline.training import moments
from pipeline.training import run as run_module
from pipeline.training.adamw import AdamW
from pipeline.training.run import Run

aten = torch.ops.aten
Parts = dict[str, Count]
FEW_LAYERS = (2, 3)  # what all layers ask for follows from these: each layer more asks for the same again
PASSES = {"tail_sums": 2}  # over what it reads, of a compiled function: the largest logit, and then the sums
LOOKED_AT = 128  # problems that a look may choose from; no look of params.yaml is at more


@dataclass(frozen=True)
class Step:
    """A step's batch: so many problems, all of `length` tokens or, where that is None, of MATH's lengths."""

    batch_size: int
    length: int | None

    def problems(self, pair: Pair, least: int) -> list[EncodedProblem]:
        """What the batch is drawn from: four times as many as it holds, or `least` where that is more."""
        count = max(4 * self.batch_size, least)
        if self.length is None:
            return pair.problems(count)
        return equal_problems(count, self.length, 3 * self.length // 10, pair.student.vocabulary)

    @property
    def name(self) -> str:
        """In words."""
        return f"step, {self.batch_size} problems of " + (f"{self.length} tokens" if self.length else "MATH's lengths")


@dataclass(frozen=True)
class Pair:
    """A student and its teacher by their shapes, and the settings and problems that they meet.

    answers: sequences that a token is generated for at once.
    """

    teacher: Shape
    student: Shape
    scale: str
    lengths: Lengths
    steps: tuple[Step, ...]
    answers: int

    @property
    def params(self) -> Params:
        """The settings of the scale."""
        return read_params(self.scale)

    def problems(self, count: int) -> list[EncodedProblem]:
        """Random tokens of MATH's lengths."""
        return random_problems(count, self.lengths, self.student.vocabulary, "math")


def of_all_layers(shape: Shape, count: Callable[[Shape], Parts]) -> Parts:
    """The counts of a model of this shape, from those of two with few layers; launches over lists are rounded."""
    if shape.layers <= FEW_LAYERS[1]:
        return count(shape)
    few, more = (count(replace(shape, layers=layers)) for layers in FEW_LAYERS)
    return {part: few[part] + (more[part] - few[part]) * (shape.layers - FEW_LAYERS[0]) for part in few}


def fake_model(shape: Shape, dtype: torch.dtype) -> PreTrainedModel:
    """A model of this shape on the fake GPU; to be called under a meter."""
    with torch.device(NAME):
        model = AutoModelForCausalLM.from_config(qwen2_config(shape, dtype), dtype=dtype)
    return model.eval()


def store_of(problems: list[EncodedProblem], params: Params, vocabulary: int, folder: Path) -> LogitStore:
    """A logit store on disk whose rows are real and all alike: what is in them changes no count."""
    scheme, temperatures = scheme_of("train", params.teacher_logits), params.teacher_logits.temperatures
    logits_1V = torch.arange(vocabulary, dtype=torch.float32)[None] / vocabulary
    uniforms_1TD = scheme.uniforms("any", 1, len(temperatures))
    row_1 = scheme.compress(
        logits_1V, torch.zeros(1, dtype=torch.long), uniforms_1TD, temperatures, torch.empty_like(logits_1V)
    )
    captured = [CapturedProblem(e.id, e.digest, row_1.repeat(len(e.completion_ids))) for e in problems]
    return open_store(folder, captured, params.teacher_logits)


def autocast(params: Params, *, keep_casts: bool) -> torch.autocast:
    """The precision of the scale on the fake GPU."""
    enabled = params.models.dtype == "bfloat16"
    return torch.autocast(NAME, dtype=torch.bfloat16, enabled=enabled, cache_enabled=keep_casts)


def as_list(tensor: Tensor) -> Any:
    """What stands for `FakeTensor.tolist`, which reads number by number; a real tensor is copied first, all at once."""
    return torch._C.TensorBase.tolist(tensor.cpu())


@contextmanager
def counting(device: Device) -> Iterator[Meter]:
    """A meter that is entered, and memory that is pinned in name."""
    with (
        Meter(device) as meter,
        patch.object(Tensor, "pin_memory", pinned),
        patch.object(FakeTensor, "tolist", as_list),
        patch.object(masking_utils, "is_tracing", lambda _: False),  # which fake tensors pass for
        patch.object(chunks, "memory_of", lambda _: device.memory),
        patch.object(moments, "memory_of", lambda _: device.memory),
    ):
        yield meter


@dataclass(frozen=True)
class CountedStep:
    """What a step without a look asks for, by its parts; and what the run's first look at the probe does.

    drawn: the batch's examples. charged: forward tokens that the look is charged.
    """

    parts: Parts
    drawn: list[EncodedProblem]
    look: Count
    charged: int


def count_step(pair: Pair, step: Step, device: Device, reward: str | None = None) -> CountedStep:
    """A run's second step, with draws of rl and this reward, or with uniform draws."""
    params = replace(pair.params, training=replace(pair.params.training, batch_size=step.batch_size))
    problems, drawn, charged = step.problems(pair, LOOKED_AT if reward else 0), [], [0]

    def count(student: Shape) -> Parts:
        with tempfile.TemporaryDirectory() as folder, counting(device) as meter, parts_of_a_step(meter, student):
            run = start_run(fake_model(student, torch.float32), problems, params, Path(folder), reward)
            meter.parts.clear()
            run.step()
            look = meter.parts.get("look", Count())
            charged[0] = run.log.forward_tokens
            meter.parts.clear()
            drawn.clear()
            with patch.object(run, "_gradients", recording(run._gradients, drawn)):
                run.step()
        return meter.parts | {"look": look}

    parts = of_all_layers(pair.student, count)
    return CountedStep({k: v for k, v in parts.items() if k != "look"}, drawn, parts["look"], charged[0])


def start_run(
    student: PreTrainedModel, problems: list[EncodedProblem], params: Params, folder: Path, reward: str | None = None
) -> Run:
    """A run of some steps, with draws of rl and this reward, or with uniform draws."""
    arms = equal_arms(4, len(problems))
    changed = replace(params.curriculum, reward=reward) if reward else None
    curriculum = rl.build(changed, arms, 0) if changed else Random(len(arms))
    return Run(
        student,
        curriculum,
        training_set(problems, arms, store_of(problems, params, student.config.vocab_size, folder)),
        replace(params.training, epochs=1, steps_per_epoch=10),
        0,
        precision=autocast(params, keep_casts=False),
    )


def recording(call: Any, drawn: list[EncodedProblem]) -> Any:
    """The same function; its examples are kept."""

    def recorded(examples: list[EncodedProblem]) -> Any:
        drawn.extend(examples)
        return call(examples)

    return recorded


@contextmanager
def parts_of_a_step(meter: Meter, student: Shape) -> Iterator[None]:
    """Says which part of a step an operator belongs to: by whose call it is in, or by what it is made on."""
    shapes = weight_shapes(student)

    def by_what_it_is(func: Any, inputs: list[Tensor], outputs: list[Tensor]) -> str | None:
        if meter.current == "look":
            return None
        if func.overloadpacket in (aten.embedding, aten.embedding_dense_backward):
            return "embedding"
        if func.overloadpacket is aten._to_copy and tuple(inputs[0].shape) in shapes:
            return "casts of weights"
        if meter.current != "layers":
            return None
        if func.overloadpacket in flop_registry:
            return "products of layers"
        return "head and loss" if any(student.vocabulary in t.shape for t in outputs) else None

    with ExitStack() as stack:
        for holder, name, part in (
            (Run, "_try_gradients", "layers"),
            (LogitStore, "targets", "teacher's targets"),
            (gradients_module, "distillation_loss", "head and loss"),
            (run_module, "clip", "clipping"),
            (GradientProbe, "look", "look"),
            (SimilarityProbe, "look", "look"),
            (AdamW, "step", "optimiser"),
        ):
            stack.enter_context(patch.object(holder, name, within(meter, part, getattr(holder, name))))
        # what is compiled is counted as what it becomes: the layers by `compiled_layers`
        stack.enter_context(patch.object(run_module, "compile_layers", lambda _: None))
        stack.enter_context(patch.object(run_module, "uncompiled", lambda **_: nullcontext()))
        for module in (loss_module, adamw_module, compilation_module):
            fused = patch.object(module, "compiled", lambda f: meter.fused(f, PASSES.get(f.__name__, 1)))
            stack.enter_context(fused)
        meter.part_of = by_what_it_is
        yield


def compiled_layers(
    parts: Parts, layer: CompiledLayer, shape: Shape, drawn: list[EncodedProblem], device: Device
) -> Parts:
    """The same with layers whose operators, but for products, are fused as torch's compiler fuses them."""
    groups = list(micro_batches(drawn, None, torch.device("meta")))
    tokens = sum(len(group) * max(drawn[i].length for i in group) for group in groups)
    moved = int(layer.bytes_per_token * tokens * shape.layers)
    before = parts["layers"]
    fused = Count(layer.kernels * shape.layers * len(groups), moved, seconds=moved / device.bandwidth)
    return parts | {"layers": replace(fused, waits=before.waits, copies=before.copies, fills=before.fills)}


def within(meter: Meter, part: str, call: Any) -> Any:
    """The same function, all of which belongs to a part."""

    def called(*arguments: Any, **named: Any) -> Any:
        with meter.part(part):
            return call(*arguments, **named)

    return called


def weight_shapes(shape: Shape) -> set[tuple[int, ...]]:
    """Those of all matrices of a model."""
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(qwen2_config(replace(shape, layers=1), torch.float32))
    return {tuple(p.shape) for p in model.parameters() if p.ndim == 2}
