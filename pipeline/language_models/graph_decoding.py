"""Token by token in memory that never moves, so that a GPU repeats a recorded forward pass.

A forward pass over one token is many hundred operations, and it takes longer to start them on a GPU than to carry them
out. A CUDA graph (https://docs.pytorch.org/docs/stable/notes/cuda.html#cuda-graphs) starts all of them at once, but
repeats them on the same memory and asks the host nothing. So tokens come in stretches in which no shape changes; rows
that have ended leave between two stretches, and a new graph is recorded. It repeats the very kernels that ran while it
was recorded, so it changes no bit.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import pad
from transformers import DynamicCache, PreTrainedModel

from pipeline.language_models.caches import FixedCache, same_shapes
from pipeline.language_models.decoding import (
    Head,
    ReadPrompts,
    Stop,
    TokenPicker,
    next_logits,
    ready_mask,
    takes_ready_masks,
)

# In tokens; both estimates. A recording takes as long as some tens of tokens without one.
STRETCH = 128  # between two recordings
WAIT = 16  # between two looks at whether any row is still open, for which the host waits for the GPU
ALIGNED = 16  # numbers of places are multiples of it, or attention would pad the mask anew in every layer


@dataclass(frozen=True)
class Inputs:
    """What a recorded forward pass reads: written anew, in place, for each token.

    tokens_B1: each row's newest token, positions_B1: where it stands in its row. mask_B11L: what attention adds to the
    scores of the places of a FixedCache.
    """

    tokens_B1: Tensor
    positions_B1: Tensor
    mask_B11L: Tensor


def can_be_recorded(model: PreTrainedModel, cache: DynamicCache) -> bool:
    """Whether a forward pass over one token asks the host nothing, and finds keys in any order.

    transformers knows which architectures compile as one graph. Among these, rotary frequencies that follow the length
    look at it on the host, and positions that are not rotary may be told from the order of the keys.
    """
    ropes = getattr(model.config.get_text_config(), "rope_parameters", None) or {}
    kinds = {rope.get("rope_type") for rope in (ropes, *ropes.values()) if isinstance(rope, dict)} - {None}
    rotary = bool(kinds) and "dynamic" not in kinds
    return rotary and model._can_compile_fullgraph and takes_ready_masks(model, cache) and same_shapes(cache)


def decode_by_graphs(model: PreTrainedModel, head: Head, prompts: ReadPrompts, stop: Stop, pick: TokenPicker) -> Tensor:
    """The tokens [P, max_new_tokens] that `pick` has follow each prompt; those behind an end token mean nothing."""
    logits_BV, mask_BT = prompts.logits_BV, prompts.mask_BT
    positions_B1 = mask_BT.sum(dim=1, keepdim=True)
    prompt_B = torch.arange(len(mask_BT), device=model.device)  # which prompt each row of the batch belongs to
    ends_E = torch.tensor(stop.ends, device=model.device)
    cache = FixedCache(prompts.cache, stop.max_new_tokens + ALIGNED)
    tokens_PT = torch.zeros(len(mask_BT), stop.max_new_tokens, dtype=torch.int64, device=model.device)
    done = 0
    while done < stop.max_new_tokens and len(prompt_B):
        size = min(STRETCH, stop.max_new_tokens - done)
        inputs = first_inputs(cache, mask_BT, positions_B1, size, model.dtype)
        places = cache.first_places(model, inputs.mask_B11L.shape[-1])
        read_token = functools.partial(
            next_logits, model, head, places, inputs.tokens_B1, inputs.mask_B11L, inputs.positions_B1
        )
        stretch = decode_stretch(recorded(read_token, model.device), cache, inputs, logits_BV, size, ends_E, pick)
        tokens_PT[prompt_B, done : done + size] = stretch.tokens_BT
        kept_B = stretch.open_B.nonzero()[:, 0]
        cache.keep_rows(kept_B)
        prompt_B, mask_BT, positions_B1 = prompt_B[kept_B], mask_BT[kept_B], inputs.positions_B1[kept_B]
        logits_BV = stretch.logits_BV[kept_B]
        done += size
    return tokens_PT


def first_inputs(cache: FixedCache, mask_BT: Tensor, positions_B1: Tensor, size: int, dtype: torch.dtype) -> Inputs:
    """Inputs of a stretch of `size` tokens: all that is filled is looked at, and place 0, but no free place yet."""
    places = -(-(cache.filled + size) // ALIGNED) * ALIGNED
    answered = cache.filled - 1 - mask_BT.shape[1]
    real_BL = pad(pad(mask_BT, (1, answered), value=1), (0, places - cache.filled), value=0)
    return Inputs(torch.zeros_like(positions_B1), positions_B1, ready_mask(real_BL, dtype))


@dataclass(frozen=True)
class Stretch:
    """Its tokens [B, size], which rows have not ended, and the logits [B, V] of the tokens that come next."""

    tokens_BT: Tensor
    open_B: Tensor
    logits_BV: Tensor


def decode_stretch(
    read_token: Callable[[], Tensor],
    cache: FixedCache,
    inputs: Inputs,
    logits_BV: Tensor,
    size: int,
    ends_E: Tensor,
    pick: TokenPicker,
) -> Stretch:
    """Decodes `size` tokens of every row, or until all have ended; `read_token` takes `inputs` to the next logits."""
    tokens_BT = inputs.tokens_B1.new_zeros(len(logits_BV), size)
    open_B = torch.ones(len(logits_BV), dtype=torch.bool, device=logits_BV.device)
    for number in range(size):
        tokens_B = pick(logits_BV)
        tokens_BT[:, number] = tokens_B
        open_B &= (tokens_B[:, None] != ends_E).all(dim=1)
        if (number + 1) % WAIT == 0 and not open_B.any():
            break
        inputs.tokens_B1[:, 0] = tokens_B
        logits_BV = read_token()
        inputs.mask_B11L[..., cache.filled] = 0
        cache.keep_newest()
        inputs.positions_B1.add_(1)
    return Stretch(tokens_BT, open_B, logits_BV)


def recorded(work: Callable[[], Tensor], device: torch.device) -> Callable[[], Tensor]:
    """`work` on fixed tensors as one CUDA graph, whose every repetition writes the same output; on a CPU as it is."""
    if device.type != "cuda":
        return work
    current, side = torch.cuda.current_stream(device), recording_stream(device)
    side.wait_stream(current)
    try:
        with torch.cuda.stream(side):
            work()  # libraries set themselves up in their first call, which cannot be recorded
    finally:
        current.wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    # The outer one leads back to this stream also where a recording breaks off. Other threads, as NCCL's, may talk to
    # the GPU meanwhile.
    with torch.cuda.stream(current), torch.cuda.graph(graph, stream=side, capture_error_mode="thread_local"):
        output = work()

    def repeat() -> Tensor:
        graph.replay()
        return output

    return repeat


@functools.cache
def recording_stream(device: torch.device) -> torch.cuda.Stream:
    """The stream of all recordings: cuBLAS keeps memory for good for each stream that it has computed on."""
    return torch.cuda.Stream(device)
