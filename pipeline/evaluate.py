"""Stage `evaluate`: answers the test problems greedily, grades them, and holds the student against the teacher.

python -m pipeline.evaluate --method rl --seed 0      a trained student
python -m pipeline.evaluate --reference teacher       the ceiling
python -m pipeline.evaluate --reference untrained_student    the floor
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from tqdm import tqdm
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from pipeline.common.errors import ResultsError, exit_on_error
from pipeline.common.files import read_jsonl, write_json, write_jsonl
from pipeline.common.locks import only_one
from pipeline.common.params import EvaluationParams, GenerationParams, GradingParams, ModelsParams, ParamsFile
from pipeline.common.paths import (
    CHECKPOINTS,
    EVALUATION_METRICS,
    PREDICTIONS,
    STUDENTS,
    TEACHER,
    TEACHER_LOGITS,
    UNTRAINED_STUDENT,
)
from pipeline.distillation.logit_store import LogitStore, store_identity
from pipeline.distillation.loss import LossSettings
from pipeline.distillation.step import forward_loss, micro_batches
from pipeline.language_models.generation import generate_answers
from pipeline.language_models.loading import (
    load_model,
    load_student,
    precision,
    require_same_vocabulary,
)
from pipeline.language_models.prompts import encode_all, encode_prompt
from pipeline.problems.grading import Grader
from pipeline.problems.record import Problem, read_problems
from pipeline.processes import join_processes
from pipeline.vllm_engine import generate_with_vllm, require_vllm

FIDELITY_TOKENS = 4096  # tokens, padding included, of one forward pass over the reference solutions


@dataclass(frozen=True)
class Params:
    """What this stage depends on."""

    models: ModelsParams
    generation: GenerationParams
    grading: GradingParams
    evaluation: EvaluationParams


@dataclass(frozen=True)
class Fidelity:
    """How a model's next-token distributions on the reference solutions compare, at temperature 1.

    kl_per_token: KL(teacher || model) in nats. top1_agreement: share of tokens where both find the same token most
    likely. calibration_error: of the model's most likely token against the reference.
    """

    kl_per_token: float
    top1_agreement: float
    calibration_error: float


def read_params(file: ParamsFile) -> Params:
    """The parameters this stage depends on."""
    return Params(
        file.scale_section("models", ModelsParams),
        file.scale_section("generation", GenerationParams),
        file.scale_section("grading", GradingParams),
        file.scale_section("evaluation", EvaluationParams),
    )


@exit_on_error
def main() -> None:
    """Evaluates one model on the test split."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--reference", choices=(TEACHER, UNTRAINED_STUDENT))
    parser.add_argument("--method")
    parser.add_argument("--seed", type=int)
    args = parser.parse_args()
    if (args.reference is None) == (args.method is None or args.seed is None):
        parser.error("give either --reference, or --method and --seed")
    params = read_params(ParamsFile())
    name = args.reference or f"{args.method}-{args.seed}"
    with only_one(f"evaluate-{name}"), Grader(params.grading.seconds, params.grading.workers) as grader:
        join_processes(params.models)
        if params.evaluation.engine == "vllm":
            require_vllm(params.models)
        problems = read_problems("test")
        tokenizer = require_same_vocabulary(params.models)
        model = load(name, params.models)
        with precision(params.models):
            fidelity = measure_fidelity(model, tokenizer, problems, params)
        outputs = answer(name, model, tokenizer, problems, params)  # last, because vLLM needs the GPU for itself
        rows = graded_rows(name, problems, outputs, grader)
        write_jsonl(PREDICTIONS / f"{name}.jsonl", rows)
        write_json(
            EVALUATION_METRICS / f"{name}.json",
            {"name": name, "method": args.method, "seed": args.seed} | accuracies(rows) | vars(fidelity),
        )


def load(name: str, models: ModelsParams) -> PreTrainedModel:
    """The teacher, the untrained student, or a trained student by its run's name."""
    if name == TEACHER:
        return load_model(models, "teacher")
    return load_model(models, "student") if name == UNTRAINED_STUDENT else load_student(STUDENTS / name, models)


def answer(
    name: str,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    problems: Sequence[Problem],
    params: Params,
) -> list[str]:
    """The model's greedy answer to each problem, from the engine of `params`."""
    prompts = [encode_prompt(p.problem, tokenizer, params.models) for p in problems]
    if params.evaluation.engine == "vllm":
        folder = CHECKPOINTS / f"vllm-{name}"
        return generate_with_vllm(model, tokenizer, prompts, params.models, params.generation, folder)
    with precision(params.models):
        return generate_answers(model, tokenizer, prompts, params.generation, progress=name)


def graded_rows(name: str, problems: Sequence[Problem], outputs: Sequence[str], grader: Grader) -> list[dict[str, Any]]:
    """One row per test problem; agreement means the same answer as the teacher's, right or wrong.

    Raises:
        ResultsError: the teacher's predictions are missing or are for other problems.
    """
    grades = grader.grade([(p.answer, output) for p, output in zip(problems, outputs, strict=True)])
    answers = [g.answer for g in grades]
    own = [(g.answer, g.correct) for g in grades]
    teacher = own if name == TEACHER else read_teacher([p.id for p in problems])
    agrees = grader.agree([(answer, other) for (answer, _), other in zip(teacher, answers, strict=True)])
    return [
        {
            "id": p.id,
            "level": p.level,
            "subject": p.subject,
            "output": output,
            "answer": g.answer,
            "correct": g.correct,
            "teacher_correct": teacher_correct,
            "agrees": same,
            "timed_out": g.timed_out,
        }
        for p, output, g, (_, teacher_correct), same in zip(problems, outputs, grades, teacher, agrees, strict=True)
    ]


def read_teacher(ids: list[str]) -> list[tuple[str | None, bool]]:
    """The teacher's answer to each problem and whether it was right."""
    path = PREDICTIONS / f"{TEACHER}.jsonl"
    if not path.exists():
        raise ResultsError(f"{path} is missing; run `dvc repro evaluate_teacher` first")
    rows = read_jsonl(path)
    if [row["id"] for row in rows] != ids:
        raise ResultsError(f"{path} is for other problems than data/prepared/test.jsonl; run `dvc repro`")
    return [(row["answer"], row["correct"]) for row in rows]


def accuracies(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Accuracy overall, by level and by subject, agreement with the teacher, and how often grading ran out of time."""

    def share(key: str, chosen: list[dict[str, Any]]) -> float:
        return sum(row[key] for row in chosen) / len(chosen)

    def by(group: str) -> dict[str, float]:
        return {
            str(value): share("correct", [row for row in rows if row[group] == value])
            for value in sorted({row[group] for row in rows})
        }

    return {
        "problems": len(rows),
        "accuracy": share("correct", rows),
        "accuracy_by_level": by("level"),
        "accuracy_by_subject": by("subject"),
        "agreement": share("agrees", rows),
        "grading_timeouts": sum(row["timed_out"] for row in rows),
    }


@torch.inference_mode()
def measure_fidelity(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, problems: Sequence[Problem], params: Params
) -> Fidelity:
    """Runs the model over the reference solutions and compares it with the cached teacher, token by token."""
    encoded = encode_all(problems, tokenizer, params.models).encoded
    store = LogitStore(TEACHER_LOGITS / "test", store_identity(params.models, tokenizer) | {"scheme": "top_k"})
    settings = LossSettings(temperature=1.0, distillation_weight=1.0, divergence="forward_kl", jsd_beta=0.5)
    divergences, agrees, confidences, hits = [], [], [], []
    groups = list(micro_batches(encoded, FIDELITY_TOKENS))
    for group in tqdm(groups, desc="fidelity", unit="batch"):
        part = [encoded[i] for i in group]
        labels_N = torch.from_numpy(np.concatenate([e.completion_ids for e in part]))
        _, seen, targets = forward_loss(model, part, store, settings, len(labels_N))
        divergences.append(seen.divergence_N.cpu())
        agrees.append((seen.top_token_N == targets.token_ids_NK[:, 0]).cpu())
        confidences.append(seen.top_prob_N.cpu())
        hits.append(seen.top_token_N.cpu() == labels_N)
    return Fidelity(
        torch.cat(divergences).double().mean().item(),
        torch.cat(agrees).double().mean().item(),
        expected_calibration_error(
            torch.cat(confidences).double().numpy(), torch.cat(hits).numpy(), params.evaluation.calibration_bins
        ),
    )


def expected_calibration_error(confidence_N: np.ndarray, hit_N: np.ndarray, bins: int) -> float:
    """ECE over equal-width bins (Guo et al. 2017, eq. 3): mean |share of hits - mean confidence|, by bin size."""
    bin_N = np.minimum((confidence_N * bins).astype(int), bins - 1)
    gaps = np.bincount(bin_N, weights=hit_N - confidence_N, minlength=bins)
    return float(np.abs(gaps).sum() / len(confidence_N))


if __name__ == "__main__":
    main()
