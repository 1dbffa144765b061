"""Which models, how problems are put to them and how they answer: the sections `models` and `generation`."""

from __future__ import annotations

import re
from datetime import date
from typing import Annotated, Literal

from pydantic import AfterValidator

from pipeline.common.params import Positive, settings

# A backslash and an n, t or r, unless they begin a command of LaTeX or follow its line break.
ESCAPE = re.compile(
    r"""(?<!\\)\\(?!(?:
        nabla|natural|ne|nearrow|neg|neq|newline|nexists|ni|nleq|ngeq|nmid|normalsize|not|notin|nu|
        tan|tanh|tau|tbinom|text|textbf|textit|textrm|textsf|texttt|tfrac|therefore|theta|tilde|times|tiny|to|triangle|
        rangle|rbrace|rceil|rfloor|rho|right|rightarrow|rm|root
    )(?![a-zA-Z]))[ntr]""",
    re.VERBOSE,
)


def _without_escapes(prompt: str) -> str:
    if found := ESCAPE.search(prompt):
        raise ValueError(
            f"it holds a backslash and the letter {found[0][1]} where a line break or a tab was meant; with -S, press "
            "Enter inside the quotes, or write it in params.yaml in double quotes"
        )
    return prompt


def _a_day(text: str) -> str:
    try:
        date.fromisoformat(text)
    except ValueError as error:
        raise ValueError("it must be a day such as 2024-07-26") from error
    return text


@settings
class ModelsParams:
    """Teacher and student, each a local folder or a hub name, and how problems are put to them."""

    teacher: str
    teacher_revision: str | None
    student: str
    student_revision: str | None
    student_layers: Positive | None
    prompt: Annotated[str, AfterValidator(_without_escapes)]
    chat_template: bool
    chat_date: Annotated[str, AfterValidator(_a_day)]
    max_tokens: Positive
    device: Literal["cpu", "cuda"]
    dtype: Literal["float32", "bfloat16"]
    threads: Positive


@settings
class GenerationParams:
    """How a model answers problems: greedily, in batches."""

    batch_size: Positive
    max_new_tokens: Positive
