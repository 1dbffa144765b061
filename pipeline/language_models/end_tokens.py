"""The tokens at which an answer ends: a tokenizer has one, a model's generation settings may name several."""

from __future__ import annotations

from transformers import GenerationConfig, PreTrainedModel, PreTrainedTokenizerBase


def end_tokens(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """Every token at which this model's answers end, sorted."""
    assert model.generation_config is not None  # every model that generates has one
    return sorted({tokenizer.eos_token_id, *named_ends(model.generation_config)})


def named_ends(settings: GenerationConfig) -> list[int]:
    """The end tokens that generation settings name: none, one or several."""
    named = settings.eos_token_id
    return [] if named is None else [named] if isinstance(named, int) else list(named)


def set_ends(settings: GenerationConfig, ends: list[int]) -> None:
    """Names these end tokens in generation settings, as other programs write them: one without a list."""
    settings.eos_token_id = ends[0] if len(ends) == 1 else ends
