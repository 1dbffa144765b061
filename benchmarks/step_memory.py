"""What an optimiser step needs of a GPU's memory, counted without one.

    python -m benchmarks.step_memory           Qwen2's student on GPUs of 8 to 80 GiB
    python -m benchmarks.step_memory --tiny    the same code at tiny shapes, in seconds

The project's own steps run on tensors that have a shape and no contents (see _fake_gpu.py); counted are the bytes that
exist at once. What is not: the CUDA context (about half a GiB), what the allocator rounds up and leaves between blocks,
workspaces of cuBLAS. Layers are counted as they are before torch.compile.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, get_args
from unittest.mock import patch

import torch
from torch import Tensor

from benchmarks._counted_step import Pair, counting, fake_model, start_run
from benchmarks._fake_gpu import DEVICES, Device, Meter, register
from benchmarks._measure import GIB, Shape, environment, say
from benchmarks._runs import ROOT, longest_problems
from benchmarks.step_budget import PAIRS, TINY
from pipeline.common.files import write_json
from pipeline.common.stage import exit_on_error
from pipeline.language_models.processes import use_threads
from pipeline.language_models.prompts import EncodedProblem
from pipeline.training import moments as moments_module
from pipeline.training import run as run_module
from pipeline.training.adamw import AdamW
from pipeline.training.moments import BLOCK, Codes, Place, moments_fit

GIBS = (8, 12, 24, 80)  # of memory
STEPS = 1


@dataclass(frozen=True)
class Need:
    """A step's memory in bytes. kept: what is there between two steps; gradients, optimiser: at the peak of each."""

    gib: int
    batch: str
    moments: Place
    gradient_checkpointing: bool
    kept: int
    gradients: int
    optimiser: int

    @property
    def peak(self) -> int:
        return max(self.gradients, self.optimiser)


def need(
    pair: Pair, gib: int, batch: str, problems: Sequence[EncodedProblem], moments: Place, *, checkpointing: bool
) -> Need:
    """What steps on whole batches of these problems need, on a GPU with so much memory."""
    training = replace(pair.params.training, moments=moments, gradient_checkpointing=checkpointing, compile=False)
    device = with_memory(gib)
    with tempfile.TemporaryDirectory() as folder, counting(device) as meter, bytes_of_codes(), peaks(meter) as found:
        student = fake_model(pair.student, torch.float32)
        run = start_run(student, list(problems), replace(pair.params, training=training), Path(folder))
        for _ in range(STEPS):
            run.step()
        assert run.micro_batch_tokens is None  # nothing was cut
        return Need(gib, batch, moments, checkpointing, meter.allocated, found["gradients"], found["optimiser"])


def with_memory(gib: int) -> Device:
    """A device of so much memory: what is done at once depends on it."""
    return replace(DEVICES["H100"], memory=gib * GIB)


@contextmanager
def peaks(meter: Meter) -> Iterator[dict[str, int]]:
    """The most bytes that exist at once in each half of a step, by the newest step."""
    found: dict[str, int] = {}

    def during(name: str, call: Any) -> Any:
        def called(*arguments: Any, **named: Any) -> Any:
            meter.peak = meter.allocated
            result = call(*arguments, **named)
            found[name] = meter.peak
            return result

        return called

    with ExitStack() as stack:
        for holder, attribute, name in ((run_module.Run, "_gradients", "gradients"), (AdamW, "step", "optimiser")):
            stack.enter_context(patch.object(holder, attribute, during(name, getattr(holder, attribute))))
        yield found


@contextmanager
def bytes_of_codes() -> Iterator[None]:
    """What stands for bitsandbytes, which knows no fake device: tensors of the sizes that it returns."""

    def encoded(values: Tensor, *, signed: bool) -> Codes:
        scales = values.new_empty(-(-values.numel() // BLOCK))
        return Codes(torch.empty_like(values, dtype=torch.uint8), scales)

    def decoded(kept: Codes, *, signed: bool) -> Tensor:
        return torch.empty_like(kept.codes, dtype=torch.float32)

    with patch.object(moments_module, "encoded", encoded), patch.object(moments_module, "decoded", decoded):
        yield


def chosen_moments(student: Shape, gib: int) -> Place:
    """Where `training.moments: null` keeps them on a GPU with so much memory."""
    with counting(with_memory(gib)):
        return "device" if moments_fit(fake_model(student, torch.float32)) else "cpu"


def batches(pair: Pair) -> dict[str, list[EncodedProblem]]:
    """What whole batches are drawn from."""
    size, vocabulary = pair.params.training.batch_size, pair.student.vocabulary
    return {
        "MATH's lengths": pair.problems(4 * size),
        "the longest": longest_problems(size, pair.lengths, vocabulary),
    }


def needs(pair: Pair, gibs: Sequence[int]) -> Iterator[Need]:
    """Each batch with the moments that a GPU of that size gets, and with those of 8 bits."""
    for gib in gibs:
        for moments in (chosen_moments(pair.student, gib), "8bit"):
            for batch, problems in batches(pair).items():
                for checkpointing in (False, True):
                    yield need(pair, gib, batch, problems, moments, checkpointing=checkpointing)


def tiny_needs(pair: Pair) -> Iterator[Need]:
    """The longest problems with moments in every place."""
    for moments in get_args(Place):
        for checkpointing in (False, True):
            yield need(pair, GIBS[0], "the longest", batches(pair)["the longest"], moments, checkpointing=checkpointing)


def print_need(found: Need) -> None:
    how = "again" if found.gradient_checkpointing else "kept"
    say(
        f"{found.gib:>4} {found.moments:<8}{found.batch:<16}{how:<12}"
        + "".join(f"{size / GIB:>11.2f}" for size in (found.kept, found.gradients, found.optimiser))
        + ("" if found.peak < (found.gib - 0.5) * GIB else "   too much")
    )


@exit_on_error
def main() -> None:
    """Counts, prints and writes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tiny", action="store_true", help="tiny shapes")
    parser.add_argument("--out", type=Path, help="JSON file; default: results/step_memory.json, or none with --tiny")
    args = parser.parse_args()
    use_threads(1)
    register()
    say("bytes at the peak of a step's two halves, GiB\n")
    say(f"{'GiB':>4} {'moments':<8}{'batch':<16}{'activations':<12}{'kept':>11}{'gradients':>11}{'optimiser':>11}")
    found = []
    for row in tiny_needs(TINY["tiny"]) if args.tiny else needs(PAIRS["qwen2"], GIBS):
        print_need(row)
        found.append(asdict(row))
    out = args.out or (None if args.tiny else ROOT / "benchmarks/results/step_memory.json")
    if out:
        write_json(out, {"benchmark": "step_memory", "environment": environment("cpu"), "rows": found})
        say(f"\nwritten to {out}")


if __name__ == "__main__":
    main()
