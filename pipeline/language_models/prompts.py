"""Problems as tokens: the prompt that a model is given and the completion that carries the loss."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from transformers import PreTrainedTokenizerBase

from pipeline.common.errors import DataError, ParamsError
from pipeline.language_models.chat import end_of_turn, rendered_question
from pipeline.language_models.control_tokens import ControlTokens, beginning_of
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
    """Problems to tokens: the tokenizer that teacher and student share, and how `models` says to ask.

    ends: the tokens at which an answer of teacher or student may end, besides the tokenizer's own.
    """

    tokenizer: PreTrainedTokenizerBase
    models: ModelsParams
    ends: frozenset[int] = frozenset()

    def encode_prompt(self, text: str) -> list[int]:
        """The tokens that ask for the solution of a problem: `models.prompt`, as a chat if `models.chat_template`.

        A chat begins as its template says, other prompts as the tokenizer begins a text. Control tokens in the
        problem's text are text; those in `models.prompt` are themselves.

        Raises:
            ParamsError: the prompt has no slot. ModelError: the tokenizer has no chat template, or it fails.
            DataError: a control token in the text cannot be written as text.
        """
        if SLOT not in self.models.prompt:
            raise ParamsError(f"params.yaml: models.prompt is {self.models.prompt!r}; it needs the slot {SLOT}")
        prompt = self.models.prompt.replace(SLOT, self._controls.marked(text))
        if self.models.chat_template:
            return self._controls.encode(rendered_question(self.tokenizer, prompt))
        return [*self._beginning, *self._controls.encode(prompt)]

    def encode(self, problem: Problem) -> EncodedProblem:
        """Prompt and completion, at most `models.max_tokens` together; a completion ends with the end token.

        Raises:
            DataError: the tokenizer cannot write one of the problem's characters, or the solution would end early.
        """
        prompt_ids = self.encode_prompt(problem.problem)
        solution_ids = self.encode_text(problem.solution)
        self._require_lossless(problem)
        if early := self._all_ends.intersection(solution_ids):
            raise DataError(
                f"problem {problem.id!r} has {self.tokenizer.decode(sorted(early))!r} in its solution, at which the "
                "models end an answer; take it out of their generation_config.json or leave such problems out"
            )
        completion_ids = [*solution_ids, self.end_token]
        room = max(0, self.models.max_tokens - len(prompt_ids))
        return EncodedProblem(
            problem.id,
            np.array(prompt_ids, dtype=np.int32),
            np.array(completion_ids[:room], dtype=np.int32),
            cut=len(completion_ids) > room,
        )

    def encode_text(self, text: str) -> list[int]:
        """The tokens of a text, none of which controls a model.

        Raises:
            DataError: a control token in the text cannot be written as text.
        """
        return self._controls.encode(self._controls.marked(text))

    @functools.cached_property
    def end_token(self) -> int:
        """What a completion ends with: the end token that a chat's template puts there, or the tokenizer's own."""
        own: int = self.tokenizer.eos_token_id
        return end_of_turn(self.tokenizer, self._all_ends, own) if self.models.chat_template else own

    @functools.cached_property
    def _all_ends(self) -> frozenset[int]:
        return self.ends | {self.tokenizer.eos_token_id}

    @functools.cached_property
    def _controls(self) -> ControlTokens:
        return ControlTokens(self.tokenizer, self._all_ends)

    @functools.cached_property
    def _beginning(self) -> list[int]:
        return beginning_of(self.tokenizer)

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

    def _require_lossless(self, problem: Problem) -> None:
        """Only a vocabulary too small for all 256 bytes, as the mini models have, can lose a character."""
        if len(self.tokenizer) >= 256:
            return
        for text in (problem.problem, problem.solution):
            if self.tokenizer.decode(self.encode_text(text)) != text:
                lost = sorted({c for c in text if not self.encode_text(c)})
                raise DataError(
                    f"problem {problem.id!r} has characters this tokenizer cannot write "
                    f"({' '.join(map(repr, lost))}); choose a scale whose models know them"
                )


def completion_text(tokenizer: PreTrainedTokenizerBase, completion: list[int]) -> str:
    """A completion as text, without control tokens."""
    text = tokenizer.decode(completion, skip_special_tokens=True)
    assert isinstance(text, str)  # several completions would give a list
    return text


def longest_first(encoded: Iterable[EncodedProblem]) -> list[EncodedProblem]:
    """Sorted so that neighbours have similar lengths and the largest batch comes first, where memory would fail."""
    return sorted(encoded, key=lambda e: (-e.length, e.id))
