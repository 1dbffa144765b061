"""Writing a run's live log, see events.py."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from io import RawIOBase
from pathlib import Path

from pipeline.live_log.events import Event


class LiveLog:
    """Appends events to a file. Where that fails it says so once, and the run goes on without."""

    def __init__(self, path: Path | None) -> None:
        """`path` is created with its folder when the first event comes; None: nothing is written."""
        self._path = path
        self._file: RawIOBase | None = None
        self._open = path is not None

    def add(self, event: Event) -> None:
        """Writes one event, for others to see at once."""
        if not self._open or self._path is None:
            return
        try:
            if self._file is None:
                self._path.parent.mkdir(parents=True, exist_ok=True)
                self._file = self._path.open("ab", buffering=0)
                self._file.write(b"\n")  # a killed process may have left half a line
            self._file.write(json.dumps(asdict(event)).encode() + b"\n")
        except OSError as error:
            self._open = False
            print(f"{self._path} cannot be written ({error.strerror}); nobody can watch this run", file=sys.stderr)

    def close(self) -> None:
        """Nothing comes after this."""
        self._open = False
        if self._file is not None:
            self._file.close()
