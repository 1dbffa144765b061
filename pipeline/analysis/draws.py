"""What curricula draw: probabilities of arms, by subject and level, beside what the pool and the target are made of."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from pipeline.analysis.curriculum import has_q_values
from pipeline.analysis.reading import Results, TrainedRun
from pipeline.common.errors import ResultsError

ORACLE = "target_only"
OF_TARGET, OTHERS = "arms of the target", "other arms"
Grouping = Callable[[str], str]  # from an arm to the group that it is shown in
# the names that arms by subject and level, by level and by subject have, see pipeline/arms/grouping.py
NAMES: tuple[Callable[[str, int], str], ...] = (
    lambda subject, level: f"{subject}/{level}",
    lambda _, level: f"level {level}",
    lambda subject, _: subject,
)


@dataclass(frozen=True)
class Pool:
    """What may be trained on. of_target: how many of the problems are of the target's subjects and levels."""

    problems: int
    by_subject: dict[str, int]
    by_level: dict[str, int]
    of_target: int


@dataclass(frozen=True)
class Drawn:
    """What a method that learns drew of some arms, and why: means over the second half of its runs and their seeds.

    share: of the draws. q_value: mean over the arms; standard_error: mean of one arm's, None where it has none. pool,
    target: the arms' share of the pool's problems, and of the test problems; oracle: of the draws of ORACLE. These are
    None where the arms are of no subject or level.
    """

    share: float
    q_value: float
    standard_error: float | None
    pool: float | None
    target: float | None
    oracle: float | None


def pool_of(results: Results) -> Pool:
    """What the pool holds, and how much of it is like the test problems."""
    subjects, levels = Counter(p.subject for p in results.pool), Counter(p.level for p in results.pool)
    target = set(results.subject_P), set(results.level_P)
    return Pool(
        problems=len(results.pool),
        by_subject={subject: subjects[subject] for subject in sorted(subjects)},
        by_level={str(level): levels[level] for level in sorted(levels)},
        of_target=sum(p.subject in target[0] and p.level in target[1] for p in results.pool),
    )


def probabilities(arm_log: pd.DataFrame) -> pd.DataFrame:
    """The arm log as a table of probabilities: a row per step, a column per arm, in the log's order of arms."""
    return arm_log.pivot(index="step", columns="arm", values="probability")[list(arm_log["arm"].unique())]


def examples_of(arm_log: pd.DataFrame) -> pd.Series:
    """Examples seen before each step."""
    per_step = arm_log.groupby("step")["count"].sum()
    return per_step.cumsum() - per_step


def mean_probabilities(runs: Sequence[TrainedRun]) -> tuple[pd.DataFrame, np.ndarray]:
    """Probability per step and arm, averaged over seeds, and the examples seen before each step."""
    tables = [probabilities(run.arm_log) for run in runs]
    for run, table in zip(runs, tables, strict=True):
        if not (table.index.equals(tables[0].index) and table.columns.equals(tables[0].columns)):
            raise ResultsError(
                f"the arm logs of {run.name} and {runs[0].name} have different steps or arms; "
                "run `dvc repro` to bring both up to date"
            )
    return sum(tables[1:], tables[0]) / len(tables), examples_of(runs[0].arm_log).to_numpy()


def group_of(arm: str) -> str:
    """The level that an arm holds, as "level 3", or the arm itself where it mixes levels."""
    match = re.fullmatch(r"(?:level |.*/)(\d+)", arm)
    return f"level {match[1]}" if match else arm


def subject_of(arm: str) -> str:
    """The subject of an arm of one subject and level, or the arm itself."""
    match = re.fullmatch(r"(.+)/\d+", arm)
    return match[1] if match else arm


def grouping(table: pd.DataFrame) -> Grouping:
    """By level or by subject, whichever shows more of the choice.

    That is the grouping whose mean shares are further from those of arms that are all drawn alike, in total variation.
    """
    uniform = table * 0 + 1 / len(table.columns)
    by_level, by_subject = (
        float((added_up(table, of).mean() - added_up(uniform, of).mean()).abs().sum()) for of in (group_of, subject_of)
    )
    return subject_of if by_subject > by_level + 1e-9 else group_of


def added_up(table: pd.DataFrame, group: Grouping) -> pd.DataFrame:
    """A table with a column per arm, its columns added up by group; levels ascend, other groups keep their order."""
    members = members_of(table.columns, group)
    return pd.DataFrame({name: table[arms].sum(axis=1) for name, arms in members.items()}, index=table.index)


def members_of(arms: Iterable[str], group: Grouping) -> dict[str, list[str]]:
    """The arms of each group; levels ascend, other groups keep their order."""
    members: dict[str, list[str]] = {}
    for arm in arms:
        members.setdefault(group(arm), []).append(arm)
    if all(name.startswith("level ") for name in members):
        return dict(sorted(members.items(), key=lambda item: int(item[0].removeprefix("level "))))
    return members


def shares_of_arms(results: Results, arms: Sequence[str]) -> pd.DataFrame:
    """Of each arm (columns) its share of the pool, of the target and of the oracle's draws, in rows of these names.

    The target's shares are those of the test problems. The oracle draws the arms that hold problems of the target, all
    alike: as its log has it, where it is compared and has the same arms. A row that the arms say nothing of is left
    out.
    """
    rows = {"pool": _of_pool(results, arms), "target": _of_target(results, arms)}
    rows["oracle"] = _of_oracle(results, arms, rows["target"])
    return pd.DataFrame.from_dict(
        {name: row for name, row in rows.items() if row is not None}, orient="index", columns=list(arms), dtype=float
    )


def _of_pool(results: Results, arms: Sequence[str]) -> list[float] | None:
    name = _naming(results, arms)
    by_source = Counter(problem.source for problem in results.pool)
    if name is not None:
        return _shares(Counter(name(p.subject, p.level) for p in results.pool), arms)
    return _shares(by_source, arms) if by_source.keys() == set(arms) else None


def _of_target(results: Results, arms: Sequence[str]) -> list[float] | None:
    name = _naming(results, arms)
    if name is None:
        return None
    return _shares(Counter(map(name, results.subject_P.tolist(), results.level_P.tolist())), arms)


def _of_oracle(results: Results, arms: Sequence[str], target_A: Sequence[float] | None) -> list[float] | None:
    if ORACLE in results.runs:
        drawn, _ = mean_probabilities(results.runs[ORACLE])
        if set(drawn.columns) == set(arms):
            return drawn[list(arms)].mean().tolist()
    if target_A is None or not any(target_A):
        return None
    return [float(share > 0) / sum(share > 0 for share in target_A) for share in target_A]


def _naming(results: Results, arms: Sequence[str]) -> Callable[[str, int], str] | None:
    """How these arms are named after the subjects and levels of the pool; None where they are of something else."""
    return next((name for name in NAMES if {name(p.subject, p.level) for p in results.pool} == set(arms)), None)


def _shares(counts: Counter[str], arms: Sequence[str]) -> list[float]:
    return [counts[arm] / counts.total() for arm in arms]


def draws(results: Results, method: str) -> dict[str, Drawn]:
    """By target, subject and level, as far as its arms tell them apart; empty without Q-values or several arms."""
    runs = results.runs[method]
    if not has_q_values(runs):
        return {}
    arms = list(runs[0].arm_log["arm"].unique())
    late = pd.concat([run.arm_log[run.arm_log["step"] >= run.record.steps // 2] for run in runs])
    per_arm = late.astype({"q_value": float, "standard_error": float}).groupby("arm").mean(numeric_only=True)
    beside = shares_of_arms(results, arms)
    return {name: _drawn(per_arm.loc[members], beside[members]) for name, members in groups(beside).items()}


def groups(beside: pd.DataFrame) -> dict[str, list[str]]:
    """The arms of each row of the table of draws: those of the target and the others, each subject, each level."""
    arms = list(beside.columns)
    of_target = [arm for arm in arms if (beside.loc[beside.index == "target", arm] > 0).any()]
    others = [arm for arm in arms if arm not in of_target]
    found = {OF_TARGET: of_target, OTHERS: others} if of_target and others else {}
    for factor in (subject_of, group_of):
        if len(members := members_of(arms, factor)) > 1:
            found |= members
    return found


def _drawn(per_arm: pd.DataFrame, beside: pd.DataFrame) -> Drawn:
    error = per_arm["standard_error"].mean()
    shares = {str(name): float(share) for name, share in beside.sum(axis=1).items()}
    return Drawn(
        share=float(per_arm["probability"].sum()),
        q_value=float(per_arm["q_value"].mean()),
        standard_error=None if np.isnan(error) else float(error),
        pool=shares.get("pool"),
        target=shares.get("target"),
        oracle=shares.get("oracle"),
    )
