"""Units of measure and nouns after a number, by one name each: `sq. cm` and `centimeters^2` are both cm^2."""

from __future__ import annotations

import re

PERCENT, DEGREE, DOLLAR = "%", "°", "$"
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
    "unit": "unit",
}
_CANONICAL = {alias: name for name, aliases in _NAMES.items() for alias in aliases.split()}
_POWERS = {"square": 2, "sq": 2, "squared": 2, "cubic": 3, "cu": 3, "cubed": 3}
_WORD = re.compile(r"[A-Za-z°%$€£]+(?:/[A-Za-z]+)?")


def unit_of(words: str, exponent: int = 1) -> str:
    """The canonical name of a unit in words, `unit_of("sq. cm")` and `unit_of("cm", 2)` are both "cm^2".

    Of nouns that measure nothing ("right triangles") the last one counts, without its plural ending.
    """
    found = _WORD.findall(words.lower())
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


def is_unit(words: str) -> bool:
    """Whether bare letters after a number are a unit of measure; one letter is a variable."""
    found = _WORD.findall(words.lower())
    return bool(found) and all(len(w) > 1 and (w in _POWERS or _stem(w) in _CANONICAL) for w in found)


def _stem(word: str) -> str:
    return word if word in _CANONICAL or len(word) < 3 else word.removesuffix("s")


def _singular(word: str) -> str:
    stem = _stem(word)
    return _CANONICAL.get(stem, stem)
