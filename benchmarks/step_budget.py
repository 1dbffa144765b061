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
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch

from benchmarks._compiled_layer import CompiledLayer, compiled_layer
from benchmarks._counted_step import (
    CountedStep,
    Pair,
    Parts,
    Step,
    compiled_layers,
    count_step,
    counting,
    fake_model,
    of_all_layers,
    within,
)
from benchmarks._fake_gpu import DEVICES, Count, Device, register
from benchmarks._measure import Shape, environment, say, training_flops
from benchmarks._runs import ROOT, Lengths
from pipeline.capture import capture as capture_module
from pipeline.capture.capture import capture_batch, scheme_of
from pipeline.common.files import write_json
from pipeline.common.stage import exit_on_error
from pipeline.language_models.decoding import Stop
from pipeline.language_models.generation import complete_batch
from pipeline.language_models.processes import use_threads
from pipeline.language_models.prompts import EncodedProblem

REWARDS = ("target_similarity", "target_gain")  # rl's own, and what holds every token against the target's gradient
BEYOND = "beyond uniform draws"
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
