"""Answers in batches of similar length: the prompts in a few passes, then one token per step and open sequence."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import pad
from tqdm import tqdm
from transformers import DynamicCache, PreTrainedModel, PreTrainedTokenizerBase

from pipeline.common import seeding
from pipeline.common.errors import ModelError
from pipeline.language_models.caches import all_roomy, growing_cache, keys_and_values
from pipeline.language_models.decoding import (
    Head,
    ReadPrompts,
    Stop,
    TokenPicker,
    float32_head,
    next_logits,
    ready_mask,
    takes_ready_masks,
)
from pipeline.language_models.devices import Kind, is_out_of_memory, kind_of
from pipeline.language_models.end_tokens import end_tokens
from pipeline.language_models.graph_decoding import WAIT, can_be_recorded, decode_by_graphs
from pipeline.language_models.prompts import completion_text
from pipeline.language_models.settings import GenerationParams

ENDED_SHARE = 0.15  # of a batch's rows: when so many have ended they leave it together, since leaving copies the cache
LOOK_EVERY: dict[Kind, int] = {"cpu": 1, "gpu": WAIT}  # tokens between two looks at which rows have ended
GRAPHS_ON: tuple[Kind, ...] = ("gpu",)  # devices where starting an operation takes longer than carrying it out
# Prompt tokens read at once, padding included: measured on a CPU, an estimate for a GPU.
PROMPT_TOKENS: dict[Kind, int] = {"cpu": 1024, "gpu": 2**15}


@dataclass(frozen=True)
class Sampling:
    """Tokens are drawn from softmax(logits / temperature), temperature > 0, instead of the most likely one taken."""

    temperature: float
    seed: int


def generate_answers(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[list[int]],
    params: GenerationParams,
    progress: str | None = None,
    *,
    sampling: Sampling | None = None,
) -> list[str]:
    """The model's completion of each prompt, as text, in the order given; see `generate_completions`."""
    completions = generate_completions(model, tokenizer, prompts, params, progress, sampling=sampling)
    return [completion_text(tokenizer, completion) for completion in completions]


def generate_completions(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[list[int]],
    params: GenerationParams,
    progress: str | None = None,
    *,
    sampling: Sampling | None = None,
) -> list[list[int]]:
    """The tokens of the model's completion of each prompt, in the order given; greedy where `sampling` is None.

    The end token, any of `end_tokens`, is left out: a completion of `max_new_tokens` tokens is one that did not end.

    Batches are cut from the prompts in order of length, the longest first, so the same call always computes the same
    thing. A batch that does not fit into memory is halved, and so are those after it.
    `progress` is the label of a progress bar, None for no bar.

    Raises:
        ModelError: not even a single prompt fits into memory.
    """
    order = sorted(range(len(prompts)), key=lambda i: (-len(prompts[i]), i))
    completions: list[list[int]] = [[] for _ in prompts]
    stop = Stop(end_tokens(model, tokenizer), params.max_new_tokens)
    size, done, batch = params.batch_size, 0, 0
    with tqdm(total=len(prompts), desc=progress, unit="prompt", disable=progress is None) as bar:
        while done < len(prompts):
            chosen = order[done : done + size]
            pick = token_picker(sampling, batch, model.device)
            try:
                batch_completions = complete_batch(
                    model, [prompts[i] for i in chosen], tokenizer.pad_token_id, stop, pick
                )
            except (MemoryError, RuntimeError) as error:
                if not is_out_of_memory(error):
                    raise
                if len(chosen) == 1:
                    raise ModelError(
                        f"the memory is too small for one prompt of {len(prompts[chosen[0]])} tokens and "
                        f"{params.max_new_tokens} new ones; lower generation.max_new_tokens or use a larger machine"
                    ) from error
                size = len(chosen) // 2
                print(f"the memory is too small for {len(chosen)} prompts at once; now {size}", file=sys.stderr)
                continue
            for i, completion in zip(chosen, batch_completions, strict=True):
                completions[i] = completion
            bar.update(len(chosen))
            done, batch = done + len(chosen), batch + 1
    return completions


@torch.inference_mode()
def complete_batch(
    model: PreTrainedModel, prompts: list[list[int]], pad_token_id: int, stop: Stop, pick: TokenPicker
) -> list[list[int]]:
    """The tokens that `pick` has follow each prompt, without its end token; the longest prompts come first."""
    head, cache = float32_head(model), growing_cache(model)
    read = read_prompts(model, head, cache, prompts, pad_token_id)
    by_graphs = kind_of(model.device) in GRAPHS_ON and can_be_recorded(model, cache)
    decode = decode_by_graphs if by_graphs else decode_growing
    tokens_PT = decode(model, head, read, stop, pick)
    return [list(itertools.takewhile(lambda token: token not in stop.ends, tokens)) for tokens in tokens_PT.tolist()]


def decode_growing(model: PreTrainedModel, head: Head, prompts: ReadPrompts, stop: Stop, pick: TokenPicker) -> Tensor:
    """The tokens [P, max_new_tokens] that `pick` has follow each prompt; those behind an end token mean nothing.

    The cache grows with every token, and rows that have ended leave the batch: the fewest operations, as a CPU needs.
    """
    cache, logits_BV, mask_BT = prompts.cache, prompts.logits_BV, prompts.mask_BT
    ends_E = torch.tensor(stop.ends, device=model.device)
    ready_masks = takes_ready_masks(model, cache) and not mask_BT.all()  # without padding a model needs no mask
    positions_B1 = mask_BT.sum(dim=1, keepdim=True)
    prompt_B = torch.arange(len(mask_BT), device=model.device)  # which prompt each row of the batch belongs to
    open_B = torch.ones_like(prompt_B, dtype=torch.bool)
    tokens_PT = torch.full((len(mask_BT), stop.max_new_tokens), stop.ends[0], device=model.device)
    for step in range(stop.max_new_tokens):
        tokens_B = pick(logits_BV)
        tokens_PT[prompt_B, step] = tokens_B
        open_B &= (tokens_B[:, None] != ends_E).all(dim=1)
        if step + 1 == stop.max_new_tokens:
            break
        if (step + 1) % LOOK_EVERY[kind_of(model.device)] == 0:
            still_open = int(open_B.sum())
            if still_open == 0:
                break
            if len(open_B) - still_open >= ENDED_SHARE * len(open_B):
                kept_B = open_B.nonzero()[:, 0]
                # made for beam search, it is the one way to choose rows that every kind of layer knows
                cache.reorder_cache(kept_B)  # type: ignore[arg-type]  # no tensor is declared a LongTensor
                prompt_B, open_B, tokens_B = prompt_B[kept_B], open_B[kept_B], tokens_B[kept_B]
                positions_B1, mask_BT = positions_B1[kept_B], mask_BT[kept_B]
        mask_BT = torch.cat([mask_BT, mask_BT.new_ones(len(mask_BT), 1)], dim=1)
        mask = ready_mask(mask_BT, model.dtype) if ready_masks else mask_BT
        logits_BV = next_logits(model, head, cache, tokens_B[:, None], mask, positions_B1)
        positions_B1 = positions_B1 + 1
    return tokens_PT


def read_prompts(
    model: PreTrainedModel, head: Head, cache: DynamicCache, prompts: list[list[int]], pad_token_id: int
) -> ReadPrompts:
    """Takes prompts into an empty cache.

    They are read in parts of similar length: there is less padding in these, and they stay in a CPU's caches.
    """
    longest, logits, masks, caches = len(prompts[0]), [], [], []
    for part in prompt_parts(prompts, PROMPT_TOKENS[kind_of(model.device)] if all_roomy(cache) else sys.maxsize):
        input_ids_BT, mask_BT = (tensor.to(model.device) for tensor in pad_left(part, pad_token_id))
        caches.append(growing_cache(model) if len(part) < len(prompts) else cache)
        positions_BT = (mask_BT.cumsum(dim=1) - 1).clamp(min=0)
        logits.append(next_logits(model, head, caches[-1], input_ids_BT, mask_BT, positions_BT))
        masks.append(pad(mask_BT, (longest - len(part[0]), 0)))
    if len(caches) > 1:
        for number in range(len(cache.layers)):
            layers = [c.layers.pop(0) for c in caches]  # so that no more than one layer is held twice
            keys, values = (
                torch.cat([pad(kept, (0, 0, longest - kept.shape[2], 0)) for kept in side])
                for side in zip(*map(keys_and_values, layers), strict=True)
            )
            cache.update(keys, values, number)
    return ReadPrompts(cache, torch.cat(logits), torch.cat(masks))


def prompt_parts(prompts: list[list[int]], most_tokens: int) -> Iterator[list[list[int]]]:
    """Cuts prompts, the longest first, into parts of at most so many tokens, padding included, or of one prompt."""
    start = 0
    while start < len(prompts):
        size = max(1, most_tokens // len(prompts[start]))
        yield prompts[start : start + size]
        start += size


def token_picker(sampling: Sampling | None, batch: int, device: torch.device) -> TokenPicker:
    """Takes float32 logits [B, V] to each row's next token [B]: the most likely one, or one drawn for this batch."""
    if sampling is None:
        return lambda logits_BV: logits_BV.argmax(dim=1)
    generator = torch.Generator(device).manual_seed(seeding.derive(sampling.seed, "sample", batch))

    def draw(logits_BV: Tensor) -> Tensor:
        probs_BV = torch.softmax(logits_BV / sampling.temperature, dim=1)
        return torch.multinomial(probs_BV, num_samples=1, generator=generator)[:, 0]

    return draw


def pad_left(prompts: Sequence[list[int]], pad_token_id: int) -> tuple[Tensor, Tensor]:
    """Token ids [B, T], padded on the left so that all go on at the right end, and the mask of real tokens."""
    longest = max(map(len, prompts))
    input_ids_BT = torch.full((len(prompts), longest), pad_token_id)
    mask_BT = torch.zeros_like(input_ids_BT)
    for row, prompt in enumerate(prompts):
        input_ids_BT[row, longest - len(prompt) :] = torch.tensor(prompt)
        mask_BT[row, longest - len(prompt) :] = 1
    return input_ids_BT, mask_BT
