"""A problem as a chat: what a tokenizer's chat template makes of it, on the same day whenever that is."""

from __future__ import annotations

import json
import re
from collections.abc import Collection
from datetime import date
from typing import Any

from jinja2 import TemplateError
from transformers import PreTrainedTokenizerBase

from pipeline.common.errors import ModelError, one_line

ANSWER = "the answer"
CLOCK = "{% macro strftime_now(format) %}"  # hides transformers' function of this name


def rendered_question(tokenizer: PreTrainedTokenizerBase, question: str) -> str:
    """The chat up to where the assistant begins to answer a user's only question.

    Raises:
        ModelError: the tokenizer has no chat template, or the template fails.
    """
    return _rendered(tokenizer, [{"role": "user", "content": question}], add_generation_prompt=True)


def end_of_turn(tokenizer: PreTrainedTokenizerBase, ends: Collection[int], otherwise: int) -> int:
    """The end token that the template puts after an assistant's answer; `otherwise` where it puts none.

    Raises:
        ModelError: the tokenizer has no chat template, or the template fails.
    """
    turns = [{"role": "user", "content": "a question"}, {"role": "assistant", "content": ANSWER}]
    _, found, after = _rendered(tokenizer, turns).rpartition(ANSWER)
    tokens = tokenizer.encode(after, add_special_tokens=False) if found else []
    return next((token for token in tokens if token in ends), otherwise)


def _rendered(tokenizer: PreTrainedTokenizerBase, turns: list[dict[str, str]], **options: Any) -> str:
    if tokenizer.chat_template is None:
        raise ModelError("models.chat_template is true, but the tokenizer has none; set it to false")
    try:
        rendered = tokenizer.apply_chat_template(turns, tokenize=False, **options)
    except (TemplateError, TypeError, ValueError) as error:
        raise ModelError(
            f"the tokenizer's chat template fails on a single question ({one_line(error)}); mend it, or set "
            "models.chat_template to false"
        ) from error
    assert isinstance(rendered, str)  # not tokens
    return rendered


def pinned(template: str, day: date) -> str:
    """A chat template that is told this day, at midnight, where it asks for the time.

    Templates ask by `strftime_now(format)`, for which transformers takes the clock. One that is pinned stays so.
    """
    if "strftime_now" not in template or template.startswith(CLOCK):
        return template
    replacements = "".join(
        f".replace({json.dumps(code)}, {json.dumps(day.strftime(code))})"
        for code in [*sorted(set(re.findall(r"%[-_0^#]?[a-zA-Z]", template))), "%%"]
    )
    # transformers drops the line break after a block, so the template itself stays as it is
    return CLOCK + "{{ format" + replacements + " }}{% endmacro %}\n" + template


def pin_clock(tokenizer: PreTrainedTokenizerBase, day: date) -> None:
    """Pins a tokenizer's chat template, or each of its templates, to a day."""
    found = tokenizer.chat_template
    if isinstance(found, dict):
        tokenizer.chat_template = {name: pinned(template, day) for name, template in found.items()}
    elif found is not None:
        tokenizer.chat_template = pinned(found, day)
