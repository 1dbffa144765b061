"""The trained students that there are."""

from __future__ import annotations

from collections.abc import Sequence

from pipeline.common.errors import ResultsError
from pipeline.common.paths import STUDENTS


def require_student(run: str, others: Sequence[str] = ()) -> None:
    """Checks that the student of a run, METHOD-SEED, is there; `others` may be asked for instead.

    Raises:
        ResultsError: it is not; the message names those that are.
    """
    if run in (trained := trained_runs()):
        return
    method, _, seed = run.rpartition("-")
    ways = [f"choose from {', '.join([*trained, *others])}"] if trained or others else []
    if method and seed.isdecimal():
        ways.append(
            f"run `dvc repro` with {method} among the methods and {seed} among the seeds of params.yaml, which trains "
            "and compares it"
        )
    remedy = ", or ".join(ways or ["name a run as METHOD-SEED, for example rl-0"])
    raise ResultsError(f"{STUDENTS / run} holds no trained student; {remedy}")


def trained_runs() -> list[str]:
    """Their names, METHOD-SEED, by method and seed."""
    names = [file.parent.name for file in STUDENTS.glob("*-*/config.json")]
    return sorted(names, key=lambda name: (name.rpartition("-")[0], name.rpartition("-")[2].zfill(9)))
