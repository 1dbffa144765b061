"""Pushes a stage, with all it comes from, so that another machine can restore it from DVC's run cache.

The run cache restores a stage only if the DVC remote has all its outputs, but `dvc push --run-cache` (DVC 3.67) leaves
out those with `cache: false`, which is how metrics are kept in git: the other machine would run the stage again.
"""

from __future__ import annotations

import sys

from dvc.repo import Repo


def main() -> None:
    """Pushes the stage that the command line names, to the default DVC remote."""
    target = sys.argv[1]
    with Repo(_wait_for_lock=True) as repo:
        metrics = {
            out.hash_info
            for stage in repo.stage.collect(target, with_deps=True)
            for out in stage.outs
            if not out.use_cache and not stage.frozen  # a frozen stage is never restored; its models are in git
        }
        failed = repo.cloud.push(metrics).failed
        repo.push([target], with_deps=True, run_cache=True)
    if failed:
        sys.exit(f"error: {len(failed)} metrics of {target} did not reach the DVC remote; see above, and push again")


if __name__ == "__main__":
    main()
