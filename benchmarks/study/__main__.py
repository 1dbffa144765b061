"""The command: see the package."""

from __future__ import annotations

import argparse
import os

from benchmarks import study
from benchmarks._measure import say
from benchmarks._runs import ROOT
from benchmarks.study.report import ORACLE, PICTURE, REPORT, Studied, share_of_oracle, write_report
from benchmarks.study.running import append_missing, study_plan
from benchmarks.study.settings import METHODS, REPLAYS, SEEDS, SETTINGS
from pipeline.analysis.statistics import LEAST_SEEDS
from pipeline.analysis.verdict import BASELINE
from pipeline.common.stage import exit_on_error


@exit_on_error
def main() -> None:
    """Runs what is missing, then makes tables and figure."""
    parser = argparse.ArgumentParser(description=study.__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--settings", nargs="+", choices=SETTINGS, default=list(SETTINGS))
    parser.add_argument("--methods", nargs="+", choices=[*METHODS, *REPLAYS], default=[*METHODS, *REPLAYS])
    parser.add_argument("--seeds", type=int, default=SEEDS, help="the first so many seeds")
    parser.add_argument("--processes", type=int, default=os.cpu_count(), help="runs at a time, one core each")
    parser.add_argument("--commit", help="whose pipeline is run, to go on with what it began; default: the newest")
    parser.add_argument("--report", action="store_true", help="tables and figure alone")
    args = parser.parse_args()
    for setting in [] if args.report else args.settings:
        append_missing(study_plan(setting, args.commit), args.methods, range(args.seeds), args.processes)
    tell(write_report())


def tell(found: list[Studied]) -> None:
    """Says where the findings are, and how near rl comes to the oracle."""
    if not found:
        say(f"{BASELINE} and another method need {LEAST_SEEDS} seeds each before there is anything to compare")
        return
    for part in found:
        share = share_of_oracle(part)
        oracle = "" if share is None else f"; rl has {share:.0%} of {ORACLE}'s gain in accuracy"
        say(f"{part.setting}: {part.seeds} seeds of {len(part.outcomes)} methods{oracle}")
    say(f"see {REPORT.relative_to(ROOT)} and {PICTURE.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
