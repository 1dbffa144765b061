"""How much of the teacher survives in a cache: top-k logits in three readings, and draws in two, side by side.

    python -m benchmarks.cache_fidelity                      the mini models
    python -m benchmarks.cache_fidelity --smollm2 FOLDER     and SmolLM2-135M-Instruct, with its vocabulary of 49,152
                                                             and with one widened to Qwen2's 151,936
    python -m benchmarks.cache_fidelity --tiny               the same code on next to nothing, in seconds

With p and q the teacher's and the student's distributions over V tokens at a temperature, K the teacher's k most likely
tokens and m = 1 - sum_K p, students are to learn, by forward KL,

    top_k_renormalised   p / (1 - m) on K, nothing elsewhere: KL(p_K / (1 - m) || q)
    top_k_ghost_token    p on K, and m / (V - k) on each other token: one ghost outcome of the stored mass m, whose
                         share is spread evenly over the tokens it stands for
    top_k_exact_tail     p on K, and m on one bucket that q fills with 1 - sum_K q: the project's `TopK`. The student's
                         own distribution inside the tail is left as it is
    random_draws         counts / N of N draws from p: the project's `RandomDraws` (RS-KD, arXiv 2503.16870)
    top_k_tail_draws     p on K, and m counts / N of N draws from p outside K: the project's `TopKTailDraws`

Rows are made by the project's own code and go through its own loss. README.md beside this file says how each figure is
taken. Neither dvc nor datasets nor the network is needed.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import PreTrainedModel

from benchmarks._fidelity import KINDS, NOISE, Cache, Dense, Kind, Seen, cache_of, dense_kl, measure, see, widened
from benchmarks._measure import environment, say
from benchmarks._runs import (
    ROOT,
    Params,
    capture_all,
    generated_problems,
    open_store,
    read_params,
    real_params,
    training_set,
)
from pipeline.arms.grouping import group_into_arms
from pipeline.capture.settings import TeacherLogitsParams
from pipeline.common.files import write_json
from pipeline.common.stage import exit_on_error
from pipeline.curricula import traditional
from pipeline.evaluation.fidelity import calibration_gaps
from pipeline.language_models.loading import load_encoder, load_model, vocabulary_size
from pipeline.language_models.processes import use_threads
from pipeline.language_models.prompts import EncodedProblem
from pipeline.logit_store.store import LogitStore
from pipeline.logit_store.targets import TeacherTargets
from pipeline.training.run import Run

BINS = 15
READINGS = ("top_k_renormalised", "top_k_ghost_token")  # of the same rows: at temperature 1 alone
TRAINED = ("top_k_renormalised", "top_k_ghost_token", "top_k_exact_tail", "random_draws")


@dataclass(frozen=True)
class Scale:
    """How much is measured. Problems are per subject and level.

    sizes: of one number, k or draws; at other temperatures than 1 the `large_sizes`. pairs: k and draws.
    wide_vocabulary: of the widened SmolLM2, of whose tokens `common` stand once.
    """

    sizes: tuple[int, ...]
    large_sizes: tuple[int, ...]
    pairs: tuple[tuple[int, int], ...]
    temperatures: tuple[float, ...]
    trained_sizes: tuple[int, ...]
    problems: int
    most_tokens: int
    most_wide_tokens: int
    wide_vocabulary: int
    common: int
    train_problems: int
    validation_problems: int
    batch_size: int
    steps: int
    seeds: int


FULL = Scale(
    sizes=(4, 12, 24, 32, 50),
    large_sizes=(24, 32, 50),
    pairs=((8, 40), (8, 96), (12, 80), (16, 72), (24, 48)),
    temperatures=(1.0, 2.0, 3.0),
    trained_sizes=(4, 12),
    problems=2,
    most_tokens=400,
    most_wide_tokens=100,
    wide_vocabulary=151_936,
    common=4_096,
    train_problems=20,
    validation_problems=2,
    batch_size=8,
    steps=200,
    seeds=3,
)
TINY = Scale((4, 12), (4,), ((4, 8),), (1.0, 3.0), (4,), 1, 90, 40, 150, 30, 1, 1, 4, 3, 1)


def caches(scale: Scale, temperature: float, vocabulary: int) -> list[Cache]:
    """What is measured at a temperature, of what the vocabulary is large enough for."""
    kinds = [kind for kind in KINDS if kind != "top_k_tail_draws" and (temperature == 1 or kind not in READINGS)]
    sizes = scale.sizes if temperature == 1 else scale.large_sizes
    single = [cache_of(kind, size) for kind in kinds for size in sizes]
    return single + [cache_of("top_k_tail_draws", pair) for pair in scale.pairs if sum(pair) <= vocabulary]


@dataclass(frozen=True)
class Reading:
    """A store whose targets are read in one of the ways above; `Run` asks for nothing but `targets`."""

    store: LogitStore
    kind: Kind
    vocabulary: int

    def targets(self, problems: Sequence[EncodedProblem], temperature: float, device: torch.device) -> TeacherTargets:
        """The targets of some problems."""
        return self.kind.read(self.store.targets(problems, temperature, device), self.vocabulary)


class Training:
    """Short runs of the mini student, at one temperature, that differ in their targets alone."""

    def __init__(self, params: Params, scale: Scale, folder: Path, temperature: float) -> None:
        """Generates the problems and loads the teacher."""
        per_cell = scale.train_problems + scale.validation_problems
        split = load_encoder(params.models).encode_all(generated_problems(per_cell))
        budget = {"batch_size": scale.batch_size, "epochs": 1, "steps_per_epoch": scale.steps}
        budget |= {"temperature": temperature}
        self._scale, self._folder = scale, folder
        self._params = replace(params, training=replace(params.training, **budget))
        self._teacher = load_model(params.models, "teacher")
        self._vocabulary = vocabulary_size(params.models)
        self._train = [e for i, e in enumerate(split.encoded) if i % per_cell < scale.train_problems]
        self._validation = [e for i, e in enumerate(split.encoded) if i % per_cell >= scale.train_problems]
        train_problems = [p for i, p in enumerate(split.problems) if i % per_cell < scale.train_problems]
        self._arms = group_into_arms(train_problems, "all")

    def outcomes(self, cache: Cache) -> dict[str, float]:
        """Validation KL and calibration error, means over the seeds, and the KL's standard deviation over them."""
        params = cache.params(self._params.teacher_logits, self._params.training.temperature)
        captured = capture_all(self._teacher, self._train, params, self._vocabulary)
        opened = open_store(self._folder / cache.label.replace(" ", "-"), captured, params)
        store = Reading(opened, KINDS[cache.kind], self._vocabulary)
        found = [self._outcome(store, seed) for seed in range(self._scale.seeds)]
        kl, ece = zip(*found, strict=True)
        return {
            "validation_kl": statistics.mean(kl),
            "validation_kl_deviation": statistics.stdev(kl) if len(kl) > 1 else 0.0,
            "ece": statistics.mean(ece),
        }

    def _outcome(self, store: Reading, seed: int) -> tuple[float, float]:
        student = load_model(self._params.models, "student")
        curriculum = traditional.build(traditional.Params(arms="all"), self._arms, seed)
        problems = training_set(self._train, self._arms, store)
        run = Run(student, curriculum, problems, self._params.training, seed)
        for _ in range(run.steps):
            run.step()
        return self.validate(student)

    def validate(self, student: PreTrainedModel) -> tuple[float, float]:
        """Dense KL per token from the teacher, and the expected calibration error, on problems not trained on."""
        _, seen = see(self._teacher, student, self._validation, self._vocabulary)
        kl_N, _ = dense_kl(seen.teacher_NV, seen.student_NV, self._params.training.temperature)
        confidence_N, token_N = seen.student_NV.double().softmax(1).max(1)
        gaps = calibration_gaps(confidence_N.numpy(), (token_N == seen.labels_N).numpy(), BINS)
        return kl_N.mean().item(), float(np.abs(gaps).sum()) / len(kl_N)


def pair(params: Params, scale: Scale, *, near: bool, wide: bool) -> Seen:
    """What a teacher and a student make of some problems of all subjects and levels.

    `near` takes, in the student's place, one that has nearly learnt all: the teacher with noise on its weights. `wide`
    gives both more tokens.
    """
    vocabulary = vocabulary_size(params.models)
    encoded = load_encoder(params.models).encode_all(generated_problems(scale.problems)).encoded
    teacher, student = (load_model(params.models, role) for role in ("teacher", "teacher" if near else "student"))
    if near:
        add_noise(student)
    chosen = within(encoded, scale.most_wide_tokens if wide else scale.most_tokens)
    teacher_NH, seen = see(teacher, student, chosen, vocabulary)
    return widened(seen, teacher_NH, scale.wide_vocabulary, scale.common) if wide else seen


def fidelity(seen: Seen, params: TeacherLogitsParams, scale: Scale) -> dict[str, Any]:
    """Every cache at every temperature."""
    vocabulary = seen.teacher_NV.shape[1]
    found: dict[str, Any] = {
        "vocabulary": vocabulary,
        "problems": len(seen.problems),
        "tokens": len(seen.labels_N),
        "temperatures": {},
    }
    for temperature in scale.temperatures:
        dense = Dense(seen, temperature)
        p_NV = (seen.teacher_NV / temperature).softmax(1)
        rows = {cache.label: measure(dense, cache, params) for cache in caches(scale, temperature, vocabulary)}
        found["temperatures"][str(temperature)] = {
            "dense_kl": dense.kl_N.mean().item(),
            "dense_angle_of_a_quarter": dense.angle_of_a_quarter(),
            "teacher_entropy": -torch.xlogy(p_NV, p_NV).sum(1).mean().item(),
            "rows": rows,
        }
    return found


@torch.no_grad()
def add_noise(model: PreTrainedModel) -> None:
    """Adds NOISE of each matrix's own root mean square to its weights, the same at every call."""
    generator = torch.Generator().manual_seed(0)
    for parameter in model.base_model.layers.parameters():
        if parameter.ndim == 2:
            noise = torch.randn(parameter.shape, generator=generator)
            parameter.add_(noise * parameter.square().mean().sqrt() * NOISE)


def within(encoded: list[EncodedProblem], most_tokens: int) -> list[EncodedProblem]:
    """Problems spread over all subjects and levels, with at most so many completion tokens."""
    chosen, tokens = [], 0
    for start in range(11):  # every 11th problem, since 11 shares no factor with the 5 levels and the 7 subjects
        for e in encoded[start::11]:
            if tokens + len(e.completion_ids) <= most_tokens:
                chosen.append(e)
                tokens += len(e.completion_ids)
    return chosen


def trained_caches(scale: Scale, temperature: float) -> list[Cache]:
    """Those that students are trained on."""
    if temperature == 1:
        return [cache_of(kind, size) for kind in TRAINED for size in scale.trained_sizes]
    return [cache_of("top_k_exact_tail", 4), cache_of("random_draws", 12), cache_of("top_k_tail_draws", (4, 8))]


def train_all(params: Params, scale: Scale, folder: Path, temperature: float) -> dict[str, Any]:
    """A student for each cache, one for the dense teacher, and the one they all begin with."""
    training = Training(params, scale, folder, temperature)
    kl, ece = training.validate(load_model(params.models, "student"))
    rows = {"untrained": {"validation_kl": kl, "validation_kl_deviation": 0.0, "ece": ece}}
    caches = {"dense": cache_of("top_k_exact_tail", vocabulary_size(params.models))}
    caches |= {cache.label: cache for cache in trained_caches(scale, temperature)}
    for label, cache in caches.items():
        rows[label] = training.outcomes(cache)
        found = f"validation KL {rows[label]['validation_kl']:.4f}, ECE {rows[label]['ece']:.4f}"
        say(f"trained at {temperature} on {label}: {found}")
    return {"steps": scale.steps, "batch_size": scale.batch_size, "seeds": scale.seeds, "rows": rows}


COLUMNS = (
    "bytes_per_token",
    "tail_mass",
    "kl_error",
    "kl_share",
    "angle_of_lm_head",
    "angle_of_hidden",
    "kept_of_lm_head",
    "kept_of_hidden",
)


def print_fidelity(name: str, found: dict[str, Any]) -> None:
    """One model pair's tables."""
    for temperature, at in found["temperatures"].items():
        say(
            f"\n{name}, temperature {temperature}: vocabulary {found['vocabulary']}, {found['tokens']} tokens of "
            f"{found['problems']} problems, dense KL {at['dense_kl']:.3f}, teacher's entropy "
            f"{at['teacher_entropy']:.3f} nats per token"
        )
        print_table(COLUMNS, at["rows"])


def print_table(columns: Sequence[str], rows: dict[str, dict[str, float]]) -> None:
    """Named rows under named columns."""
    say(" " * 26 + "".join(f"{c:>24}" for c in columns))
    for name, row in rows.items():
        say(f"{name:<26}" + "".join(f"{row[c]:>24.4g}" for c in columns))


@exit_on_error
def main() -> None:
    """Measures, prints and writes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tiny", action="store_true", help="few problems, few steps, one thread")
    parser.add_argument("--smollm2", type=Path, help="folder of SmolLM2-135M-Instruct; without it, mini alone")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument(
        "--out", type=Path, help="JSON file; default: benchmarks/results/cache_fidelity.json, or none with --tiny"
    )
    args = parser.parse_args()
    started = time.perf_counter()
    use_threads(1 if args.tiny else args.threads)
    scale = TINY if args.tiny else FULL
    out = args.out or (None if args.tiny else ROOT / "benchmarks/results/cache_fidelity.json")
    models = read_params("mini").models
    pairs = {"mini": (real_params(None, models), False)}
    if args.smollm2:
        smollm2 = real_params(args.smollm2, models)
        pairs |= {"smollm2": (smollm2, False), "widened": (smollm2, True)}
    found: dict[str, Any] = {"benchmark": "cache_fidelity", "environment": environment("cpu"), "scale": asdict(scale)}
    found["fidelity"] = {}
    for name, (params, wide) in pairs.items():
        for label, near in ((name, False), (f"{name}_near", True)):
            seen = pair(params, scale, near=near, wide=wide)
            found["fidelity"][label] = fidelity(seen, params.teacher_logits, scale)
            print_fidelity(label, found["fidelity"][label])
    found["left_out"] = [] if args.smollm2 else ["smollm2, widened: no folder was given"]
    say(f"\nleft out: {', '.join(found['left_out']) or 'nothing'}\n")
    found["training"] = {}
    for label, temperature in (("mini", 1.0), ("mini_softened", 3.0)):
        with tempfile.TemporaryDirectory() as folder:
            found["training"][label] = train_all(pairs["mini"][0], scale, Path(folder), temperature)
        say(f"\n{label}: students after {scale.steps} steps of {scale.batch_size} problems at {temperature}")
        print_table(("validation_kl", "validation_kl_deviation", "ece"), found["training"][label]["rows"])
    found["seconds"] = round(time.perf_counter() - started, 1)
    say(f"\n{found['seconds']:.0f} s")
    if out:
        write_json(out, found)
        say(f"written to {out}")


if __name__ == "__main__":
    main()
