"""Makes the folder of a trained student that can be uploaded to the Hugging Face hub, and uploads it if asked to.

python -m pipeline.publish --run rl-0 --to FOLDER                          the folder
python -m pipeline.publish --run rl-0 --to FOLDER --repo NAMESPACE/NAME    the folder, pushed to the hub

A command, not a stage: it reads what the stages left, and nothing depends on what it writes.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

from pipeline.common.locks import only_one
from pipeline.common.params import ParamsFile
from pipeline.common.stage import exit_on_error
from pipeline.publishing.finished_run import read_finished_run
from pipeline.publishing.folder import require_replaceable, write_folder
from pipeline.publishing.hub import push
from pipeline.publishing.model_card import OTHER
from pipeline.publishing.run_params import read_run_params
from pipeline.publishing.students import require_student
from pipeline.publishing.up_to_date import require_up_to_date


@dataclass(frozen=True)
class Arguments:
    """What the command line asks for; `licence` is an identifier of the hub's."""

    method: str
    seed: int
    folder: Path
    repo: str | None
    private: bool
    licence: str


@exit_on_error
def main() -> None:
    """Publishes one run."""
    asked = parse_arguments()
    require_student(f"{asked.method}-{asked.seed}")
    params = read_run_params(ParamsFile(), asked.method)
    with only_one("publish"):
        run = read_finished_run(asked.method, asked.seed)
        require_replaceable(asked.folder, run.name)
        require_up_to_date(run.name)
        write_folder(asked.folder, run, params, asked.repo or asked.folder.name, asked.licence)
        print(f"{run.name} is in {asked.folder}")
        if asked.repo is not None:
            print(f"{run.name} is at {push(asked.folder, asked.repo, run.name, private=asked.private)}")


def parse_arguments() -> Arguments:
    """The run, the folder and the repository that the command line names."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", required=True, metavar="METHOD-SEED", help="which student, for example rl-0")
    parser.add_argument("--to", required=True, type=Path, metavar="FOLDER", help="where to; written anew each time")
    parser.add_argument("--repo", metavar="NAMESPACE/NAME", help="the hub's repository to push the folder to")
    parser.add_argument("--private", action="store_true", help="make the repository private")
    parser.add_argument("--licence", default=OTHER, metavar="ID", help="the hub's identifier of the student's licence")
    args = parser.parse_args()
    method, _, seed = args.run.rpartition("-")
    if not method or not seed.isdecimal():
        parser.error(f"--run is {args.run}; it must be METHOD-SEED, for example rl-0")
    if args.private and args.repo is None:
        parser.error("--private is about a repository; name it with --repo")
    if args.repo is not None and args.repo.count("/") != 1:
        parser.error(f"--repo is {args.repo}; it must be NAMESPACE/NAME")
    return Arguments(method, int(seed), args.to.resolve(), args.repo, args.private, args.licence)


if __name__ == "__main__":
    main()
