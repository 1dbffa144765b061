"""Live curves where people look: TensorBoard, Weights & Biases and others, through accelerate's trackers.

The environment variable TRACKERS names them, or a line in the file .env, where credentials may stand too. It is no
parameter: nothing that a run results in depends on it.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from accelerate.tracking import LOGGER_TYPE_TO_CLASS, GeneralTracker, get_available_trackers
from dotenv import dotenv_values, load_dotenv

from pipeline.common.errors import TrackingError, one_line
from pipeline.common.paths import TRACKING

VARIABLE = "TRACKERS"
ENVIRONMENT_FILE = Path(".env")
PROJECT = "curriculum-distillation"


@dataclass(frozen=True)
class TrackedRun:
    """What trackers are told of a run.

    name: METHOD-SEED and a digest of all that the run depends on, so that only a run that goes on continues another's
    curves. steps_done: after which it begins. settings: its parameters by dotted key.
    """

    name: str
    steps_done: int
    settings: Mapping[str, Any]


# Every tracker has its own words for a project and a run. dvclive is left out: it writes into DVC's own files.
ARGUMENTS: dict[str, Callable[[TrackedRun], dict[str, Any]]] = {
    # a reader drops what an earlier process logged from purge_step on: steps after the last checkpoint come again
    "tensorboard": lambda run: {
        "run_name": run.name,
        "logging_dir": TRACKING / "tensorboard",
        "purge_step": run.steps_done + 1,
    },
    "wandb": lambda run: {"run_name": PROJECT, "name": run.name, "id": run.name, "resume": "allow", "dir": _folder()},
    "trackio": lambda run: {"run_name": PROJECT, "name": run.name, "resume": "allow"},
    "mlflow": lambda run: {"experiment_name": PROJECT, "run_name": run.name},
    "clearml": lambda run: {"run_name": run.name, "project_name": PROJECT, "task_name": run.name},
    "comet_ml": lambda _: {"run_name": PROJECT},
    "aim": lambda run: {"run_name": run.name, "logging_dir": TRACKING / "aim", "experiment": PROJECT},
    "swanlab": lambda run: {"run_name": PROJECT, "experiment_name": run.name},
}


def _folder() -> Path:
    TRACKING.mkdir(exist_ok=True)
    return TRACKING


def chosen_trackers() -> list[str]:
    """The trackers that the environment or .env asks for; the environment goes first.

    Raises:
        TrackingError: one of them is unknown or not installed.
    """
    text = os.environ.get(VARIABLE, dotenv_values(ENVIRONMENT_FILE).get(VARIABLE)) or ""
    names = list(dict.fromkeys(name for part in text.split(",") if (name := part.strip().lower())))
    installed = {str(tracker) for tracker in get_available_trackers()}
    for name in names:
        if name not in ARGUMENTS:
            raise TrackingError(f"{VARIABLE} names {name!r}, which is none of {', '.join(ARGUMENTS)}; correct it there")
        if name not in installed:
            raise TrackingError(
                f"{VARIABLE} names {name}, which is not installed; `pip install {name}` or leave it out"
            )
    return names


class Trackers:
    """The trackers of one run. One that fails says so in a sentence, and the run goes on without it."""

    def __init__(self, names: list[str], run: str, settings: Mapping[str, Any]) -> None:
        """`names` are those of trackers, `run` that of the run, `settings` its parameters by dotted key."""
        self._names, self._run, self._settings = names, run, settings
        self._working: dict[str, GeneralTracker] = {}

    def start(self, steps_done: int) -> None:
        """Starts them; the run begins, or goes on, after so many steps."""
        if self._names:
            load_dotenv(ENVIRONMENT_FILE)
        run = TrackedRun(self._run, steps_done, self._settings)
        for name in self._names:
            tracker = self._try(name, partial(_started, name, run))
            if tracker is not None:
                self._working[name] = tracker

    def __bool__(self) -> bool:
        """Whether anybody looks on."""
        return bool(self._working)

    def log(self, values: Mapping[str, float], step: int) -> None:
        """Values after `step` steps."""
        for name, tracker in list(self._working.items()):
            self._try(name, partial(tracker.log, dict(values), step=step))

    def finish(self) -> None:
        """Has every tracker write what it still holds."""
        for name, tracker in list(self._working.items()):
            self._try(name, tracker.finish)
        self._working.clear()

    def _try(self, name: str, action: Callable[[], Any]) -> Any:
        try:
            return action()
        except Exception as error:
            print(f"the tracker {name} failed ({one_line(error)}); the run goes on without it", file=sys.stderr)
            self._working.pop(name, None)


def _started(name: str, run: TrackedRun) -> GeneralTracker:
    tracker = LOGGER_TYPE_TO_CLASS[name](**ARGUMENTS[name](run))
    tracker.start()
    if name == "tensorboard":  # of settings it would make another run
        text = "\n".join(f"    {key}: {value}" for key, value in run.settings.items())  # indented: code, in Markdown
        tracker.log({"settings": text}, step=run.steps_done)
    else:
        tracker.store_init_configuration(dict(run.settings))
    return tracker


def tag(group: str, name: str) -> str:
    """A name that every tracker takes."""
    return f"{group}/{re.sub(r'[^-/.0-9A-Za-z_]', '_', name)}"
