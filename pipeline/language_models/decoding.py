"""Answers in progress: prompts in a key-value cache, one forward pass for each new token, float32 logits."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import DynamicCache, PreTrainedModel

from pipeline.language_models.caches import all_roomy
from pipeline.language_models.devices import kind_of

Head = Callable[[Tensor], Tensor]
# Takes float32 logits [B, V] to each row's next token [B]; the next token's logits may be written over them.
TokenPicker = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Stop:
    """Where a completion stops: at any of the end tokens, at least one, or after so many tokens."""

    ends: Sequence[int]
    max_new_tokens: int


@dataclass(frozen=True)
class ReadPrompts:
    """Prompts in a cache: the float32 logits [B, V] of their next tokens, and the mask [B, T] of their real tokens."""

    cache: DynamicCache
    logits_BV: Tensor
    mask_BT: Tensor


def float32_head(model: PreTrainedModel) -> Head:
    """What takes last hidden states [B, T, H] to the last token's float32 logits [B, V].

    bfloat16 tells so few logits apart that several tokens often share the highest, so the product has float32 sums that
    are not rounded. A model that makes its logits by more than this product is refused when it is loaded.
    """
    head = model.get_output_embeddings()
    if model.dtype == torch.float32:
        return lambda hidden_BTH: head(hidden_BTH[:, -1:])[:, 0]
    if kind_of(model.device) == "gpu":
        return lambda hidden_BTH: torch.mm(hidden_BTH[:, -1], head.weight.T, out_dtype=torch.float32)
    weight_HV = head.weight.float().T  # a CPU has no such product, and must not cast the weight for every token
    return lambda hidden_BTH: hidden_BTH[:, -1].float() @ weight_HV


def next_logits(
    model: PreTrainedModel, head: Head, cache: DynamicCache, input_ids_BT: Tensor, mask: Tensor, positions_BT: Tensor
) -> Tensor:
    """Takes tokens into the cache; returns the float32 logits [B, V] of the token after them."""
    output = model.base_model(
        input_ids=input_ids_BT,
        attention_mask=mask,
        position_ids=positions_BT,
        past_key_values=cache,
        use_cache=True,
    )
    return head(output.last_hidden_state)


def takes_ready_masks(model: PreTrainedModel, cache: DynamicCache) -> bool:
    """Whether one `ready_mask` serves all layers; making theirs takes a small model a twentieth of a token's time.

    Models that know no exchangeable attention may read other things from the mask of real tokens, as Bloom does.
    """
    known = model._supports_attention_backend and model.config._attn_implementation in ("sdpa", "eager")
    return known and all_roomy(cache)


def ready_mask(mask_BT: Tensor, dtype: torch.dtype) -> Tensor:
    """From the mask of real tokens, what attention adds to the scores of each row's newest token: [B, 1, 1, T]."""
    return torch.zeros_like(mask_BT, dtype=dtype).masked_fill_(mask_BT == 0, -torch.inf)[:, None, None]
