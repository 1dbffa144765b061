"""Answers by vLLM, an optional extra for GPUs: the same weights, tokens and rules as generation.py, in less time."""

from __future__ import annotations

import importlib.util
import os
import shutil
from collections.abc import Sequence
from pathlib import Path

import torch
from transformers import PreTrainedModel

from pipeline.common.errors import ModelError, ParamsError
from pipeline.language_models.end_tokens import end_tokens
from pipeline.language_models.loading import move
from pipeline.language_models.prompts import Encoder
from pipeline.language_models.settings import GenerationParams, ModelsParams


def require_vllm(models: ModelsParams) -> None:
    """Says early what would otherwise be found out late.

    Raises:
        ParamsError: the models run on the CPU. ModelError: vLLM is not installed.
    """
    if models.device != "cuda":
        raise ParamsError(
            f"evaluation.engine is vllm, which needs a GPU, but models.device is {models.device}; "
            "set evaluation.engine to transformers or models.device to cuda"
        )
    if importlib.util.find_spec("vllm") is None:
        raise ModelError(
            "evaluation.engine is vllm, which is not installed; run `pip install -r requirements-vllm.txt` in this "
            "environment or set evaluation.engine to transformers"
        )


def generate_with_vllm(
    model: PreTrainedModel,
    encoder: Encoder,
    prompts: Sequence[list[int]],
    generation: GenerationParams,
    folder: Path,
) -> list[str]:
    """The greedy completion of each prompt, as text, in the order given.

    vLLM reads models from disk, so the very weights in memory are written to `folder`, which is removed afterwards.
    The model is moved to the CPU, since vLLM takes nearly all of the GPU's memory. Scheduling in this process and a
    fixed seed give the same answers each time; they differ from those of generation.py where rounding decides.
    """
    os.environ |= {"VLLM_ENABLE_V1_MULTIPROCESSING": "0", "VLLM_NO_USAGE_STATS": "1"}
    from vllm import LLM, SamplingParams  # noqa: PLC0415 - an optional extra, slow to import

    deterministic = torch.are_deterministic_algorithms_enabled()
    shutil.rmtree(folder, ignore_errors=True)  # a killed process may have left it
    try:
        model.save_pretrained(folder)
        encoder.tokenizer.save_pretrained(folder)
        move(model, "cpu")
        torch.cuda.empty_cache()
        torch.use_deterministic_algorithms(mode=False)  # vLLM uses kernels that have no deterministic variant
        engine = LLM(
            model=str(folder),
            dtype=encoder.models.dtype,
            seed=0,
            skip_tokenizer_init=True,  # it is given tokens and returns tokens
            max_model_len=max(map(len, prompts)) + generation.max_new_tokens,
        )
        outputs = engine.generate(
            [{"prompt_token_ids": prompt} for prompt in prompts],
            SamplingParams(
                temperature=0.0,
                max_tokens=generation.max_new_tokens,
                stop_token_ids=end_tokens(model, encoder.tokenizer),
                ignore_eos=True,  # the one in config.json, which may be another
                detokenize=False,
            ),
        )
    finally:
        torch.use_deterministic_algorithms(mode=deterministic)
        shutil.rmtree(folder, ignore_errors=True)
    return [encoder.decode(list(output.outputs[0].token_ids)) for output in outputs]
