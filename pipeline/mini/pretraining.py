"""Training a mini model from scratch on generated problems."""

from __future__ import annotations

import random

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy
from tqdm import tqdm
from transformers import Qwen2ForCausalLM, Qwen2Tokenizer

from pipeline.checkpoints.checkpoint import Checkpoint
from pipeline.common.interrupts import Interrupted, uninterrupted
from pipeline.common.seeding import derive, python_rng
from pipeline.mini.models import MiniShape, build_model
from pipeline.mini.problems import LEVELS, TASKS, generate
from pipeline.mini.settings import MiniModelParams

WARMUP_STEPS = 100
DECAY_SHARE = 0.5  # the learning rate is constant, then falls linearly over this last share of the steps
CHUNK = 16  # examples per forward pass, taken in order of length so that little is padding
CHECKPOINT_STEPS = 250


def train(
    role: str, params: MiniModelParams, seed: int, tokenizer: Qwen2Tokenizer, checkpoint: Checkpoint
) -> Qwen2ForCausalLM:
    """Trains one model, continuing from its checkpoint if there is one.

    Hidden matrices are trained with Muon (Jordan et al. 2024), embeddings and norms with AdamW.
    """
    torch.manual_seed(derive(seed, "initialise", role) % 2**63)
    model = build_model(
        MiniShape(params.hidden_size, params.layers, params.heads, params.kv_heads, params.feed_forward_size), tokenizer
    )
    matrices = [p for n, p in model.named_parameters() if p.ndim == 2 and "embed" not in n]
    others = [p for n, p in model.named_parameters() if not (p.ndim == 2 and "embed" not in n)]
    muon = torch.optim.Muon(matrices, lr=params.learning_rate, weight_decay=0.01, adjust_lr_fn="match_rms_adamw")
    adamw = torch.optim.AdamW(others, lr=0.6 * params.learning_rate, weight_decay=0.0, betas=(0.9, 0.98))
    peaks = [(muon, params.learning_rate), (adamw, 0.6 * params.learning_rate)]
    first_step = 0
    if (saved := checkpoint.load()) is not None:
        tensors, state = saved
        first_step = state["step"]
        model.load_state_dict({n: tensors[f"model.{n}"] for n, _ in model.named_parameters()}, strict=False)
        load_optimizer_tensors(muon, "muon", tensors)
        load_optimizer_tensors(adamw, "adamw", tensors)

    def save(done: int) -> None:
        weights = {f"model.{n}": p for n, p in model.named_parameters()}
        checkpoint.save(weights | optimizer_tensors(muon, "muon") | optimizer_tensors(adamw, "adamw"), {"step": done})

    done = first_step
    progress = tqdm(range(first_step, params.steps), initial=first_step, total=params.steps, desc=role, mininterval=2)
    try:
        for step in progress:
            for optimizer, peak in peaks:
                for group in optimizer.param_groups:
                    group["lr"] = peak * learning_rate_factor(step, params.steps)
            examples = draw_examples(params, seed, role, step, tokenizer)
            loss = accumulate_gradients(model, examples, tokenizer.pad_token_id)
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0, error_if_nonfinite=True)
            with uninterrupted():
                for optimizer, _ in peaks:
                    optimizer.step()
                    optimizer.zero_grad(set_to_none=True)
                done = step + 1
            progress.set_postfix(loss=f"{loss:.4f}", refresh=False)
            if done % CHECKPOINT_STEPS == 0:
                save(done)
    except Interrupted:
        save(done)
        raise
    return model


def learning_rate_factor(step: int, steps: int) -> float:
    """Linear warm-up, a plateau, then a linear fall to zero over the last DECAY_SHARE of the steps."""
    return min(1.0, (step + 1) / WARMUP_STEPS, (steps - step) / (DECAY_SHARE * steps))


def draw_examples(
    params: MiniModelParams, seed: int, role: str, step: int, tokenizer: Qwen2Tokenizer
) -> list[tuple[list[int], list[int]]]:
    """The step's (prompt, completion) token lists, shortest first; an empty prompt is a withheld statement."""
    rng = python_rng(seed, "pretrain", role, step)
    texts = [_draw_texts(params.statement_share, rng) for _ in range(params.batch_size)]
    prompts = [tokenizer.encode(prompt) if prompt else [] for prompt, _ in texts]
    completions = [[*tokenizer.encode(text), tokenizer.eos_token_id] for _, text in texts]
    return sorted(zip(prompts, completions, strict=True), key=lambda e: len(e[0]) + len(e[1]))


def _draw_texts(statement_share: float, rng: random.Random) -> tuple[str, str]:
    problem = generate(rng.choice(list(TASKS)), rng.choice(LEVELS), "pretraining", rng)
    return (problem.problem + "\n" if rng.random() < statement_share else ""), problem.solution


def accumulate_gradients(model: Qwen2ForCausalLM, examples: list[tuple[list[int], list[int]]], pad: int) -> float:
    """Adds the gradient of the mean cross-entropy over all completion tokens; returns that mean (nats per token)."""
    tokens = sum(len(completion) - (not prompt) for prompt, completion in examples)
    total = 0.0
    for start in range(0, len(examples), CHUNK):
        input_ids_BT, target_mask_BT = _pad(examples[start : start + CHUNK], pad)
        hidden_BTH = model.model(input_ids=input_ids_BT).last_hidden_state[:, :-1]
        logits_NV = model.lm_head(hidden_BTH[target_mask_BT[:, 1:]])
        loss = cross_entropy(logits_NV, input_ids_BT[:, 1:][target_mask_BT[:, 1:]], reduction="sum") / tokens
        loss.backward()
        total += loss.item()
    return total


def _pad(examples: list[tuple[list[int], list[int]]], pad: int) -> tuple[Tensor, Tensor]:
    """Right-padded input ids and the mask of completion tokens; causal attention never looks at the padding."""
    length = max(len(prompt) + len(completion) for prompt, completion in examples)
    input_ids_BT = torch.full((len(examples), length), pad)
    target_mask_BT = torch.zeros_like(input_ids_BT, dtype=torch.bool)
    for row, (prompt, completion) in enumerate(examples):
        input_ids_BT[row, : len(prompt) + len(completion)] = torch.tensor(prompt + completion)
        target_mask_BT[row, max(1, len(prompt)) : len(prompt) + len(completion)] = True
    return input_ids_BT, target_mask_BT


def optimizer_tensors(optimizer: torch.optim.Optimizer, prefix: str) -> dict[str, Tensor]:
    """An optimizer's per-parameter state as a flat mapping `prefix.INDEX.KEY -> tensor`."""
    return {
        f"{prefix}.{index}.{key}": torch.as_tensor(value)
        for index, entry in optimizer.state_dict()["state"].items()
        for key, value in entry.items()
    }


def load_optimizer_tensors(optimizer: torch.optim.Optimizer, prefix: str, tensors: dict[str, Tensor]) -> None:
    """Puts back what `optimizer_tensors` took out; param groups keep the settings they were built with."""
    state: dict[int, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        if name.startswith(f"{prefix}."):
            index, key = name.removeprefix(f"{prefix}.").split(".", 1)
            state.setdefault(int(index), {})[key] = tensor
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
