"""The command: see the package."""

from __future__ import annotations

import argparse
import os

from benchmarks import study
from benchmarks.study.running import run_missing
from benchmarks.study.settings import METHODS, REPLAYS, SEEDS, SETTINGS
from pipeline.common.stage import exit_on_error


@exit_on_error
def main() -> None:
    """Runs what is missing, then makes tables and figure."""
    parser = argparse.ArgumentParser(description=study.__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--settings", nargs="+", choices=SETTINGS, default=list(SETTINGS))
    parser.add_argument("--methods", nargs="+", choices=[*METHODS, *REPLAYS], default=[*METHODS, *REPLAYS])
    parser.add_argument("--seeds", type=int, default=SEEDS, help="the first so many seeds")
    parser.add_argument("--processes", type=int, default=os.cpu_count(), help="runs at a time, one core each")
    args = parser.parse_args()
    for setting in args.settings:
        run_missing(setting, args.methods, range(args.seeds), args.processes)


if __name__ == "__main__":
    main()
