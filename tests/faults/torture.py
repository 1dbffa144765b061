"""The long form of test_kills.py: kills at every third change of a file, and at random moments, of every stage.

python -m tests.faults.torture [--random 200] [--every 3] [--out FILE]

Prints and writes a table: per stage the kills, and how many times the run that followed ended with other bytes than
the uninterrupted one, and which files. The exit status is 1 if that is ever so.
"""

from __future__ import annotations

import argparse
import platform
import random
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from tqdm import tqdm

from pipeline.common.files import write_json
from tests.faults.harness import CASES, ROOT, Reference, References, Zygote
from tests.faults.kills import Trial, random_moments, trial

SEED = 0


def main() -> None:
    """Runs all trials and writes the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--random", type=int, default=200, help="trials at random moments, over all stages")
    parser.add_argument("--every", type=int, default=3, help="kill at every n-th change of a file")
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks/results/torture.json")
    args = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="torture-"))
    zygote = Zygote(folder / "log")
    started = time.monotonic()
    rows, faults = [], []
    for number, reference in enumerate(all_references(zygote, folder / "projects")):
        rng = random.Random(f"{SEED} {reference.case}")
        share = args.random // len(CASES) + (number < args.random % len(CASES))
        moments = [[{"at_event": n}] for n in range(1, (reference.outcome.events or 0) + 1, args.every)]
        moments += [random_moments(reference, rng) for _ in range(share)]
        trials = [trial(zygote, reference, m) for m in tqdm(moments, desc=str(reference.case), unit="trial")]
        rows.append(row_of(reference, trials))
        faults += [t for t in trials if t.differences]
        print(text_of(rows[-1]), flush=True)
        for fault in (t for t in trials if t.differences):
            print(f"  {fault}", flush=True)
    zygote.close()
    total = {key: sum(row[key] for row in rows) for key in ("trials", "kills", "other_bytes")}
    print(text_of({"stage": "all", **total}))
    write_json(
        args.out,
        {
            "machine": f"{platform.machine()}, {platform.system()}, Python {platform.python_version()}",
            "seconds": round(time.monotonic() - started),
            "total": total,
            "stages": rows,
            "faults": [vars(fault) for fault in faults],
        },
    )
    if faults:
        sys.exit(f"error: other bytes after a kill; {zygote.log} holds what the stages printed")
    shutil.rmtree(folder)


def all_references(zygote: Zygote, folder: Path) -> Iterator[Reference]:
    """The uninterrupted runs, made one by one."""
    references = References(zygote, folder)
    return (references.of(case) for case in CASES)


def row_of(reference: Reference, trials: list[Trial]) -> dict[str, int | str]:
    """A stage's line of the table."""
    return {
        "stage": str(reference.case),
        "trials": len(trials),
        "kills": sum(t.kills for t in trials),
        "other_bytes": sum(bool(t.differences) for t in trials),
    }


def text_of(row: dict[str, int | str]) -> str:
    """The line as people read it."""
    return (
        f"{row['stage']:44} {row['kills']:>5} kills in {row['trials']:>4} trials, "
        f"other bytes after {row['other_bytes']}"
    )


if __name__ == "__main__":
    main()
