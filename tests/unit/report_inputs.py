"""Made-up results of finished runs, in the files that the train and evaluate stages write."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import yaml

from pipeline.common.params import ReportParams

SUBJECTS = ("Algebra", "Geometry", "Number Theory")
LEVELS = range(1, 6)
STEPS, BATCH = 40, 8
EXAMPLES = STEPS * BATCH
VALIDATE_AT = (0, 10, 20, 30, 40)
REPORT = ReportParams(target_accuracy=0.3, confidence=0.95, resamples=400, seed=0)
ARMS = {
    "all": ("all",),
    "level": tuple(f"level {level}" for level in LEVELS),
    "subject": SUBJECTS,
    "level_subject": tuple(f"{subject}/{level}" for subject in SUBJECTS for level in LEVELS),
}


def write_inputs(
    skills: Mapping[str, float],
    seeds: Sequence[int],
    arms: Mapping[str, str] | None = None,
    problems_per_cell: int = 8,
    resamples: int = 400,
) -> None:
    """Writes params.yaml and all results into the current folder.

    skills: the chance that a method's student solves a Level 3 problem. arms: a key of ARMS per method, "level"
    where none is given.
    """
    report = {"target_accuracy": 0.3, "confidence": 0.95, "resamples": resamples, "seed": 0}
    Path("params.yaml").write_text(
        yaml.safe_dump({"scale": "mini", "methods": list(skills), "seeds": list(seeds), "report": report})
    )
    problems = [
        (f"{subject}-{level}-{i}", level, subject)
        for subject in SUBJECTS
        for level in LEVELS
        for i in range(problems_per_cell)
    ]
    write_evaluation("teacher", None, None, 0.85, problems)
    write_evaluation("untrained_student", None, None, 0.12, problems)
    for method, skill in skills.items():
        for seed in seeds:
            write_evaluation(f"{method}-{seed}", method, seed, skill, problems)
            write_training(method, seed, skill, ARMS[(arms or {}).get(method, "level")])


def write_evaluation(
    name: str, method: str | None, seed: int | None, skill: float, problems: Sequence[tuple[str, int, str]]
) -> None:
    """metrics/runs/NAME.json and data/predictions/NAME.jsonl."""
    rng = np.random.default_rng([sum(map(ord, name)), seed or 0])
    rows = [
        {
            "id": key,
            "level": level,
            "subject": subject,
            "output": "so \u2028 it is",
            "answer": None,
            "correct": bool(rng.random() < np.clip(skill + 0.08 * (3 - level), 0, 1)),
            "teacher_correct": True,
            "agrees": False,
            "timed_out": False,
        }
        for key, level, subject in problems
    ]
    write(f"data/predictions/{name}.jsonl", "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
    write(
        f"metrics/runs/{name}.json",
        json.dumps(
            {
                "name": name,
                "method": method,
                "seed": seed,
                "problems": len(rows),
                "accuracy": sum(row["correct"] for row in rows) / len(rows),
                "accuracy_by_level": {},
                "accuracy_by_subject": {},
                "agreement": 0.5,
                "top1_agreement": 0.75,
                "kl_per_token": 0.25,
                "calibration_error": 0.125,
                "grading_timeouts": 0,
            }
        ),
    )


def write_training(method: str, seed: int, skill: float, arms: Sequence[str]) -> None:
    """metrics/training/METHOD-SEED.json and the two logs."""
    name = f"{method}-{seed}"
    write(
        f"metrics/training/{name}.json",
        json.dumps(
            {
                "method": method,
                "seed": seed,
                "steps": STEPS,
                "examples": EXAMPLES,
                "tokens": 90 * EXAMPLES + seed,
                "training_seconds": 100.0 + seed,
                "peak_memory_bytes": 2**29,
                "grading_timeouts": 0,
                "budget": {"steps": STEPS},
            }
        ),
    )
    for file, table in (("learning_curve", learning_curve(skill, seed)), ("arm_log", arm_log(method, seed, arms))):
        write(f"plots/runs/{name}/{file}.csv", table.to_csv(index=False))


def learning_curve(skill: float, seed: int) -> pd.DataFrame:
    """A curve that rises towards `skill`; the first row has no loss."""
    steps = np.array(VALIDATE_AT)
    noise = np.random.default_rng([seed, 1]).normal(0, 0.01, len(steps))
    accuracy = np.clip(0.1 + (skill - 0.1) * (1 - np.exp(-3 * steps / STEPS)) + noise, 0, 1)
    loss = [np.nan, *np.linspace(2, 0.5, len(steps) - 1)]
    return pd.DataFrame(
        {
            "step": steps,
            "examples": steps * BATCH,
            "tokens": steps * BATCH * 90,
            "validation_accuracy": accuracy.round(4),
            "loss": loss,
        }
    )


def arm_log(method: str, seed: int, arms: Sequence[str]) -> pd.DataFrame:
    """Probabilities that move from the first arms to the last; only `rl` has Q-values."""
    rng = np.random.default_rng([seed, 2])
    places = np.linspace(0, 1, len(arms))
    rows = []
    for step in range(STEPS):
        weights = np.exp(-4 * (places - step / STEPS) ** 2) + 0.1
        counts = rng.multinomial(BATCH, weights / weights.sum())
        rows += [
            {
                "step": step,
                "arm": arm,
                "probability": weight / weights.sum(),
                "q_value": weight if method == "rl" else np.nan,
                "reward": np.nan,
                "count": count,
            }
            for arm, weight, count in zip(arms, weights, counts, strict=True)
        ]
    return pd.DataFrame(rows)


def write(path: str, text: str) -> None:
    """Writes a file and the folders above it."""
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Path(path).write_text(text, encoding="utf-8")
