"""The project's errors: one sentence each, saying what is wrong, where, and what to do about it.

Every class is also the standard error it resembles, so callers may catch either. `exit_on_error` turns one
into a message on stderr and exit status 1 for the command line.
"""

from __future__ import annotations

import functools
import gc
import os
import sys
from collections.abc import Callable
from pathlib import Path

from pipeline.common.interrupts import Interrupted, interruptible


class PipelineError(Exception):
    """Anything the user can mend; the message is one sentence."""


class ParamsError(PipelineError, ValueError):
    """params.yaml holds a wrong, missing or unknown value."""


class DataError(PipelineError, ValueError):
    """A problem file is malformed or does not hold what was asked for."""


class ModelError(PipelineError, ValueError):
    """A model or tokenizer cannot be loaded or does not fit its partner."""


class TeacherLogitsError(PipelineError, ValueError):
    """The teacher-logit cache is missing, damaged, or belongs to something else."""


class TrainingError(PipelineError, ArithmeticError):
    """Training cannot go on, for example because the loss is not a number."""


class ResultsError(PipelineError, ValueError):
    """Result files needed for the report are missing or disagree."""


class StorageError(PipelineError, OSError):
    """A file or folder cannot be written: the disk is full, or writing is not allowed."""

    def __init__(self, path: Path, reason: str) -> None:
        """`reason` is the system's own word for it."""
        super().__init__(
            f"{path} cannot be written ({reason}); free some space or mend the permissions, and run the command again"
        )
        self.reason = reason


class BusyError(PipelineError, RuntimeError):
    """Another process is working on the same thing."""


def exit_on_error(main: Callable[[], None]) -> Callable[[], None]:
    """Wraps a stage's `main`: a PipelineError ends it with its sentence and exit status 1, no traceback.

    So do SIGTERM and Ctrl-C, with the exit status that shells give to a process ended by them.
    """

    @functools.wraps(main)
    def wrapped() -> None:
        if not gc.isenabled():  # see pipeline/__init__.py
            gc.freeze()
            gc.enable()
        try:
            with interruptible():
                main()
        except Interrupted as interrupted:
            if rank() == "0":
                print(f"{interrupted}; the same command goes on from here", file=sys.stderr)
            sys.exit(interrupted.exit_status)
        except PipelineError as error:
            print(f"error: {error}" if rank() == "0" else f"error in process {rank()}: {error}", file=sys.stderr)
            sys.exit(1)

    return wrapped


def rank() -> str:
    """This process's number among those that torchrun or accelerate launch started; "0" where it is alone."""
    return os.environ.get("RANK", "0")
