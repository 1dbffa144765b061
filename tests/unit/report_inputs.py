"""Made-up results of finished runs, in the files that the train and evaluate stages write."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import yaml

from pipeline.analysis.settings import ReportParams
from pipeline.common.paths import ARM_LOG, EVALUATION_COSTS, LEARNING_CURVE, PREDICTIONS, RECORD, RUNS, TRAINING_COSTS
from pipeline.problems.record import Problem, write_problems
from pipeline.results.files import write_csv, write_record, write_rows
from pipeline.results.rows import (
    ArmStep,
    CurvePoint,
    EvaluationCost,
    Prediction,
    Provenance,
    TrainingCost,
    TrainingRecord,
)

SUBJECTS = ("Algebra", "Geometry", "Number Theory")
LEVELS = range(1, 6)
STEPS, BATCH = 40, 8
EXAMPLES = STEPS * BATCH
VALIDATE_AT = (0, 10, 20, 30, 40)
REPORT = ReportParams(threshold_share=0.25, confidence=0.95, resamples=400, seed=0)
ARMS = {
    "all": ("all",),
    "level": tuple(f"level {level}" for level in LEVELS),
    "subject": SUBJECTS,
    "level_subject": tuple(f"{subject}/{level}" for subject in SUBJECTS for level in LEVELS),
}
PROVENANCE = Provenance(
    versions={"torch": "2.9.1", "transformers": "4.57.3", "numpy": "2.3.5", "tokenizers": "0.22.1"},
    commits={"teacher": "12fd25f7", "student": None},
)


def write_inputs(
    skills: Mapping[str, float],
    seeds: Sequence[int],
    arms: Mapping[str, str] | None = None,
    problems_per_cell: int = 8,
    resamples: int = 400,
    target: Sequence[str] = SUBJECTS,
) -> None:
    """Writes params.yaml and all results into the current folder.

    skills: the chance that a method's student solves a Level 3 problem. arms: a key of ARMS per method, "level"
    where none is given. target: the subjects of validation, test and probe problems; the pool has all, alike.
    """
    report = {"threshold_share": 0.25, "confidence": 0.95, "resamples": resamples, "seed": 0}
    Path("params.yaml").write_text(
        yaml.safe_dump(
            {"scale": "mini", "methods": list(skills), "replays": [], "seeds": list(seeds), "report": report}
        )
    )
    problems = [
        (f"{subject}-{level}-{i}", level, subject)
        for subject in target
        for level in LEVELS
        for i in range(problems_per_cell)
    ]
    for split, subjects in (("train", SUBJECTS), ("probe", target), ("validation", target)):
        write_problems(split, [pool_problem(subject, level) for subject in subjects for level in LEVELS])
    write_problems(
        "test",
        [
            Problem(key, f"What is ${i}$?", f"$\\boxed{{{i}}}$", level, subject, str(i), "made up")
            for i, (key, level, subject) in enumerate(problems)
        ],
    )
    write_evaluation("teacher", 0, 0.85, problems)
    write_evaluation("untrained_student", 0, 0.12, problems)
    for method, skill in skills.items():
        for seed in seeds:
            write_evaluation(f"{method}-{seed}", seed, skill, problems)
            write_training(method, seed, skill, ARMS[(arms or {}).get(method, "level")])


def pool_problem(subject: str, level: int, number: int = 0, source: str = "made up") -> Problem:
    """A problem of the pool; those of probe and validation are no others here."""
    return Problem(f"pool-{subject}-{level}-{number}", "What?", "$\\boxed{1}$", level, subject, "1", source)


def write_evaluation(name: str, seed: int, skill: float, problems: Sequence[tuple[str, int, str]]) -> None:
    """data/costs/evaluation/NAME.json and data/predictions/NAME.jsonl.

    Every second answer is the teacher's; 3 of 4 most likely tokens are; KL is 1/4 nat and the calibration error 1/8.
    """
    rng = np.random.default_rng([sum(map(ord, name)), seed])
    rows = [
        Prediction(
            id=key,
            level=level,
            subject=subject,
            output="so \u2028 it is",
            gold="9",
            answer=None,
            correct=(right := bool(rng.random() < np.clip(skill + 0.08 * (3 - level), 0, 1))),
            minerva_correct=right,
            teacher_correct=True,
            agrees=i % 2 == 0,
            timed_out=False,
            tokens=8,
            kl=2.0,
            top1_matches=6,
            calibration_gaps=[0.75, 0.0, -0.25],
        )
        for i, (key, level, subject) in enumerate(problems)
    ]
    write_rows(PREDICTIONS / f"{name}.jsonl", rows)
    cost = EvaluationCost(name, len(rows), "transformers", 20.0 + seed, 2**28, PROVENANCE)
    write_record(EVALUATION_COSTS / f"{name}.json", cost)


def write_training(method: str, seed: int, skill: float, arms: Sequence[str]) -> None:
    """data/costs/training/METHOD-SEED.json, and the record and the two logs."""
    name = f"{method}-{seed}"
    record = TrainingRecord(
        method=method,
        seed=seed,
        steps=STEPS,
        examples=EXAMPLES,
        tokens=90 * EXAMPLES + seed,
        grading_timeouts=0,
        validation_problems=None,
    )
    write_record(RUNS / name / RECORD, record)
    write_record(TRAINING_COSTS / f"{name}.json", TrainingCost(name, 1, None, False, 100.0 + seed, 2**29, PROVENANCE))
    write_csv(RUNS / name / LEARNING_CURVE, CurvePoint, curve_points(skill, seed))
    write_csv(RUNS / name / ARM_LOG, ArmStep, arm_steps(method, seed, arms))


def learning_curve(skill: float, seed: int) -> pd.DataFrame:
    """The rows of `curve_points`, as they are read."""
    return pd.DataFrame(list(curve_points(skill, seed)))


def curve_points(skill: float, seed: int) -> Iterator[CurvePoint]:
    """A curve that rises towards `skill`; the first row has no loss."""
    steps = np.array(VALIDATE_AT)
    noise = np.random.default_rng([seed, 1]).normal(0, 0.01, len(steps))
    accuracy = np.clip(0.1 + (skill - 0.1) * (1 - np.exp(-3 * steps / STEPS)) + noise, 0, 1).round(4)
    losses = [None, *np.linspace(2, 0.5, len(steps) - 1).tolist()]
    for step, validation_accuracy, loss in zip(VALIDATE_AT, accuracy.tolist(), losses, strict=True):
        tokens, kl = step * BATCH * 90, math.exp(-1 - 2 * validation_accuracy)
        yield CurvePoint(step, step * BATCH, tokens, float(tokens), validation_accuracy, kl, loss)


def arm_log(method: str, seed: int, arms: Sequence[str]) -> pd.DataFrame:
    """The rows of `arm_steps`, as they are read."""
    return pd.DataFrame(list(arm_steps(method, seed, arms)))


def arm_steps(method: str, seed: int, arms: Sequence[str]) -> Iterator[ArmStep]:
    """Probabilities that move from the first arms to the last; only `rl` has Q-values, and rewards that follow them."""
    rng = np.random.default_rng([seed, 2])
    places = np.linspace(0, 1, len(arms))
    for step in range(STEPS):
        weights = np.exp(-4 * (places - step / STEPS) ** 2) + 0.1
        shares = weights / weights.sum()
        counts = rng.multinomial(BATCH, shares)
        for arm, weight, share, count in zip(arms, weights.tolist(), shares.tolist(), counts.tolist(), strict=True):
            q_value = weight if method == "rl" else None
            reward = weight + float(rng.normal(0, 0.1)) if method == "rl" and count else None
            yield ArmStep(step, arm, share, q_value, None, reward, count)


def write(path: str, text: str) -> None:
    """Writes a file and the folders above it."""
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Path(path).write_text(text, encoding="utf-8")
