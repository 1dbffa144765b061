"""Command `compare`: two experiments or revisions side by side, results only.

python -m pipeline.compare                      the last commit, and what is in the working directory
python -m pipeline.compare sharper softer       two experiments of `make experiments`
python -m pipeline.compare main my-branch       two commits, branches or tags
"""

from __future__ import annotations

import argparse

from rich.console import Console

from pipeline.common.stage import exit_on_error
from pipeline.comparing.side_by_side import side_by_side
from pipeline.comparing.versions import WORKSPACE, read_version


@exit_on_error
def main() -> None:
    """Prints the comparison."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("first", nargs="?", default="HEAD", metavar="A")
    parser.add_argument("second", nargs="?", default=WORKSPACE, metavar="B")
    args = parser.parse_args()
    Console().print(side_by_side(read_version(args.first), read_version(args.second)))


if __name__ == "__main__":
    main()
