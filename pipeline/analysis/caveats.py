"""What a reader should know before trusting the numbers, and why some are missing."""

from __future__ import annotations

import numpy as np

from pipeline.analysis.reading import Results
from pipeline.analysis.resampling import least_resamples
from pipeline.analysis.settings import ReportParams
from pipeline.analysis.statistics import LEAST_SEEDS
from pipeline.analysis.verdict import BASELINE, pairs

FEW_PROBLEMS = 10


def comparisons_note(results: Results) -> str:
    """Why nothing is compared with the baseline, or empty."""
    if BASELINE not in results.runs:
        return f"Nothing is compared with {BASELINE}, because it is not among the methods."
    if not pairs(list(results.runs)):
        return f"Nothing is compared, because {BASELINE} is the only method."
    return ""


def warnings(results: Results, report: ReportParams) -> list[str]:
    """What a reader should know before trusting the intervals."""
    found = []
    seeds = len(next(iter(results.runs.values())))
    if seeds == 1:
        found.append(
            "There is one seed per method: intervals are over problems only, so they tell these students "
            "apart, not the methods, and no verdict is given."
        )
    elif seeds < LEAST_SEEDS:
        found.append(f"There are only {seeds} seeds per method: intervals are very wide, and no verdict is given.")
    if results.teacher.accuracy <= results.untrained_student.accuracy:
        found.append("The teacher is no better than the untrained student: examples to a threshold mean nothing.")
    levels, counts = np.unique(results.level_P, return_counts=True)
    few = [f"level {level} ({count})" for level, count in zip(levels, counts, strict=True) if count < FEW_PROBLEMS]
    if few:
        found.append(f"Few test problems on {', '.join(few)}: intervals may be too narrow.")
    compared = len(pairs(list(results.runs)))
    if report.resamples < (least := least_resamples(compared, 1 - report.confidence)):
        found.append(
            f"With report.resamples = {report.resamples:,} no difference in accuracy can be shown after the correction "
            f"for {compared} comparisons, however large it is: set it to {least:,} at least."
        )
    runs = results.all_runs()
    if (answered := runs[0].record.validation_problems) is not None:
        found.append(
            f"Validation accuracy, and what is read off it, is of {answered:,} of the validation problems, always the "
            "same; KL is of all."
        )
    for answers, timeouts in (
        ("Answers", {run.name: int(run.evaluation.metrics["grading_timeouts"]) for run in runs}),
        ("Answers to validation problems", {run.name: run.record.grading_timeouts for run in runs}),
    ):
        if any(timeouts.values()):
            late = ", ".join(f"{name} {count}" for name, count in timeouts.items() if count)
            found.append(f"{answers} counted as wrong because grading them ran out of time: {late}.")
    return found
