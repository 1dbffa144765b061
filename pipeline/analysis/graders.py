"""Where the project's grader and Minerva's rules part."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from pipeline.results.rows import Prediction

SHOWN = 15


@dataclass(frozen=True)
class Parting:
    """A pair of gold answer and answer of which the graders say different things.

    correct: by the project's grader. times: how many answers of all models are this pair.
    """

    gold: str
    answer: str
    correct: bool
    times: int


def parted(rows: Sequence[Prediction]) -> list[tuple[str, str, bool]]:
    """(gold, answer, whether the project's grader takes it) of every row on which the graders part."""
    return [(row.gold, row.answer or "", row.correct) for row in rows if row.correct != row.minerva_correct]


def partings(models: Iterable[Sequence[tuple[str, str, bool]]]) -> list[Parting]:
    """The pairs of all models, the most frequent first, at most SHOWN of them."""
    counts = Counter(pair for pairs in models for pair in pairs)
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return [Parting(*pair, times) for pair, times in ordered[:SHOWN]]
