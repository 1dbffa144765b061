"""Units of measure and nouns after a number, by one name each: `sq. cm` and `centimeters^2` are both cm^2."""

from __future__ import annotations

import re
from decimal import Decimal

PERCENT, DEGREE, DOLLAR = "%", "°", "$"
UNITS_OF_A_LETTER = "mgshlLNJ"  # where they are set as text
CURRENCIES = {"\\$": DOLLAR, "€": "€", "£": "£"}

_NAMES = {
    DEGREE: "degree deg",
    PERCENT: "percent pct percentage",
    DOLLAR: "dollar usd",
    "€": "euro eur",
    "£": "gbp",
    "cent": "cent",
    "mm": "mm millimeter millimetre",
    "cm": "cm centimeter centimetre",
    "m": "m meter metre",
    "km": "km kilometer kilometre",
    "in": "in inch inche",
    "ft": "ft foot feet",
    "yd": "yd yard",
    "mi": "mi mile",
    "mg": "mg milligram",
    "g": "g gram gm",
    "kg": "kg kilogram",
    "lb": "lb pound",
    "oz": "oz ounce",
    "ml": "ml milliliter millilitre",
    "l": "l liter litre",
    "gal": "gal gallon",
    "s": "s sec second",
    "min": "min minute",
    "h": "h hr hour",
    "day": "day",
    "week": "week wk",
    "month": "month",
    "year": "year yr",
    "mph": "mph",
    "km/h": "kmh kph kmph",
    "rad": "rad radian",
    "°C": "celsius °c",
    "°F": "fahrenheit °f",
    "newton": "newton n",
    "joule": "joule j",
    "unit": "unit",
}
_CANONICAL = {alias: name for name, aliases in _NAMES.items() for alias in aliases.split()}
_POWERS = {"square": 2, "sq": 2, "squared": 2, "cubic": 3, "cu": 3, "cubed": 3}
_WORD = re.compile(r"[a-z°%$€£]+")
_COMPOUND = re.compile(r"[a-z]+(?:-[a-z]+)*")
_MULTIPLES = {"hundred": 2, "thousand": 3, "million": 6, "billion": 9, "trillion": 12}
_SAYS_MORE = {
    "number": "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen "
    "sixteen seventeen eighteen nineteen twenty thirty forty fifty sixty seventy eighty ninety ones tens "
    "dozen hundred hundreds thousand thousands million millions billion billions trillion trillions "
    "quadrillion half halves third thirds fourth fourths fifth fifths sixth sixths seventh sevenths "
    "eighth eighths ninth ninths tenth tenths hundredth hundredths thousandth thousandths pi point "
    "infinity",
    "comparison": "more less fewer greater smaller larger bigger higher lower over under above below beyond than least "
    "most between within",
    "logic": "and or not no nor neither either never but except unless if isn doesn does don wrong incorrect false "
    "impossible invalid none",
    "arithmetic": "plus minus negative times divided multiplied power factorial reciprocal root modulo mod remainder "
    "double doubled twice triple tripled halved raised increased decreased exceeds inverse inverted conjugate opposite",
}
_NO_NOUNS = frozenset(" ".join(_SAYS_MORE.values()).split())


def unit_of(words: str, exponent: int = 1) -> str:
    """The canonical name of a unit in words, `unit_of("sq. cm")` and `unit_of("cm", 2)` are both "cm^2".

    Of nouns that measure nothing ("right triangles") the last one counts, without its plural ending.
    """
    found = _WORD.findall(words.lower().replace("/", " per "))
    for word in found:
        exponent *= _POWERS.get(word, 1)
    names = [word for word in found if word not in _POWERS]
    if not names:
        return ""
    name = _singular(names[-1])
    if "per" in names[1:-1]:
        name = f"{_singular(names[names.index('per') - 1])}/{name}"
    name = "mph" if name == "mi/h" else name
    return name if exponent == 1 else f"{name}^{exponent}"


def may_be_unit(words: str) -> bool:
    """Whether words after a number say what is counted or measured, and nothing more about the number.

    "right triangles" do; "or more", "squared", "million" and "hours and 30 minutes" change the number.
    """
    found = _COMPOUND.findall(words.lower())
    last = [word.rpartition("-")[2] for word in found]  # "two-digit numbers" are counted, "forty-two" is a number
    if re.search(r"\d", words) or not found or _POWERS.keys() >= set(found):
        return False
    return found == ["times"] or not _NO_NOUNS.intersection(last)


def multiplied(number: str, words: str) -> tuple[str, str] | None:
    """A number and words that begin with "million" or the like as a number and the words after; None of others."""
    name, _, rest = words.strip().partition(" ")
    if (zeros := _MULTIPLES.get(name.lower())) is None:
        return None
    return f"{Decimal(number).scaleb(zeros).normalize():f}", rest


def is_unit(words: str) -> bool:
    """Whether bare letters after a number are a unit of measure; one letter is a variable."""
    found = _WORD.findall(words.lower().replace("/", " per "))
    return bool(found) and all(len(w) > 1 and (w in _POWERS or _stem(w) in _CANONICAL) for w in found)


def _stem(word: str) -> str:
    return word if word in _CANONICAL or len(word) < 3 else word.removesuffix("s")


def _singular(word: str) -> str:
    stem = _stem(word)
    return _CANONICAL.get(stem, stem)
