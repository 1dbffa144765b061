"""Stage `prepare`: reads or generates problems, checks them, and writes the splits.

They are the pool to train on, and of the target the probe, validation and test problems.

Outputs: data/prepared/{train,probe,validation,test}.jsonl and metrics/prepare.json, which counts what was kept and
what was dropped.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.common.files import file_digest, replacing_folder, write_json
from pipeline.common.locks import only_one
from pipeline.common.params import ParamsFile
from pipeline.common.paths import PREPARE_METRICS, PREPARED
from pipeline.common.stage import exit_on_error
from pipeline.contents.noticed import PROBLEMS, require_noticed
from pipeline.problems.grading import Grader, compared_as_text
from pipeline.problems.record import SPLITS, Problem, write_problems
from pipeline.sources import Source, source_of

GRADING_SECONDS = 20.0  # for parsing one gold answer; real ones take milliseconds
GRADING_WORKERS = 2


@dataclass(frozen=True)
class Params:
    """What this stage depends on."""

    scale: str
    source: Source


@exit_on_error
def main() -> None:
    """Prepares the problems of the active scale."""
    params = read_params(ParamsFile())
    with only_one("prepare"):
        require_noticed(PROBLEMS, params.source.local_paths())
        prepared = params.source.read()
        with Grader(GRADING_SECONDS, GRADING_WORKERS) as grader:
            problems = [problem for split in SPLITS for problem in prepared.splits[split]]
            textual = compared_as_text(problems, grader, description="parse gold answers")
        with replacing_folder(PREPARED) as folder:
            for split in SPLITS:
                write_problems(split, prepared.splits[split], folder)
        write_json(
            PREPARE_METRICS,
            {
                "scale": params.scale,
                "source": params.source.data.source,
                "splits": {
                    split: summary(prepared.splits[split], textual, PREPARED / f"{split}.jsonl") for split in SPLITS
                },
                "dropped": prepared.dropped,
            },
        )


def read_params(file: ParamsFile) -> Params:
    where = f"{file.path}: scales.{file.scale}.data"
    return Params(file.scale, source_of(file.scale_section("data", dict[str, Any]), where))


def summary(problems: list[Problem], textual: set[str], file: Path) -> dict[str, Any]:
    """What a split holds; answers counted as text are no formulas and are compared letter by letter."""
    levels, subjects = (Counter(values) for values in zip(*((p.level, p.subject) for p in problems), strict=True))
    return {
        "problems": len(problems),
        "by_level": {str(level): levels[level] for level in sorted(levels)},
        "by_subject": {subject: subjects[subject] for subject in sorted(subjects)},
        "compared_as_text": sum(problem.id in textual for problem in problems),
        "digest": file_digest(file),
    }


if __name__ == "__main__":
    main()
