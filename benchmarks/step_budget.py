"""What a training step, a captured batch and a generated token ask of a GPU, counted without one.

    python -m benchmarks.step_budget                      Qwen2's and SmolLM2's shapes, on an H100
    python -m benchmarks.step_budget --device "RTX 4090"  on another device of the table in _fake_gpu.py
    python -m benchmarks.step_budget --tiny               the same code at tiny shapes, in seconds

The project's own code runs on tensors that have a shape and no contents (see _fake_gpu.py). Counted are kernels, the
bytes that they read and write, floating-point operations, times that the host waits for the device, and buffers that
are filled before they are used. The roofline time of a kernel is what the device needs for its bytes at full bandwidth
or its operations at peak, whichever is more; nothing is added for launching it. So it is a bound that no run beats.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor
from torch.utils.flop_counter import flop_registry
from transformers import AutoModelForCausalLM, PreTrainedModel, masking_utils

from benchmarks._compiled_layer import CompiledLayer, compiled_layer
from benchmarks._fake_gpu import DEVICES, NAME, Count, Device, Meter, pinned, register
from benchmarks._measure import Shape, environment, qwen2_config, say, training_flops
from benchmarks._runs import (
    ROOT,
    Lengths,
    Params,
    equal_arms,
    equal_problems,
    open_store,
    random_problems,
    read_params,
    training_set,
)
from pipeline.capture import capture as capture_module
from pipeline.capture.capture import capture_batch, scheme_of
from pipeline.common.files import write_json
from pipeline.common.stage import exit_on_error
from pipeline.curricula import rl
from pipeline.curricula.random import Random
from pipeline.distillation import gradients as gradients_module
from pipeline.distillation import loss as loss_module
from pipeline.language_models.batches import micro_batches
from pipeline.language_models.decoding import Stop
from pipeline.language_models.generation import complete_batch
from pipeline.language_models.processes import use_threads
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
REWARDS = ("target_similarity", "target_gain")  # rl's own, and what holds every token against the target's gradient
BEYOND = "beyond uniform draws"
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


MATH = Lengths(prompt=80, completion=190, most=1024)
STEPS = (Step(8, 300), Step(8, None), Step(32, 300), Step(32, None))
PAIRS = {
    "qwen2": Pair(Shape(1536, 28, 12, 2, 8960, 151936), Shape(896, 24, 14, 2, 4864, 151936), "qwen2", MATH, STEPS, 64),
    "smollm2": Pair(Shape(576, 30, 9, 3, 1536, 49152), Shape(576, 10, 9, 3, 1536, 49152), "smollm2", MATH, STEPS, 16),
}
TINY = {
    "tiny": Pair(
        Shape(48, 3, 4, 2, 96, 500), Shape(32, 4, 4, 2, 64, 500), "qwen2", Lengths(8, 12, 40), (Step(4, 20),), 4
    ),
}


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


def count_capture(pair: Pair, device: Device) -> tuple[Parts, list[EncodedProblem]]:
    """One batch of the capture of the teacher's logits, and its examples."""
    params = pair.params.teacher_logits
    problems, scheme = pair.problems(params.batch_size), scheme_of("train", params)

    def count(shape: Shape) -> Parts:
        with counting(device) as meter:
            teacher = fake_model(shape, getattr(torch, pair.params.models.dtype))
            meter.parts.clear()
            states = within(meter, "layers", capture_module.predicting_states)
            with patch.object(capture_module, "predicting_states", states), meter.part("head and rows"):
                capture_batch(teacher, problems, scheme, params.temperatures, shape.vocabulary)
        return meter.parts

    return of_all_layers(pair.teacher, count), problems


def count_token(pair: Pair, device: Device) -> Parts:
    """One more token of each of some answers of the student, as in validation."""
    prompts = [[1] * pair.lengths.prompt for _ in range(pair.answers)]

    def count(student: Shape) -> Parts:
        with counting(device) as meter:
            model = fake_model(student, getattr(torch, pair.params.models.dtype))  # a copy, made for a validation
            meter.scalar = len(prompts)  # a number that is read says that all are still open
            found = []
            for tokens in (3, 4):
                meter.parts.clear()
                complete_batch(model, prompts, 0, Stop([0], tokens), lambda logits_BV: logits_BV.argmax(dim=1))
                found.append(meter.total)
        return {"token": found[1] - found[0]}

    return of_all_layers(pair.student, count)


def summary(parts: Parts, tokens: int) -> dict[str, Any]:
    """The counts of each part and of all, as JSON values."""
    rows = {name: as_json(count) for name, count in parts.items()}
    return {"tokens": tokens, "parts": rows, "total": as_json(sum(parts.values(), Count()))}


def step_budget(pair: Pair, step: Step, device: Device, layer: CompiledLayer | None) -> dict[str, Any]:
    """A step's counts, and the share of the device's peak that its roofline leaves to the model's own operations."""
    counted = count_step(pair, step, device)
    parts = with_layer(counted, pair, device, layer)
    flops, seconds = training_flops(pair.student, counted.drawn), sum(parts.values(), Count()).seconds
    found = summary(parts, sum(e.length for e in counted.drawn))
    return found | {"model_flops": flops, "roofline_mfu": flops / seconds / device.flops[torch.bfloat16]}


def with_layer(counted: CountedStep, pair: Pair, device: Device, layer: CompiledLayer | None) -> Parts:
    """The step's parts, with compiled layers if there are any."""
    return compiled_layers(counted.parts, layer, pair.student, counted.drawn, device) if layer else counted.parts


def beyond_uniform(pair: Pair, step: Step, device: Device, layer: CompiledLayer | None) -> dict[str, dict[str, Any]]:
    """What rl adds to a step with uniform draws, by its reward: shares of that step's time on the roofline.

    step: of one without a look, in which the host waits so many times. look: of a look. look_charged: what a look is
    charged as training compute.
    """

    def seconds(counted: CountedStep) -> float:
        return sum(with_layer(counted, pair, device, layer).values(), Count()).seconds

    uniform, found = seconds(count_step(pair, step, device)), {}
    for reward in REWARDS:
        counted = count_step(pair, step, device, reward)
        trained = 3 * sum(e.length for e in counted.drawn)  # a backward pass counts as two forward
        found[reward] = {
            "step": seconds(counted) / uniform - 1,
            "waits": sum(counted.parts.values(), Count()).waits,
            "look": counted.look.seconds / uniform,
            "look_charged": counted.charged / trained,
            "every": pair.params.curriculum.rewards[reward]["every"],
        }
    return found


def as_json(count: Count) -> dict[str, Any]:
    """Plain numbers."""
    found = {name: getattr(count, name) for name in ("kernels", "bytes", "seconds", "fills", "waits", "copies")}
    flops = {str(kind).removeprefix("torch."): n for kind, n in count.flops.items()}
    return found | {"flops": flops, "operators": dict(count.operators.most_common())}


def print_budget(name: str, found: dict[str, Any]) -> None:
    """One table."""
    say(f"\n{name}: {found['tokens']} tokens")
    say(f"{'':<18}{'kernels':>9}{'GB':>9}{'TFLOP':>9}{'roofline ms':>13}{'fills':>7}{'waits':>7}{'copies':>8}")
    for part, row in (found["parts"] | {"all": found["total"]}).items():
        say(
            f"{part:<18}{row['kernels']:>9}{row['bytes'] / 1e9:>9.3f}{sum(row['flops'].values()) / 1e12:>9.3f}"
            f"{row['seconds'] * 1e3:>13.2f}{row['fills']:>7}{row['waits']:>7}{row['copies']:>8}"
        )
    if "roofline_mfu" in found:
        say(f"model FLOPs utilisation on the roofline: {found['roofline_mfu']:.1%}")


def print_beyond(name: str, found: dict[str, dict[str, Any]]) -> None:
    """One table, in shares of a step with uniform draws."""
    say(f"\n{name}")
    say(f"{'':<20}{'a step':>9}{'a look':>9}{'charged':>9}{'every':>7}")
    for reward, row in found.items():
        say(f"{reward:<20}{row['step']:>9.1%}{row['look']:>9.2f}{row['look_charged']:>9.2f}{row['every']:>7}")


def print_budgets(name: str, pair: Pair, device: Device) -> dict[str, dict[str, Any]]:
    """Everything that is counted of a pair, printed one after the other."""
    found: dict[str, dict[str, Any]] = {}
    for what, budget in budgets(pair, device):
        (print_beyond if what.startswith(BEYOND) else print_budget)(f"{name}, {what}", budget)
        found[what] = budget
    return found


def budgets(pair: Pair, device: Device) -> Iterator[tuple[str, dict[str, Any]]]:
    """What `print_budgets` prints, as it is counted."""
    compiles = pair.params.training.compile and pair not in TINY.values()  # it takes a minute
    layer = compiled_layer(pair.student) if compiles else None
    for step in pair.steps:
        yield step.name, step_budget(pair, step, device, layer)
    for step in pair.steps:
        if step.length:
            yield f"{BEYOND}, {step.name}", beyond_uniform(pair, step, device, layer)
    parts, problems = count_capture(pair, device)
    yield "capture", summary(parts, sum(e.length for e in problems))
    yield "token", summary(count_token(pair, device), pair.answers)


@exit_on_error
def main() -> None:
    """Counts, prints and writes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=sorted(DEVICES), default="H100")
    parser.add_argument("--tiny", action="store_true", help="tiny shapes")
    parser.add_argument("--pairs", nargs="+", choices=sorted(PAIRS), default=list(PAIRS))
    parser.add_argument("--out", type=Path, help="JSON file; default: results/step_budget.json, or none with --tiny")
    args = parser.parse_args()
    use_threads(1)
    register()
    device = DEVICES[args.device]
    pairs = TINY if args.tiny else {name: PAIRS[name] for name in args.pairs}
    found: dict[str, Any] = {"benchmark": "step_budget", "device": args.device, "environment": environment("cpu")}
    for name, pair in pairs.items():
        found[name] = {"shapes": asdict(pair)} | print_budgets(name, pair, device)
    out = args.out or (None if args.tiny else ROOT / "benchmarks/results/step_budget.json")
    if out:
        write_json(out, found)
        say(f"\nwritten to {out}")


if __name__ == "__main__":
    main()
