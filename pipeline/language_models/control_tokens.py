"""Tokens that control a model instead of saying something: what text must not be taken for, and what begins a text."""

from __future__ import annotations

import re
from collections.abc import Collection

from transformers import PreTrainedTokenizerBase
from transformers.utils.chat_template_utils import encode_marked_chat, mark_control_tokens

from pipeline.common.errors import DataError

MARK = mark_control_tokens("|", re.compile(r"\|"))[0]  # what transformers puts before a control token in a text


class ControlTokens:
    """A tokenizer's special tokens and the tokens at which answers end, told apart from the same words in a text."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, ends: Collection[int]) -> None:
        """`ends` count as control tokens also where the tokenizer does not call them special."""
        self._tokenizer = tokenizer
        added = tokenizer.added_tokens_decoder
        words = [token.content for i, token in added.items() if token.special or i in ends]
        longest_first = sorted(words, key=len, reverse=True)  # a token wins over those that it contains
        self._pattern = re.compile("|".join(map(re.escape, longest_first)) or "(?!)")  # (?!) is found nowhere

    def marked(self, text: str) -> str:
        """The text with marks around the words of control tokens, so that `encode` takes them for words."""
        if not self._pattern.search(text):
            return text
        marked: str = mark_control_tokens(text, self._pattern)
        return marked

    def encode(self, text: str) -> list[int]:
        """The tokens of a text without a beginning; control tokens are themselves, except for those with marks.

        Raises:
            DataError: the tokenizer has no other way to write the word of a control token.
        """
        token_ids: list[int]
        if MARK not in text:
            token_ids = self._tokenizer.encode(text, add_special_tokens=False)
            return token_ids
        try:
            token_ids = encode_marked_chat(self._tokenizer, text)
        except ValueError as error:
            found = self._pattern.search(text)
            assert found is not None  # what is marked
            raise DataError(
                f"a problem has {found[0]!r} in its text, which this tokenizer cannot tell from the control token of "
                "that name; change the text or leave the problem out"
            ) from error
        return token_ids


def beginning_of(tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """The tokens that a tokenizer puts before a text, such as the BOS of Llama and Gemma; often there are none."""
    bare: list[int] = tokenizer.encode("0", add_special_tokens=False)
    whole: list[int] = tokenizer.encode("0")
    start = next(i for i in range(len(whole) + 1) if whole[i : i + len(bare)] == bare)
    return whole[:start]
