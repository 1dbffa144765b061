"""One start at a time for one piece of work. Killing dvc leaves its stage alive, so a second one may well start."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from filelock import FileLock, Timeout

from pipeline.common.errors import BusyError
from pipeline.common.paths import CHECKPOINTS


@contextmanager
def only_one(name: str, *, is_main: bool = True) -> Iterator[None]:
    """Holds a lock that the operating system frees when the process ends, however it ends.

    Where several processes share the work, the main one holds it for all.

    Raises:
        BusyError: another process holds it.
    """
    if not is_main:
        yield
        return
    CHECKPOINTS.mkdir(exist_ok=True)
    lock = FileLock(CHECKPOINTS / f"{name}.lock")
    try:
        lock.acquire(timeout=0)
    except Timeout as error:
        raise BusyError(
            f"another process is already working on {name}; wait for it, or end it, and try again"
        ) from error
    try:
        yield
    finally:
        lock.release()
