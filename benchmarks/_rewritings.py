r"""Rewritings of a gold answer, made by program: harmless ones, wrong ones, and those whose verdict is a decision.

Each is a function of a gold answer, which returns None where it has nothing to rewrite. A wrong one changes a value, a
unit, a base, an order or a border, so that no reader would take it for the gold answer.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import Literal

Kind = Literal["harmless", "wrong", "decided right"]
Rewrite = Callable[[str], str | None]

_INTEGER = re.compile(r"-?\d+")
_NUMBER = re.compile(r"-?(?:\d+|\d*\.\d+)")
_FRACTION = re.compile(r"(-?)\\[dt]?frac\{(\d+)\}\{(\d+)\}")
_ROOT = re.compile(r"\\sqrt\{(\d+)\}")
_TUPLE = re.compile(r"(?:\\left)?\(([^()\[\]]*)(?:\\right)?\)")
_INTERVAL = re.compile(r"(\\left)?([(\[])([^()\[\]]*),([^()\[\]]*?)(\\right)?([)\]])")
_UNIT = re.compile(r"(.*\d\}?)\s*\\(?:text|mbox|textnormal|mathrm)\{\s*([^{}]+?)\s*\}(\^\{?\d\}?)?")
_BASED = re.compile(r"(\d+)_\{?(\d+)\}?")
_CLOCK = re.compile(r"(\d+)(?:\\!)?:(?:\\!)?(\d\d)((?:(?:\\!)?:(?:\\!)?\d\d)?)(\s*\\text\{\s*[ap]\.m\.\})?")
_WORD = re.compile(r"\\(?:text|mbox)\{([A-Za-z]{3,})\}")
_CHOICE = re.compile(r"\\text\{\(([A-Z])\)\}")
_CHOICES = re.compile(r"\\text\{([A-Z](?:, ?[A-Z])+)\}")
_COMPLEX = re.compile(r"(-?\d+)\s*([+-])\s*(\d*)i")
_CONJUGATES = re.compile(r"([^,()]*i[^,()]*),([^,()]*i[^,()]*)")
_LIST_OF_DEGREES = re.compile(r"(\d+\^\\circ), (\d+\^\\circ)")
_LIST = re.compile(r"[^,(){}\[\]]+(?:,[^,(){}\[\]]+)+")
_TERMS = re.compile(r"([^-+={}(),<>\\]+|[^-+={}(),<>]*\\(?:sqrt|frac)\{\d+\}(?:\{\d+\})?)\s*\+\s*([^-+={}(),<>]+)")
_DEGREES = re.compile(r"\^\\circ|\^\{\\circ\}")
_NUMBER_WORDS = (
    *("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve"),
)
_THOUSANDS = re.compile(r"\d{4,}")
_ENVIRONMENT = re.compile(r"\\begin\{pmatrix\}(.*)\\end\{pmatrix\}", re.DOTALL)


@dataclass(frozen=True)
class Rewriting:
    """One way to write an answer otherwise."""

    name: str
    kind: Kind
    of: Rewrite


def around(template: str) -> Rewrite:
    """The whole answer inside something: `@` stands for it."""
    return lambda gold: template.replace("@", gold)


def replaced(pattern: str, by: str | Callable[[re.Match[str]], str]) -> Rewrite:
    """Every place of a pattern rewritten."""
    return lambda gold: re.sub(pattern, by, gold)


def first_replaced(pattern: str, by: str | Callable[[re.Match[str]], str]) -> Rewrite:
    return lambda gold: re.sub(pattern, by, gold, count=1)


def whole(pattern: re.Pattern[str], by: Callable[[re.Match[str]], str | None]) -> Rewrite:
    """Answers that are one thing only, such as a number."""
    return lambda gold: by(found) if (found := pattern.fullmatch(gold)) else None


def unless(pattern: str, rewrite: Rewrite) -> Rewrite:
    return lambda gold: None if re.search(pattern, gold) else rewrite(gold)


def _grouped(separator: str) -> Rewrite:
    return whole(_INTEGER, lambda m: f"{int(m[0]):,}".replace(",", separator) if abs(int(m[0])) > 999 else None)


def _decimal(found: re.Match[str]) -> str | None:
    value = Fraction(int(found[2]), int(found[3]))
    return f"{found[1]}{float(value):.10g}" if Fraction(f"{float(value):.10g}") == value else None


def _repeating(found: re.Match[str]) -> str | None:
    """A fraction whose decimal repeats from the start."""
    top, bottom = int(found[2]), int(found[3])
    if bottom % 2 == 0 or bottom % 5 == 0 or bottom == 1:
        return None
    length = next(n for n in range(1, bottom) if pow(10, n, bottom) == 1)
    if length > 12:
        return None
    digits = (top % bottom) * (10**length - 1) // bottom
    return f"{found[1]}{top // bottom}.\\overline{{{digits:0{length}d}}}"


def _multiple(found: re.Match[str]) -> str:
    return f"{found[1]}\\frac{{{2 * int(found[2])}}}{{{2 * int(found[3])}}}"


def _parts(gold: str) -> list[str] | None:
    """The entries of a tuple or list without nesting, None of anything else."""
    inner = _TUPLE.fullmatch(gold)
    if (
        "frac" in gold
        or "cup" in gold
        or "infty" in gold
        or "=" in gold
        or re.fullmatch(r"[\d,!\\ ]*,(\\!)?\s*\d{3}", gold)
    ):
        return None
    text = inner[1] if inner else gold
    if not (inner or _LIST.fullmatch(gold)):
        return None
    parts = [part.strip() for part in text.split(",")]
    return parts if len(parts) > 1 and all(map(_INTEGER.fullmatch, parts)) else None


def _entries(change: Callable[[list[str]], list[str] | None], *, ordered: bool) -> Rewrite:
    """The entries of a tuple (ordered) or a list rewritten."""

    def rewrite(gold: str) -> str | None:
        if (parts := _parts(gold)) is None or gold.lstrip().startswith(("(", r"\left(")) != ordered:
            return None
        changed = change(parts)
        if changed is None or changed == parts:
            return None
        return f"({', '.join(changed)})" if ordered else ", ".join(changed)

    return rewrite


def _swapped(parts: list[str]) -> list[str] | None:
    return [parts[1], parts[0], *parts[2:]]


def _joined(separator: str) -> Rewrite:
    def rewrite(gold: str) -> str | None:
        parts = _parts(gold)
        return None if parts is None or gold.lstrip().startswith(("(", r"\left(")) else separator.join(parts)

    return rewrite


def _is_interval(gold: str) -> re.Match[str] | None:
    """One interval: of golds in parentheses, only those that are surely no point."""
    found = _INTERVAL.fullmatch(gold.removeprefix("x \\in "))
    if not found or "," in found[4]:
        return None
    return found if "[" in found[2] or "]" in found[6] or "infty" in gold else None


def _relation(gold: str, *, sure: bool = False) -> str | None:
    """An interval as inequality; of golds in parentheses those that are surely no point, or all where that is sure."""
    if not (found := _INTERVAL.fullmatch(gold) if sure else _is_interval(gold)) or re.search(
        r"[a-z]",
        gold.replace(r"\infty", "")
        .replace(r"\pi", "")
        .replace(r"\frac", "")
        .replace(r"\sqrt", "")
        .replace(r"x \in", ""),
    ):
        return None
    low, high = found[3].strip(), found[4].strip()
    if (low, high) == (r"-\infty", r"\infty"):
        return None
    left, right = (r"\le" if bracket in "[]" else "<" for bracket in (found[2], found[6]))
    if low == r"-\infty":
        return f"x {right} {high}"
    return (
        f"x {'>' if left == '<' else chr(92) + 'ge'} {low}" if high == r"\infty" else f"{low} {left} x {right} {high}"
    )


def _relations(separator: str) -> Rewrite:
    """A union of intervals as inequalities."""

    def rewrite(gold: str) -> str | None:
        parts = [part.strip() for part in gold.split(r"\cup")]
        found = [relation for part in parts if (relation := _relation(part, sure=True))]
        return separator.join(found) if len(found) == len(parts) > 1 else None

    return rewrite


def _other_border(gold: str) -> str | None:
    if not (found := _is_interval(gold)):
        return None
    if "infty" not in found[3]:
        return gold.replace(found[2], "[" if found[2] == "(" else "(", 1)
    return gold[: gold.rindex(found[6])] + ("]" if found[6] == ")" else ")")


def _interval_moved(gold: str) -> str | None:
    if not _is_interval(gold) or not (number := re.search(r"(?<![\d{])\d+", gold)):
        return None
    return gold[: number.start()] + str(int(number[0]) + 1) + gold[number.end() :]


def _two_inequalities(gold: str) -> str | None:
    relation = re.fullmatch(r"([^<x]+?) (<|\\le) x (<|\\le) ([^<x]+)", _relation(gold) or "")
    if not relation:
        return None
    low, left, right, high = relation.groups()
    return f"x {'>' if left == '<' else chr(92) + 'ge'} {low} \\text{{ and }} x {right} {high}"


def _set_of(template: str) -> Rewrite:
    """An interval as a set of the x with a condition, which stands for @."""
    return lambda gold: template.replace("@", relation) if (relation := _relation(gold)) else None


def _no_layout(gold: str) -> bool:
    return not re.search(r"_|\\!|:|matrix|text|mbox|\\\$|circ|,\d{3}", gold)


def _bumped(pattern: str, by: int = 1) -> Rewrite:
    """The first number that a pattern's only group holds, changed by some."""

    def rewrite(gold: str) -> str | None:
        if not (found := re.search(pattern, gold)):
            return None
        return gold[: found.start(1)] + str(int(found[1]) + by) + gold[found.end(1) :]

    return rewrite


def _integer(change: Callable[[int], object]) -> Rewrite:
    return whole(_INTEGER, lambda m: str(change(int(m[0]))))


def _reversed_digits(found: re.Match[str]) -> str | None:
    turned = found[0].lstrip("-")[::-1]
    return None if turned == found[0].lstrip("-") else ("-" if found[0][0] == "-" else "") + turned


def _truncated(found: re.Match[str]) -> str | None:
    value = Fraction(int(found[2]), int(found[3]))
    text = f"{float(value):.3f}"
    return None if Fraction(text) == value else found[1] + text


def _unit(change: Callable[[str, str, str], str | None]) -> Rewrite:
    return whole(_UNIT, lambda m: change(m[1], m[2], m[3] or ""))


def _other_unit(value: str, unit: str, power: str) -> str:
    return f"{value}\\text{{ {'kg' if unit != 'kg' else 'hours'}}}{power}"


def _other_exponent(value: str, unit: str, power: str) -> str | None:
    if not re.fullmatch(r"(?:square |cubic |sq\. |sq )?(?:cm|m|inches|feet|miles|units|centimeters)", unit):
        return None
    if " " in unit:
        power, name = unit.split(" ")
        return f"{value}\\text{{ {name}}}^{'2' if power == 'cubic' else '3'}"
    return f"{value}\\text{{ {unit}}}^{'3' if '2' in power else '2'}"


def _clock(change: Callable[[int, int, str, str], str | None]) -> Rewrite:
    return whole(_CLOCK, lambda m: change(int(m[1]), int(m[2]), m[3], m[4] or ""))


def _entry_bumped(gold: str) -> str | None:
    if not (found := _ENVIRONMENT.search(gold)) or not (number := re.search(r"-?\d+", found[1])):
        return None
    place = found.start(1) + number.start()
    return gold[:place] + str(int(number[0]) + 1) + gold[place + len(number[0]) :]


def _variable_added(gold: str) -> str | None:
    return f"{gold}m" if _INTEGER.fullmatch(gold) and gold not in {"0"} else None


def _term_variable_added(gold: str) -> str | None:
    found = re.fullmatch(r"([^{}()\\=,]*[a-zA-Z][^{}()\\=,]*[+-]\s*\d+)", gold)
    return f"{gold}q" if found else None


def _rounded(digits: int) -> Rewrite:
    """A fraction as a decimal that goes on, rounded half up."""

    def decimal(found: re.Match[str]) -> str | None:
        value = Fraction(int(found[2]), int(found[3]))
        shifted = int(value * 10**digits + Fraction(1, 2))
        if value * 10**digits == shifted or value < Fraction(1, 10):
            return None
        return f"{found[1]}{shifted // 10**digits}.{shifted % 10**digits:0{digits}d}"

    return whole(_FRACTION, decimal)


def _scientific(found: re.Match[str]) -> str | None:
    digits = found[0].lstrip("-").rstrip("0")
    power = len(found[0].lstrip("-")) - 1
    if power < 2 or not digits:
        return None
    point = f"{digits[0]}.{digits[1:]}" if len(digits) > 1 else digits
    return f"{'-' if found[0][0] == '-' else ''}{point} \\times 10^{{{power}}}"


def _after_sign(sign: str) -> Callable[[re.Match[str]], str]:
    return lambda found: f"{sign} {found[0]}"


def _words_after(words: str) -> Rewrite:
    """Words after an integer that make another number of it."""
    return whole(_INTEGER, lambda m: f"{m[0]} \\text{{ {words}}}" if abs(int(m[0])) > 2 else None)


def _named_entries(names: str, order: Callable[[list[str]], list[str]]) -> Rewrite:
    """A pair as two equations, whose values may be taken in another order."""

    def rewrite(gold: str) -> str | None:
        parts = _parts(gold)
        if parts is None or len(parts) != 2 or parts[0] == parts[1] or not gold.lstrip().startswith(("(", r"\left(")):
            return None
        return ", ".join(f"{name} = {value}" for name, value in zip(names, order(parts), strict=True))

    return rewrite


def _last_digit(found: re.Match[str]) -> str | None:
    return found[0][:-1] + str((int(found[0][-1]) + 1) % 10) if "." in found[0] else None


HARMLESS: dict[str, Rewrite] = {
    # layout around the answer
    r"@\,": around(r"@\,"),
    r"@\;": around(r"@\;"),
    r"@\:": around(r"@\:"),
    r"@\!": around(r"@\!"),
    r"@\\": around("@\\\\"),
    r"@\ ": around("@\\ "),
    "@~": around("@~"),
    r"@\quad": around(r"@\quad"),
    r"\,@": around(r"\,@"),
    "@.": around("@."),
    "@,": around("@,"),
    "@;": around("@;"),
    " @ ": around(" @ "),
    "newlines": around("\n@\n"),
    "$@$": around("$@$"),
    "$$@$$": around("$$@$$"),
    r"\(@\)": around(r"\(@\)"),
    r"\[@\]": around(r"\[@\]"),
    "$@$.": around("$@$."),
    "{@}": around("{@}"),
    "{{@}}": around("{{@}}"),
    "**@**": around("**@**"),
    r"\displaystyle @": around(r"\displaystyle @"),
    r"\boxed{@}": around(r"\boxed{@}"),
    r"\fbox{@}": around(r"\fbox{@}"),
    r"\color{blue}@": around(r"\color{blue}@"),
    r"\textcolor{blue}{@}": around(r"\textcolor{blue}{@}"),
    r"\phantom{0}@": around(r"\phantom{0}@"),
    r"\therefore @": around(r"\therefore @"),
    r"\implies @": around(r"\implies @"),
    r"@ \checkmark": around(r"@ \checkmark"),
    r"@\tag{1}": around(r"@\tag{1}"),
    r"\text{Answer: } @": around(r"\text{Answer: } @"),
    r"\text{The answer is } @": around(r"\text{The answer is } @"),
    r"\ensuremath{@}": around(r"\ensuremath{@}"),
    "`@`": around("`@`"),
    '"@"': around('"@"'),
    "*@*": around("*@*"),
    "no-break space": around("\u00a0@\u00a0"),
    "zero-width space": around("@\u200b"),
    # fonts
    **{
        f"\\{font}{{@}}": around(f"\\{font}{{@}}")
        for font in (
            *("mathbf", "mathrm", "mathit", "mathsf", "mathtt", "boldsymbol", "bm", "text"),
            *("textbf", "textit", "textrm", "textsf", "textnormal", "mbox", "operatorname", "underline"),
        )
    },
    r"{\bf @}": around(r"{\bf @}"),
    # delimiters and fractions
    r"\left \right added": unless(r"\\left|\\!", replaced(r"(?<!\\)([(\[])(.*)([)\]])$", r"\\left\1\2\\right\3")),
    r"\left \right removed": replaced(r"\\left|\\right", ""),
    r"\bigl \bigr": unless(r"\\left", replaced(r"(?<!\\)\(([^()]*)\)", r"\\bigl(\1\\bigr)")),
    r"\dfrac": replaced(r"\\[dt]?frac", r"\\dfrac"),
    r"\tfrac": replaced(r"\\[dt]?frac", r"\\tfrac"),
    r"\cfrac": replaced(r"\\[dt]?frac", r"\\cfrac"),
    r"\frac12": replaced(r"\\[dt]?frac\{(\d)\}\{(\d)\}", r"\\frac\1\2"),
    r"\frac 1 2": replaced(r"\\[dt]?frac\{(\d)\}\{(\d)\}", r"\\frac 1 2".replace("1", r"\1").replace("2", r"\2")),
    r"\frac{ 1 } { 2 }": replaced(r"\\[dt]?frac\{(\d+)\}\{(\d+)\}", r"\\frac{ \1 } { \2 }"),
    r"\frac\pi2": replaced(r"\\[dt]?frac\{\\pi\}\{(\d)\}", r"\\frac\\pi\1"),
    r"{1 \over 2}": replaced(r"\\[dt]?frac\{(\d+)\}\{(\d+)\}", r"{\1 \\over \2}"),
    "½": replaced(r"\\[dt]?frac\{1\}\{2\}", "½"),
    r"1 \div 2": whole(_FRACTION, lambda m: f"{m[1]}{m[2]} \\div {m[3]}"),
    "fraction = decimal": whole(_FRACTION, lambda m: f"{m[0]} = {decimal}" if (decimal := _decimal(m)) else None),
    r"fraction \approx decimal": whole(_FRACTION, lambda m: f"{m[0]} \\approx {m[1]}{int(m[2]) / int(m[3]):.3f}"),
    "a/b": whole(_FRACTION, lambda m: f"{m[1]}{m[2]}/{m[3]}"),
    "(a)/(b)": whole(_FRACTION, lambda m: f"{m[1]}({m[2]})/({m[3]})"),
    "2a/2b": whole(_FRACTION, _multiple),
    "minus in the numerator": whole(_FRACTION, lambda m: f"\\frac{{-{m[2]}}}{{{m[3]}}}" if m[1] else None),
    "decimal": whole(_FRACTION, _decimal),
    "repeating decimal": whole(_FRACTION, _repeating),
    "mixed number": whole(
        _FRACTION,
        lambda m: (
            f"{m[1]}{int(m[2]) // int(m[3])}\\frac{{{int(m[2]) % int(m[3])}}}{{{m[3]}}}"
            if int(m[2]) > int(m[3])
            else None
        ),
    ),
    "decimal as a fraction": whole(
        _NUMBER,
        lambda m: f"\\frac{{{Fraction(m[0]).numerator}}}{{{Fraction(m[0]).denominator}}}" if "." in m[0] else None,
    ),
    # roots and constants
    "√n": replaced(r"\\sqrt\{(\w+)\}", "√\\1"),
    r"\sqrt(n)": replaced(r"\\sqrt\{(\w+)\}", r"\\sqrt(\1)"),
    "sqrt(n)": replaced(r"\\sqrt\{(\w+)\}", r"sqrt(\1)"),
    r"\sqrt n": replaced(r"\\sqrt\{(\w)\}", r"\\sqrt \1"),
    r"\sqrt[2]{n}": replaced(r"\\sqrt\{", r"\\sqrt[2]{"),
    "n^{1/2}": replaced(r"(?<![\d ])\\sqrt\{(\w+)\}", r"\1^{1/2}"),
    r"\sqrt{4n}/2": replaced(r"\\sqrt\{(\d+)\}", lambda m: f"\\frac{{\\sqrt{{{4 * int(m[1])}}}}}{{2}}"),
    "π": replaced(r"\\pi", "π"),
    "pi": replaced(r"\\pi(?![a-z])", " pi "),
    "∞": replaced(r"\\infty", "∞"),
    r"+\infty": replaced(r"(?<!-)\\infty", r"+\\infty"),
    "en dash": replaced("-", "–"),
    "minus sign": replaced("-", "−"),
    "full-width digits": replaced(r"\d", lambda m: chr(ord(m[0]) + 0xFEE0)),
    "∪": replaced(r"\\cup", "∪"),
    "±": replaced(r"\\pm", "±"),
    "² and ³": replaced(r"\^(?:([23])(?!\d)|\{([23])\})", lambda m: "²³"[int(m[1] or m[2]) - 2]),
    "^{n}": replaced(r"\^(\d)(?!\d)", r"^{\1}"),
    r"\cdot": replaced(r"(\d)\s*(\\sqrt|\\pi|[a-z](?![a-z]))", r"\1 \\cdot \2"),
    "*": replaced(r"(\d)\s*(\\sqrt|\\pi)", r"\1*\2"),
    r"\lbrace \rbrace": replaced(r"\\([{}])", lambda m: r"\lbrace " if m[1] == "{" else r"\rbrace "),
    r"\lbrack": replaced(r"(?<!\\)\[(?=-?\d)", r"\\lbrack "),
    "spaces": unless(r"\\(?:text|mbox|begin|[$!,])|\d\d", replaced(r"([-+,=])", r" \1 ")),
    "no spaces": unless("text|mbox", replaced(r"(?<![a-z])\s+|\s+(?![a-zA-Z])", "")),
    # numbers
    "+9": whole(_INTEGER, lambda m: None if m[0][0] == "-" else f"+{m[0]}"),
    "9.0": whole(_INTEGER, lambda m: f"{m[0]}.0"),
    "9.00": whole(_INTEGER, lambda m: f"{m[0]}.00"),
    "09": whole(_INTEGER, lambda m: None if m[0][0] == "-" else f"0{m[0]}"),
    "(9)": whole(_INTEGER, lambda m: f"({m[0]})"),
    r"\frac{9}{1}": whole(_INTEGER, lambda m: f"\\frac{{{m[0]}}}{{1}}"),
    r"\sqrt{81}": whole(_INTEGER, lambda m: f"\\sqrt{{{int(m[0]) ** 2}}}" if int(m[0]) >= 0 else None),
    "8 + 1": whole(_INTEGER, lambda m: f"{int(m[0]) - 1} + 1"),
    r"3 \times 3": whole(_INTEGER, lambda m: f"2 \\times {int(m[0]) // 2}" if int(m[0]) % 2 == 0 else None),
    "1,000": _grouped(","),
    "1{,}000": _grouped("{,}"),
    r"1,\!000": _grouped(r",\!"),
    r"1\,000": _grouped(r"\,"),
    "1 000": _grouped(" "),
    "1~000": _grouped("~"),
    "no thousands": unless(r"[(]", replaced(r"(?<=\d),(?:\\!\s*)?(?=\d{3}(?!\d))", "")),
    ".5 as 0.5": replaced(r"(?<!\d)\.(?=\d)", "0."),
    "0.5 as .5": replaced(r"(?<![\d.])0\.(?=\d)", "."),
    "0.50": whole(_NUMBER, lambda m: f"{m[0]}0" if "." in m[0] else None),
    "in words": whole(_INTEGER, lambda m: f"\\text{{{_NUMBER_WORDS[int(m[0])]}}}" if 0 <= int(m[0]) <= 12 else None),
    r"9 \text{ units}": whole(_NUMBER, lambda m: f"{m[0]} \\text{{ units}}"),
    r"9 \text{ apples}": whole(_INTEGER, lambda m: f"{m[0]} \\text{{ apples}}"),
    r"9 \text{ cm}": whole(_INTEGER, lambda m: f"{m[0]} \\text{{ cm}}"),
    r"9\,\mathrm{cm}^2": whole(_INTEGER, lambda m: f"{m[0]}\\,\\mathrm{{cm}}^2"),
    "9 cm": whole(_INTEGER, lambda m: f"{m[0]} cm"),
    r"\$9": whole(_NUMBER, lambda m: f"\\${m[0]}"),
    "four": whole(_INTEGER, lambda m: _NUMBER_WORDS[int(m[0])] if 0 <= int(m[0]) <= 12 else None),
    "Four": whole(_INTEGER, lambda m: _NUMBER_WORDS[int(m[0])].capitalize() if 0 <= int(m[0]) <= 12 else None),
    "a fraction to 7 decimals": _rounded(7),
    "a fraction to 9 decimals": _rounded(9),
    r"1.2 \times 10^3": whole(_INTEGER, _scientific),
    r"5 \text{ thousand}": whole(re.compile(r"(\d+)000"), lambda m: f"{m[1]} \\text{{ thousand}}"),
    "mixed number with a slash": whole(
        _FRACTION,
        lambda m: f"{m[1]}{int(m[2]) // int(m[3])} {int(m[2]) % int(m[3])}/{m[3]}" if int(m[2]) > int(m[3]) else None,
    ),
    r"9 \text{ two-digit numbers}": whole(_INTEGER, lambda m: f"{m[0]} \\text{{ two-digit numbers}}"),
    r"9\ \text{m/s}": whole(_INTEGER, lambda m: f"{m[0]}\\ \\text{{m/s}}"),
    r"9\,\text{m}\,\text{s}^{-1}": whole(_INTEGER, lambda m: f"{m[0]}\\,\\text{{m}}\\,\\text{{s}}^{{-1}}"),
    r"9 \frac{\text{km}}{\text{h}}": whole(_INTEGER, lambda m: f"{m[0]} \\frac{{\\text{{km}}}}{{\\text{{h}}}}"),
    r"9\text{ cm²}": whole(_INTEGER, lambda m: f"{m[0]}\\text{{ cm²}}"),
    r"9^\circ\text{C}": whole(_INTEGER, lambda m: f"{m[0]}^\\circ\\text{{C}}"),
    r"9 \text{ °F}": whole(_INTEGER, lambda m: f"{m[0]} \\text{{ °F}}"),
    "-9 as 9i^2": whole(_INTEGER, lambda m: f"{m[0][1:]}i^2" if m[0][0] == "-" else None),
    "a + bi as bi - ai^2": whole(_COMPLEX, lambda m: f"{m[2]}{m[3]}i - ({m[1]})i^2"),
    # equations
    r"\text{Area} = @": lambda gold: f"\\text{{Area}} = {gold}" if not re.search(r"=|\\in|,|\\pm", gold) else None,
    "The answer is @.": unless("text|mbox", around("The answer is @.")),
    "Answer: @": unless("text|mbox", around("Answer: @")),
    "x = @": lambda gold: f"x = {gold}" if not re.search(r"=|\\in|\\text|,|\\pm", gold) else None,
    "f(2) = @": lambda gold: f"f(2) = {gold}" if not re.search(r"=|\\in|\\text|,|\\pm", gold) else None,
    "n = 8 + 1 = 9": whole(_INTEGER, lambda m: f"n = {int(m[0]) - 1} + 1 = {m[0]}"),
    "x = removed": replaced(r"^[a-z]\s*=\s*(?=[^=]*$)", ""),
    "sides exchanged": lambda gold: (
        f"{gold.partition('=')[2]} = {gold.partition('=')[0]}" if gold.count("=") == 1 and "," not in gold else None
    ),
    "terms exchanged": whole(_TERMS, lambda m: f"{m[2]} + {m[1]}"),
    # degrees, percent, money, units
    "°": replaced(_DEGREES.pattern, "°"),
    r"\degree": replaced(_DEGREES.pattern, r"\\degree"),
    r"^{\circ}": replaced(_DEGREES.pattern, r"^{\\circ}"),
    r"^{\circ }": replaced(_DEGREES.pattern, r"^{ \\circ }"),
    r"\text{ degrees}": replaced(rf"(?:{_DEGREES.pattern})$", r"\\text{ degrees}"),
    " degrees": replaced(rf"(?:{_DEGREES.pattern})$", " degrees"),
    r"\text{ percent}": replaced(r"\\%$", r"\\text{ percent}"),
    "%": replaced(r"\\%", "%"),
    r"\text{\%}": replaced(r"\\%$", r"\\text{\\%}"),
    "¢": replaced(r"\s*\\text\{ cents\}", "¢"),
    r"\text{¢}": replaced(r"\s*\\text\{ cents\}", r"\\text{¢}"),
    r"\text{ cm²}": _unit(lambda value, unit, power: f"{value} \\text{{ {unit}²}}" if "2" in power else None),
    r"\text{ cm$^2$}": _unit(lambda value, unit, power: f"{value} \\text{{ {unit}$^2$}}" if "2" in power else None),
    "$5": replaced(r"\\\$\s*", "$"),
    r"\text{\$}": replaced(r"\\\$\s*", r"\\text{\\$}"),
    r"5 \text{ dollars}": whole(re.compile(r"\\\$\s*([\d.]+)"), lambda m: f"{m[1]} \\text{{ dollars}}"),
    r"5\text{ cm}": _unit(lambda value, unit, power: f"{value}\\text{{ {unit}}}{power}"),
    r"5\mathrm{cm}": _unit(lambda value, unit, power: f"{value}\\mathrm{{{unit}}}{power}"),
    r"5\,\textrm{cm}": _unit(lambda value, unit, power: f"{value}\\,\\textrm{{{unit}}}{power}"),
    r"\text{5 cm}": whole(re.compile(r"(\d+)\s*\\(?:text|mbox)\{\s*([a-z ]+)\}"), lambda m: f"\\text{{{m[1]} {m[2]}}}"),
    # words
    "bare word": whole(_WORD, lambda m: m[1]),
    r"\text{word.}": whole(_WORD, lambda m: f"\\text{{{m[1]}.}}"),
    r"\textbf{word}": whole(_WORD, lambda m: f"\\textbf{{{m[1]}}}"),
    r"\mathrm{word}": whole(_WORD, lambda m: f"\\mathrm{{{m[1]}}}"),
    r"\text{ word }": whole(_WORD, lambda m: f"\\text{{ {m[1]} }}"),
    "Word": whole(_WORD, lambda m: f"\\text{{{m[1].capitalize()}}}"),
    "B": whole(_CHOICE, lambda m: m[1]),
    "(B)": whole(_CHOICE, lambda m: f"({m[1]})"),
    r"\text{B}": whole(_CHOICE, lambda m: f"\\text{{{m[1]}}}"),
    r"\textbf{(B)}": whole(_CHOICE, lambda m: "\\textbf{(B)}".replace("B", m[1])),
    r"\mathrm{(B)}": whole(_CHOICE, lambda m: "\\mathrm{(B)}".replace("B", m[1])),
    r"(\text{B})": whole(_CHOICE, lambda m: f"(\\text{{{m[1]}}})"),
    r"(\mathrm{B})": whole(_CHOICE, lambda m: f"(\\mathrm{{{m[1]}}})"),
    r"\text{(}B\text{)}": whole(_CHOICE, lambda m: f"\\text{{(}}{m[1]}\\text{{)}}"),
    r"\text{A}, \text{B}": whole(_CHOICES, lambda m: re.sub("([A-Z])", r"\\text{\1}", m[1])),
    r"\text{(A)}, \text{(B)}": whole(_CHOICES, lambda m: re.sub("([A-Z])", r"\\text{(\1)}", m[1])),
    r"\text{A and B}": whole(_CHOICES, lambda m: "\\text{@}".replace("@", " and ".join(re.findall("[A-Z]", m[1])))),
    # bases and times
    "(52)_8": whole(_BASED, lambda m: f"({m[1]})_{{{m[2]}}}"),
    r"_{\text{8}}": whole(_BASED, lambda m: f"{m[1]}_{{\\text{{{m[2]}}}}}"),
    r"_{\text{base } 8}": whole(_BASED, lambda m: f"{m[1]}_{{\\text{{base }} {m[2]}}}"),
    r"\text{ in base } 8": whole(_BASED, lambda m: f"{m[1]} \\text{{ in base }} {m[2]}"),
    r"\text{ (base } 8\text{)}": whole(_BASED, lambda m: f"{m[1]} \\text{{ (base }} {m[2]}\\text{{)}}"),
    "_{8}": whole(_BASED, lambda m: f"{m[1]}_{{{m[2]}}}"),
    "_8": whole(_BASED, lambda m: f"{m[1]}_{m[2]}" if len(m[2]) == 1 else None),
    "₈": whole(_BASED, lambda m: m[1] + "".join(chr(0x2080 + int(digit)) for digit in m[2])),
    r"\text{52}_8": whole(_BASED, lambda m: f"\\text{{{m[1]}}}_{{{m[2]}}}"),
    r"_{\text{eight}}": whole(_BASED, lambda m: f"{m[1]}_{{\\text{{{_NUMBER_WORDS[int(m[2])]}}}}}"),
    r"\text{ base }8": whole(_BASED, lambda m: f"{m[1]}\\text{{ base }}{m[2]}"),
    r"\text{ (base 8)}": whole(_BASED, lambda m: f"{m[1]} \\text{{ (base {m[2]})}}"),
    "5:00": _clock(lambda h, m, s, half: f"{h}:{m:02d}{s}{half}"),
    "05:00": _clock(lambda h, m, s, half: f"{h:02d}:{m:02d}{s}{half}"),
    "5:00 PM": _clock(lambda h, m, s, half: f"{h}:{m:02d}{s} {half[-5].upper()}M" if half else None),
    # lists, tuples, intervals, matrices
    "list in another order": _entries(_swapped, ordered=False),
    "a and b": _joined(" and "),
    r"a \text{ and } b": _joined(r" \text{ and } "),
    "a or b": _joined(" or "),
    r"\{a, b\}": lambda gold: f"\\{{{joined}\\}}" if (joined := _joined(", ")(gold)) else None,
    "(a,b) spaced": _entries(lambda parts: [f" {part} " for part in parts], ordered=True),
    "a, b, and c": lambda gold: (
        f"{', '.join(parts[:-1])}, \\text{{and }}{parts[-1]}"
        if (parts := _parts(gold)) and not gold.lstrip().startswith("(")
        else None
    ),
    "interval as inequality": _relation,
    r"inequalities with \text{ or }": _relations(r" \text{ or } "),
    r"inequalities with \lor": _relations(r" \lor "),
    r"inequalities with \text{ and }": _two_inequalities,
    r"\{x \mid ...\}": _set_of(r"\{x \mid @\}"),
    r"\{x : ...\}": _set_of(r"\{x : @\}"),
    r"\{x \in \mathbb{R} \mid ...\}": _set_of(r"\{x \in \mathbb{R} \mid @\}"),
    "x = a, y = b": _named_entries("xy", list),
    "y = b, x = a": _named_entries("yx", lambda parts: parts[::-1]),
    "degrees in another order": whole(_LIST_OF_DEGREES, lambda m: f"{m[2]}, {m[1]}"),
    "set of degrees": whole(_LIST_OF_DEGREES, lambda m: f"\\{{{m[2]}, {m[1]}\\}}"),
    r"x \in interval": lambda gold: f"x \\in {gold}" if _is_interval(gold) and "in " not in gold else None,
    r"\pm as a list": whole(re.compile(r"(.+) \\pm (.+)"), lambda m: f"{m[1]} + {m[2]}, {m[1]} - {m[2]}"),
    r"\left(\begin{matrix}": replaced(
        r"\\begin\{pmatrix\}(.*)\\end\{pmatrix\}", r"\\left(\\begin{matrix}\1\\end{matrix}\\right)"
    ),
    r"\left[\begin{array}": replaced(
        r"\\begin\{pmatrix\}(.*)\\end\{pmatrix\}", r"\\left[\\begin{array}{cc}\1\\end{array}\\right]"
    ),
    r"\\[4pt]": replaced(r"\\\\", r"\\\\[4pt]"),
    "bmatrix": replaced("pmatrix", "bmatrix"),
    "array of decimals": unless(r"/", replaced(r"(?<=[ &])(-?\d+)(?= )(?=.*pmatrix)", r"\1.0")),
}

WRONG: dict[str, Rewrite] = {
    # words that make another number
    **{
        f"n \\text{{ {words}}}": _words_after(words)
        for words in (
            *("hundred", "thousand", "million", "millions", "dozen", "half", "and a half", "halves", "thirds"),
            *("hundredths", "or more", "or less", "or fewer", "squared", "cubed", "factorial", "to the third power"),
            *("plus one", "minus one", "times x", "below zero", "negative", "reciprocal", "pi", "million dollars"),
            *("thousand people", "dollars and 50 cents", "hours and 30 minutes", "km or less", "more than half"),
        )
    },
    r"fraction \text{ million}": whole(_FRACTION, lambda m: f"{m[0]} \\text{{ million}}"),
    r"fraction \text{ or less}": whole(_FRACTION, lambda m: f"{m[0]} \\text{{ or less}}"),
    r"list \text{ or less}": _entries(lambda parts: [*parts[:-1], f"{parts[-1]} \\text{{ or less}}"], ordered=False),
    r"\text{n or n + 1}": _integer(lambda n: f"\\text{{{n} or {n + 1}}}"),
    r"\text{n plus 1}": _integer(lambda n: f"\\text{{{n} plus 1}}"),
    r"\text{n to n + 1}": _integer(lambda n: f"\\text{{{n} to {n + 1}}}"),
    # signs before or after
    **{
        f"{sign} @": whole(re.compile(r"-?\d+|-?\\frac\{\d+\}\{\d+\}"), _after_sign(sign))
        for sign in (r"\neq", "<", ">", r"\le", r"\ge", r"\in")
    },
    r"\ldots after": _integer(lambda n: f"{n}\\ldots"),
    "... after": _integer(lambda n: f"{n}..."),
    r"\ldots before": _integer(lambda n: f"\\ldots {n}"),
    "minutes for degrees": replaced(rf"(?:{_DEGREES.pattern})$", "'"),
    "n'": _integer(lambda n: f"{n}'"),
    "i^2": whole(_COMPLEX, lambda m: f"{m[1]} {m[2]} {m[3]}i^2"),
    "i^3": whole(_COMPLEX, lambda m: f"{m[1]} {m[2]} {m[3]}i^3"),
    r"fraction \approx another decimal": whole(
        _FRACTION, lambda m: f"{m[0]} \\approx {m[1]}{int(m[2]) / int(m[3]) + 0.02:.2f}"
    ),
    r"root \approx another decimal": whole(
        re.compile(r"(\d+)\\sqrt\{(\d+)\}"), lambda m: f"{m[0]} \\approx {int(m[1]) * int(m[2]) ** 0.5 + 1:.2f}"
    ),
    "1, 000": _grouped(", "),
    "decimal comma": whole(_NUMBER, lambda m: m[0].replace(".", ",") if "." in m[0].lstrip("-.") else None),
    "names exchanged": _named_entries("yx", list),
    "n + 1": _integer(lambda n: n + 1),
    "n - 1": _integer(lambda n: n - 1),
    "-n": whole(_INTEGER, lambda m: None if m[0] == "0" else str(-int(m[0]))),
    "10n": whole(_INTEGER, lambda m: None if m[0] == "0" else f"{m[0]}0"),
    "n + 0.1": _integer(lambda n: f"{n + 0.1:.1f}"),
    "n^2": whole(_INTEGER, lambda m: None if m[0] in {"0", "1"} else f"({m[0]})^2"),
    "n!": whole(_INTEGER, lambda m: f"{m[0]}!" if int(m[0]) > 2 else None),
    "digits reversed": whole(_INTEGER, _reversed_digits),
    "n + 1 = n": _integer(lambda n: f"{n + 1} = {n}"),
    "n = n + 1": _integer(lambda n: f"{n} = {n + 1}"),
    r"n \ne": _integer(lambda n: f"x \\ne {n}"),
    r"\text{not } n": around(r"\text{not } @"),
    r"n \text{ is wrong}": _integer(lambda n: f"{n} \\text{{ is wrong}}"),
    r"n \text{ or } n + 1": _integer(lambda n: f"{n} \\text{{ or }} {n + 1}"),
    "n, n + 1": _integer(lambda n: f"{n}, {n + 1}"),
    "nm": _variable_added,
    "... + nq": _term_variable_added,
    r"n\pi": whole(_INTEGER, lambda m: None if m[0] == "0" else f"{m[0]}\\pi"),
    r"n\sqrt2": whole(_INTEGER, lambda m: None if m[0] == "0" else f"{m[0]}\\sqrt2"),
    "ni": whole(_INTEGER, lambda m: None if m[0] == "0" else f"{m[0]}i"),
    r"\frac{1}{n}": whole(_INTEGER, lambda m: f"\\frac{{1}}{{{m[0]}}}" if abs(int(m[0])) > 1 else None),
    "n_8": whole(_INTEGER, lambda m: f"{m[0]}_8" if int(m[0]) > 7 and not set("89") & set(m[0]) else None),
    "> n": _integer(lambda n: f"x > {n}"),
    "in other words": whole(
        _INTEGER, lambda m: f"\\text{{{_NUMBER_WORDS[int(m[0]) + 1]}}}" if 0 <= int(m[0]) < 12 else None
    ),
    "numerator + 1": _bumped(r"frac\{(\d+)\}"),
    "denominator + 1": _bumped(r"frac\{[^{}]+\}\{(\d+)\}"),
    "fraction upside down": whole(_FRACTION, lambda m: f"{m[1]}\\frac{{{m[3]}}}{{{m[2]}}}" if m[2] != m[3] else None),
    "fraction negated": whole(_FRACTION, lambda m: f"\\frac{{{m[2]}}}{{{m[3]}}}" if m[1] else f"-{m[0]}"),
    "fraction to 3 decimals": whole(_FRACTION, _truncated),
    "fraction without its denominator": whole(_FRACTION, lambda m: m[1] + m[2]),
    "last decimal": whole(_NUMBER, _last_digit),
    "decimal point moved": whole(_NUMBER, lambda m: f"{float(m[0]) * 10:.10g}" if "." in m[0] else None),
    "radicand + 1": _bumped(r"sqrt\{?(\d+)"),
    "root dropped": replaced(r"\\sqrt\{?(\d+)\}?", r"\\cdot \1"),
    r"\pi dropped": replaced(r"\\pi", "1")
    if False
    else lambda gold: gold.replace(r"\pi", "") if re.search(r"\d\s*\\pi", gold) else None,
    r"\pi^2": unless(r"\\pi\s*\^", replaced(r"\\pi", r"\\pi^2")),
    "exponent + 1": _bumped(r"[a-zA-Z]\^\{?(\d+)"),
    "coefficient + 1": _bumped(r"(?<![\d^_{])(\d+)\s*\\?(?:sqrt|pi|[a-z])(?!\w*\{?\s*(?:matrix|cm|inches))"),
    "other variable": unless(r"\\|[a-z]{2}", replaced(r"[a-z]", lambda m: "w" if m[0] != "w" else "v")),
    "sign of a term": unless(
        r"\\(?:in|text|pm|left|begin)|,",
        first_replaced(r"(?<=[\w})])\s*([-+])\s*", lambda m: " - " if m[1] == "+" else " + "),
    ),
    "right-hand side + 1": whole(re.compile(r"(.*=\s*-?)(\d+)"), lambda m: f"{m[1]}{int(m[2]) + 1}"),
    "tuple in another order": _entries(_swapped, ordered=True),
    "tuple entry + 1": _entries(lambda parts: [str(int(parts[0]) + 1), *parts[1:]], ordered=True),
    "tuple entry dropped": _entries(lambda parts: parts[:-1] if len(parts) > 2 else None, ordered=True),
    "tuple entry added": _entries(lambda parts: [*parts, "0"], ordered=True),
    "list entry + 1": _entries(lambda parts: [str(int(parts[0]) + 1), *parts[1:]], ordered=False),
    "list entry dropped": _entries(lambda parts: parts[:-1], ordered=False),
    "list entry added": _entries(lambda parts: [*parts, "77"], ordered=False),
    "other border": _other_border,
    "interval moved": _interval_moved,
    r"\cap": replaced(r"\\cup", r"\\cap"),
    "first part of a union": whole(re.compile(r"(.*?)\\cup.*"), lambda m: m[1]),
    "other base": whole(_BASED, lambda m: f"{m[1]}_{{{int(m[2]) + 1}}}"),
    "other digits": whole(_BASED, lambda m: f"{int(m[1]) + 1}_{{{m[2]}}}"),
    "in base ten": whole(_BASED, lambda m: f"{int(m[1], int(m[2]))}" if m[2] != "10" else None),
    "other time": _clock(lambda h, m, s, half: f"{h}:{(m + 17) % 60:02d}{s}{half}"),
    "other hour": _clock(lambda h, m, s, half: f"{h % 12 + 1}:{m:02d}{s}{half}"),
    "half the time": _clock(lambda h, m, s, half: f"{h // 2}:{m // 2:02d}{s}{half}" if h % 2 == m % 2 == 0 else None),
    "other half of the day": _clock(
        lambda h, m, s, half: f"{h}:{m:02d}{s}\\text{{ {'a' if 'p' in half else 'p'}.m.}}" if half else None
    ),
    "other unit": _unit(_other_unit),
    "other exponent of the unit": _unit(_other_exponent),
    "percent for degrees": replaced(rf"(?:{_DEGREES.pattern})$", r"\\%"),
    "degrees for percent": replaced(r"\\%$", r"^\\circ"),
    "a hundredth of the percentage": whole(re.compile(r"(\d+)\s*\\%"), lambda m: f"{int(m[1]) / 100:g}\\%"),
    "cents for dollars": whole(re.compile(r"\\\$\s*([\d.]+)"), lambda m: f"{m[1]} \\text{{ cents}}"),
    "euros for dollars": replaced(r"\\\$\s*", "€"),
    "other word": whole(_WORD, lambda _: r"\text{purple}"),
    "not the word": whole(_WORD, lambda m: f"\\text{{not {m[1]}}}"),
    "other choice": whole(_CHOICE, lambda m: f"({chr(ord(m[1]) + 1)})"),
    "other choice with its value": whole(_CHOICE, lambda m: f"\\text{{({chr(ord(m[1]) + 1)}) }}{m[1]}"),
    "matrix entry + 1": _entry_bumped,
    "matrix row dropped": whole(
        _ENVIRONMENT,
        lambda m: f"\\begin{{pmatrix}}{m[1].split(chr(92) * 2)[0]}\\end{{pmatrix}}" if "\\\\" in m[1] else None,
    ),
    "tiny value": whole(
        re.compile(r"\\frac\{1\}\{(\d+)\^\{(\d+)\}\}"), lambda m: f"\\frac{{1}}{{{m[1]}^{{{int(m[2]) + 1}}}}}"
    ),
    "nothing": lambda _: r"\,",
}

# What a reader may see otherwise: decided in docs/grading.md.
DECIDED_RIGHT: dict[str, Rewrite] = {
    "percent sign added": whole(_NUMBER, lambda m: f"{m[0]}\\%"),
    "degree sign added": whole(_NUMBER, lambda m: f"{m[0]}^\\circ"),
    "percent sign dropped": replaced(r"\s*\\%$", ""),
    "degree sign dropped": replaced(rf"(?:{_DEGREES.pattern})$", ""),
    "percentage as its hundredth": whole(re.compile(r"(\d+)\s*\\%"), lambda m: f"{int(m[1]) / 100:g}"),
    "dollar sign dropped": replaced(r"^\\\$\s*", ""),
    "unit dropped": _unit(lambda value, *_: value),
    "base dropped": whole(_BASED, lambda m: m[1]),
    "half of the day dropped": _clock(lambda h, m, s, half: f"{h}:{m:02d}{s}" if half else None),
    "= @": lambda gold: f"= {gold}" if not re.search(r"=|\\in", gold) else None,
    r"\approx @": lambda gold: f"\\approx {gold}" if not re.search(r"=|\\in|approx", gold) else None,
    "fraction to 6 decimals": whole(
        _FRACTION, lambda m: f"{m[1]}{int(m[2]) / int(m[3]):.6f}" if int(m[2]) > int(m[3]) / 10 else None
    ),
    r"union with \text{ and }": _relations(r" \text{ and } "),
    "complex list in parentheses": whole(_CONJUGATES, lambda m: f"({m[0]})"),
    "list in parentheses": lambda gold: f"({joined})" if (joined := _joined(", ")(gold)) else None,
    "tuple without parentheses": lambda gold: (
        ", ".join(parts) if (parts := _parts(gold)) and gold.lstrip().startswith("(") else None
    ),
}

REWRITINGS = tuple(
    Rewriting(name, kind, of)
    for kind, entries in (("harmless", HARMLESS), ("wrong", WRONG), ("decided right", DECIDED_RIGHT))
    for name, of in entries.items()
)


def rewritten(golds: list[str]) -> Iterator[tuple[Rewriting, str, str]]:
    """(rewriting, gold, answer) for every gold that a rewriting applies to."""
    for rewriting in REWRITINGS:
        for gold in golds:
            answer = rewriting.of(gold)
            if answer is not None and answer != gold:
                yield rewriting, gold, answer
