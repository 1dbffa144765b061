"""Problems as tokens: the prompt that a model is given and the completion that carries the loss."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from transformers import PreTrainedTokenizerBase

from pipeline.common.errors import DataError, ModelError, ParamsError
from pipeline.common.params import ModelsParams
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


def encode_prompt(text: str, tokenizer: PreTrainedTokenizerBase, models: ModelsParams) -> list[int]:
    """The tokens that ask for the solution of a problem: `models.prompt`, as a chat if `models.chat_template`.

    Raises:
        ParamsError: the prompt has no slot. ModelError: the tokenizer has no chat template.
    """
    if SLOT not in models.prompt:
        raise ParamsError(f"params.yaml: models.prompt is {models.prompt!r}; it needs the slot {SLOT}")
    prompt = models.prompt.replace(SLOT, text)
    if not models.chat_template:
        return tokenizer.encode(prompt, add_special_tokens=False)
    if tokenizer.chat_template is None:
        raise ModelError("models.chat_template is true, but the tokenizer has none; set it to false")
    chat = [{"role": "user", "content": prompt}]
    rendered = tokenizer.apply_chat_template(chat, add_generation_prompt=True, tokenize=False)
    return tokenizer.encode(rendered, add_special_tokens=False)


def encode(problem: Problem, tokenizer: PreTrainedTokenizerBase, models: ModelsParams) -> EncodedProblem:
    """Prompt and completion of a problem, at most `models.max_tokens` together; a completion ends with the end token.

    Raises:
        DataError: the tokenizer cannot write one of the problem's characters.
    """
    prompt_ids = encode_prompt(problem.problem, tokenizer, models)
    completion_ids = [*tokenizer.encode(problem.solution, add_special_tokens=False), tokenizer.eos_token_id]
    require_lossless(problem, tokenizer)
    room = max(0, models.max_tokens - len(prompt_ids))
    return EncodedProblem(
        problem.id,
        np.array(prompt_ids, dtype=np.int32),
        np.array(completion_ids[:room], dtype=np.int32),
        cut=len(completion_ids) > room,
    )


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


@dataclass(frozen=True)
class Encoding:
    """The problems that can be learnt from, and what the length limit cost."""

    problems: list[Problem]
    encoded: list[EncodedProblem]
    too_long: int
    cut: int


def encode_all(problems: Sequence[Problem], tokenizer: PreTrainedTokenizerBase, models: ModelsParams) -> Encoding:
    """Encodes a split; problems whose prompt alone fills `models.max_tokens` are left out and counted.

    Raises:
        DataError: no problem is left.
    """
    encoded = [encode(problem, tokenizer, models) for problem in problems]
    kept = [(p, e) for p, e in zip(problems, encoded, strict=True) if len(e.completion_ids)]
    if not kept:
        raise DataError(f"none of {len(problems)} problems has a prompt under models.max_tokens = {models.max_tokens}")
    return Encoding([p for p, _ in kept], [e for _, e in kept], len(problems) - len(kept), sum(e.cut for _, e in kept))


def longest_first(encoded: Iterable[EncodedProblem]) -> list[EncodedProblem]:
    """Sorted so that neighbours have similar lengths and the largest batch comes first, where memory would fail."""
    return sorted(encoded, key=lambda e: (-e.length, e.id))
