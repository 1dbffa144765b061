"""How much of the teacher survives in a cache: top-k logits in three readings, and random draws, side by side.

    python -m benchmarks.cache_fidelity                      the mini models
    python -m benchmarks.cache_fidelity --smollm2 FOLDER     and SmolLM2-135M-Instruct, with a vocabulary of 49,152
    python -m benchmarks.cache_fidelity --tiny               the same code on next to nothing, in seconds

With p and q the teacher's and the student's distributions over V tokens at temperature 1, K the teacher's k most likely
tokens and m = 1 - sum_K p, students are to learn, by forward KL,

    top_k_renormalised   p / (1 - m) on K, nothing elsewhere: KL(p_K / (1 - m) || q)
    top_k_ghost_token    p on K, and m / (V - k) on each other token: one ghost outcome of the stored mass m, whose
                         share is spread evenly over the tokens it stands for
    top_k_exact_tail     p on K, and m on one bucket that q fills with 1 - sum_K q: the project's `TopK`. The student's
                         own distribution inside the tail is left as it is
    random_draws         counts / N of N draws from p: the project's `RandomDraws` (RS-KD, arXiv 2503.16870)

Rows are made by the project's own code and go through its own loss. README.md beside this file says how each figure is
taken. Neither dvc nor datasets nor the network is needed.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedModel

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
from pipeline.capture.capture import in_groups, scheme_of
from pipeline.capture.settings import TeacherLogitsParams
from pipeline.common.files import write_json
from pipeline.common.stage import exit_on_error
from pipeline.curricula import traditional
from pipeline.distillation.loss import LossSettings, token_losses
from pipeline.evaluation.fidelity import calibration_gaps
from pipeline.language_models.batches import pad_examples, predicting_states
from pipeline.language_models.loading import load_encoder, load_model, vocabulary_size
from pipeline.language_models.processes import use_threads
from pipeline.language_models.prompts import EncodedProblem
from pipeline.logit_store.schemes import SchemeName
from pipeline.logit_store.store import LogitStore
from pipeline.logit_store.targets import TeacherTargets
from pipeline.training.run import Run

KL = LossSettings(temperature=1.0, distillation_weight=1.0, divergence="forward_kl", jsd_beta=0.5)
CHUNK = 64  # tokens whose float64 logits and gradients are held at once
BINS = 15
NOISE = 0.1


@dataclass(frozen=True)
class Scale:
    """How much is measured. Problems are per subject and level."""

    sizes: tuple[int, ...]
    trained_sizes: tuple[int, ...]
    problems: int
    most_tokens: int
    train_problems: int
    validation_problems: int
    batch_size: int
    steps: int
    seeds: int


FULL = Scale((4, 12, 24, 32, 50), (4, 12), 2, 400, 20, 2, 8, 200, 3)
TINY = Scale((4, 12), (4,), 1, 90, 1, 1, 4, 3, 1)


@dataclass(frozen=True)
class Kind:
    """Targets: the scheme whose rows they are read from, how they are read, and bytes of a row they do not need."""

    scheme: SchemeName
    read: Callable[[TeacherTargets, int], TeacherTargets]
    spare_bytes: int = 0


def renormalised(stored: TeacherTargets, vocabulary: int) -> TeacherTargets:
    """The top k with the tail's mass shared out among them."""
    log_probs_NK = stored.log_probs_NK.log_softmax(dim=1)
    return replace(stored, log_probs_NK=log_probs_NK, log_tail_N=torch.full_like(stored.log_tail_N, -torch.inf))


def ghost_token(stored: TeacherTargets, vocabulary: int) -> TeacherTargets:
    """All tokens; those outside the top k have equal shares of the tail's mass."""
    tokens, k = stored.token_ids_NK.shape
    if k == vocabulary:
        return stored
    share_N1 = (stored.log_tail_N - torch.tensor(vocabulary - k).log())[:, None]
    return replace(
        stored,
        token_ids_NK=torch.arange(vocabulary).expand(tokens, -1),
        log_probs_NK=share_N1.repeat(1, vocabulary).scatter_(1, stored.token_ids_NK, stored.log_probs_NK),
        log_tail_N=torch.full_like(stored.log_tail_N, -torch.inf),
    )


def as_stored(stored: TeacherTargets, vocabulary: int) -> TeacherTargets:
    """What the project learns from."""
    return stored


KINDS = {
    "top_k_renormalised": Kind("top_k", renormalised, spare_bytes=4),  # one float32 tail mass
    "top_k_ghost_token": Kind("top_k", ghost_token),
    "top_k_exact_tail": Kind("top_k", as_stored),
    "random_draws": Kind("random_draws", as_stored),
}


def capture_params(params: Params, kind: Kind, size: int) -> TeacherLogitsParams:
    """What the stage would be told: a cache of this size, for temperature 1 alone."""
    return replace(params.teacher_logits, scheme=kind.scheme, top_k=size, draws=size, temperatures=[1.0])


@dataclass(frozen=True)
class Seen:
    """What teacher and student make of N completion tokens: float64 logits, and the student's last hidden states."""

    problems: list[EncodedProblem]
    labels_N: Tensor
    teacher_NV: Tensor
    student_NV: Tensor
    hidden_NH: Tensor


def see(teacher: PreTrainedModel, student: PreTrainedModel, problems: list[EncodedProblem], vocabulary: int) -> Seen:
    """Runs both models over the problems."""
    hidden_NH = hidden_states(student, problems)
    return Seen(
        problems,
        torch.cat([torch.from_numpy(e.completion_ids).long() for e in problems]),
        logits(teacher, hidden_states(teacher, problems), vocabulary),
        logits(student, hidden_NH, vocabulary),
        hidden_NH,
    )


@torch.no_grad()
def hidden_states(model: PreTrainedModel, problems: list[EncodedProblem]) -> Tensor:
    """The states [N, H] that predict completion tokens."""
    return torch.cat([predicting_states(model, pad_examples(group)) for group in in_groups(problems, 8)])


@torch.no_grad()
def logits(model: PreTrainedModel, hidden_NH: Tensor, vocabulary: int) -> Tensor:
    """Float32 logits, as float64."""
    return (hidden_NH @ model.get_output_embeddings().weight[:vocabulary].T).double()


def cached_targets(seen: Seen, kind: Kind, params: TeacherLogitsParams) -> tuple[TeacherTargets, int]:
    """The targets for all tokens as they come back from the rows, and the bytes of a row."""
    scheme = scheme_of("train", params)
    uniforms_NTD = torch.cat([scheme.uniforms(e.id, len(e.completion_ids), 1) for e in seen.problems])
    rows_N = scheme.compress(seen.teacher_NV.float(), seen.labels_N, uniforms_NTD, [1.0])
    return scheme.restore(rows_N, 0, 1.0), rows_N.itemsize - kind.spare_bytes


def measure(seen: Seen, kind: Kind, params: TeacherLogitsParams) -> dict[str, float]:
    """Size, and errors of the KL and of its gradients against the dense ones in float64."""
    stored, size = cached_targets(seen, kind, params)
    vocabulary = seen.teacher_NV.shape[1]
    found, dense = Gradients(seen), Gradients(seen)
    errors, angles = [], []
    for rows in torch.arange(len(seen.labels_N)).split(CHUNK):
        labels_C, student_CV = seen.labels_N[rows], seen.student_NV[rows]
        stored_C = TeacherTargets(*(getattr(stored, name)[rows] for name in TeacherTargets.__dataclass_fields__))
        targets = kind.read(in_float64(stored_C), vocabulary)
        _, signals, gradient_CV = token_losses(student_CV.clone(), labels_C, targets, KL, wants_gradient=True)
        kl_C, dense_CV = dense_kl(seen.teacher_NV[rows], student_CV)
        errors.append(signals.divergence_N - kl_C)
        angles.append(angle(gradient_CV, dense_CV))
        found.add(gradient_CV, rows)
        dense.add(dense_CV, rows)
    error_N = torch.cat(errors)
    return {
        "bytes_per_token": size,
        "tokens_with_mass": (stored.log_probs_NK > -torch.inf).sum(1).double().mean().item(),
        "kl_error": error_N.abs().mean().item(),
        "kl_bias": error_N.mean().item(),
        "angle_per_token": torch.cat(angles).mean().item(),
        "angle_of_mean": angle(found.logits_1V, dense.logits_1V).item(),
        "angle_of_lm_head": angle(found.lm_head_VH.flatten()[None], dense.lm_head_VH.flatten()[None]).item(),
    }


class Gradients:
    """Sums over tokens of the gradient with respect to the logits, and of that with respect to lm_head."""

    def __init__(self, seen: Seen) -> None:
        """Both are zero."""
        vocabulary = seen.student_NV.shape[1]
        self._hidden_NH = seen.hidden_NH
        self.logits_1V = torch.zeros(1, vocabulary, dtype=torch.float64)
        self.lm_head_VH = torch.zeros(vocabulary, seen.hidden_NH.shape[1])

    def add(self, gradient_CV: Tensor, rows: Tensor) -> None:
        """Adds some tokens."""
        self.logits_1V += gradient_CV.sum(0)
        self.lm_head_VH.addmm_(gradient_CV.float().T, self._hidden_NH[rows])


def in_float64(stored: TeacherTargets) -> TeacherTargets:
    """The same targets, in the precision that errors are measured in."""
    return TeacherTargets(
        stored.token_ids_NK, stored.log_probs_NK.double(), stored.log_tail_N.double(), stored.log_prob_N.double()
    )


def dense_kl(teacher_NV: Tensor, student_NV: Tensor) -> tuple[Tensor, Tensor]:
    """KL(p || q) over the whole vocabulary in nats, and its gradient q - p with respect to the student's logits."""
    log_p_NV, log_q_NV = teacher_NV.log_softmax(1), student_NV.log_softmax(1)
    p_NV = log_p_NV.exp()
    return (p_NV * (log_p_NV - log_q_NV)).sum(1), log_q_NV.exp() - p_NV


def angle(a_NV: Tensor, b_NV: Tensor) -> Tensor:
    """Degrees between the rows of two matrices; by the half-angle's tangent, which stays exact where they are small."""
    a_NV, b_NV = (x / x.norm(dim=1, keepdim=True, dtype=torch.float64) for x in (a_NV, b_NV))
    return torch.rad2deg(2 * torch.atan2((a_NV - b_NV).norm(dim=1), (a_NV + b_NV).norm(dim=1)))


@dataclass(frozen=True)
class Reading:
    """A store whose targets are read in one of the ways above; `Run` asks for nothing but `targets`."""

    store: LogitStore
    kind: Kind
    vocabulary: int

    def targets(self, problems: Sequence[EncodedProblem], temperature: float) -> TeacherTargets:
        """The targets of some problems."""
        return self.kind.read(self.store.targets(problems, temperature), self.vocabulary)


class Training:
    """Short runs of the mini student that differ in their targets alone."""

    def __init__(self, params: Params, scale: Scale, folder: Path) -> None:
        """Generates the problems and loads the teacher."""
        per_cell = scale.train_problems + scale.validation_problems
        split = load_encoder(params.models).encode_all(generated_problems(per_cell))
        budget = {"batch_size": scale.batch_size, "epochs": 1, "steps_per_epoch": scale.steps}
        self._scale, self._folder = scale, folder
        self._params = replace(params, training=replace(params.training, **budget))
        self._teacher = load_model(params.models, "teacher")
        self._vocabulary = vocabulary_size(params.models)
        self._train = [e for i, e in enumerate(split.encoded) if i % per_cell < scale.train_problems]
        self._validation = [e for i, e in enumerate(split.encoded) if i % per_cell >= scale.train_problems]
        train_problems = [p for i, p in enumerate(split.problems) if i % per_cell < scale.train_problems]
        self._arms = group_into_arms(train_problems, "all")

    def outcomes(self, name: str, kind: Kind, size: int) -> dict[str, float]:
        """Validation KL and calibration error, means over the seeds, and the KL's standard deviation over them."""
        params = capture_params(self._params, kind, size)
        captured = capture_all(self._teacher, self._train, params, self._vocabulary)
        store = Reading(open_store(self._folder / f"{name}-{size}", captured, params), kind, self._vocabulary)
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
        seen = see(self._teacher, student, self._validation, self._vocabulary)
        kl_N, _ = dense_kl(seen.teacher_NV, seen.student_NV)
        confidence_N, token_N = seen.student_NV.softmax(1).max(1)
        gaps = calibration_gaps(confidence_N.numpy(), (token_N == seen.labels_N).numpy(), BINS)
        return kl_N.mean().item(), float(np.abs(gaps).sum()) / len(kl_N)


def fidelity(params: Params, scale: Scale, *, near: bool) -> dict[str, Any]:
    """Every kind and size, on some problems of all subjects and levels.

    `near` takes, in the student's place, one that has nearly learnt all: the teacher with noise on its weights.
    """
    vocabulary = vocabulary_size(params.models)
    encoded = load_encoder(params.models).encode_all(generated_problems(scale.problems)).encoded
    teacher, student = (load_model(params.models, role) for role in ("teacher", "teacher" if near else "student"))
    if near:
        add_noise(student)
    seen = see(teacher, student, within(encoded, scale), vocabulary)
    p_NV = seen.teacher_NV.softmax(1)
    rows = {
        f"{name} {size}": measure(seen, kind, capture_params(params, kind, size))
        for name, kind in KINDS.items()
        for size in scale.sizes
    }
    return {
        "vocabulary": vocabulary,
        "problems": len(seen.problems),
        "tokens": len(seen.labels_N),
        "dense_kl": dense_kl(seen.teacher_NV, seen.student_NV)[0].mean().item(),
        "teacher_entropy": -torch.xlogy(p_NV, p_NV).sum(1).mean().item(),
        "rows": rows,
    }


@torch.no_grad()
def add_noise(model: PreTrainedModel) -> None:
    """Adds NOISE of each matrix's own root mean square to its weights, the same at every call."""
    generator = torch.Generator().manual_seed(0)
    for parameter in model.base_model.layers.parameters():
        if parameter.ndim == 2:
            noise = torch.randn(parameter.shape, generator=generator)
            parameter.add_(noise * parameter.square().mean().sqrt() * NOISE)


def within(encoded: list[EncodedProblem], scale: Scale) -> list[EncodedProblem]:
    """Problems spread over all subjects and levels, with at most so many completion tokens."""
    chosen, tokens = [], 0
    for start in range(11):  # every 11th problem, since 11 shares no factor with the 5 levels and the 7 subjects
        for e in encoded[start::11]:
            if tokens + len(e.completion_ids) <= scale.most_tokens:
                chosen.append(e)
                tokens += len(e.completion_ids)
    return chosen


def train_all(params: Params, scale: Scale, folder: Path) -> dict[str, Any]:
    """A student for each kind and size, one for the dense teacher, and the one they all begin with."""
    training = Training(params, scale, folder)
    kl, ece = training.validate(load_model(params.models, "student"))
    rows = {"untrained": {"validation_kl": kl, "validation_kl_deviation": 0.0, "ece": ece}}
    dense = vocabulary_size(params.models)
    for name, kind, size in [
        ("dense", KINDS["top_k_exact_tail"], dense),
        *((name, kind, size) for name, kind in KINDS.items() for size in scale.trained_sizes),
    ]:
        label = name if name == "dense" else f"{name} {size}"
        rows[label] = training.outcomes(name, kind, size)
        say(f"trained {label}: validation KL {rows[label]['validation_kl']:.4f}, ECE {rows[label]['ece']:.4f}")
    return {"steps": scale.steps, "batch_size": scale.batch_size, "seeds": scale.seeds, "rows": rows}


def print_fidelity(name: str, found: dict[str, Any]) -> None:
    """One model pair's table."""
    say(
        f"\n{name}: vocabulary {found['vocabulary']}, {found['tokens']} tokens of {found['problems']} problems, "
        f"dense KL {found['dense_kl']:.3f}, teacher's entropy {found['teacher_entropy']:.3f} nats per token"
    )
    columns = ("bytes_per_token", "kl_error", "kl_bias", "angle_per_token", "angle_of_mean", "angle_of_lm_head")
    print_table(columns, found["rows"])


def print_table(columns: Sequence[str], rows: dict[str, dict[str, float]]) -> None:
    """Named rows under named columns."""
    say(" " * 22 + "".join(f"{c:>24}" for c in columns))
    for name, row in rows.items():
        say(f"{name:<22}" + "".join(f"{row[c]:>24.4g}" for c in columns))


@exit_on_error
def main() -> None:
    """Measures, prints and writes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tiny", action="store_true", help="few problems, few steps, one thread")
    parser.add_argument("--smollm2", type=Path, help="folder of SmolLM2-135M-Instruct; without it, mini alone")
    parser.add_argument(
        "--out", type=Path, help="JSON file; default: benchmarks/results/cache_fidelity.json, or none with --tiny"
    )
    args = parser.parse_args()
    started = time.perf_counter()
    use_threads(1 if args.tiny else 2)
    scale = TINY if args.tiny else FULL
    out = args.out or (None if args.tiny else ROOT / "benchmarks/results/cache_fidelity.json")
    models = read_params("mini").models
    pairs = {"mini": real_params(None, models)}
    if args.smollm2:
        pairs["smollm2"] = real_params(args.smollm2, models)
    found: dict[str, Any] = {"benchmark": "cache_fidelity", "environment": environment("cpu"), "scale": asdict(scale)}
    found["fidelity"] = {}
    for name, params in pairs.items():
        for label, near in ((name, False), (f"{name}_near", True)):
            found["fidelity"][label] = fidelity(params, scale, near=near)
            print_fidelity(label, found["fidelity"][label])
    found["left_out"] = [] if args.smollm2 else ["smollm2: no folder was given"]
    say(f"\nleft out: {', '.join(found['left_out']) or 'nothing'}\n")
    with tempfile.TemporaryDirectory() as folder:
        found["training"] = {"mini": train_all(pairs["mini"], scale, Path(folder))}
    found["seconds"] = round(time.perf_counter() - started, 1)
    say(f"\nmini students after {scale.steps} steps of {scale.batch_size} problems, means over {scale.seeds} seeds")
    print_table(("validation_kl", "validation_kl_deviation", "ece"), found["training"]["mini"]["rows"])
    say(f"\n{found['seconds']:.0f} s")
    if out:
        write_json(out, found)
        say(f"written to {out}")


if __name__ == "__main__":
    main()
