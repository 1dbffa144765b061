"""The mini scale's models: small Qwen2 networks and a tokenizer of characters and LaTeX commands."""

from __future__ import annotations

import string
from dataclasses import dataclass
from pathlib import Path

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM

LATEX_COMMANDS = ("\\boxed", "\\cdot", "\\frac")
PAD, END, UNKNOWN = "<pad>", "<end>", "<unknown>"
MAX_POSITIONS = 256
MODELS_FOLDER = Path("models/mini")


@dataclass(frozen=True)
class MiniShape:
    """Size of a mini model."""

    hidden_size: int
    layers: int
    heads: int
    kv_heads: int
    feed_forward_size: int


def build_tokenizer() -> PreTrainedTokenizerFast:
    """One token per character, except that each LaTeX command is a single token."""
    tokens = [PAD, END, UNKNOWN, "\n", *string.printable[:95], *LATEX_COMMANDS]
    vocabulary = {token: i for i, token in enumerate(tokens)}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token=UNKNOWN))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(r"\\[a-z]+|[\s\S]"), behavior="isolated")
    tokenizer.decoder = decoders.Fuse()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token=PAD, eos_token=END, unk_token=UNKNOWN, padding_side="right",
        model_max_length=MAX_POSITIONS, clean_up_tokenization_spaces=False)


def build_model(shape: MiniShape, tokenizer: PreTrainedTokenizerFast) -> Qwen2ForCausalLM:
    """A randomly initialised Qwen2 model with tied embeddings; draws from torch's global generator."""
    config = Qwen2Config(
        vocab_size=len(tokenizer), hidden_size=shape.hidden_size, num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads, num_key_value_heads=shape.kv_heads,
        intermediate_size=shape.feed_forward_size, max_position_embeddings=MAX_POSITIONS, tie_word_embeddings=True,
        pad_token_id=tokenizer.pad_token_id, eos_token_id=tokenizer.eos_token_id, bos_token_id=None)
    return Qwen2ForCausalLM(config)
