"""Stage `train`: one run, that is one method with one seed, from the untrained student to the distilled one.

A killed run goes on from its last checkpoint and ends with the very bytes it would have had. Several processes
(torchrun, accelerate launch) share each batch; a checkpoint may be taken up by another number of them.
"""

from __future__ import annotations

import argparse
import functools
from dataclasses import asdict, dataclass
from typing import Any

from pipeline.checkpoints.checkpoint import Checkpoint
from pipeline.checkpoints.code import code_digest
from pipeline.checkpoints.versions import versions
from pipeline.common.errors import ParamsError
from pipeline.common.files import file_digest, replacing_folder
from pipeline.common.interrupts import finish_regardless
from pipeline.common.locks import only_one
from pipeline.common.params import ParamsFile
from pipeline.common.paths import PREPARED, RECORD, RUNS, STUDENTS, TEACHER_LOGITS, TRAINING_COSTS
from pipeline.common.stage import exit_on_error
from pipeline.contents.noticed import require_models_noticed
from pipeline.curricula import build_curriculum, inputs_of, modules_of, params_class
from pipeline.language_models.loading import load_encoder, load_model, model_identity, precision, save_student
from pipeline.language_models.processes import Processes, join_processes, peak_memory
from pipeline.language_models.prompts import Encoder
from pipeline.language_models.provenance import provenance_of
from pipeline.language_models.settings import GenerationParams, ModelsParams
from pipeline.logit_store.names import SchemeName
from pipeline.logit_store.store import LogitStore
from pipeline.problems.grading import Grader
from pipeline.problems.settings import GradingParams
from pipeline.results.files import write_record
from pipeline.results.rows import TrainingCost, TrainingRecord
from pipeline.training.difficulty import completion_losses
from pipeline.training.loop import train
from pipeline.training.run import Run
from pipeline.training.settings import TrainingParams, require_unbiased
from pipeline.training.trackers import chosen_trackers
from pipeline.training.tracking import tracking_of, untracked
from pipeline.training.training_set import load_training_set, load_validation_set
from pipeline.training.validation import Validation, validation_generation

SEEN = ("train", "probe", "validation")  # the splits that a run reads


@dataclass(frozen=True)
class Params:
    """What this stage depends on; `curriculum` is an instance of the method's own Params."""

    models: ModelsParams
    scheme: SchemeName
    training: TrainingParams
    generation: GenerationParams
    grading: GradingParams
    curriculum: Any


@dataclass(frozen=True)
class Cell:
    """A cell of the matrix: a method with a seed; `replay` says that the stage waited for the run it replays."""

    method: str
    seed: int
    replay: bool

    @property
    def name(self) -> str:
        """METHOD-SEED."""
        return f"{self.method}-{self.seed}"


def read_params(file: ParamsFile, method: str) -> Params:
    """The parameters a run of `method` depends on."""
    return Params(
        file.scale_section("models", ModelsParams),
        file.scale_section("teacher_logits.scheme", SchemeName),  # type: ignore[arg-type]  # a Literal is no type[T]
        file.scale_section("training", TrainingParams),
        file.scale_section("generation", GenerationParams),
        file.scale_section("grading", GradingParams),
        file.section(f"curricula.{method}", params_class(method)),
    )


@exit_on_error
def main() -> None:
    """Trains one student and writes it, its logs and what it cost."""
    cell = parse_arguments()
    params = read_params(ParamsFile(), cell.method)
    require_its_stage(cell)
    require_unbiased(params.training, params.scheme)
    require_models_noticed({"teacher_tokenizer": params.models.teacher, "student": params.models.student})
    trackers = chosen_trackers()
    processes = join_processes(params.models)
    with only_one(f"train-{cell.name}", is_main=processes.is_main):
        encoder = load_encoder(params.models)
        student = load_model(params.models, "student")
        untrained = functools.partial(
            completion_losses, student, precision=precision(params.models), processes=processes
        )
        problems = load_training_set(
            encoder, params.scheme, params.training.temperature, params.curriculum.arms, untrained
        )
        require_enough_kept(params.training, problems.store)
        run = Run(
            student,
            build_curriculum(cell.method, params.curriculum, problems.arms, cell.seed),
            problems,
            params.training,
            cell.seed,
            precision=precision(params.models, keep_casts=False),
            processes=processes,
        )
        checkpoint = Checkpoint(f"train-{cell.name}", run_identity(cell, params))
        with Grader(params.grading.seconds, params.grading.workers) as grader:
            validation_set = load_validation_set(encoder, params.training.validation_problems)
            generation = validation_generation(params.generation, params.training.validation_new_tokens)
            validation = Validation(validation_set, encoder, generation, grader, processes)
            tracking = untracked()
            if processes.is_main:
                settings = {"method": cell.method, "seed": cell.seed, **asdict(params)}
                tracking = tracking_of(cell.name, checkpoint.folder, trackers, settings)
            train(run, validation, checkpoint, params.training, processes, tracking, cell.name)
        if processes.is_main:
            finish_regardless()
            write_results(run, cell, params, encoder, processes, validation_set.part)
            checkpoint.delete()


def parse_arguments() -> Cell:
    """The cell that the command line names."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--method", required=True)
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--replay", action="store_true", help="the method is one of params.yaml's replays")
    args = parser.parse_args()
    if args.seed < 0:
        parser.error("--seed must not be negative")
    return Cell(args.method, args.seed, args.replay)


def require_its_stage(cell: Cell) -> None:
    """Checks that the stage that DVC runs knows what the method depends on.

    Raises:
        ParamsError: a method that replays another's run is among `methods`, or one that does not among `replays`.
    """
    if bool(inputs_of(cell.method, cell.seed)) != cell.replay:
        says, wanted = ("replays", "methods") if cell.replay else ("methods", "replays")
        raise ParamsError(f"params.yaml: {says} names {cell.method}; move it to {wanted}")


def require_enough_kept(training: TrainingParams, store: LogitStore) -> None:
    """Checks that the divergence, where it is learnt from, keeps most of the dense one's gradient.

    Raises:
        TeacherLogitsError: too much of the teacher's mass lies in tails of which a student learns the mass alone.
    """
    if training.distillation_weight > 0:
        store.require_told_apart(training.temperature, training.most_tail_mass)


def run_identity(cell: Cell, params: Params) -> dict[str, Any]:
    """Everything a run's result depends on: a checkpoint of anything else must not be picked up."""
    return {
        "method": cell.method,
        "seed": cell.seed,
        "params": asdict(params),
        "code": code_digest("pipeline.train", *modules_of(cell.method)),
        "inputs": [file_digest(path) for path in inputs_of(cell.method, cell.seed)],
        "versions": versions(*(["bitsandbytes"] if params.training.moments == "8bit" else [])),
        "student": model_identity(params.models, "student"),
        "stores": [file_digest(TEACHER_LOGITS / f"{split}/manifest.json") for split in SEEN],
        "problems": [file_digest(PREPARED / f"{split}.jsonl") for split in SEEN],
    }


def write_results(
    run: Run, cell: Cell, params: Params, encoder: Encoder, processes: Processes, answered: int | None
) -> None:
    """Writes the run's record and logs, what it cost, and the student."""
    record = TrainingRecord(
        cell.method,
        cell.seed,
        run.steps_done,
        run.log.examples,
        run.log.tokens,
        run.grading_timeouts,
        validation_problems=answered,
    )
    with replacing_folder(RUNS / cell.name) as folder:
        run.log.write(folder)
        write_record(folder / RECORD, record)
    cost = TrainingCost(
        cell.name,
        processes.count,
        run.micro_batch_tokens,
        run.gradient_checkpointing,
        seconds=round(run.training_seconds, 3),
        peak_memory_bytes=peak_memory(params.models.device),
        provenance=provenance_of(params.models),
    )
    write_record(TRAINING_COSTS / f"{cell.name}.json", cost)
    with replacing_folder(STUDENTS / cell.name) as folder:
        save_student(run.student, encoder.tokenizer, folder)


if __name__ == "__main__":
    main()
