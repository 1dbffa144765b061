"""What a model must do to be distilled, tried out once when it is loaded; docs/models.md says which families do.

A model is read in three ways: alone and whole, which is what it says; padded on the right, to learn and to capture
logits; padded on the left with a cache, to answer. All three must agree.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedModel

from pipeline.common.errors import ModelError, one_line
from pipeline.language_models.batches import pad_examples, predicting_states
from pipeline.language_models.decoding import Stop
from pipeline.language_models.generation import complete_batch
from pipeline.language_models.prompts import EncodedProblem

PROMPT_LENGTHS, ANSWER_LENGTH = (11, 6, 3), 3  # of what is tried out; the longest prompt comes first
STRIDE = 7919  # a prime, so that the tokens that are tried out differ and are spread over the vocabulary
# How far two ways to the same logits may be apart, as a share of the logits' spread. One product of the same matrices
# differs in its last rounding; behind other padding every layer rounds anew.
SAME_PRODUCT = {torch.float32: 1e-4, torch.bfloat16: 5e-3}
SAME_MODEL = {torch.float32: 1e-3, torch.bfloat16: 0.1}


def require_readable(model: PreTrainedModel, name: str) -> None:
    """Checks that a model says the same whichever way it is read.

    Raises:
        ModelError: it does not, or cannot be read in one of the ways.
    """
    remedy = "choose a model of a family that docs/models.md says yes to"
    try:
        fault = fault_of(model)
    except torch.OutOfMemoryError:
        raise
    except Exception as error:  # an architecture that is not made for this may fail in any way
        raise ModelError(
            f"{name} ({type(model).__name__}) cannot be read in batches and with a cache ({one_line(error)}); {remedy}"
        ) from error
    if fault is not None:
        raise ModelError(f"{name} ({type(model).__name__}) {fault}; {remedy}")


@torch.inference_mode()
def fault_of(model: PreTrainedModel) -> str | None:
    """What a model does otherwise than it must, in words that go on after its name."""
    more_than_a_product = (
        "does more than one matrix product to make its logits (a bias, a scale, a cap), which the distillation loss "
        "does not know"
    )
    if getattr(model.config.get_text_config(), "final_logit_softcapping", None):
        return more_than_a_product  # small logits are below the cap, and would not show it
    head_VH = model.get_output_embeddings().weight
    examples = list(tried_out(len(head_VH)))
    alone = []
    for e in examples:
        input_ids_BT = torch.from_numpy(np.concatenate([e.prompt_ids, e.completion_ids]))[None].to(model.device)
        hidden_TH = model.base_model(input_ids=input_ids_BT, use_cache=False).last_hidden_state[0]
        logits_TV = model(input_ids=input_ids_BT, use_cache=False).logits[0]
        if not apart(hidden_TH @ head_VH.T, logits_TV) <= SAME_PRODUCT[model.dtype]:
            return more_than_a_product
        alone.append(logits_TV[len(e.prompt_ids) - 1 : -1])
    learnt_NV = predicting_states(model, pad_examples(examples)) @ head_VH.T
    if not apart(learnt_NV, torch.cat(alone)) <= SAME_MODEL[model.dtype]:
        return "is not causal: what it says of a token depends on tokens after it"
    if not max(apart(*pair) for pair in answered(model, examples, alone)) <= SAME_MODEL[model.dtype]:
        return (
            "answers prompts in a batch otherwise than alone: padding enters its state, or it keeps no state from "
            "token to token"
        )
    return None


def tried_out(vocabulary: int) -> Iterator[EncodedProblem]:
    """Prompts and completions of several lengths, of tokens that are spread over the vocabulary; none is token 0."""
    start = 1
    for length in PROMPT_LENGTHS:
        tokens = np.arange(start, start + length + ANSWER_LENGTH, dtype=np.int64) * STRIDE % vocabulary
        yield EncodedProblem(f"of {length}", tokens[:length], tokens[length:], cut=False)
        start += len(tokens)


def answered(
    model: PreTrainedModel, examples: Sequence[EncodedProblem], alone: Sequence[Tensor]
) -> Iterator[tuple[Tensor, Tensor]]:
    """Logits [B, V] of each step of a batch that is made to give the completions, and those of the examples alone.

    The first example ends at once, so that the others go on without it.
    """
    seen: list[Tensor] = []
    end = 0  # a token, since a row that has ended may be read further, and none of those that are tried out
    script_PT = torch.tensor(np.array([e.completion_ids for e in examples]), device=model.device)
    script_PT[0] = end

    def follow_script(logits_BV: Tensor) -> Tensor:
        seen.append(logits_BV.clone())  # the next token's may be written over them
        return script_PT[-len(logits_BV) :, len(seen) - 1]

    prompts = [e.prompt_ids.tolist() for e in examples]
    complete_batch(model, prompts, 0, Stop([end], ANSWER_LENGTH), follow_script)
    for step, logits_BV in enumerate(seen):
        still_open = len(alone) if step == 0 else len(alone) - 1  # though the row that has ended may still be there
        yield logits_BV[-still_open:], torch.stack([logits_TV[step] for logits_TV in alone[-still_open:]])


def apart(found_NV: Tensor, expected_NV: Tensor) -> float:
    """The largest distance between two rows of logits, as a share of the spread of the expected one."""
    found_NV, expected_NV = found_NV.float(), expected_NV.float()
    spread_N = (expected_NV - expected_NV.mean(dim=-1, keepdim=True)).norm(dim=-1)
    return float(((found_NV - expected_NV).norm(dim=-1) / spread_N.clamp(min=1e-3)).max())
