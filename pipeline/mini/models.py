"""The mini scale's models: small Qwen2 networks and a tokenizer of characters and LaTeX commands."""

from __future__ import annotations

import string
from dataclasses import dataclass

from tokenizers import AddedToken
from transformers import Qwen2Config, Qwen2ForCausalLM, Qwen2Tokenizer

LATEX_COMMANDS = ("\\boxed", "\\cdot", "\\frac")
PAD, END, UNKNOWN = "<pad>", "<end>", "<unknown>"
MAX_POSITIONS = 256


@dataclass(frozen=True)
class MiniShape:
    """Size of a mini model."""

    hidden_size: int
    layers: int
    heads: int
    kv_heads: int
    feed_forward_size: int


def build_tokenizer() -> Qwen2Tokenizer:
    """One token per character of printable ASCII, except that each LaTeX command is a single token.

    It is a byte-level BPE without merges and of Qwen2's own class, because AutoTokenizer gives every Qwen2 model that
    class whatever its folder says. Other characters have no token; `encode` in prompts.py refuses them.
    """
    byte_level = {"\n": "\u010a", " ": "\u0120"}  # how byte-level BPE writes these two; the others stand for themselves
    characters = [byte_level.get(c, c) for c in ("\n", *string.printable[:95])]
    tokens = [PAD, END, UNKNOWN, *characters, *LATEX_COMMANDS]
    tokenizer = Qwen2Tokenizer(
        vocab={token: i for i, token in enumerate(tokens)},
        merges=[],
        pad_token=PAD,
        eos_token=END,
        unk_token=UNKNOWN,
        padding_side="right",
        model_max_length=MAX_POSITIONS,
        clean_up_tokenization_spaces=False,
    )
    tokenizer.add_tokens([AddedToken(command, normalized=False) for command in LATEX_COMMANDS])
    return tokenizer


def build_model(shape: MiniShape, tokenizer: Qwen2Tokenizer) -> Qwen2ForCausalLM:
    """A randomly initialised Qwen2 model with tied embeddings; draws from torch's global generator."""
    config = Qwen2Config(
        vocab_size=len(tokenizer),
        hidden_size=shape.hidden_size,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.kv_heads,
        intermediate_size=shape.feed_forward_size,
        max_position_embeddings=MAX_POSITIONS,
        tie_word_embeddings=True,
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=tokenizer.eos_token_id,
        bos_token_id=None,
    )
    return Qwen2ForCausalLM(config)
