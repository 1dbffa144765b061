"""Whether an answer says what the gold answer says: decided here where words, units, bases and times decide.

What is left is formulas, for Math-Verify to compare.
"""

from __future__ import annotations

import re
from itertools import product

from pipeline.problems.reading import Clock, Reading, is_named, letters, read, values_of
from pipeline.problems.units import PERCENT

# (gold, answer) formulas of which one has to be equivalent, for each side of the answer's equation
Question = tuple[tuple[tuple[str, str], ...], ...]

_INTEGER = re.compile(r"[+-]?[0-9]{1,15}")


def compare(gold: str, answer: str) -> bool | Question:
    """Whether an answer is right, or the formulas on which that depends."""
    named = is_named(gold)  # then the answer's name counts too, and Math-Verify compares whole equations
    golds = [read(gold)] if named else [value for number in values_of(gold) for value in number]
    open_questions = []
    for number in ((read(answer),),) if named else values_of(answer):
        verdicts = [compare_values(*pair) for pair in product(golds, number)]
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
    if gold.unit and answer.unit and gold.unit != answer.unit:
        return False
    return _compare_formulas(gold, answer)


def _compare_formulas(gold: Reading, answer: Reading) -> bool | tuple[tuple[str, str], ...]:
    if gold.formula == answer.formula or not answer.formula:
        return gold.formula == answer.formula
    pairs = [(gold.formula, answer.formula)]
    if gold.unit == PERCENT and not answer.unit:
        pairs.append((f"\\frac{{{gold.formula}}}{{100}}", answer.formula))
    if answer.unit == PERCENT and not gold.unit:
        pairs.append((gold.formula, f"\\frac{{{answer.formula}}}{{100}}"))
    if all(map(_INTEGER.fullmatch, pairs[0])) and len(pairs) == 1:
        return int(gold.formula) == int(answer.formula)
    return tuple(pairs)


def _same_time(gold: Clock, answer: Clock) -> bool:
    return gold[:3] == answer[:3] and (gold[3] == answer[3] or not gold[3] or not answer[3])


def _as_words(reading: Reading) -> str:
    return letters(reading.formula) if reading.words is None else reading.words


def _digits(reading: Reading) -> str:
    return reading.formula.lstrip("0") or "0"
