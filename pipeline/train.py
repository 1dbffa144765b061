"""Stage `train`: one run, that is one method with one seed, from the untrained student to the distilled one.

A killed run goes on from its last checkpoint and ends with the very bytes it would have had. Several processes
(torchrun, accelerate launch) share each batch; a checkpoint may be taken up by another number of them.
"""

from __future__ import annotations

import argparse
import resource
import sys
import time
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from types import ModuleType
from typing import Any

import pandas as pd
import torch
from tqdm import tqdm
from transformers import PreTrainedTokenizerBase

from pipeline.checkpoint import Checkpoint, code_digest
from pipeline.common.errors import ParamsError, TrainingError, exit_on_error
from pipeline.common.files import file_digest, replacing_folder, write_json, write_text
from pipeline.common.interrupts import Interrupted, finish_regardless, requested, uninterrupted
from pipeline.common.locks import only_one
from pipeline.common.params import GenerationParams, GradingParams, ModelsParams, ParamsFile, TrainingParams
from pipeline.common.paths import ARM_LOG, LEARNING_CURVE, PREPARED, RUNS, STUDENTS, TEACHER_LOGITS, TRAINING_METRICS
from pipeline.distillation.logit_store import LogitStore, store_identity
from pipeline.distillation.schemes import SchemeName
from pipeline.language_models.generation import generate_answers
from pipeline.language_models.loading import (
    load_model,
    model_identity,
    precision,
    require_same_vocabulary,
    save_student,
)
from pipeline.language_models.prompts import EncodedProblem, encode_all, encode_prompt
from pipeline.problems.grading import Grader
from pipeline.problems.record import Problem, read_problems
from pipeline.processes import Processes, join_processes
from pipeline.registry import find
from pipeline.training.arms import ArmSet, group_into_arms
from pipeline.training.model_card import TrainedStudent, model_card
from pipeline.training.run import Run
from pipeline.training.run_picture import draw_run
from pipeline.training.schedule import Budget, budget_of, validation_steps


@dataclass(frozen=True)
class Params:
    """What this stage depends on; `curriculum` is an instance of the method's own Params."""

    models: ModelsParams
    scheme: SchemeName
    training: TrainingParams
    generation: GenerationParams
    grading: GradingParams
    curriculum: Any


def curriculum_module(method: str) -> ModuleType:
    """The file of a method's curriculum.

    Raises:
        ParamsError: there is none, or it is incomplete.
    """
    module = find("pipeline.curricula", method, "curriculum")
    if "arms" not in module.Params.__dataclass_fields__:
        raise ParamsError(f"pipeline/curricula/{method}.py: Params lacks the field arms, which says what an arm is")
    return module


def read_params(file: ParamsFile, method: str) -> Params:
    """The parameters a run of `method` depends on."""
    return Params(
        file.scale_section("models", ModelsParams),
        file.scale_section("teacher_logits.scheme", SchemeName),
        file.scale_section("training", TrainingParams),
        file.scale_section("generation", GenerationParams),
        file.scale_section("grading", GradingParams),
        file.section(f"curricula.{method}", curriculum_module(method).Params),
    )


@exit_on_error
def main() -> None:
    """Trains one student and writes it, its logs and what it cost."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--method", required=True)
    parser.add_argument("--seed", type=int, required=True)
    args = parser.parse_args()
    if args.seed < 0:
        parser.error("--seed must not be negative")
    params = read_params(ParamsFile(), args.method)
    require_unbiased(params)
    name = f"{args.method}-{args.seed}"
    processes = join_processes(params.models)
    with only_one(f"train-{name}", is_main=processes.is_main):
        tokenizer = require_same_vocabulary(params.models)
        prepared = read_problems("train")
        made_from = store_identity(params.models, tokenizer) | {
            "scheme": params.scheme,
            "problems": file_digest(PREPARED / "train.jsonl"),
        }
        store = LogitStore(TEACHER_LOGITS / "train", made_from)
        encoding = encode_all(read_problems("train", store.folder), tokenizer, params.models)
        store.require(encoding.encoded)
        store.require_temperature(params.training.temperature)
        arms = group_into_arms(encoding.problems, params.curriculum.arms, prepared)
        curriculum = curriculum_module(args.method).build(params.curriculum, arms, args.seed)
        budget = budget_of(params.training, len(encoding.problems))
        student = load_model(params.models, "student")
        run = Run(student, curriculum, arms, args.seed, params.training, budget.steps, processes)
        checkpoint = Checkpoint(f"train-{name}", run_identity(args.method, args.seed, params))
        train(run, name, encoding.encoded, store, budget, params, tokenizer, checkpoint, arms, processes)
        if processes.is_main:
            finish_regardless()
            write_results(run, args.method, args.seed, params, tokenizer, encoding.problems, processes)
            checkpoint.delete()


def require_unbiased(params: Params) -> None:
    """Checks that the divergence can be learnt from what is kept of the teacher.

    Raises:
        ParamsError: draws of the teacher are to be learnt by another divergence than forward KL.
    """
    if params.scheme == "sampled" and params.training.divergence != "forward_kl":
        raise ParamsError(
            f"params.yaml: training.divergence is {params.training.divergence}, whose gradient is biased on sampled "
            "teacher logits; set it to forward_kl, or teacher_logits.scheme to top_k"
        )


def run_identity(method: str, seed: int, params: Params) -> dict[str, Any]:
    """Everything a run's result depends on: a checkpoint of anything else must not be picked up."""
    return {
        "method": method,
        "seed": seed,
        "params": asdict(params),
        "code": code_digest(),
        "student": model_identity(params.models, "student"),
        "store": file_digest(TEACHER_LOGITS / "train/manifest.json"),
        "problems": [file_digest(PREPARED / f"{split}.jsonl") for split in ("train", "validation")],
    }


def train(
    run: Run,
    name: str,
    encoded: list[EncodedProblem],
    store: LogitStore,
    budget: Budget,
    params: Params,
    tokenizer: PreTrainedTokenizerBase,
    checkpoint: Checkpoint,
    arms: ArmSet,
    processes: Processes,
) -> None:
    """Trains to the end of the budget, from the checkpoint if there is one, validating on the way."""
    validate_at = validation_steps(budget.steps, params.training.validations)
    if (saved := checkpoint.load()) is not None:
        run.load_state(*saved)
    processes.wait()  # the main process must not save the next checkpoint while another still reads this one
    with (
        Grader(params.grading.seconds, params.grading.workers) as grader,
        tqdm(
            total=budget.steps, initial=run.steps_done, desc=name, unit="step", disable=not processes.is_main
        ) as progress,
    ):
        validation = Validation(read_problems("validation"), tokenizer, grader, params, processes)
        try:
            # several processes stop together, between two steps: they would wait for one that left alone
            with uninterrupted() if processes.count > 1 else nullcontext():
                while True:
                    if processes.any(requested(), run.student.device):
                        raise Interrupted
                    if run.steps_done in validate_at and not run.log.has_validation(run.steps_done):
                        validation.add_to(run)
                    if run.steps_done == budget.steps:
                        break
                    started, cut = time.perf_counter(), run.micro_batch_tokens
                    loss, tokens = run.step(encoded, store, precision(params.models, keep_casts=False))
                    seconds = time.perf_counter() - started
                    run.training_seconds += seconds
                    progress.update()
                    favourite = {"arm": arms.names[run.favourite_arm()]} if run.learner else {}
                    progress.set_postfix(
                        loss=f"{loss:.3f}", tokens_per_s=f"{tokens / seconds:.0f}", **favourite, refresh=False
                    )
                    due = run.steps_done % params.training.checkpoint_steps == 0 or run.micro_batch_tokens != cut
                    if due and processes.is_main:
                        checkpoint.save(*run.state())
        except (Interrupted, TrainingError):
            finish_regardless()
            if processes.is_main and run.consistent:
                checkpoint.save(*run.state())
            processes.wait()  # the launcher ends the others as soon as one has left
            raise


class Validation:
    """The points of the learning curve: the student's greedy accuracy on the validation problems."""

    def __init__(
        self,
        problems: list[Problem],
        tokenizer: PreTrainedTokenizerBase,
        grader: Grader,
        params: Params,
        processes: Processes,
    ) -> None:
        """Encodes the prompts of this process's share once."""
        share = processes.share(problems)
        self._problems = len(problems)
        self._answers = [p.answer for p in share]
        self._prompts = [encode_prompt(p.problem, tokenizer, params.models) for p in share]
        self._tokenizer, self._grader, self._params, self._processes = tokenizer, grader, params, processes

    def add_to(self, run: Run) -> None:
        """Measures the student as it is now and notes it in the run's log."""
        run.student.eval()
        with precision(self._params.models):
            outputs = generate_answers(run.student, self._tokenizer, self._prompts, self._params.generation)
        grades = self._grader.grade(list(zip(self._answers, outputs, strict=True)))
        correct, timeouts = self._processes.sum_values(
            [sum(grade.correct for grade in grades), sum(grade.timed_out for grade in grades)], run.student.device
        )
        with uninterrupted():
            run.grading_timeouts += int(timeouts)
            run.log.add_validation(run.steps_done, correct / self._problems)


def write_results(
    run: Run,
    method: str,
    seed: int,
    params: Params,
    tokenizer: PreTrainedTokenizerBase,
    problems: list[Problem],
    processes: Processes,
) -> None:
    """Writes the logs and their picture, what the run cost, and the student."""
    name = f"{method}-{seed}"
    with replacing_folder(RUNS / name) as folder:
        run.log.write(folder)
        draw_run(pd.read_csv(folder / LEARNING_CURVE), pd.read_csv(folder / ARM_LOG), name, folder / "run.png")
    write_json(
        TRAINING_METRICS / f"{name}.json",
        {
            "method": method,
            "seed": seed,
            "steps": run.steps_done,
            "examples": run.log.examples,
            "tokens": run.log.tokens,
            "processes": processes.count,
            "micro_batch_tokens": run.micro_batch_tokens,
            "training_seconds": round(run.training_seconds, 3),
            "peak_memory_bytes": peak_memory(params.models),
            "grading_timeouts": run.grading_timeouts,
        },
    )
    with replacing_folder(STUDENTS / name) as folder:
        save_student(run.student, tokenizer, folder)
        write_text(folder / "README.md", str(model_card(facts(run, method, seed, params, problems))))


def facts(run: Run, method: str, seed: int, params: Params, problems: list[Problem]) -> TrainedStudent:
    """What the model card tells of a finished run, whose learning curve is written."""
    models = params.models
    return TrainedStudent(
        method=method,
        seed=seed,
        teacher=models.teacher,
        student=models.student,
        prompt=models.prompt,
        chat_template=models.chat_template,
        max_new_tokens=params.generation.max_new_tokens,
        params=asdict(params),
        trained_on=problems,
        digests={file: file_digest(PREPARED / file) for file in ("train.jsonl", "validation.jsonl")},
        steps=run.steps_done,
        examples=run.log.examples,
        tokens=run.log.tokens,
        curve=pd.read_csv(RUNS / f"{method}-{seed}" / LEARNING_CURVE, dtype=str, keep_default_na=False),
    )


def peak_memory(models: ModelsParams) -> int:
    """Bytes: the most the GPU held at once, or on a CPU the largest resident size of this process."""
    if models.device == "cuda":
        return torch.cuda.max_memory_allocated()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


if __name__ == "__main__":
    main()
