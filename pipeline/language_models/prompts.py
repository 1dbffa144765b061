"""Problems as tokens: the prompt that a model is given and the completion that carries the loss."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from transformers import PreTrainedTokenizerBase

from pipeline.common.errors import DataError, ModelError, ParamsError
from pipeline.language_models.settings import ModelsParams
from pipeline.problems.record import Problem

SLOT = "{problem}"


@dataclass(frozen=True)
class EncodedProblem:
    """A problem's tokens, as int32 arrays. `cut` says that the completion did not fit and lost its end."""

    id: str
    prompt_ids: np.ndarray
    completion_ids: np.ndarray
    cut: bool

    @property
    def length(self) -> int:
        """Number of tokens in prompt and completion."""
        return len(self.prompt_ids) + len(self.completion_ids)

    @functools.cached_property
    def digest(self) -> str:
        """A digest of prompt and completion tokens."""
        digest = hashlib.sha256(len(self.prompt_ids).to_bytes(8, "little"))
        digest.update(self.prompt_ids.astype("<i4").tobytes())
        digest.update(self.completion_ids.astype("<i4").tobytes())
        return digest.hexdigest()[:32]


@dataclass(frozen=True)
class EncodedSplit:
    """The problems that can be learnt from, and what the length limit cost."""

    problems: list[Problem]
    encoded: list[EncodedProblem]
    too_long: int
    cut: int


@dataclass(frozen=True)
class Encoder:
    """Problems to tokens: the tokenizer that teacher and student share, and how `models` says to ask."""

    tokenizer: PreTrainedTokenizerBase
    models: ModelsParams

    def encode_prompt(self, text: str) -> list[int]:
        """The tokens that ask for the solution of a problem: `models.prompt`, as a chat if `models.chat_template`.

        Raises:
            ParamsError: the prompt has no slot. ModelError: the tokenizer has no chat template.
        """
        if SLOT not in self.models.prompt:
            raise ParamsError(f"params.yaml: models.prompt is {self.models.prompt!r}; it needs the slot {SLOT}")
        prompt = self.models.prompt.replace(SLOT, text)
        if not self.models.chat_template:
            return self._tokens(prompt)
        if self.tokenizer.chat_template is None:
            raise ModelError("models.chat_template is true, but the tokenizer has none; set it to false")
        chat = [{"role": "user", "content": prompt}]
        rendered = self.tokenizer.apply_chat_template(chat, add_generation_prompt=True, tokenize=False)
        assert isinstance(rendered, str)  # not tokens
        return self._tokens(rendered)

    def encode(self, problem: Problem) -> EncodedProblem:
        """Prompt and completion, at most `models.max_tokens` together; a completion ends with the end token.

        Raises:
            DataError: the tokenizer cannot write one of the problem's characters.
        """
        prompt_ids = self.encode_prompt(problem.problem)
        completion_ids = [*self._tokens(problem.solution), self.tokenizer.eos_token_id]
        require_lossless(problem, self.tokenizer)
        room = max(0, self.models.max_tokens - len(prompt_ids))
        return EncodedProblem(
            problem.id,
            np.array(prompt_ids, dtype=np.int32),
            np.array(completion_ids[:room], dtype=np.int32),
            cut=len(completion_ids) > room,
        )

    def encode_all(self, problems: Sequence[Problem]) -> EncodedSplit:
        """Encodes a split; problems whose prompt alone fills `models.max_tokens` are left out and counted.

        Raises:
            DataError: no problem is left.
        """
        encoded = [self.encode(problem) for problem in problems]
        kept = [(p, e) for p, e in zip(problems, encoded, strict=True) if len(e.completion_ids)]
        if not kept:
            raise DataError(
                f"none of {len(problems)} problems has a prompt under models.max_tokens = {self.models.max_tokens}"
            )
        return EncodedSplit(
            [p for p, _ in kept], [e for _, e in kept], len(problems) - len(kept), sum(e.cut for _, e in kept)
        )

    def decode(self, completion: list[int]) -> str:
        """See `completion_text`."""
        return completion_text(self.tokenizer, completion)

    def _tokens(self, text: str) -> list[int]:
        token_ids: list[int] = self.tokenizer.encode(text, add_special_tokens=False)
        return token_ids


def completion_text(tokenizer: PreTrainedTokenizerBase, completion: list[int]) -> str:
    """A completion as text, without control tokens."""
    text = tokenizer.decode(completion, skip_special_tokens=True)
    assert isinstance(text, str)  # several completions would give a list
    return text


def require_lossless(problem: Problem, tokenizer: PreTrainedTokenizerBase) -> None:
    """Only a vocabulary too small for all 256 bytes, as the mini models have, can lose a character."""
    if len(tokenizer) >= 256:
        return
    for text in (problem.problem, problem.solution):
        if tokenizer.decode(tokenizer.encode(text, add_special_tokens=False)) != text:
            lost = sorted({c for c in text if not tokenizer.encode(c, add_special_tokens=False)})
            raise DataError(
                f"problem {problem.id!r} has characters this tokenizer cannot write "
                f"({' '.join(map(repr, lost))}); choose a scale whose models know them"
            )


def longest_first(encoded: Iterable[EncodedProblem]) -> list[EncodedProblem]:
    """Sorted so that neighbours have similar lengths and the largest batch comes first, where memory would fail."""
    return sorted(encoded, key=lambda e: (-e.length, e.id))
