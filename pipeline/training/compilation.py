"""Compiled layers and losses, such that a run that is resumed computes with the same code.

torch's compiler makes code for any shape, but decides by the first one how sums are cut, and so how they round. So all
that a step needs is compiled before the first one, with a batch that is always the same.
"""

from __future__ import annotations

import os
import shutil
from contextlib import AbstractContextManager, nullcontext

import numpy as np
import torch
from transformers import PreTrainedModel

from pipeline.common.errors import TrainingError
from pipeline.distillation.compiled_tail import compiled
from pipeline.distillation.loss import LossSettings, distillation_loss
from pipeline.language_models.batches import pad_examples, predicting_states
from pipeline.language_models.prompts import EncodedProblem
from pipeline.logit_store.targets import TeacherTargets
from pipeline.training.adamw import scaled
from pipeline.training.layers import checkpoint_layers, layers_of

# Examples, and tokens of each: primes, since torch takes sizes that are equal for the same, and a batch of 8 for one of
# heads of 8. A batch of one is compiled apart.
EXAMPLES = (7, 1)
PROMPT, COMPLETION = 60, 191
MOST_VERSIONS = 64  # of one function; torch's own limit is 8, from where on it goes on uncompiled


def compile_layers(student: PreTrainedModel) -> None:
    """Has each layer compiled when it is called first, for sequences of any length.

    Raises:
        TrainingError: there is no C compiler, which torch's own needs.
    """
    compilers = [os.environ["CC"]] if os.environ.get("CC") else ["cc", "gcc", "clang"]
    if not any(map(shutil.which, compilers)):
        raise TrainingError(
            f"training.compile needs a C compiler, and {' nor '.join(compilers)} is not found; install one, or set it "
            "to false"
        )
    torch._dynamo.config.recompile_limit = MOST_VERSIONS
    torch._dynamo.config.fail_on_recompile_limit_hit = True
    # what is on disk from programs that compiled with other shapes first must not be taken
    torch.compiler.config.cache_key_tag = f"{EXAMPLES} examples of {PROMPT} and {COMPLETION} tokens"
    for layer in layers_of(student):
        layer.compile(dynamic=True)


def compile_ahead(student: PreTrainedModel, settings: LossSettings, *, preconditions: bool) -> None:
    """Compiles what the gradients of a batch need, as the student is set up now; its gradients are dropped.

    preconditions: whether a gradient will be `preconditioned` too.
    """
    checkpoint_layers(student)
    for examples in EXAMPLES:
        batch = pad_examples([example(number) for number in range(examples)])
        hidden_NH = predicting_states(student, batch)
        loss, _ = distillation_loss(
            hidden_NH,
            student.get_output_embeddings().weight,
            batch.labels_N.to(student.device),
            even_targets(len(hidden_NH), student.device),
            settings,
            total_tokens=len(hidden_NH),
        )
        loss.backward()
    student.zero_grad(set_to_none=True)
    if preconditions:
        with torch.no_grad():
            gradient, second = (torch.ones(EXAMPLES[0], PROMPT, device=student.device) for _ in range(2))
            compiled(scaled)(gradient, second, torch.ones((), device=student.device))


def example(number: int) -> EncodedProblem:
    """Prompt and completion of one token, over and over."""
    return EncodedProblem(
        f"compiled-{number}", np.zeros(PROMPT, dtype=np.int32), np.zeros(COMPLETION, dtype=np.int32), cut=False
    )


def even_targets(tokens: int, device: torch.device) -> TeacherTargets:
    """Two tokens and a tail of the same mass each."""
    token_ids_NK = torch.arange(2, device=device).repeat(tokens, 1)
    third_N = torch.full((tokens,), 1 / 3, device=device).log()
    return TeacherTargets(token_ids_NK, third_N[:, None].repeat(1, 2), third_N, third_N)


def uncompiled(*, compiled: bool) -> AbstractContextManager[object]:
    """Inside, layers are as they were written: what has other shapes or wants no gradients would be compiled anew."""
    return torch.compiler.set_stance("force_eager") if compiled else nullcontext()
