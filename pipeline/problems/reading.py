r"""What an answer says: a formula for Math-Verify, and what stands beside it and decides on its own.

A unit, a number's base, a time of day and words are no business of a computer algebra system, which drops them or takes
them for variables. docs/grading.md lists what is decided here.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from decimal import Decimal
from functools import lru_cache

from pipeline.problems.latex import plain
from pipeline.problems.units import (
    CURRENCIES,
    DEGREE,
    PERCENT,
    UNITS_OF_A_LETTER,
    is_unit,
    may_be_unit,
    multiplied,
    unit_of,
)

MAX_VALUES = 6  # between signs of equality; more of them are read as one formula
Clock = tuple[int, int, int, str]

_RELATION = re.compile(
    r"^(?:⟦\s*(?:the|final|my|\s)*(?:answer|result|value|solution)\s*(?:is|:)*\s*⟧|⟦[^⟧\d]*⟧=|=|\\approx|\\simeq|\\sim|\\cong|:)+",
    re.IGNORECASE,
)
# a sign without its other side: "> 5" is a claim about a value, not a value
_HALF_RELATION = re.compile(
    r"(?:[<>]|\\(?:leq|geq|neq|not|in|ni|notin|nless|ngtr|subset|subseteq|ll|gg|propto|nsim|napprox)(?![A-Za-z])).*"
)
_PRIMED_NUMBER = re.compile(r"\d(?:\^\{\\circ\})?'")
_DOTS_AFTER_DIGITS = re.compile(r"(\.\d{6,})\\ldots$")
_SCIENTIFIC = re.compile(r"(-?\d{1,15}(?:\.\d{1,15})?)\\(?:times|cdot)10\^\{(-?\d{1,2})\}")
_MULTIPLE = re.compile(r"(?<![\d.])(\d{1,15}(?:\.\d{1,9})?)⟦([^⟧]*)⟧")
_SET_BUILDER = re.compile(r"^\\\{[A-Za-z](?:\\in\\mathbb ?\{?R\}?)?(?:\\mid|:|\|) ?(.+)\\\}$")
_GROUP = re.compile(r"^\{([^{}]*)\}$")
_IMAGINARY = re.compile(r"(?<![A-Za-z\\])i(?![A-Za-z])")  # Math-Verify's name for it is I
_POWER_OF_I = re.compile(_IMAGINARY.pattern + r"(?=\^)")  # of I^2, but not of (I)^2, Math-Verify drops the power
_EQUALS = re.compile(r"(?<![<>!\\])=(?!=)|\\equiv(?![A-Za-z])")
_APPROXIMATELY = re.compile(r"\\(?:approx|simeq)(?![A-Za-z])")
_GREEK = (
    "alpha|beta|gamma|delta|epsilon|varepsilon|zeta|eta|theta|kappa|lambda|mu|nu|xi|rho|sigma|tau|phi|varphi|chi|psi"
    "|omega"
)
_NO_LETTER = re.compile(rf"\\(?:begin|end)\{{\w+\}}|\\(?!(?:{_GREEK})(?![A-Za-z]))[A-Za-z]+|⟦[^⟧]*⟧")
_CLOCK = re.compile(r"(\d{1,2}):(\d\d)(?::(\d\d))?(?:⟦? ?([ap])\.? ?m\.? ?⟧?)?", re.IGNORECASE)
_BASE = re.compile(r"(-?)(\d[0-9A-Z]*|[A-Z]+\d[0-9A-Z]*)(?:_ ?(?:in )?(?:base ?)?| ?(?:in )?base ?)(\d{1,2}|[a-z]+) ?")
_MARKS = re.compile(r"[{}⟦⟧()]")
_INNER_BASE = re.compile(r"(?<![A-Za-z\\}_\d.])(\d+)_\{(\d{1,2})\}")
_CURRENCY = re.compile(r"\\\$|[€£]|\\text\{\\\$\}")
_TRIGONOMETRIC = re.compile(r"\\(?:sin|cos|tan|cot|sec|csc)(?![A-Za-z])")
_DEGREES = re.compile(r"(\d+(?:\.\d+)?)\^\{\\circ\}")
_UNIT_WORDS = re.compile(r"(?<=[^,(\[{=⟧])⟦([^⟧]*)⟧(?:\^\{([23])\})?(?=,|$)")
_UNIT_LETTERS = re.compile(r"(?<=[\d}])([A-Za-z.]+)(?:\^\{([23])\})?$")
_UNIT_FRACTION = re.compile(  # \frac{km}{h}, m/s and m s^{-1}, each name set as text
    r"(?<=[\d})])(?:\\frac\{[⟦{]\s*(\w+)\s*[⟧}]\}\{[⟦{]\s*(\w+)\s*[⟧}]\}"
    r"|[⟦{]\s*(\w+)\s*[⟧}]/[⟦{]\s*(\w+)\s*[⟧}]|[⟦{]\s*(\w+)\s*[⟧}][⟦{]\s*(\w+)\s*[⟧}]\^\{-1\})$"
)
_UPRIGHT_UNIT = re.compile(rf"(?<=[\d}}])\{{([{UNITS_OF_A_LETTER}])\}}(?:\^\{{([23])\}})?$")
_DEGREE_SIGN = re.compile(r"°(?:([CF])(?![A-Za-z])|\{([CF])\})?|%")
_REPEATING = re.compile(r"(?<![\d.])(\d{0,30})\.(\d{0,30})\\(?:overline|bar|dot)\{(\d{1,30})\}")
_MEMBER = re.compile(r"^[A-Za-z](?:_\{\w+\})?\\in(?=[(\[]|\\\{)")
_CHOICES = re.compile(r"\(?[A-Z]\)?(?:,\(?[A-Z]\)?)*")
_SEQUENCE = re.compile("[A-Z]{3,}")
_NUMBERS = {
    word: str(number)
    for number, word in enumerate(
        (
            *(
                "zero",
                "one",
                "two",
                "three",
                "four",
                "five",
                "six",
                "seven",
                "eight",
                "nine",
                "ten",
                "eleven",
                "twelve",
            ),
            *("thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen", "twenty"),
        )
    )
}


@dataclass(frozen=True)
class Reading:
    """One value that an answer states.

    formula: LaTeX without layout, for Math-Verify. unit: its canonical name, "" where there is none. base: of a number
    with a subscript. clock: hours, minutes, seconds and "a", "p" or "". words: where the answer is a text, its letters
    and digits.
    """

    formula: str
    unit: str = ""
    base: str = ""
    clock: Clock | None = None
    words: str | None = None


@lru_cache(maxsize=10_000)
def read(answer: str) -> Reading:
    """What an answer says, as one formula."""
    return _reading(plain(answer))


@lru_cache(maxsize=10_000)
def values_of(answer: str) -> tuple[tuple[Reading, ...], ...]:
    r"""The numbers between an answer's signs of equality, each with those it is said to be near.

    `x = 3^2 = 9` states 3^2 and 9 (x is a name), `\frac23 \approx 0.67` states one number with two values. A list, and
    an equation between formulas with letters, is one value.
    """
    text = _RELATION.sub("", plain(answer))
    numbers = [side for side in _EQUALS.split(text) if not _has_letters(side)]
    values = [list(filter(None, _APPROXIMATELY.split(number))) for number in numbers]
    if "," in text or not numbers or not all(values) or sum(map(len, values)) > MAX_VALUES:
        return ((_reading(text),),)
    return tuple(tuple(map(_reading, number)) for number in values)


def is_named(answer: str) -> bool:
    """Whether an answer says what its value is of, as x = 5 does."""
    sides = _EQUALS.split(plain(answer))
    return len(sides) > 1 and any(map(_has_letters, sides))


def _has_letters(text: str) -> bool:
    return re.search("[A-Za-z]", _NO_LETTER.sub("", text)) is not None


def _reading(text: str) -> Reading:
    text = _GROUP.sub(r"\1", _RELATION.sub("", text).strip())
    if (clock := _CLOCK.fullmatch(text)) and int(clock[1]) <= 24 and int(clock[2]) < 60:
        return Reading(text, clock=(int(clock[1]), int(clock[2]), int(clock[3] or 0), (clock[4] or "").lower()))
    if based := _BASE.fullmatch(_MARKS.sub("", text)):
        base = _NUMBERS.get(based[3], based[3])
        if base.isdecimal():
            return Reading(based[1] + (based[2].lstrip("0") or "0"), base=base)
    text = _SET_BUILDER.sub(r"\1", _DOTS_AFTER_DIGITS.sub(r"\1", text))
    if _says_no_value(text):
        return Reading(text, words=letters(text))
    text, unit = _without_units(_radians(_MULTIPLE.sub(_multiple, text)))
    text = _SCIENTIFIC.sub(_shifted, text) if _SCIENTIFIC.fullmatch(text) else text
    text = _INNER_BASE.sub(r"\1\\cdot\\beta_{\2}", _MEMBER.sub("", text))
    text = _REPEATING.sub(lambda found: _fraction(*found.groups()), _IMAGINARY.sub("I", _POWER_OF_I.sub("(I)", text)))
    if number := _NUMBERS.get(letters(text)):
        return Reading(number, unit)
    return Reading(text, unit, words=_words(text))


def _says_no_value(text: str) -> bool:
    """Whether an answer is a relation without its other side, leaves something out, or has minutes or feet."""
    return bool(_HALF_RELATION.match(text) or r"\ldots" in text or _PRIMED_NUMBER.search(text))


def _shifted(found: re.Match[str]) -> str:
    """A number without its power of ten, which Math-Verify computes with floats."""
    return f"{Decimal(found[1]).scaleb(int(found[2])):f}"


def _multiple(found: re.Match[str]) -> str:
    if (product := multiplied(found[1], found[2])) is None:
        return found[0]
    number, words = product
    return f"{number}⟦{words}⟧" if words else number


def _radians(text: str) -> str:
    if not _TRIGONOMETRIC.search(text):
        return text
    return _DEGREES.sub(r"{\\frac{\1\\cdot\\pi}{180}}", text)


def _without_units(text: str) -> tuple[str, str]:
    """A formula, or a list of some, and their unit; several are joined."""
    found: dict[str, None] = {}

    def note(unit: str) -> str:
        found[unit] = None
        return ""

    text = _UNIT_FRACTION.sub(_unit_in_words, text.replace("^{\\circ}", "°"))
    text = _DEGREE_SIGN.sub(
        lambda sign: note(PERCENT if sign[0] == "%" else f"{DEGREE}{sign[1] or sign[2] or ''}"), text
    )
    text = _CURRENCY.sub(lambda sign: note(CURRENCIES[sign[0]]), text)
    text = _UNIT_WORDS.sub(
        lambda words: note(unit_of(words[1], int(words[2] or 1))) if may_be_unit(words[1]) else words[0], text
    )
    text = _UPRIGHT_UNIT.sub(lambda letter: note(unit_of(letter[1], int(letter[2] or 1))), text)
    text = _UNIT_LETTERS.sub(
        lambda letters: note(unit_of(letters[1], int(letters[2] or 1))) if is_unit(letters[1]) else letters[0], text
    )
    return text.replace("{}", ""), ",".join(unit for unit in found if unit)


def _unit_in_words(found: re.Match[str]) -> str:
    names = [name for name in found.groups() if name]
    return (
        f"⟦{'/'.join(names)}⟧" if all(is_unit(name) or name in set(UNITS_OF_A_LETTER) for name in names) else found[0]
    )


def _fraction(whole: str, once: str, repeated: str) -> str:
    r"""0.1\overline{6} as \frac{15}{90}."""
    numerator = int(f"0{whole}{once}{repeated}") - int(f"0{whole}{once}")
    return f"\\frac{{{numerator}}}{{{'9' * len(repeated)}{'0' * len(once)}}}"


def _words(text: str) -> str | None:
    """The letters and digits of a text, None of a formula. Choices have no order, other lists have."""
    if _CHOICES.fullmatch(choices := re.sub("[{}]", "", text)):
        return ",".join(sorted(re.findall("[A-Z]+", choices)))
    return letters(text) if "⟦" in text or _SEQUENCE.fullmatch(text) else None


def letters(text: str) -> str:
    """What is left of an answer when it is compared as text: letters, digits and signs, in one case."""
    return re.sub(r"[\s⟦⟧{}.;()]", "", text).lower()
