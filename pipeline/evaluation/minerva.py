r"""The second grader: Minerva's normalisation, then equality of texts.

The rules are those of Lewkowycz et al. 2022 (arXiv 2206.14858, appendix D.1), which lm-evaluation-harness applies in
`minerva_math`. They are kept to the letter, oddities included ("a " goes, and with it the end of "pizza "), since they
are here to be compared with what others report. The harness then also simplifies the difference with SymPy, which is
left out: this grader sees texts only, and needs no worker. The answer is the last box, as for the first grader.
"""

from __future__ import annotations

import re

from pipeline.problems.grading import MAX_ANSWER_LENGTH

_ARTICLES_AND_SPACES = {"an ": "", "a ": "", ".$": "$", r"\$": "", r"\ ": "", " ": ""}
_TEXT_COMMANDS = {"mbox": "text", r",\text{and}": ",", r"\text{and}": ",", r"\text{m}": r"\text{}"}
_UNITS = (
    *(
        "square",
        "ways",
        "integers",
        "dollars",
        "mph",
        "inches",
        "ft",
        "hours",
        "km",
        "units",
        r"\ldots",
        "sue",
        "points",
    ),
    *("feet", "minutes", "digits", "cents", "degrees", "cm", "gm", "pounds", "meters", "meals", "edges", "students"),
    *("childrentickets", "multiples"),
)
_MARKS = [
    r"\text{s}", r"\text{.}", "\\text{\ns}", r"\text{}^2", r"\text{}^3", "\\text{\n}", r"\text{}", r"\mathrm{th}",
    r"^\circ", r"^{\circ}", r"\;", r",\!", "{,}", '"', r"\dots",
]  # fmt: skip
_WRAPPERS = [
    (re.compile(r"(.*?)\$(.*?)\$(.*)"), r"$\2$"),  # what stands in the first pair of dollars of a line
    (re.compile(r"\\text\{(.*?)\}"), r"\1"),
    (re.compile(r"\\textbf\{(.*?)\}"), r"\1"),
    (re.compile(r"\\overline\{(.*?)\}"), r"\1"),
    (re.compile(r"\\boxed\{(.*)\}"), r"\1"),
    (re.compile(r"frac([^{])(.)"), r"frac{\1}{\2}"),
    (re.compile(r"sqrt([^{])"), r"sqrt{\1}"),
]


def normalised(answer: str) -> str:
    r"""An answer by Minerva's rules: what follows the last =, no units, \frac12 as \frac{1}{2}, 10,000 as 10000."""
    text = answer.rpartition("=")[2]
    for before, after in (_ARTICLES_AND_SPACES | _TEXT_COMMANDS).items():
        text = text.replace(before, after)
    for removed in (*_UNITS, *_MARKS):
        text = text.replace(removed, "")
    for pattern, inner in _WRAPPERS:
        text = pattern.sub(inner, text)
    text = text.replace("$", "")
    digits = text.replace(",", "")
    return digits if digits.isdigit() else text


def is_right(gold: str, answer: str | None) -> bool:
    """Whether an answer is the gold one by Minerva's rules; none, and one that is too long to be read, is wrong."""
    if not answer or len(answer) > MAX_ANSWER_LENGTH:
        return False
    return normalised(gold) == normalised(answer)
