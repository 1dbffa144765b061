"""Greedy answers, in batches of similar length."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from tqdm import tqdm
from transformers import GenerationConfig, PreTrainedModel, PreTrainedTokenizerBase

from pipeline.params import GenerationParams


@torch.inference_mode()
def generate_answers(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[list[int]],
    params: GenerationParams,
    progress: str | None = None,
) -> list[str]:
    """The model's greedy completion of each prompt, as text, in the order given.

    Batches are cut from the prompts in order of length, so the same call always computes the same thing.
    `progress` is the label of a progress bar, None for no bar.
    """
    config = GenerationConfig(
        max_new_tokens=params.max_new_tokens,
        do_sample=False,
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=tokenizer.eos_token_id,
        bos_token_id=tokenizer.bos_token_id,
    )
    order = sorted(range(len(prompts)), key=lambda i: (-len(prompts[i]), i))
    answers = [""] * len(prompts)
    for start in tqdm(range(0, len(order), params.batch_size), desc=progress, unit="batch", disable=progress is None):
        rows = order[start : start + params.batch_size]
        longest = len(prompts[rows[0]])
        input_ids_BT = torch.full((len(rows), longest), tokenizer.pad_token_id)
        attention_mask_BT = torch.zeros_like(input_ids_BT)
        for row, i in enumerate(rows):  # padded on the left: generation continues at the right end
            input_ids_BT[row, longest - len(prompts[i]) :] = torch.tensor(prompts[i])
            attention_mask_BT[row, longest - len(prompts[i]) :] = 1
        output_BT = model.generate(
            input_ids=input_ids_BT.to(model.device),
            attention_mask=attention_mask_BT.to(model.device),
            generation_config=config,
        )
        texts = tokenizer.batch_decode(output_BT[:, longest:], skip_special_tokens=True)
        for i, text in zip(rows, texts, strict=True):
            answers[i] = text
    return answers
