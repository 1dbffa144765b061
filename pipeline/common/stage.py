"""What every stage's `main` is wrapped in: errors as one sentence, signals as an orderly end."""

from __future__ import annotations

import functools
import gc
import os
import sys
from collections.abc import Callable

from pipeline.common.errors import PipelineError
from pipeline.common.interrupts import Interrupted, interruptible


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
