"""Stage `evaluate`: answers the test problems greedily, grades them, and holds the student against the teacher.

python -m pipeline.evaluate --method rl --seed 0      a trained student
python -m pipeline.evaluate --reference teacher       the ceiling
python -m pipeline.evaluate --reference untrained_student    the floor
"""

from __future__ import annotations

import argparse
import time
from dataclasses import dataclass

from pipeline.common.locks import only_one
from pipeline.common.params import ParamsFile
from pipeline.common.paths import (
    EVALUATION_COSTS,
    PREDICTIONS,
    TEACHER,
    TEACHER_LOGITS,
    UNTRAINED_STUDENT,
)
from pipeline.common.stage import exit_on_error
from pipeline.contents.noticed import require_models_noticed
from pipeline.evaluation.answers import answer, graded, load
from pipeline.evaluation.fidelity import measure_fidelity
from pipeline.evaluation.settings import EvaluationParams
from pipeline.evaluation.vllm_engine import require_vllm
from pipeline.language_models.loading import load_encoder
from pipeline.language_models.processes import join_processes, peak_memory
from pipeline.language_models.provenance import provenance_of
from pipeline.language_models.settings import GenerationParams, ModelsParams
from pipeline.logit_store.store import LogitStore, store_identity
from pipeline.problems.grading import Grader
from pipeline.problems.record import read_problems
from pipeline.problems.settings import GradingParams
from pipeline.results.files import write_record, write_rows
from pipeline.results.rows import EvaluationCost


@dataclass(frozen=True)
class Params:
    """What this stage depends on."""

    models: ModelsParams
    generation: GenerationParams
    grading: GradingParams
    evaluation: EvaluationParams


def read_params(file: ParamsFile) -> Params:
    return Params(
        file.scale_section("models", ModelsParams),
        file.scale_section("generation", GenerationParams),
        file.scale_section("grading", GradingParams),
        file.scale_section("evaluation", EvaluationParams),
    )


@exit_on_error
def main() -> None:
    """Evaluates one model on the test split."""
    name = parse_arguments()
    params = read_params(ParamsFile())
    require_models_noticed(read_of_models(name, params.models))
    with only_one(f"evaluate-{name}"), Grader(params.grading.seconds, params.grading.workers) as grader:
        join_processes(params.models)
        if params.evaluation.engine == "vllm":
            require_vllm(params.models)
        started = time.perf_counter()
        problems = read_problems("test")
        encoder = load_encoder(params.models)
        store = LogitStore(TEACHER_LOGITS / "test", store_identity(encoder) | {"scheme": "top_k"})
        model = load(name, params.models)
        fidelity = measure_fidelity(model, encoder, problems, store, params.evaluation.calibration_bins)
        # last, because vLLM needs the GPU for itself
        outputs = answer(name, model, encoder, problems, params.evaluation, params.generation)
        rows = graded(name, problems, outputs, fidelity, grader)
        write_rows(PREDICTIONS / f"{name}.jsonl", rows)
        cost = EvaluationCost(
            name,
            len(rows),
            params.evaluation.engine,
            seconds=round(time.perf_counter() - started, 3),
            peak_memory_bytes=peak_memory(params.models.device),
            provenance=provenance_of(params.models),
        )
        write_record(EVALUATION_COSTS / f"{name}.json", cost)
        print(f"{name}: {sum(row.correct for row in rows)} of {len(rows)} test problems solved")


def read_of_models(name: str, models: ModelsParams) -> dict[str, str]:
    """What is read of teacher and student: all of the one that is evaluated, of others the tokenizer."""
    teacher = "teacher" if name == TEACHER else "teacher_tokenizer"
    student = "student" if name == UNTRAINED_STUDENT else "student_tokenizer"
    return {teacher: models.teacher, student: models.student}


def parse_arguments() -> str:
    """The name of the model that the command line asks for: METHOD-SEED, or one of the references."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--reference", choices=(TEACHER, UNTRAINED_STUDENT))
    parser.add_argument("--method")
    parser.add_argument("--seed", type=int)
    args = parser.parse_args()
    if (args.reference is None) == (args.method is None or args.seed is None):
        parser.error("give either --reference, or --method and --seed")
    return args.reference or f"{args.method}-{args.seed}"


if __name__ == "__main__":
    main()
