r"""LaTeX brought to one form: no layout, every argument in braces, words marked off.

Only layout goes: spaces, fonts, sizes, delimiters of math mode. It goes token by token, so that nothing is cut between
a backslash or a brace and what it belongs to. Nothing is evaluated, and no step recurses.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence

_SYMBOLS = {
    "−": "-", "–": "-", "—": "-", "‐": "-", "‑": "-", "×": r"\times ", "·": r"\cdot ", "⋅": r"\cdot ", "÷": r"\div ",
    "√": r"\sqrt ", "∞": r"\infty ", "π": r"\pi ", "θ": r"\theta ", "α": r"\alpha ", "β": r"\beta ", "φ": r"\phi ",
    "°": r"^\circ ", "≤": r"\leq ", "≥": r"\geq ", "≠": r"\neq ", "≈": r"\approx ", "±": r"\pm ", "∪": r"\cup ",
    "∩": r"\cap ", "∈": r"\in ", "∅": r"\emptyset ", "△": r"\triangle ", "∠": r"\angle ", "⟨": r"\langle ",
    "⟩": r"\rangle ", "“": "", "”": "", "⟦": "", "⟧": "", "⇒": "", "∴": "", "′": "'", "″": "''", "…": r"\ldots ",
    "¢": r"\text{ cents}", "∨": r"\lor ", "∧": r"\land ",
}  # fmt: skip
_SUPERSCRIPT = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁻⁺ⁿ", "0123456789-+n")
_SUPERSCRIPTS = re.compile("[⁰¹²³⁴⁵⁶⁷⁸⁹⁻⁺ⁿ]+")
_SUBSCRIPT = str.maketrans("₀₁₂₃₄₅₆₇₈₉", "0123456789")
_SUBSCRIPTS = re.compile("[₀₁₂₃₄₅₆₇₈₉]+")
_SPACES = [r"\,", r"\;", r"\:", r"\>", "\\ ", "\\\n", "\\\t", "~", r"\quad", r"\qquad", r"\enspace", r"\thinspace",
           r"\medspace", r"\thickspace", r"\space", r"\nobreakspace", "\n", "\t", "\r"]  # fmt: skip
_RENAMED = dict.fromkeys(_SPACES, " ") | {
    r"\dfrac": r"\frac", r"\tfrac": r"\frac", r"\cfrac": r"\frac", r"\sfrac": r"\frac", r"\nicefrac": r"\frac",
    r"\dbinom": r"\binom", r"\tbinom": r"\binom", r"\lbrace": r"\{", r"\rbrace": r"\}", r"\lbrack": "[",
    r"\rbrack": "]", r"\lparen": "(", r"\rparen": ")", r"\le": r"\leq", r"\ge": r"\geq", r"\leqslant": r"\leq",
    r"\geqslant": r"\geq", r"\ne": r"\neq", r"\lt": "<", r"\gt": ">", r"\bullet": r"\cdot", r"\ast": "*",
    r"\colon": ":", r"\infinity": r"\infty", r"\infin": r"\infty", r"\varnothing": r"\emptyset", r"\%": "%",
    r"\lvert": "|", r"\rvert": "|", r"\vert": "|", r"\lor": ",", r"\vee": ",", r"\wedge": r"\land", r"\dots": r"\ldots",
    r"\cdots": r"\ldots", r"\dotsc": r"\ldots", r"\prime": "'",
}  # fmt: skip
_SIZES = [rf"\{size}{side}" for size in ("big", "Big", "bigg", "Bigg") for side in ("", "l", "r", "m")]
_LAYOUT = frozenset(
    [r"\left", r"\right", r"\middle", r"\displaystyle", r"\textstyle", r"\scriptstyle", r"\limits", r"\nolimits",
     r"\!", r"\negthinspace", r"\rm", r"\bf", r"\it", r"\sf", r"\tt", r"\boldmath", r"\large", r"\Large", r"\LARGE",
     r"\huge", r"\small", r"\normalsize", r"\allowbreak", r"\/", r"\nonumber", r"\notag", r"\hfill", r"\strut",
     r"\checkmark", r"\square", r"\blacksquare", r"\therefore", r"\implies", r"\Rightarrow", r"\Longrightarrow",
     r"\(", r"\)", r"\[", r"\]", "$", *_SIZES]
)  # fmt: skip
_FONT = (
    r"\\(?:boxed|fbox|text(?:bf|it|rm|sf|tt|normal|up|sl|sc|md)?|mbox|hbox|emph|underline|ensuremath"
    r"|operatorname\*?|boldsymbol|bm|pmb|math(?:rm|bf|it|sf|tt|normal))(?![A-Za-z])"
)
_FONT_GROUP = re.compile(_FONT + r"\s*\{([^{}]*)\}")
_BARE_FONT = re.compile(_FONT)
_INVISIBLE = re.compile(
    r"\\[hv]?phantom\s*[^\s{}\\]|\\(?:[hv]?phantom|[hv]space\*?|(?:text)?color|tag|label)\s*\{[^{}]*\}|\\(?:left|right)\s*\."
)
_TOKEN = re.compile(r"⟦[^⟧]*⟧|\\(?:begin|end)\{\w+\*?\}|\\[A-Za-z]+|\\.|.", re.DOTALL)
_CONTROL_WORD = re.compile(r"\\[A-Za-z]+$")
_QUOTES = re.compile(r"^\s*([\"'`*_]+)(.*?)\1\s*$", re.DOTALL)
_OVER = re.compile(r"\{([^{}]*)\\over(?![A-Za-z])\s*([^{}]*)\}")
_MATRIX = re.compile(
    r"[(\[]?\\begin\{(?:small|[pb])?(?:matrix|array)\}(?:\{[clr|]*\})?(.*?)\\end\{\w+\}[)\]]?", re.DOTALL
)
_ROW_SPACE = re.compile(r"\\\\\s*\[[\d.]+\s*(?:pt|ex|em|mm|cm)\]|\\cr(?![A-Za-z])")
_WORDS = re.compile(r"[A-Za-z]{2}|[ap]\. ?m|(?<![A-Za-z])[mg]/[smlL](?![A-Za-z])")
_MARKED = re.compile(r"\s*⟦[^⟧]*⟧\s*")
_ITEM = r"(?:\(?[A-Z]\)?|-?\d+(?:\.\d+)?)"
_LIST_AS_TEXT = re.compile(rf"\s*{_ITEM}(?:(?:\s*,\s*(?:(?:and|or)\s+)?|\s+(?:and|or)\s+){_ITEM})+\s*")
_POWER_IN_TEXT = re.compile(
    rf"({_FONT}\s*\{{(?:\s*\d[\d.,]*)?\s*[A-Za-z]{{2}}[A-Za-z.\s]*|{_FONT}\s*\{{\s*m)\$?\^\{{?([23])\}}?\$?\s*\}}"
)
_FUNCTIONS = "arcsin|arccos|arctan|sinh|cosh|tanh|sin|cos|tan|cot|sec|csc|log|ln|gcd|lcm"
_FUNCTION = re.compile(rf"\s*({_FUNCTIONS})\s*")
_BARE_NAME = re.compile(rf"(?<![A-Za-z\\])({_FUNCTIONS}|sqrt|pi|infty|infinity|theta)(?![A-Za-z])")
_NUMBER_AND_WORDS = re.compile(r"\s*(-?\d[\d.,:/]*)\s*([A-Za-z]{2}.*|[ap]\.\s?m\.?)", re.DOTALL)
_BARE_PHRASE = re.compile(r"(?<=[\d})])\s+([A-Za-z]{2,}(?:\.? [A-Za-z]{2,})+)(?=[.\s]*$)")
_AND = re.compile(r"(?:,\s*)?(?:(?<![A-Za-z\\])(?:and|or)(?![A-Za-z]|[^⟦⟧]*⟧)|⟦\s*,?\s*(?:and|or)\s*,?\s*⟧)")
_BARE_ANSWER = re.compile(r"^\s*((?:the |my |final )*answer\s*(?:is\b|:|=)+)", re.IGNORECASE)
_RELATION = re.compile(r"[<>]|\\(?:leq?|geq?|neq?|lt|gt)(?:slant)?(?![A-Za-z])")
_LOGICAL_AND = re.compile(r"(?:,\s*)?(?:(?<![A-Za-z\\])and(?![A-Za-z]|[^⟦⟧]*⟧)|⟦\s*,?\s*and\s*⟧)")
_DEGREE = re.compile(r"\\degrees?(?![A-Za-z])")
_RAISED_NUMBER = re.compile(r"([_^])\s*(\d{2,})")
_ROOT_OF_NUMBER = re.compile(r"√\s*(\d+(?:\.\d+)?)")
_SLASHED = re.compile(r"(\d)⁄(\d)")
_RAISED_PRIME = re.compile(r"\^\{('+)\}")
_MIXED = re.compile(r"(?<![\d.} ])(\d+) (\d+)/(\d+)(?![\d.])")
_THOUSANDS_MARK = re.compile(r"(?<=\d)(?:,\s*\\!\s*|\{,\})(?=\d{3}(?!\d))")
_COMMA_NUMBER = re.compile(r"(?<![\d.,_^(\[|])(?<![\\_^]\{)[1-9]\d{0,2}(?:,\d{3})+(?![\d,])")
_SPACED_NUMBER = re.compile(r"(?<![\d.])(?<![\d.] )\d{1,3}(?: \d{3})+(?! ?\d)")
_ENDINGS = frozenset([".", ",", ";", ":", " ", r"\\", "\\"])  # the last is what stripping leaves of a control space
_ARGUMENTS = {r"\frac": 2, r"\binom": 2, r"\sqrt": 1, r"\overline": 1, r"\bar": 1, r"\dot": 1, "^": 1, "_": 1}
_CLOSING = {"(": ")", "[": "]"}


def plain(answer: str) -> str:
    r"""An answer without layout; words stand in ⟦ ⟧, as in `5⟦cm⟧`.

    `\dfrac12 \text{ cm}`, `\(\frac{1}{2}\,\mathrm{cm}\)` and `½\textsf{cm}` differ in layout only and become one text.
    """
    text = _QUOTES.sub(r"\2", _ascii(answer).replace("**", ""))
    text = _OVER.sub(r"\\frac{\1}{\2}", _ROW_SPACE.sub(r"\\\\", _THOUSANDS_MARK.sub("", text)))
    text = _BARE_ANSWER.sub(r"⟦\1⟧", text.replace("...", r"\ldots "))
    text = _words_marked(_INVISIBLE.sub("", text))
    if len(_RELATION.findall(text)) > 1:
        text = _LOGICAL_AND.sub(r"\\land ", text)
    text = _RAISED_NUMBER.sub(r"\1{\2}", _DEGREE.sub(r"^\\circ ", text))  # 2^10 is meant as 2^{10}
    text = _BARE_PHRASE.sub(r"⟦\1⟧", _BARE_NAME.sub(r"\\\1 ", _AND.sub(",", text)))
    tokens = [_RENAMED.get(token, token) for token in _TOKEN.findall(text)]
    text = _joined(_without_ends([token for token in tokens if token not in _LAYOUT]))
    text = _COMMA_NUMBER.sub(lambda number: number[0].replace(",", ""), text)
    text = _SPACED_NUMBER.sub(lambda number: number[0].replace(" ", ""), text)
    text = _joined(_in_braces(_TOKEN.findall(text)))
    text = _RAISED_PRIME.sub(r"\1", _MIXED.sub(r"\1\\frac{\2}{\3}", text))
    return _MATRIX.sub(r"\\begin{pmatrix}\1\\end{pmatrix}", text)


def _without_ends(tokens: Sequence[str]) -> Sequence[str]:
    """Tokens without a final full stop and without braces around all of them."""
    partner, opened = {}, []
    for index, token in enumerate(tokens):
        if token == "{":
            opened.append(index)
        elif token == "}" and opened:
            partner[opened.pop()] = index
    first, last = 0, len(tokens) - 1
    while first <= last:
        if tokens[last] in _ENDINGS:
            last -= 1
        elif tokens[first] == " ":
            first += 1
        elif partner.get(first) == last:
            first, last = first + 1, last - 1
        else:
            break
    return tokens[first : last + 1]


def _ascii(text: str) -> str:
    """Typographic characters as LaTeX writes them."""
    text = _SUPERSCRIPTS.sub(lambda found: "^{" + found[0].translate(_SUPERSCRIPT) + "}", text)
    text = _SUBSCRIPTS.sub(lambda found: "_{" + found[0].translate(_SUBSCRIPT) + "}", text)
    text = _ROOT_OF_NUMBER.sub(r"\\sqrt{\1}", text)
    text = "".join(_SYMBOLS.get(c, c) for c in text if unicodedata.category(c) != "Cf")
    return _SLASHED.sub(r"\\frac{\1}{\2}", unicodedata.normalize("NFKC", text))  # ½ is 1⁄2 by then


def _words_marked(text: str) -> str:
    """Words between ⟦ ⟧ and formulas in braces, whichever font they are set in."""
    text = _POWER_IN_TEXT.sub(r"\1}^{\2}", text)
    while (marked := _FONT_GROUP.sub(lambda group: _without_font(group[1]), text)) != text:
        text = marked
    return _BARE_FONT.sub(" ", text)


def _without_font(content: str) -> str:
    if function := _FUNCTION.fullmatch(content):
        return f"\\{function[1]} "
    words = content.replace("\\ ", " ").replace("~", " ")
    if words.strip() in {r"\$", r"\%", "%"} or _MARKED.fullmatch(words):
        return words.strip()
    if _LIST_AS_TEXT.fullmatch(words):
        return _AND.sub(",", words)
    if "⟦" in words or "\\" in words:
        return f"{{{words}}}"
    if number := _NUMBER_AND_WORDS.fullmatch(words):
        return f"{number[1]}⟦{number[2]}⟧"
    return f"⟦{words}⟧" if _WORDS.search(words) else f"{{{words}}}"


def _joined(tokens: Sequence[str]) -> str:
    """Tokens as text, a space after a control word that a letter would lengthen."""
    parts: list[str] = []
    for token in tokens:
        if parts and token[:1].isalpha() and _CONTROL_WORD.search(parts[-1]):
            parts.append(" ")
        parts.append(token)
    return "".join(parts)


def _in_braces(tokens: Sequence[str]) -> list[str]:
    r"""Tokens and groups without spaces, every argument in braces: \frac\pi 2 is one item, \frac{\pi}{2}.

    Goes from the right, so that the arguments of a command are whole items once it is reached.
    """
    items: list[str] = []
    for token in reversed(tokens):
        if token == " ":
            if items and items[-1].isdigit():
                items.append(token)  # 2 3 is not 23
            continue
        if items and items[-1] == " " and not token.isdigit():
            items.pop()
        if token == "{":
            items.append(_taken(items, "}", "{", "}"))
        elif token in _ARGUMENTS:
            index = _taken(items, "]", "[", "]") if token == r"\sqrt" and items[-1:] == ["["] and items.pop() else ""
            items.append(token + index + "".join(_argument(items, token) for _ in range(_ARGUMENTS[token])))
        else:
            items.append(token)
    return items[::-1]


def _argument(items: list[str], command: str) -> str:
    while items[-1:] == [" "]:
        items.pop()
    if not items:
        return ""
    first = items.pop()
    if first == "(" and command == r"\sqrt" and ")" in items:
        return _taken(items, ")", "{", "}")
    return first if first.startswith("{") else f"{{{first}}}"


def _taken(items: list[str], until: str, opening: str, closing: str) -> str:
    """Takes items, the last first, up to a closing bracket; they become a group."""
    group: list[str] = []
    depth = 1
    while items:
        item = items.pop()
        depth += (item in _CLOSING and _CLOSING[item] == until) - (item == until)
        if depth == 0:
            break
        group.append(item)
    return opening + _joined(group) + closing
