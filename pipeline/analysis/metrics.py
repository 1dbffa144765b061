"""The metrics: each is one entry here, and nothing else needs to know it.

A metric is computed from the rows of data/predictions, so a new one reruns the report and no evaluation. Those that
need logits use the columns of sums that `evaluate` writes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from pipeline.results.rows import Prediction

Rows = Sequence[Prediction]


@dataclass(frozen=True)
class Metric:
    """A number that says something of one model.

    name: its key in JSON. heading: its column in the tables. of: how the rows of all test problems combine to it.
    shown: its format in the tables. better: which end is good, None where neither is. over_seeds: how the values of a
    method's seeds combine.
    """

    name: str
    heading: str
    of: Callable[[Rows], float]
    shown: Callable[[float], str]
    better: Literal["higher", "lower"] | None
    over_seeds: Callable[[Sequence[float]], float] = lambda values: float(np.mean(values))


def percent(share: float) -> str:
    """A measured share as a percentage with one decimal: 0.6131 is 61.3%."""
    return f"{share:.1%}"


def decimals(value: float) -> str:
    """Four decimals, without a minus sign before zero."""
    return f"{round(value, 4) + 0.0:.4f}"


def whole(value: float) -> str:
    return f"{value:,.0f}"


def per_token(sums: Callable[[Prediction], float], rows: Rows) -> float:
    """A sum over all tokens of all reference solutions, divided by their number."""
    return sum(map(sums, rows)) / sum(row.tokens for row in rows)


def expected_calibration_error(rows: Rows) -> float:
    """ECE over equally wide bins (Guo et al. 2017, eq. 3): mean |share of hits - mean confidence|, by bin size."""
    gaps = np.sum([row.calibration_gaps for row in rows], axis=0)
    return float(np.abs(gaps).sum() / sum(row.tokens for row in rows))


METRICS = (
    Metric("accuracy", "accuracy", lambda rows: float(np.mean([r.correct for r in rows])), percent, "higher"),
    Metric(
        "minerva_accuracy",
        "accuracy by Minerva's rules",
        lambda rows: float(np.mean([r.minerva_correct for r in rows])),
        percent,
        "higher",
    ),
    Metric(
        "graders_part",
        "graders part",
        lambda rows: float(np.mean([r.correct != r.minerva_correct for r in rows])),
        percent,
        None,
    ),
    Metric(
        "agreement",
        "same answer as the teacher",
        lambda rows: float(np.mean([r.agrees for r in rows])),
        percent,
        "higher",
    ),
    Metric(
        "top1_agreement",
        "same most likely token",
        lambda rows: per_token(lambda r: r.top1_matches, rows),
        percent,
        "higher",
    ),
    Metric("kl_per_token", "KL per token (nats)", lambda rows: per_token(lambda r: r.kl, rows), decimals, "lower"),
    Metric("calibration_error", "calibration error", expected_calibration_error, decimals, "lower"),
    Metric(
        "grading_timeouts",
        "answers not graded in time",
        lambda rows: sum(r.timed_out for r in rows),
        whole,
        None,
        over_seeds=sum,
    ),
)


def measure(rows: Rows) -> dict[str, float]:
    """Every metric of one model, by name."""
    return {metric.name: metric.of(rows) for metric in METRICS}


def over_seeds(seeds: Sequence[dict[str, float]]) -> dict[str, float]:
    """Every metric of a method, from those of its seeds."""
    return {metric.name: metric.over_seeds([values[metric.name] for values in seeds]) for metric in METRICS}
