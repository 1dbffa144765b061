"""The program that a grading worker runs: one pair of answers in, one verdict out, until its input ends.

It is started by path with the interpreter's own options (see grading.py), so that it shares no state with the
parent and does not import the parent's main module; hence it imports nothing of this project. Only JSON and
single bytes pass between the two. Text is parsed by Math-Verify's LaTeX grammar alone: the extraction of bare
expressions, which hands text to Python's `eval`, is left out.
"""

from __future__ import annotations

import json
import logging
import math
import os
import re
import signal
import sys
from dataclasses import replace
from typing import Any

READY, YES, NO = b"R", b"Y", b"N"
MEMORY_BYTES = 2 * 1024**3
GRACE_SECONDS = 5.0  # past its limit a worker is killed by its parent; this much later by itself, an orphan

DIGITS = 6  # to which a decimal and an exact number are compared
PRECISION = 15  # digits of numerical evaluation
APPROXIMATELY = "\\approx "  # before an answer that has to be near, not equal
_DECIMAL = re.compile(r"-?(\d*)\.?(\d*)")


class Judge:
    """Math-Verify, imported once."""

    def __init__(self) -> None:
        """Imports Math-Verify and runs it once, so that no answer pays for its start."""
        from math_verify import LatexExtractionConfig, parse, verify  # noqa: PLC0415

        self._parse, self._verify = parse, verify
        config = LatexExtractionConfig(boxed_match_priority=0)
        # units are taken off before, by name: Math-Verify would also take the m off 2m
        self._config = [replace(config, normalization_config=replace(config.normalization_config, units=False))]
        self.equivalent("\\frac{1}{2}", "0.5")

    def parsed(self, formula: str) -> list[Any]:
        """The SymPy readings of a formula; empty where it is none.

        Math-Verify's own time limits, which rest on signals, are off: the parent's limit is the only one.
        """
        if r"\land" in formula:
            parts = [self.parsed(part)[0] for part in formula.split(r"\land")]
            return [set_of_all(parts)]
        # numbers have no commas by now: with the space 1, 234 is a list, without it Math-Verify reads 1234
        boxed = f"\\boxed{{{formula.replace(',', ', ')}}}"
        found: list[Any] = self._parse(boxed, self._config, fallback_mode="no_fallback", parsing_timeout=None)
        return [union_of_alternatives(value) for value in found]

    def equivalent(self, gold: str, answer: str) -> bool:
        """Whether a formula equals the gold one, or is near it; nothing equals one that cannot be parsed."""
        if near := answer.startswith(APPROXIMATELY):
            answer = answer.removeprefix(APPROXIMATELY)
        if not (golds := self.parsed(gold)) or not (answers := self.parsed(answer)):
            return False
        if near:
            return approximates(gold, golds[0], answer, answers[0])
        # Math-Verify computes with floats, for which 2^{2008} is too large and a rounded decimal is rounded once more
        if golds[0] == answers[0] or is_rounded(golds[0], answer):
            return True
        if self._same(golds, answers):
            return True
        # \sqrt{1/n} is 1/\sqrt{n} where both are defined, which SymPy says of positive n only
        roots = has_root_of_symbol(golds[0]) and has_root_of_symbol(answers[0])
        return roots and self._same(positive(golds), positive(answers))

    def _same(self, golds: list[Any], answers: list[Any]) -> bool:
        zeros = zeros_after_point(golds[0])
        return bool(
            self._verify(
                golds,
                answers,
                float_rounding=DIGITS + zeros,
                numeric_precision=PRECISION + zeros,
                allow_set_relation_comp=True,
                timeout_seconds=None,
            )
        )


def last_digit(formula: str) -> int | None:
    """The power of ten that a decimal's last digit counts: -2 of 0.67, 3 of 12000; None of other formulas."""
    if not (decimal := _DECIMAL.fullmatch(formula)):
        return None
    return -len(decimal[2]) if decimal[2] else len(decimal[1]) - len(decimal[1].rstrip("0"))


def is_rounded(exact: Any, decimal: str) -> bool:
    """Whether a decimal is a number rounded to as many digits as it has, and it has enough of them."""
    place = last_digit(decimal)
    if place is None or place > -DIGITS:
        return False
    return place <= -DIGITS - zeros_after_point(exact) and rounds_to(exact, decimal, place)


def rounds_to(exact: Any, decimal: str, place: int, *, cut: bool = False) -> bool:
    """Whether a decimal is a number to its own digits; cut off instead of rounded where that is allowed."""
    from sympy import Basic, Rational  # noqa: PLC0415

    if not isinstance(exact, Basic) or not exact.is_number or not exact.is_real:
        return False
    value, unit = Rational(decimal), Rational(10) ** place
    number = exact.evalf(len(decimal) + PRECISION)
    if cut and abs(number - value) < unit and abs(value) <= abs(number):
        return True
    return bool(2 * abs(number - value) <= unit)


def approximates(left: str, left_value: Any, right: str, right_value: Any) -> bool:
    """Whether two numbers are near each other, to the digits of the decimal with fewer digits; True if none is one."""
    sides = [(last_digit(left), left, right_value), (last_digit(right), right, left_value)]
    decimals = [(place, decimal, exact) for place, decimal, exact in sides if place is not None]
    if not decimals:
        return True
    place, decimal, exact = max(decimals, key=lambda side: side[0])
    return rounds_to(exact, decimal, place, cut=True)


def set_of_all(conditions: list[Any]) -> Any:
    """The numbers that meet every condition; where none does, "x < 2 and x > 3" lists the parts of a union."""
    from sympy import EmptySet, Intersection, Union  # noqa: PLC0415

    sets = [condition.as_set() for condition in conditions]
    common = Intersection(*sets)
    return Union(*sets) if common is EmptySet else common


def zeros_after_point(value: Any) -> int:
    """How many zeros follow the decimal point of the smallest number in a value: 4 in (0.00003, 5), 0 in 0.3."""
    from sympy import Basic, MatrixBase  # noqa: PLC0415

    if isinstance(value, Basic) and value.is_number:
        size = abs(value.evalf(3))
        return max(0, -math.floor(math.log10(size)) - 1) if size.is_finite and size > 0 else 0
    parts = value.flat() if isinstance(value, MatrixBase) else getattr(value, "args", ())
    return max(map(zeros_after_point, parts), default=0)


def union_of_alternatives(value: Any) -> Any:
    """x < 2 or x > 3 as a union of intervals; any other value as it is."""
    from sympy import And, FiniteSet, Union  # noqa: PLC0415
    from sympy.core.relational import Relational  # noqa: PLC0415

    if not (isinstance(value, FiniteSet) and len(value.args) > 1 and len(value.free_symbols) == 1):
        return value
    if not all(isinstance(part, And) or (isinstance(part, Relational) and not part.is_Equality) for part in value.args):
        return value
    return Union(*(part.as_set() for part in value.args))


def has_root_of_symbol(value: Any) -> bool:
    from sympy import Abs, Pow  # noqa: PLC0415

    if not hasattr(value, "atoms") or value.has(Abs):
        return False
    return any(p.base.free_symbols and p.exp.is_Rational and not p.exp.is_Integer for p in value.atoms(Pow))


def positive(values: list[Any]) -> list[Any]:
    """The same with every variable positive."""
    from sympy import Symbol  # noqa: PLC0415

    return [value.subs({s: Symbol(s.name, positive=True) for s in value.free_symbols}) for value in values]


def main() -> None:
    """Answers requests `[seconds, formula]` (can it be parsed?) and `[seconds, question]` (see comparison.py)."""
    with os.fdopen(os.dup(1), "wb", buffering=0) as replies:
        os.dup2(2, 1)  # nothing a library prints may pass for a verdict
        logging.disable(logging.CRITICAL)
        judge = Judge()
        _limit_memory()
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # the parser complains about every odd character
        replies.write(READY)
        for line in sys.stdin:
            seconds, job = json.loads(line)
            signal.setitimer(signal.ITIMER_REAL, seconds + GRACE_SECONDS)
            verdict = _judge(judge, job)
            signal.setitimer(signal.ITIMER_REAL, 0)
            replies.write(YES if verdict else NO)


def _judge(judge: Judge, job: str | list[list[list[str]]]) -> bool:
    try:
        if isinstance(job, str):
            return bool(judge.parsed(job))
        return all(any(judge.equivalent(gold, answer) for gold, answer in pairs) for pairs in job)
    except Exception:  # whatever hostile text does to the parser (memory, recursion), it is not a right answer
        return False


def _limit_memory() -> None:
    if sys.platform == "darwin":  # macOS refuses this limit; there the time limit alone bounds a worker
        return
    import resource  # noqa: PLC0415

    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    limit = MEMORY_BYTES if hard == resource.RLIM_INFINITY else min(MEMORY_BYTES, hard)
    resource.setrlimit(resource.RLIMIT_AS, (limit, hard))


if __name__ == "__main__":
    main()
