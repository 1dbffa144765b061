"""The test problems with everybody's answers, in the form that the page's script reads."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pipeline.analysis.reading import Results
from pipeline.common.errors import ResultsError
from pipeline.common.paths import PREDICTIONS, TEACHER, UNTRAINED_STUDENT
from pipeline.problems.record import Problem
from pipeline.results.files import read_rows
from pipeline.results.rows import Prediction

Json = dict[str, Any]
# Who says whether an answer is right. The first decides accuracy; where there is another, the page shows both and finds
# where they part.
GRADERS: Mapping[str, Callable[[Prediction], bool]] = {
    "Math-Verify": lambda row: row.correct,
    "Minerva": lambda row: row.minerva_correct,
}


@dataclass(frozen=True)
class Answerer:
    """Who answered the test problems. method: None for the teacher; the untrained student is its own."""

    name: str
    method: str | None
    seed: int | None


@dataclass
class Texts:
    """Every text once: students often give the same answer, and then word for word."""

    numbers: dict[str, int] = field(default_factory=dict)

    def number(self, text: str) -> int:
        """The place of a text in the list of all."""
        return self.numbers.setdefault(text, len(self.numbers))


def answerers(results: Results) -> list[Answerer]:
    """The teacher, the student before training, and every run."""
    runs = [Answerer(run.name, run.record.method, run.record.seed) for run in results.all_runs()]
    return [Answerer(TEACHER, None, None), Answerer(UNTRAINED_STUDENT, UNTRAINED_STUDENT, None), *runs]


def read_answers(
    problems: Sequence[Problem],
    models: Sequence[Answerer],
    graders: Mapping[str, Callable[[Prediction], bool]] = GRADERS,
) -> Json:
    """All problems with all answers, as JSON; texts are numbers into `texts`.

    An answer is [output, content of its last box or null, each grader's verdict as 0 or 1, whether it is the teacher's
    answer, whether grading it ran out of time], in the order of `models`.

    Raises:
        ResultsError: predictions are missing, malformed or for other problems.
    """
    texts = Texts()
    by_model = [_rows(model.name, problems) for model in models]
    listed = [
        {
            "id": problem.id,
            "level": problem.level,
            "subject": problem.subject,
            "problem": texts.number(problem.problem),
            "solution": texts.number(problem.solution),
            "gold": texts.number(problem.answer),
            "answers": [_answer(row, graders, texts) for row in rows],
        }
        for problem, *rows in zip(problems, *by_model, strict=True)
    ]
    return {
        "models": [{"name": model.name, "method": model.method, "seed": model.seed} for model in models],
        "graders": list(graders),
        "problems": listed,
        "texts": list(texts.numbers),
    }


def _answer(row: Prediction, graders: Mapping[str, Callable[[Prediction], bool]], texts: Texts) -> list[Any]:
    answer = None if row.answer is None else texts.number(row.answer)
    verdicts = [int(correct(row)) for correct in graders.values()]
    return [texts.number(row.output), answer, verdicts, int(row.agrees), int(row.timed_out)]


def _rows(name: str, problems: Sequence[Problem]) -> list[Prediction]:
    path = PREDICTIONS / f"{name}.jsonl"
    rows = read_rows(path, Prediction)
    if [row.id for row in rows] != [problem.id for problem in problems]:
        raise ResultsError(f"{path} is for other problems than data/prepared/test.jsonl; run `dvc repro`")
    return rows
