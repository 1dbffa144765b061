"""Arms: the groups of problems a curriculum chooses between."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeVar

import numpy as np

from pipeline.common.errors import DataError, ParamsError
from pipeline.problems.record import Problem

SeveralArms = Literal["level", "subject", "level_subject", "source", "difficulty"]
ArmKind = SeveralArms | Literal["all"]
Item = TypeVar("Item")
QUANTILES = 5  # arms that `difficulty` makes, as many as there are levels


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

    def split(self, items: Sequence[Item]) -> list[list[Item]]:
        """What belongs to each arm's problems, of what belongs to all, in their order."""
        return [[items[i] for i in members] for members in self.members]


def group_into_arms(
    problems: Sequence[Problem], kind: ArmKind, prepared: Sequence[Problem] = (), probe: Sequence[Problem] = ()
) -> ArmSet:
    """Groups problems by level, by subject, by both, by source, or all into one, ordered by name, then level.

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
        "source": lambda p: (p.source, None),
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


def group_by_difficulty(
    loss_P: np.ndarray, quantiles: int = QUANTILES, probe_loss_Q: np.ndarray | None = None
) -> ArmSet:
    """Groups P problems by the untrained student's loss, easiest first, into arms equal in size up to one.

    Equal losses are taken in order of position. A problem of the probe counts for the first arm whose largest loss is
    not below its own, else for the last.

    Raises:
        DataError: there are fewer problems than arms, or a loss is not finite.
    """
    if len(loss_P) < quantiles:
        raise DataError(
            f"arms by difficulty need at least {quantiles} training problems that are short enough, and there are "
            f"{len(loss_P)}; set the curriculum's arms to another kind or use more problems"
        )
    if not np.isfinite(loss_P).all():
        raise DataError(
            f"the untrained student's loss is not finite on {np.count_nonzero(~np.isfinite(loss_P))} of {len(loss_P)} "
            "training problems, so they have no difficulty; look at models.student, or set arms to another kind"
        )
    members = [np.sort(arm) for arm in np.array_split(np.argsort(loss_P, kind="stable"), quantiles)]
    bounds_A = np.array([loss_P[arm].max() for arm in members])
    probe_loss_Q = np.empty(0) if probe_loss_Q is None else probe_loss_Q
    arm_Q = np.minimum(np.searchsorted(bounds_A, probe_loss_Q), quantiles - 1)
    numbers = range(1, quantiles + 1)
    return ArmSet(
        tuple(f"difficulty {number}" for number in numbers),
        tuple(numbers),
        tuple(members),
        tuple((str(number),) for number in numbers),
        tuple(np.bincount(arm_Q, minlength=quantiles).tolist()),
    )


def _name(key: tuple[str, int | None]) -> str:
    subject, level = key
    if level is None:
        return subject
    return f"{subject}/{level}" if subject else f"level {level}"
