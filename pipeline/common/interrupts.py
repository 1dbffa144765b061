"""SIGTERM (a cluster's preemption) and Ctrl-C: a stage stops at once, but never in the middle of a change.

The first signal raises `Interrupted` wherever the stage is; inside `uninterrupted()` it waits for the end of the block.
Later signals do nothing: whoever stops a stage often sends several, and the first is being obeyed.
"""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

SIGNALS = (signal.SIGTERM, signal.SIGINT)


class Interrupted(KeyboardInterrupt):
    """The stage was told to stop. Not an Exception, so that nothing that handles failures handles this."""

    def __init__(self, number: int = signal.SIGTERM) -> None:
        super().__init__(f"stopped by {signal.Signals(number).name}")
        self.exit_status = 128 + number


class _State:
    """What the handler knows; one per process, as signal handlers are."""

    requested: int | None = None  # the first signal's number
    holds = 0  # blocks that must not be interrupted and that we are in


_state = _State()


@contextmanager
def interruptible() -> Iterator[None]:
    """Turns SIGTERM and Ctrl-C into `Interrupted` inside the block; the handlers before are put back after it."""
    before = {number: signal.signal(number, _handle) for number in SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        _state.requested, _state.holds = None, 0


@contextmanager
def uninterrupted() -> Iterator[None]:
    """A change that happens whole or not at all: a signal meanwhile takes effect at its end."""
    _state.holds += 1
    try:
        yield
    finally:
        _state.holds -= 1
    _stop_if_requested()


def finish_regardless() -> None:
    """From here to its end, which must be near, the stage obeys no signal: it is as good as done."""
    _state.holds += 1


def requested() -> bool:
    """Whether a signal has come: one that is held back, or whose exception got lost.

    Python drops what is raised in a finalizer, and a handler may well run inside one.
    """
    return _state.requested is not None


def _stop_if_requested() -> None:
    if _state.requested is not None and not _state.holds:
        raise Interrupted(_state.requested)


def _handle(number: int, _frame: FrameType | None) -> None:
    if _state.requested is None:
        _state.requested = number
        _stop_if_requested()
