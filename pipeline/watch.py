"""Command `watch`: all cells of the study, what is done, running, waiting or failed, curves so far, time left.

python -m pipeline.watch                    until all cells are done, or Ctrl-C
python -m pipeline.watch --once             one frame
python -m pipeline.watch . ../cells/*       cells may also be trained in these copies of the project

It only reads, so it may run beside `dvc repro`, `make cells` and workers on other machines.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.live import Live

from pipeline.common.errors import ParamsError
from pipeline.common.interrupts import Interrupted
from pipeline.common.stage import exit_on_error
from pipeline.watching.cells import State, Study, read_study
from pipeline.watching.frame import frame


@dataclass(frozen=True)
class Arguments:
    """What the command line asks for; `every` is in seconds."""

    projects: list[Path]
    once: bool
    every: float


@exit_on_error
def main() -> None:
    """Shows the study."""
    arguments = parse_arguments()
    study = read_study(arguments.projects)
    if arguments.once:
        Console().print(frame(study))
        return
    try:
        with Live(frame(study), auto_refresh=False) as screen:
            while not all_done(study):
                time.sleep(arguments.every)
                study = read_study(arguments.projects)
                screen.update(frame(study), refresh=True)
    except Interrupted:
        return


def all_done(study: Study) -> bool:
    return study.count(State.DONE) == len(study.cells) and study.shared["report"] is State.DONE


def parse_arguments() -> Arguments:
    """Raises ParamsError where a folder is no copy of the project."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("projects", nargs="*", type=Path, default=[Path()], help="copies of the project; default: here")
    parser.add_argument("--once", action="store_true", help="print one frame")
    parser.add_argument("--every", type=float, default=2.0, help="seconds between two frames")
    args = parser.parse_args()
    for project in args.projects:
        if not (project / "dvc.yaml").exists():
            raise ParamsError(f"{project} holds no dvc.yaml; name folders that are copies of the project")
    return Arguments(args.projects, args.once, args.every)


if __name__ == "__main__":
    main()
