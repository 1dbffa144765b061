"""The project's errors: one sentence each, saying what is wrong, where, and what to do about it.

Every class is also the standard error it resembles, so callers may catch either.
"""

from __future__ import annotations

from pathlib import Path


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


class TrackingError(PipelineError, ValueError):
    """A tracker was asked for that is unknown or not installed."""


class TrainingError(PipelineError, ArithmeticError):
    """Training cannot go on, for example because the loss is not a number."""


class ResultsError(PipelineError, ValueError):
    """Result files needed for the report are missing or disagree."""


class PublishError(PipelineError, RuntimeError):
    """A student cannot be put where it should be published."""


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


def one_line(error: Exception) -> str:
    """What a library's error says, on one line and cut to 200 characters; its class where it says nothing."""
    return " ".join(str(error).split()).rstrip(".")[:200] or type(error).__name__
