"""Loading teacher and student from a local folder or the hub, and making the student smaller by leaving out layers."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Literal

import torch
from torch import nn
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    GenerationConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.utils import logging as transformers_logging

from pipeline.errors import ModelError
from pipeline.files import digest_of, file_digest
from pipeline.params import ModelsParams

Role = Literal["teacher", "student"]


def use_threads(models: ModelsParams) -> None:
    """Sets what bit-identical results depend on: the number of threads, and deterministic kernels.

    Raises:
        ModelError: CUDA is asked for where there is none.
    """
    torch.set_num_threads(models.threads)
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # CUDA's matrix products need it to be deterministic
    torch.use_deterministic_algorithms(mode=True)
    transformers_logging.disable_progress_bar()  # it would interleave with the stage's own
    if models.device == "cuda" and not torch.cuda.is_available():
        raise ModelError("models.device is cuda, but torch finds no CUDA device; set it to cpu or use a GPU machine")


def _source(models: ModelsParams, role: Role) -> tuple[str, str | None]:
    if role == "teacher":
        return models.teacher, models.teacher_revision
    return models.student, models.student_revision


def load_tokenizer(models: ModelsParams, role: Role) -> PreTrainedTokenizerBase:
    """The tokenizer of teacher or student; a missing pad token is replaced by the end token.

    Raises:
        ModelError: it cannot be found, or has no end token.
    """
    name, revision = _source(models, role)
    try:
        tokenizer = AutoTokenizer.from_pretrained(name, revision=revision, trust_remote_code=False)
    except (OSError, ValueError) as error:
        raise ModelError(_not_found(role, name)) from error
    if tokenizer.eos_token_id is None:
        raise ModelError(f"the {role}'s tokenizer ({name}) has no end token, so a completion could not end")
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def load_model(models: ModelsParams, role: Role) -> PreTrainedModel:
    """The teacher, or the student before training, on the device of `models`.

    The teacher is in the precision of `models`. A student's weights are in float32, since small updates vanish in
    bfloat16; `precision` makes it compute in that of `models`.

    Raises:
        ModelError: it cannot be found or is not a causal language model.
    """
    name, revision = _source(models, role)
    dtype = getattr(torch, models.dtype) if role == "teacher" else torch.float32
    try:
        model = AutoModelForCausalLM.from_pretrained(
            name, revision=revision, dtype=dtype, trust_remote_code=False, use_safetensors=True
        )
    except (OSError, ValueError) as error:
        raise ModelError(_not_found(role, name)) from error
    if role == "student" and models.student_layers is not None:
        keep_layers(model, models.student_layers)
    return ready(model, models)


def ready(model: PreTrainedModel, models: ModelsParams) -> PreTrainedModel:
    """Moves a model to its device and clears decoding settings it may ship with, such as a repetition penalty."""
    model.generation_config = GenerationConfig(
        bos_token_id=model.config.bos_token_id, eos_token_id=model.config.eos_token_id
    )
    return model.to(models.device).eval()


def _not_found(role: Role, name: str) -> str:
    return (
        f"the {role} {name!r} cannot be loaded: it is neither a local folder with a safetensors model and its "
        f"tokenizer nor reachable on the hub; set models.{role} to a local folder"
    )


def keep_layers(model: PreTrainedModel, count: int) -> None:
    """Keeps `count` evenly spaced layers of a decoder, the first and the last among them.

    Raises:
        ModelError: the model has fewer layers.
    """
    layers = model.model.layers
    if count > len(layers):
        raise ModelError(f"models.student_layers is {count}, but the student has only {len(layers)} layers")
    chosen = [round(i * (len(layers) - 1) / max(1, count - 1)) for i in range(count)]
    model.model.layers = nn.ModuleList([layers[i] for i in chosen])
    for position, layer in enumerate(model.model.layers):
        layer.self_attn.layer_idx = position
    model.config.num_hidden_layers = count
    if getattr(model.config, "layer_types", None):
        model.config.layer_types = [model.config.layer_types[i] for i in chosen]


def load_student(folder: Path, models: ModelsParams) -> PreTrainedModel:
    """A trained student that `save_student` wrote.

    Raises:
        ModelError: there is none.
    """
    if not (folder / "config.json").exists():
        raise ModelError(f"{folder} holds no trained student; run `dvc repro` on its train stage first")
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, use_safetensors=True)
    return ready(model, models)


def precision(models: ModelsParams) -> torch.autocast:
    """The context in which a float32 student computes in the precision of `models`."""
    return torch.autocast(models.device, dtype=torch.bfloat16, enabled=models.dtype == "bfloat16")


def save_student(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, folder: Path) -> None:
    """Writes a Hugging Face folder in float32: config, safetensors weights, tokenizer.

    Other programs find in it how the student is meant to answer: greedily, up to the token that ended its completions
    in training, which need not be the one in the config it started from.
    """
    model.generation_config = GenerationConfig(
        do_sample=False,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    for weights in folder.glob("*.safetensors"):
        weights.chmod(0o644)  # safetensors lets none but the owner read them


def require_same_vocabulary(models: ModelsParams) -> PreTrainedTokenizerBase:
    """The tokenizer shared by teacher and student.

    Raises:
        ModelError: their vocabularies or the sizes of their output layers differ.
    """
    teacher, student = load_tokenizer(models, "teacher"), load_tokenizer(models, "student")
    if teacher.get_vocab() != student.get_vocab():
        raise ModelError(
            f"teacher {models.teacher!r} ({len(teacher)} tokens) and student {models.student!r} ({len(student)} "
            "tokens) have different vocabularies; logits can only be distilled between models that share one"
        )
    sources = [_source(models, role) for role in ("teacher", "student")]
    try:
        sizes = [AutoConfig.from_pretrained(name, revision=revision).vocab_size for name, revision in sources]
    except (OSError, ValueError) as error:
        raise ModelError(
            f"the config of teacher {models.teacher!r} or student {models.student!r} cannot be read; "
            "each must be a model folder with a config.json or reachable on the hub"
        ) from error
    if sizes[0] != sizes[1]:
        raise ModelError(
            f"teacher {models.teacher!r} has {sizes[0]} output logits, student {models.student!r} has {sizes[1]}; "
            "choose a pair with equal vocab_size"
        )
    return student


def model_identity(models: ModelsParams, role: Role) -> dict[str, str | None]:
    """What names a model's exact weights: for a local folder the digests of its files, else name and revision."""
    name, revision = _source(models, role)
    folder = Path(name)
    files = sorted([*folder.glob("*.safetensors"), *folder.glob("config.json")]) if folder.is_dir() else []
    return {
        "name": name,
        "revision": revision,
        "files": digest_of({f.name: file_digest(f) for f in files}) if files else None,
    }


def tokenizer_digest(tokenizer: PreTrainedTokenizerBase) -> str:
    """A digest of everything a tokenizer does: its rules, vocabulary and chat template."""
    return digest_of([tokenizer.backend_tokenizer.to_str(), tokenizer.chat_template])
