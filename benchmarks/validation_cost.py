"""What the points of the learning curve cost beside training: counted, not measured.

    python -m benchmarks.validation_cost

Operations and bytes follow from the shapes of models and problems and from params.yaml; a device needs the longer of
the two times that they take at its peaks (the roofline; Williams et al. 2009, Communications of the ACM 52(4)). Neither
side reaches these peaks, so their ratio is what counts. Every answer is counted as long as it may be: on a GPU a batch
takes as long as its longest answer.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from benchmarks._goals import Goal, print_goals, print_rows, write_found
from benchmarks._measure import Shape, forward_flops, training_flops
from benchmarks._runs import ROOT, Lengths, random_problems
from pipeline.common.params import ParamsFile
from pipeline.common.stage import exit_on_error
from pipeline.language_models.prompts import EncodedProblem
from pipeline.language_models.settings import GenerationParams
from pipeline.training.schedule import budget_of
from pipeline.training.settings import TrainingParams

GOAL = 0.1


@dataclass(frozen=True)
class Device:
    """Peaks of a device: operations per second in the precision of the models, and bytes per second from memory."""

    name: str
    flops_per_s: float
    bytes_per_s: float


@dataclass(frozen=True)
class Case:
    """A scale on a device. validation: the number of validation problems. value_bytes: of a weight that answers."""

    scale: str
    device: Device
    student: Shape
    lengths: Lengths
    train: int
    validation: int
    value_bytes: int


@dataclass(frozen=True)
class Cost:
    """Seconds of a whole run: its steps; the divergence and the answers at all points of the learning curve."""

    steps: float
    divergence: float
    answers: float

    @property
    def share(self) -> float:
        """Validation over training."""
        return (self.divergence + self.answers) / self.steps


# peaks from the makers' data sheets; the CPU is two cores of a common server
H100 = Device("H100, bfloat16", 989e12, 3.35e12)
H100_FLOAT32 = Device("H100, float32", 67e12, 3.35e12)
CPU = Device("two CPU cores, float32", 0.2e12, 20e9)
QWEN2 = Shape(896, 24, 14, 2, 4864, 151936)
SMOLLM2 = Shape(576, 10, 9, 3, 1536, 49152)
MINI = Shape(96, 2, 4, 2, 256, 102)
MATH = Lengths(prompt=80, completion=190, most=1024)
CASES = (
    Case("qwen2", H100, QWEN2, MATH, train=6800, validation=500, value_bytes=2),
    Case("smollm2", H100_FLOAT32, SMOLLM2, Lengths(80, 190, 768), train=7200, validation=200, value_bytes=4),
    Case("smollm2", CPU, SMOLLM2, Lengths(80, 190, 768), train=7200, validation=200, value_bytes=4),
    Case("mini", CPU, MINI, Lengths(27, 35, 160), train=2100, validation=210, value_bytes=4),
)


def seconds(device: Device, flops: float, moved: float) -> float:
    """On the roofline: of so many operations and bytes moved from and to memory."""
    return max(flops / device.flops_per_s, moved / device.bytes_per_s)


def parameters(shape: Shape) -> int:
    """Weights of the layers and the tied embeddings."""
    return shape.body_parameters + shape.vocabulary * shape.hidden_size


def step_seconds(case: Case, training: TrainingParams, examples: Sequence[EncodedProblem]) -> float:
    """Of a training step on examples: forward and backward pass, then the optimiser.

    Gradient checkpointing makes the layers' forward pass twice. AdamW and clipping read and write gradient, weight and
    both moments in float32: 32 bytes per parameter.
    """
    flops = training_flops(case.student, examples)
    if training.gradient_checkpointing:
        flops += forward_flops(case.student, [e.length for e in examples])
    weights = 4 * parameters(case.student)
    return seconds(case.device, flops, 3 * weights) + seconds(case.device, 0, 8 * weights)


def divergence_seconds(case: Case, examples: Sequence[EncodedProblem]) -> float:
    """Of one forward pass over all validation problems."""
    shape = case.student
    head = 2 * shape.vocabulary * shape.hidden_size * sum(len(e.completion_ids) for e in examples)
    flops = forward_flops(shape, [e.length for e in examples]) + head
    return seconds(case.device, flops, case.value_bytes * parameters(shape))


def answer_seconds(case: Case, generation: GenerationParams, prompts: Sequence[int]) -> float:
    """Of answers to prompts of these lengths, the longest first: weights and cache are read for every token."""
    return sum(
        batch_seconds(case, prompts[start : start + generation.batch_size], generation.max_new_tokens)
        for start in range(0, len(prompts), generation.batch_size)
    )


def batch_seconds(case: Case, prompts: Sequence[int], new_tokens: int) -> float:
    """Of one batch; its cache is as long as its longest prompt and half of the new tokens, on average."""
    shape, rows, length = case.student, len(prompts), max(prompts) + new_tokens / 2
    key_value_bytes = 2 * shape.layers * shape.hidden_size // shape.heads * shape.kv_heads * case.value_bytes
    flops = rows * (2 * parameters(shape) + 4 * shape.layers * shape.hidden_size * length)
    moved = case.value_bytes * parameters(shape) + rows * length * key_value_bytes
    read = seconds(case.device, forward_flops(shape, list(prompts)), 0)
    return read + new_tokens * seconds(case.device, flops, moved)


def cost_of(case: Case, training: TrainingParams, generation: GenerationParams) -> Cost:
    """Of a whole run with these settings."""
    examples = random_problems(case.validation, case.lengths, case.student.vocabulary, "validation")
    batches = [examples[i : i + training.batch_size] for i in range(0, len(examples), training.batch_size)]
    step = statistics.mean(step_seconds(case, training, batch) for batch in batches if len(batch) == len(batches[0]))
    answered = training.validation_problems or case.validation
    new_tokens = training.validation_new_tokens or generation.max_new_tokens
    generation = replace(generation, max_new_tokens=new_tokens)
    prompts = sorted((len(e.prompt_ids) for e in examples[:answered]), reverse=True)
    points = training.validations + 1
    return Cost(
        steps=budget_of(training, case.train).steps * step,
        divergence=points * divergence_seconds(case, examples),
        answers=points * answer_seconds(case, generation, prompts),
    )


def settings_of(scale: str) -> tuple[TrainingParams, GenerationParams]:
    """What params.yaml says."""
    file = ParamsFile(ROOT / "params.yaml")
    return (
        file.section(f"scales.{scale}.training", TrainingParams),
        file.section(f"scales.{scale}.generation", GenerationParams),
    )


@exit_on_error
def main() -> None:
    """Counts, prints and writes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks/results/validation_cost.json")
    args = parser.parse_args()
    costs = {f"{case.scale} on {case.device.name}": cost_of(case, *settings_of(case.scale)) for case in CASES}
    rows = {name: asdict(cost) | {"share": cost.share} for name, cost in costs.items()}
    print_rows(("steps", "divergence", "answers", "share"), rows)
    goals = [
        Goal(f"validation over training, {name}", cost.share, "at most", GOAL)
        for name, cost in costs.items()
        if not name.startswith("mini")  # where it is seconds, and all problems are answered
    ]
    print_goals(goals)
    write_found(args.out, {"benchmark": "validation_cost", "cases": list(map(asdict, CASES)), "seconds": rows}, goals)


if __name__ == "__main__":
    main()
