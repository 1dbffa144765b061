"""Stage `prepare`: reads or generates problems, checks them, and writes the train, validation and test splits.

Outputs: data/prepared/{train,validation,test}.jsonl and metrics/prepare.json, which counts what was kept and
what was dropped.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.common.errors import ParamsError, exit_on_error
from pipeline.common.files import file_digest, replacing_folder, write_json
from pipeline.common.locks import only_one
from pipeline.common.params import DataParams, ParamsFile
from pipeline.common.paths import PREPARE_METRICS, PREPARED
from pipeline.problems.grading import Grader, compared_as_text
from pipeline.problems.record import SPLITS, Problem, write_problems
from pipeline.sources.hub import read_hub
from pipeline.sources.reading import SourceSplit, drop_test_problems, read_split
from pipeline.sources.splitting import Prepared, generate_splits, split_source

GRADING_SECONDS = 20.0  # for parsing one gold answer; real ones take milliseconds
GRADING_WORKERS = 2


@dataclass(frozen=True)
class PrepareParams:
    """The parameters this stage depends on."""

    scale: str
    data: DataParams


@exit_on_error
def main() -> None:
    """Prepares the problems of the active scale."""
    params = read_params(ParamsFile())
    with only_one("prepare"):
        prepared = load(params.data)
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
                "source": params.data.source,
                "splits": {
                    split: summary(prepared.splits[split], textual, PREPARED / f"{split}.jsonl") for split in SPLITS
                },
                "dropped": prepared.dropped,
            },
        )


def read_params(file: ParamsFile) -> PrepareParams:
    """The parameters this stage depends on."""
    return PrepareParams(file.scale, file.scale_section("data", DataParams))


def load(data: DataParams) -> Prepared:
    """The splits of whichever source is set.

    Raises:
        DataError: the source cannot be read, is malformed, or holds too little.
        ParamsError: a parameter of the source is missing or does not fit it.
    """
    if data.source == "mini_math":
        return generate_splits(data)
    train, test = read_hub(data.hub) if data.source == "hub" else read_paths(data)
    return split_source(train, test, data)


def read_paths(data: DataParams) -> tuple[SourceSplit, SourceSplit | None]:
    """The train and test splits of local files; test is None where data.path.test is null."""
    if data.path.train is None:
        raise ParamsError(
            "data.source is path but data.path.train is null; set it to a JSONL(.gz) file or a folder of "
            "SUBJECT/NUMBER.json"
        )
    train = read_split(Path(data.path.train), "train")
    if data.path.test is None:
        return train, None
    test = read_split(Path(data.path.test), "test")
    return drop_test_problems(train, test), test


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
