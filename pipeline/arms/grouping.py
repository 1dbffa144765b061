"""Arms: the groups of problems a curriculum chooses between."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from pipeline.common.errors import DataError, ParamsError
from pipeline.problems.record import Problem

ArmKind = Literal["level", "subject", "level_subject", "all"]


@dataclass(frozen=True)
class ArmSet:
    """A arms that share out the training problems; no arm is empty.

    names: readable, such as "Algebra/3". levels: the difficulty 1..5 of each arm, None where an arm mixes levels.
    members: the positions of each arm's problems in the training split. factors: each arm's values of what groups it,
    such as ("Algebra", "3"). probe_counts: how many problems of the probe each arm would hold, for oracles alone.
    """

    names: tuple[str, ...]
    levels: tuple[int | None, ...]
    members: tuple[np.ndarray, ...]
    factors: tuple[tuple[str, ...], ...] = ()
    probe_counts: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        """Refuses an empty arm with a DataError: a curriculum could choose it and there would be nothing to deal."""
        for name, members in zip(self.names, self.members, strict=True):
            if len(members) == 0:
                raise DataError(
                    f"arm {name!r} holds no problem that is short enough to learn from; choose other arms, more "
                    "problems or a larger models.max_tokens"
                )

    def __len__(self) -> int:
        return len(self.names)


def group_into_arms(
    problems: Sequence[Problem], kind: ArmKind, prepared: Sequence[Problem] = (), probe: Sequence[Problem] = ()
) -> ArmSet:
    """Groups problems by level, by subject, by both, or all into one; arms are ordered by subject, then level.

    `prepared` are all problems of the split, those too long to learn from among them: they have arms too.

    Raises:
        ParamsError: the kind is unknown.
        DataError: an arm of `prepared` has lost all its problems, or a kind that should give several arms gives
            one, so a curriculum would have nothing to choose.
    """
    keys = {
        "level": lambda p: ("", p.level),
        "subject": lambda p: (p.subject, None),
        "level_subject": lambda p: (p.subject, p.level),
        "all": lambda _: ("all", None),
    }
    if kind not in keys:
        raise ParamsError(f"params.yaml: arms is {kind!r}, but arms are made by {', '.join(keys)}")
    groups: dict[tuple[str, int | None], list[int]] = {keys[kind](problem): [] for problem in prepared}
    for position, problem in enumerate(problems):
        groups.setdefault(keys[kind](problem), []).append(position)
    ordered = sorted(groups, key=lambda key: (key[0], key[1] or 0))
    if kind != "all" and len(ordered) < 2:
        raise DataError(
            f"arms by {kind} make {len(ordered)} arm of {len(problems)} training problems, so there is nothing "
            "to choose between; set the curriculum's arms to another kind or use more problems"
        )
    of_probe = Counter(map(keys[kind], probe))
    return ArmSet(
        tuple(map(_name, ordered)),
        tuple(level for _, level in ordered),
        tuple(np.array(groups[key]) for key in ordered),
        tuple(tuple(str(value) for value in key if value) for key in ordered),
        tuple(of_probe[key] for key in ordered),
    )


def _name(key: tuple[str, int | None]) -> str:
    subject, level = key
    if level is None:
        return subject
    return f"{subject}/{level}" if subject else f"level {level}"
