"""What the pool and the target are, where the curricula that learn went, and why: sentences and tables."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from pipeline.analysis.draws import OF_TARGET, ORACLE, OTHERS, Drawn, Pool
from pipeline.analysis.markdown import NONE, bullets, table
from pipeline.analysis.metrics import percent
from pipeline.analysis.summary import Method, Summary
from pipeline.analysis.wording import listed, q_sentence

MOST_NAMED = 12  # subjects; more are counted
DIGITS = 3  # of the largest number in a column of Q-values, by which all are rounded
Draws = Mapping[str, Drawn]


def pool_and_target(summary: Summary) -> str:
    """What may be trained on, what validation and test problems are of, and how much of the first is like that."""
    pool = summary.pool
    held = f"holds {pool.problems:,} problems: {_of(list(pool.by_subject), _levels_of(pool))}"
    if pool.same_as_target:
        target = "the target, which has these subjects and levels too."
    else:
        like = "all" if pool.of_target == pool.problems else f"{pool.of_target:,} ({_share_like(pool)})"
        target = (
            f"the target: {_target(pool)}. Of the pool's problems {like} have the subject and level of one of the "
            "target's."
        )
    return f"The pool, which may be trained on, {held}. Test and validation problems are of {target}"


def pool_and_target_in_short(summary: Summary) -> str:
    """The same for a picture, whose panel of draws names the pool's subjects."""
    pool = summary.pool
    held = f"Pool: {pool.problems:,} problems"
    if pool.same_as_target:
        return f"{held}; target (validation and test): of the same subjects and levels"
    return f"{held}, {_share_like(pool)} of them of the target (validation and test): {_target(pool)}"


def _share_like(pool: Pool) -> str:
    return percent(pool.of_target / pool.problems)


def _target(pool: Pool) -> str:
    """The target's subjects, and its levels where these are not the pool's.

    Where both are the pool's, their names would not say how the two differ.
    """
    subjects, levels = pool.target_subjects, pool.target_levels
    if levels != _levels_of(pool):
        return _of(subjects, levels)
    same = set(subjects) == pool.by_subject.keys()
    return "the same subjects and levels, but not in the same pairs" if same else _subjects(subjects)


def _levels_of(pool: Pool) -> list[int]:
    return list(map(int, pool.by_level))


def _of(subjects: Sequence[str], levels: Sequence[int]) -> str:
    return f"{_levels(levels)} of {_subjects(subjects)}"


def _subjects(subjects: Sequence[str]) -> str:
    return listed(subjects) if len(subjects) <= MOST_NAMED else f"{len(subjects)} subjects"


def _levels(levels: Sequence[int]) -> str:
    if len(levels) == 1:
        return f"level {levels[0]}"
    if len(levels) > 2 and list(levels) == list(range(levels[0], levels[-1] + 1)):
        return f"levels {levels[0]} to {levels[-1]}"
    return f"levels {listed(list(map(str, levels)))}"


def draws(summary: Summary) -> str:
    """Where each method that learns went, what it held of the arms, and whether that predicts anything.

    Methods with the same arms share a table. Empty without such a method.
    """
    learning = {name: method for name, method in summary.methods.items() if method.draws}
    if not learning:
        return ""
    sentences = [
        " ".join(filter(None, [went(name, method), q_sentence(name, method, summary.confidence)]))
        for name, method in learning.items()
    ]
    tables = [_table({name: learning[name].draws for name in names}) for names in _with_the_same_arms(learning)]
    return "\n\n".join([bullets(sentences), _legend(learning), *tables])


def went(name: str, method: Method) -> str:
    """Where a method went: how much it drew of the target's arms, and what it held of them; or that it went nowhere."""
    if all(percent(drawn.off_even) == percent(0.0) for drawn in method.draws.values()):
        return f"In the second half of its training {name} drew all arms alike."
    if OF_TARGET not in method.draws:
        return ""
    own, others = method.draws[OF_TARGET], method.draws[OTHERS]
    of_target, of_others = (_q(method.draws.values(), drawn) for drawn in (own, others))
    return (
        f"In the second half of its training {name} drew {percent(own.share)} of its examples from arms of the target, "
        f"which hold {_percent(own.pool)} of the pool: its mean Q is {of_target} for them and {of_others} for the "
        "others."
    )


def _with_the_same_arms(learning: Mapping[str, Method]) -> list[list[str]]:
    found: dict[object, list[str]] = {}
    for name, method in learning.items():
        rows = tuple((value, d.pool, d.target, d.oracle) for value, d in method.draws.items())
        found.setdefault(rows, []).append(name)
    return list(found.values())


def _table(by_method: Mapping[str, Draws]) -> str:
    first = next(iter(by_method.values()))
    of_methods = [column for name in by_method for column in (f"{name} draws", f"{name}'s Q")]
    rows = [
        [value, *map(_percent, (d.pool, d.target, d.oracle)), *_cells(value, by_method.values())]
        for value, d in first.items()
    ]
    return table(["arms", "pool", "target", "oracle", *of_methods], rows)


def _cells(value: str, methods: Iterable[Draws]) -> list[str]:
    return [cell for draws in methods for cell in (percent(draws[value].share), _q(draws.values(), draws[value]))]


def _percent(share: float | None) -> str:
    return NONE if share is None else percent(share)


def _q(column: Iterable[Drawn], drawn: Drawn) -> str:
    """A Q-value with the standard error of one arm's, as exact as the largest of its column asks for."""
    largest = max(max(abs(d.q_value), d.standard_error or 0.0) for d in column)
    decimals = max(0, DIGITS - 1 - int(np.floor(np.log10(largest)))) if largest > 0 else DIGITS - 1
    error = "" if drawn.standard_error is None else f" ± {drawn.standard_error:.{decimals}f}"
    return f"{round(drawn.q_value, decimals) + 0.0:+.{decimals}f}{error}"


def _legend(learning: Mapping[str, Method]) -> str:
    known = any(d.oracle is not None for method in learning.values() for d in method.draws.values())
    oracle = f"of the draws of `{ORACLE}` (the oracle, told the target's arms, draws those alone, all alike), "
    return (
        f"Shares of the pool, of the target (the test problems), {oracle if known else ''}and of what was drawn. Draws "
        "and Q-values are means over the second half of the training and the seeds; ± is the standard error of one "
        "arm's Q."
    )
