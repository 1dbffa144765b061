"""From a run's start, or its checkpoint, to the end of its budget, validating and saving on the way."""

from __future__ import annotations

import time
from contextlib import closing, nullcontext

from tqdm import tqdm

from pipeline.checkpoints.checkpoint import Checkpoint
from pipeline.common.errors import TrainingError
from pipeline.common.interrupts import Interrupted, finish_regardless, requested, uninterrupted
from pipeline.language_models.processes import Processes
from pipeline.training.compilation import uncompiled
from pipeline.training.run import Run
from pipeline.training.schedule import validation_steps
from pipeline.training.settings import TrainingParams
from pipeline.training.tracking import Tracking
from pipeline.training.validation import Validation


def train(
    run: Run,
    validation: Validation,
    checkpoint: Checkpoint,
    training: TrainingParams,
    processes: Processes,
    tracking: Tracking,
    name: str,
) -> None:
    """Trains to the end of the budget, telling `tracking` of it; `name` labels the progress bar.

    Raises:
        Interrupted: the process was told to stop. TrainingError: see `Run.step`. A checkpoint is saved before either.
    """
    if (saved := checkpoint.load()) is not None:
        run.load_state(*saved)
    processes.wait()  # the main process must not save the next checkpoint while another still reads this one
    tracking.start(run)
    with (
        closing(tracking),
        tqdm(total=run.steps, initial=run.steps_done, desc=name, unit="step", disable=not processes.is_main) as bar,
    ):
        try:
            # several processes stop together, between two steps: they would wait for one that left alone
            with uninterrupted() if processes.count > 1 else nullcontext():
                _train(run, validation, checkpoint, training, processes, tracking, bar)
        except (Interrupted, TrainingError) as error:
            finish_regardless()
            if isinstance(error, TrainingError):
                tracking.failed(str(error))
            if processes.is_main:
                checkpoint.save(*run.state())
            processes.wait()  # the launcher ends the others as soon as one has left
            raise


def _train(
    run: Run,
    validation: Validation,
    checkpoint: Checkpoint,
    training: TrainingParams,
    processes: Processes,
    tracking: Tracking,
    bar: tqdm,
) -> None:
    validate_at = validation_steps(run.steps, training.validations)
    while True:
        if processes.any(requested(), run.student.device):
            raise Interrupted
        if run.steps_done in validate_at and not run.log.has_validation(run.steps_done):
            # answers are made token by token, for which layers are not compiled
            with uncompiled(compiled=training.compile):
                result = validation.measure(run.student)
            with uninterrupted():
                run.grading_timeouts += result.timeouts
                run.log.add_validation(run.steps_done, result.accuracy, result.kl_per_token)
            tracking.validation(run, result)
        if run.steps_done == run.steps:
            return
        started, before = time.perf_counter(), run.memory_saved_by
        step = run.step()
        seconds = time.perf_counter() - started
        run.training_seconds += seconds
        favourite = run.favourite_arm() if run.learner else None
        tracking.step(run, step, seconds, favourite)
        bar.update()
        shown = {} if favourite is None else {"arm": favourite}
        shown |= {"loss": f"{step.loss:.3f}", "tokens_per_s": f"{step.tokens / seconds:.0f}"}
        bar.set_postfix(shown, refresh=False)
        due = run.steps_done % training.checkpoint_steps == 0 or run.memory_saved_by != before
        if due and processes.is_main:
            checkpoint.save(*run.state())
