"""Whether an answer says what the gold answer says: decided here where words, units, bases and times decide.

What is left is formulas, for Math-Verify to compare.
"""

from __future__ import annotations

import re
from itertools import pairwise, product

from pipeline.problems.reading import Clock, Reading, is_named, letters, read, values_of
from pipeline.problems.units import DEGREE, PERCENT

# (gold, answer) formulas of which one has to be equivalent, for each side of the answer's equation;
# an answer that begins with \approx has to be near
Question = tuple[tuple[tuple[str, str], ...], ...]

_POINT = re.compile(r"\(([^()\[\]]+,[^()\[\]]+)\)")
_LIST = re.compile(r"(?!\\\{)[^()\[\]]+,[^()\[\]]+")
_NAMED = re.compile(r"(\\?[A-Za-z]+(?:_\{\d+\})?)=(.+)")
_SAME_UNITS = ({DEGREE, "°C"}, {DEGREE, "°F"})
_INTEGER = re.compile(r"[+-]?[0-9]{1,15}")


def compare(gold: str, answer: str) -> bool | Question:
    """Whether an answer is right, or the formulas on which that depends."""
    named = is_named(gold)  # then the answer's name counts too, and Math-Verify compares whole equations
    golds = [read(gold)] if named else [value for number in values_of(gold) for value in number]
    open_questions = []
    for number in ((read(answer),),) if named else values_of(answer):
        verdicts = [compare_values(*pair) for pair in product(golds, number)]
        open_questions += [near for one, other in pairwise(number) if (near := _nearness(one, other))]
        if True in verdicts:
            continue
        pairs = tuple(pair for verdict in verdicts if not isinstance(verdict, bool) for pair in verdict)
        if not pairs:
            return False
        open_questions.append(tuple(dict.fromkeys(pairs)))
    return tuple(open_questions) or True


def compare_values(gold: Reading, answer: Reading) -> bool | tuple[tuple[str, str], ...]:
    """The same of two single values."""
    if gold.clock and answer.clock:
        return _same_time(gold.clock, answer.clock)
    if gold.words is not None or answer.words is not None:
        return _as_words(gold) == _as_words(answer)
    if gold.base or answer.base not in {"", "10"}:
        return answer.base in {"", gold.base} and _digits(gold) == _digits(answer)
    if gold.unit and answer.unit and gold.unit != answer.unit and {gold.unit, answer.unit} not in _SAME_UNITS:
        return False
    return _compare_formulas(gold, answer)


def _compare_formulas(gold: Reading, answer: Reading) -> bool | tuple[tuple[str, str], ...]:
    if gold.formula == answer.formula or not answer.formula:
        return gold.formula == answer.formula
    pairs = _without_brackets(gold.formula, answer.formula)
    if gold.unit == PERCENT and not answer.unit:
        pairs.append((f"\\frac{{{gold.formula}}}{{100}}", answer.formula))
    if answer.unit == PERCENT and not gold.unit:
        pairs.append((gold.formula, f"\\frac{{{answer.formula}}}{{100}}"))
    if all(map(_INTEGER.fullmatch, pairs[0])) and len(pairs) == 1:
        return int(gold.formula) == int(answer.formula)
    return tuple(pairs)


def _without_brackets(gold: str, answer: str) -> list[tuple[str, str]]:
    """The pairs of formulas that may be equivalent where a list has no brackets or its entries have names."""
    point = _POINT.fullmatch(answer)
    if "=" in gold or not (point or _LIST.fullmatch(answer)):
        return [(gold, answer)]
    if _POINT.fullmatch(gold) and not point:
        return [(gold, f"({','.join(_entries_by_name(answer))})")]
    if _LIST.fullmatch(gold):
        return [(gold, answer), (gold, point[1] if point else ",".join(_entries_by_name(answer)))]
    return [(gold, answer)]


def _entries_by_name(formula: str) -> list[str]:
    """The entries of a list; of y = 1, x = 2 the values, in the order of their names."""
    entries = formula.split(",")
    named = {found[1]: found[2] for entry in entries if (found := _NAMED.fullmatch(entry))}
    return [named[name] for name in sorted(named, key=_by_letters)] if len(named) == len(entries) else entries


def _by_letters(name: str) -> str:
    return name.removeprefix("\\")


def _nearness(one: Reading, other: Reading) -> tuple[tuple[str, str], ...]:
    r"""What has to hold for a \approx b; nothing where their units differ, as of 1/3 hour and 20 minutes."""
    units = {one.unit, other.unit} - {""}
    return () if len(units) > 1 or PERCENT in units else ((one.formula, f"\\approx {other.formula}"),)


def _same_time(gold: Clock, answer: Clock) -> bool:
    return gold[:3] == answer[:3] and (gold[3] == answer[3] or not gold[3] or not answer[3])


def _as_words(reading: Reading) -> str:
    return letters(reading.formula) if reading.words is None else reading.words


def _digits(reading: Reading) -> str:
    return reading.formula.lstrip("0") or "0"
