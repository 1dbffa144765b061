"""What curricula draw: probabilities of arms, by subject and level, beside what the pool and the target are made of."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from pipeline.analysis.curriculum import has_q_values
from pipeline.analysis.reading import Results, TrainedRun, cells_of
from pipeline.common.errors import ResultsError

ORACLE = "target_only"
OF_TARGET, OTHERS = "arms of the target", "other arms"
Grouping = Callable[[str], str]  # from an arm to the group that it is shown in
Naming = Callable[[str, int], str]  # from a subject and a level to the arm that holds them


def arm_of_cell(subject: str, level: int) -> str:
    """The arm of one subject and level."""
    return f"{subject}/{level}"


# the names that arms by subject and level, by level and by subject have, see pipeline/arms/grouping.py
NAMINGS: tuple[Naming, ...] = (arm_of_cell, lambda _, level: f"level {level}", lambda subject, _: subject)


@dataclass(frozen=True)
class Pool:
    """What may be trained on, beside the target.

    of_target: how many of the problems have the subject and level of one of the target's. same_as_target: whether pool
    and target have the same pairs of subject and level.
    """

    problems: int
    by_subject: dict[str, int]
    by_level: dict[str, int]
    of_target: int
    target_subjects: list[str]
    target_levels: list[int]
    same_as_target: bool


@dataclass(frozen=True)
class Drawn:
    """What a method that learns drew of some arms, and why: means over the second half of its runs and their seeds.

    share: of the draws. off_even: how far one arm's is from even draws, on average, for the arm that is furthest.
    q_value: mean over the arms; standard_error: mean of one arm's, None where it has none. pool, target: the arms'
    share of the pool's problems, and of the test problems; oracle: of the draws of ORACLE. These are None where the
    arms are of no subject or level.
    """

    share: float
    off_even: float
    q_value: float
    standard_error: float | None
    pool: float | None
    target: float | None
    oracle: float | None


def pool_of(results: Results) -> Pool:
    """What the pool holds, and how much of it is like the target."""
    subjects, levels = Counter(p.subject for p in results.pool), Counter(p.level for p in results.pool)
    target = results.target_cells
    return Pool(
        problems=len(results.pool),
        by_subject={subject: subjects[subject] for subject in sorted(subjects)},
        by_level={str(level): levels[level] for level in sorted(levels)},
        of_target=sum((p.subject, p.level) in target for p in results.pool),
        target_subjects=sorted({subject for subject, _ in target}),
        target_levels=sorted({level for _, level in target}),
        same_as_target=cells_of(results.pool) == target,
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


def level_of(arm: str) -> str:
    """The level of an arm of one subject and level, as "level 3"."""
    return f"level {arm.rsplit('/', 1)[1]}"


def subject_of(arm: str) -> str:
    """The subject of an arm of one subject and level."""
    return arm.rsplit("/", 1)[0]


def groupings(results: Results, arms: Sequence[str]) -> tuple[Grouping, ...]:
    """By subject and by level for arms of one of each. Any other arm is a group, also a source named "aime/2024"."""
    return (subject_of, level_of) if _naming(results, arms) is arm_of_cell else (str,)


def grouping(table: pd.DataFrame, choices: Sequence[Grouping]) -> Grouping:
    """The grouping that shows most of the choice, the last of those that show as much.

    That is the one whose mean shares are furthest from those of arms that are all drawn alike, in total variation.
    """
    uniform = table * 0 + 1 / len(table.columns)

    def shown(of: Grouping) -> float:
        distance = float((added_up(table, of).mean() - added_up(uniform, of).mean()).abs().sum())
        return round(distance, 9)  # errors of rounding show nothing

    return max(reversed(choices), key=shown)


def added_up(table: pd.DataFrame, group: Grouping) -> pd.DataFrame:
    """A table with a column per arm, its columns added up by group; levels ascend, other groups keep their order."""
    members = members_of(table.columns, group)
    return pd.DataFrame({name: table[arms].sum(axis=1) for name, arms in members.items()}, index=table.index)


def members_of(arms: Iterable[str], group: Grouping) -> dict[str, list[str]]:
    """The arms of each group; levels ascend, other groups keep their order."""
    members: dict[str, list[str]] = {}
    for arm in arms:
        members.setdefault(group(arm), []).append(arm)
    if group is level_of:
        return dict(sorted(members.items(), key=lambda item: int(item[0].removeprefix("level "))))
    return members


def shares_of_arms(results: Results, arms: Sequence[str]) -> pd.DataFrame:
    """Of each arm (columns) its share of the pool, of the target and of the oracle's draws, in rows of these names.

    The target's shares are those of the test problems. The oracle draws the arms of the target, all alike: as its log
    has it, where it is compared and has the same arms. A row that the arms say nothing of is left out.
    """
    rows = {
        "pool": _of_pool(results, arms),
        "target": _of_test_problems(results, arms),
        "oracle": _of_oracle(results, arms),
    }
    return pd.DataFrame.from_dict(
        {name: row for name, row in rows.items() if row is not None}, orient="index", columns=list(arms), dtype=float
    )


def _of_pool(results: Results, arms: Sequence[str]) -> list[float] | None:
    name = _naming(results, arms)
    by_source = Counter(problem.source for problem in results.pool)
    if name is not None:
        return _shares(Counter(name(p.subject, p.level) for p in results.pool), arms)
    known = by_source.keys() == set(arms) and _fitting(results, arms) is None
    return _shares(by_source, arms) if known else None


def _of_test_problems(results: Results, arms: Sequence[str]) -> list[float] | None:
    name = _naming(results, arms)
    if name is None:
        return None
    return _shares(Counter(map(name, results.subject_P.tolist(), results.level_P.tolist())), arms)


def _of_oracle(results: Results, arms: Sequence[str]) -> list[float] | None:
    if ORACLE in results.runs:
        drawn, _ = mean_probabilities(results.runs[ORACLE])
        if set(drawn.columns) == set(arms):
            return drawn[list(arms)].mean().tolist()
    of_target = arms_of_target(results, arms)
    return [(arm in of_target) / len(of_target) for arm in arms] if of_target else None


def arms_of_target(results: Results, arms: Sequence[str]) -> list[str]:
    """The arms named after the subject, the level or both of a problem of the target; none where they are not so named.

    The test problems alone do not decide it: they are few, and may lack some of the target.
    """
    name = _naming(results, arms)
    held = set() if name is None else {name(*cell) for cell in results.target_cells}
    return [arm for arm in arms if arm in held]


def _naming(results: Results, arms: Sequence[str]) -> Naming | None:
    """How these arms are named after the subjects and levels of the pool; None where they are of something else.

    None too where they may as well be sources that happen to be called like subjects or levels, of other problems.
    """
    found = _fitting(results, arms)
    if found is None or not {p.source for p in results.pool} >= set(arms):
        return found
    return found if all(found(p.subject, p.level) == p.source for p in results.pool) else None


def _fitting(results: Results, arms: Sequence[str]) -> Naming | None:
    """The naming that gives arms these names, whatever they are of."""
    cells = cells_of(results.pool)
    return next((name for name in NAMINGS if {name(*cell) for cell in cells} >= set(arms)), None)


def _shares(counts: Counter[str], arms: Sequence[str]) -> list[float]:
    return [counts[arm] / counts.total() for arm in arms]


def draws(results: Results, method: str) -> dict[str, Drawn]:
    """By target, subject and level, as far as its arms tell them apart; empty without Q-values or several arms."""
    runs = results.runs[method]
    if not has_q_values(runs):
        return {}
    arms = list(runs[0].arm_log["arm"].unique())
    per_arm = _second_half(runs).astype({"q_value": float, "standard_error": float}).groupby("arm")
    means, beside = per_arm.mean(numeric_only=True), shares_of_arms(results, arms)
    return {name: _drawn(means.loc[held], beside[held]) for name, held in groups(results, arms).items()}


def _second_half(runs: Sequence[TrainedRun]) -> pd.DataFrame:
    """The logs of all seeds, with how far each probability is from that of even draws."""
    late = pd.concat([run.arm_log[run.arm_log["step"] >= run.record.steps // 2] for run in runs])
    return late.assign(off_even=(late["probability"] - 1 / late["arm"].nunique()).abs())


def groups(results: Results, arms: Sequence[str]) -> dict[str, list[str]]:
    """The arms of each row of the table of draws: those of the target and the others, then by each of `groupings`."""
    of_target = arms_of_target(results, arms)
    others = [arm for arm in arms if arm not in of_target]
    found = {OF_TARGET: of_target, OTHERS: others} if of_target and others else {}
    for by in groupings(results, arms):
        if len(members := members_of(arms, by)) > 1:
            found |= members
    return found


def _drawn(per_arm: pd.DataFrame, beside: pd.DataFrame) -> Drawn:
    error = per_arm["standard_error"].mean()
    shares = {str(name): float(share) for name, share in beside.sum(axis=1).items()}
    return Drawn(
        share=float(per_arm["probability"].sum()),
        off_even=float(per_arm["off_even"].max()),
        q_value=float(per_arm["q_value"].mean()),
        standard_error=None if np.isnan(error) else float(error),
        pool=shares.get("pool"),
        target=shares.get("target"),
        oracle=shares.get("oracle"),
    )
