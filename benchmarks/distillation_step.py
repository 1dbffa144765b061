"""The project's training step beside TRL's GKDTrainer and beside a bare PyTorch loop, on the same work.

    python -m benchmarks.distillation_step                      mini models, and a vocabulary of 151,936
    python -m benchmarks.distillation_step --smollm2 FOLDER     SmolLM2-135M-Instruct with 10 of its 30 layers, alone
    python -m benchmarks.distillation_step --device cuda        Qwen2-1.5B's and Qwen2-0.5B's shapes, on a GPU
    python -m benchmarks.distillation_step --tiny               the same code on next to nothing, in seconds

Each contender is a process of its own (see _contenders.py); they take turns within one run. On a CPU everything is
measured twice: with glibc's allocator as it comes, and told to keep the memory it has. What a curriculum adds to a step
is measured apart from the rest, in rounds of a step each, from 16 to 200 of them. GKDTrainer needs
`pip install --no-deps trl==1.16.0`; where it is missing, its rows are left out, and the output says so.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.stats import bootstrap

from benchmarks._contenders import Name, Pair, SetUp
from benchmarks._goals import Goal, Spread, print_goals, print_rows, spread, write_found
from benchmarks._measure import Shape, clear_memory, environment, peak_tflops, say, training_flops, utilisation
from benchmarks._runs import ROOT, capture_all, open_store
from pipeline.common.errors import ModelError
from pipeline.common.stage import exit_on_error
from pipeline.language_models.processes import use_threads

MINI = ("models/mini/teacher", "models/mini/student")
CPU_PAIRS = {
    "mini": Pair(*MINI, None, "mini", batch_size=32, length=60),
    "wide_vocab": Pair(
        Shape(256, 4, 4, 2, 512, 151936), Shape(128, 2, 4, 2, 256, 151936), None, "smollm2", batch_size=4, length=256
    ),
}
GPU_PAIRS = {
    "qwen2": Pair(
        Shape(1536, 28, 12, 2, 8960, 151936),
        Shape(896, 24, 14, 2, 4864, 151936),
        None,
        "qwen2",
        batch_size=8,
        length=512,
        device="cuda",
    )
}
TINY_PAIRS = {
    "tiny": Pair(Shape(48, 2, 4, 2, 96, 500), Shape(32, 2, 4, 2, 64, 500), None, "mini", batch_size=8, length=20)
}
ALLOCATORS = {
    "default": {},
    "keeping memory": {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": str(2**40), "MALLOC_TOP_PAD_": str(2**26)},
}
CONTENDERS: tuple[Name, ...] = ("project", "bare", "gkd")
ADAPTIVE: tuple[Name, ...] = ("project", "gain")
ROUNDS = (16, 200)  # at least and at most, in which curricula are held against uniform draws
CONFIDENCE = 0.95


class Contender:
    """A contender's process, which takes steps when told to."""

    def __init__(self, set_up: SetUp, allocator: dict[str, str]) -> None:
        """Starts it; it gets ready by itself."""
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks._contenders", set_up.to_json()],
            cwd=ROOT,
            env=os.environ | {"TOKENIZERS_PARALLELISM": "false"} | allocator,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.name = set_up.name
        self.seconds: list[float] = []
        self.charged: list[float] = []
        self.parts: dict[str, float] = {}
        self.peak_memory_bytes = self.memory_bytes_before = 0

    def __enter__(self) -> Contender:
        """It is running already."""
        return self

    def __exit__(self, *_: object) -> None:
        """Its input ends, and so does it."""
        self._process.communicate()

    def steps(self, count: int) -> list[float]:
        """The seconds that each of some steps took.

        Raises:
            ModelError: the process has ended; the message is the end of what it said.
        """
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{count}\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            said = self._process.communicate()[1].strip().splitlines()
            raise ModelError(f"the contender {self.name} ended: {' / '.join(said[-3:])}")
        answer = json.loads(line)
        self.peak_memory_bytes, self.memory_bytes_before = answer["peak_memory_bytes"], answer["memory_bytes_before"]
        self.charged += answer["charged"]
        self.parts = {part: self.parts.get(part, 0.0) + seconds for part, seconds in answer["parts"].items()}
        return answer["seconds"]


def measure_pair(name: str, pair: Pair, names: tuple[Name, ...], threads: int, seconds: float) -> dict[str, Any]:
    """All contenders on one pair, with each allocator, for about `seconds` each time."""
    with tempfile.TemporaryDirectory() as folder:
        say(f"\n{name}: {pair.batch_size} x {pair.length} tokens, {threads} CPU thread{'s' * (threads > 1)}")
        capture_store(pair, Path(folder))
        allocators = ALLOCATORS if pair.device == "cpu" and sys.platform == "linux" else {"default": {}}
        found: dict[str, Any] = {"pair": asdict(pair), "threads": threads, "allocators": {}}
        for allocator, settings in allocators.items():
            rows = take_turns(pair, names, threads, f"{folder}/store", settings, seconds)
            say(f"\n{name}, allocator: {allocator}")
            columns = ("seconds per step", "tokens per s", "of bare", "of gkd", "peak MB", "peak MB above start")
            print_rows(columns, rows)
            found["allocators"][allocator] = rows
        found["beyond uniform draws"] = rows = beyond_uniform(pair, threads, f"{folder}/store", 4 * seconds)
        say(f"\n{name}: beyond uniform draws")
        print_rows(tuple(next(iter(rows.values()))), rows)
    return found


def beyond_uniform(pair: Pair, threads: int, store: str, seconds: float) -> dict[str, dict[str, Any]]:
    """What curricula add to a step with uniform draws, as shares of it, and what of that is charged to them.

    step: the median over rounds of a step each, looks at the target left out, with its interval by the bootstrap over
    rounds. all: of all steps together, looks among them. charged: of all tokens, those that looks read, at a third.
    """
    with ExitStack() as stack:
        uniform, *adaptive = (
            stack.enter_context(Contender(SetUp(name, pair, threads, store), {})) for name in ("uniform", *ADAPTIVE)
        )
        contenders, started = [uniform, *adaptive], time.perf_counter()
        for turn in range(ROUNDS[1]):
            if turn >= ROUNDS[0] and time.perf_counter() - started > seconds:
                break
            for contender in contenders[turn % 3 :] + contenders[: turn % 3]:
                contender.seconds += contender.steps(1)
    uniform_S = np.array(uniform.seconds)
    return {c.name: beyond(np.array(c.seconds), uniform_S, np.array(c.charged)) for c in adaptive}


def beyond(own_S: np.ndarray, uniform_S: np.ndarray, charged_S: np.ndarray) -> dict[str, Any]:
    """The figures of `beyond_uniform` for one curriculum; charged_S: tokens charged, over those trained on, by step."""
    share_S = (own_S / uniform_S - 1)[charged_S < 1e-9]
    interval = bootstrap((share_S,), np.median, confidence_level=CONFIDENCE, method="percentile", rng=0)
    return {
        "step": float(np.median(share_S)),
        "low": float(interval.confidence_interval.low),
        "high": float(interval.confidence_interval.high),
        "rounds": len(share_S),
        "all": float(own_S.sum() / uniform_S.sum() - 1),
        "charged": float(charged_S.mean()),
    }


def capture_store(pair: Pair, folder: Path) -> None:
    """The teacher's logits of the pair's problems."""
    params = pair.params
    captured = capture_all(pair.model("teacher"), pair.problems(), params.teacher_logits, pair.vocabulary)
    open_store(folder, captured, params.teacher_logits)
    clear_memory(pair.device)


def take_turns(
    pair: Pair, names: tuple[Name, ...], threads: int, store: str, allocator: dict[str, str], seconds: float
) -> dict[str, dict[str, Any]]:
    """One row per contender: they take turns of a few steps until the time is up, three turns each at least."""
    with ExitStack() as stack:
        contenders = [stack.enter_context(Contender(SetUp(name, pair, threads, store), allocator)) for name in names]
        slowest = max(max(contender.steps(1)) for contender in contenders)
        per_turn = max(1, min(20, int(seconds / 15 / slowest)))
        for contender in contenders:
            contender.parts.clear()
        started, turns = time.perf_counter(), 0
        while turns < 3 or time.perf_counter() - started < seconds:
            for contender in contenders[turns % len(contenders) :] + contenders[: turns % len(contenders)]:
                contender.seconds += contender.steps(per_turn)
            turns += 1
    tokens = pair.batch_size * pair.length
    medians = {c.name: spread(c.seconds).median for c in contenders}
    return {
        c.name: {
            "seconds per step": spread(c.seconds),
            "tokens per s": tokens / medians[c.name],
            "of bare": medians["bare"] / medians[c.name],
            "of gkd": medians["gkd"] / medians[c.name] if "gkd" in medians else None,
            "peak MB": c.peak_memory_bytes / 1e6,
            "peak MB above start": (c.peak_memory_bytes - c.memory_bytes_before) / 1e6,
            "shares of step": {part: seconds / sum(c.seconds) for part, seconds in c.parts.items()},
        }
        for c in contenders
    }


def goals_of(found: dict[str, Any]) -> list[Goal]:
    """What issue and design ask for, pair by pair; ratios within one allocator only."""
    goals = []
    for name, pair in found["pairs"].items():
        for allocator, rows in pair["allocators"].items():
            label = f"{name}, {allocator}"
            project, gkd = rows["project"], rows.get("gkd")
            on_gpu = pair["pair"]["device"] == "cuda"
            if not on_gpu:
                goals.append(Goal(f"{label}: speed of the bare loop", project["of bare"], "at least", 0.9))
            else:
                goals.append(Goal(f"{label}: speed of GKDTrainer", project["of gkd"], "at least", 4.0))
                goals.append(Goal(f"{label}: model FLOPs utilisation", mfu(pair, project), "at least", 0.5))
            if name == "wide_vocab":
                share = project["peak MB"] / gkd["peak MB"] if gkd else None
                goals.append(Goal(f"{label}: peak memory of GKDTrainer's", share, "at most", 0.25))
            shares = project["shares of step"]
            goals.append(Goal(f"{label}: sampling, reward and log, of a step", shares["curriculum"], "at most", 0.02))
            goals.append(Goal(f"{label}: reading the logits, of a step", shares["reading"], "at most", 0.02))
        for curriculum, added in pair["beyond uniform draws"].items():
            label = f"{name}: {curriculum} beyond uniform draws, "
            goals.append(Goal(f"{label}looks apart", added["step"], "at most", 0.1))
            goals.append(Goal(f"{label}beyond what is charged", added["all"] - added["charged"], "at most", 0.1))
    return goals


def mfu(pair: dict[str, Any], row: dict[str, Any]) -> float | None:
    """Model FLOPs utilisation of one row, where shape and peak are known."""
    of = Pair(**pair["pair"] | {role: Shape(**pair["pair"][role]) for role in ("teacher", "student")})
    seconds: Spread = row["seconds per step"]
    flops = training_flops(of.student, of.problems()[: of.batch_size])
    return utilisation(flops, seconds.median, peak_tflops(torch.cuda.get_device_name(0)))


@exit_on_error
def main() -> None:
    """Measures, prints and writes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tiny", action="store_true", help="tiny models, few steps")
    parser.add_argument("--smollm2", type=Path, help="folder of SmolLM2-135M-Instruct")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads of every contender")
    parser.add_argument("--seconds", type=float, default=8.0, help="of turns, for each pair and allocator")
    parser.add_argument(
        "--out", type=Path, help="JSON file; default: benchmarks/results/distillation_step-[smollm2-]DEVICE.json"
    )
    args = parser.parse_args()
    started = time.perf_counter()
    pairs = TINY_PAIRS if args.tiny else GPU_PAIRS if args.device == "cuda" else dict(CPU_PAIRS)
    left_out = []
    if args.smollm2:
        folder = str(args.smollm2.resolve())
        pairs = {"smollm2": Pair(folder, folder, 10, "smollm2", batch_size=4, length=192)}
    names = CONTENDERS
    if args.tiny or importlib.util.find_spec("trl") is None:
        names = tuple(name for name in CONTENDERS if name != "gkd")
        left_out.append("gkd: " + ("--tiny" if args.tiny else "TRL is not installed"))
    use_threads(args.threads, args.device)
    found: dict[str, Any] = {"benchmark": "distillation_step", "environment": environment(args.device)}
    found["left_out"] = left_out
    found["pairs"] = {
        name: measure_pair(name, pair, names, args.threads, 0.5 if args.tiny else args.seconds)
        for name, pair in pairs.items()
    }
    goals = goals_of(found)
    print_goals(goals)
    found["seconds"] = round(time.perf_counter() - started, 1)
    say(f"\nleft out: {', '.join(left_out) or 'nothing'}; {found['seconds']:.0f} s")
    name = f"distillation_step-{'smollm2-' if args.smollm2 else ''}{args.device}.json"
    default = None if args.tiny else ROOT / "benchmarks/results" / name
    write_found(args.out or default, found, goals)


if __name__ == "__main__":
    main()
