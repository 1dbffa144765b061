"""Loading teacher and student from a local folder or the hub, and making the student smaller by leaving out layers."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import torch
from safetensors import SafetensorError
from torch import nn
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    GenerationConfig,
    PretrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from pipeline.common.errors import ModelError
from pipeline.common.files import digest_of, file_digest
from pipeline.language_models.prompts import Encoder
from pipeline.language_models.settings import ModelsParams

Role = Literal["teacher", "student"]
ROLES: tuple[Role, ...] = ("teacher", "student")


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
        ModelError: it cannot be found, is not a causal language model, or does more to its logits than `lm_head`.
    """
    name, revision = _source(models, role)
    dtype = getattr(torch, models.dtype) if role == "teacher" else torch.float32
    try:
        model = AutoModelForCausalLM.from_pretrained(
            name, revision=revision, dtype=dtype, trust_remote_code=False, use_safetensors=True
        )
    except (OSError, ValueError) as error:
        raise ModelError(_not_found(role, name)) from error
    except (SafetensorError, RuntimeError) as error:
        raise ModelError(
            f"the weights of the {role} {name!r} are damaged or are not those of its config.json; fetch the model again"
        ) from error
    if role == "student" and models.student_layers is not None:
        keep_layers(model, models.student_layers)
    require_plain_head(model, f"the {role} {name!r}")
    return ready(model, models)


def ready(model: PreTrainedModel, models: ModelsParams) -> PreTrainedModel:
    """Moves a model to its device and clears decoding settings it may ship with, such as a repetition penalty."""
    model.generation_config = GenerationConfig(
        bos_token_id=model.config.bos_token_id, eos_token_id=model.config.eos_token_id
    )
    move(model, models.device)
    model.eval()
    return model


def move(model: PreTrainedModel, device: str) -> None:
    model.to(device)  # type: ignore[arg-type]  # transformers' decorator takes `self` for an argument


@torch.inference_mode()
def require_plain_head(model: PreTrainedModel, name: str) -> None:
    """Checks that logits are `lm_head` times the last hidden state: teacher and loss make them so, chunk by chunk.

    Raises:
        ModelError: the model does something else, such as capping its logits.
    """
    model.eval()
    input_ids_BT = torch.arange(4)[None]
    logits_BTV = model(input_ids=input_ids_BT, use_cache=False).logits
    hidden_BTH = model.base_model(input_ids=input_ids_BT, use_cache=False).last_hidden_state
    plain_BTV = hidden_BTH @ model.get_output_embeddings().weight.T
    if logits_BTV.shape != plain_BTV.shape or not torch.allclose(logits_BTV.float(), plain_BTV.float(), atol=1e-3):
        raise ModelError(
            f"{name} ({type(model).__name__}) does more than one matrix product to make its logits (a bias, a scale, "
            "a cap), which the distillation loss does not know; choose a model of the Llama, SmolLM or Qwen kind"
        )


def _not_found(role: Role, name: str) -> str:
    return (
        f"the {role} {name!r} cannot be loaded: it is neither a local folder with a safetensors model and its "
        f"tokenizer nor reachable on the hub; set models.{role} to a local folder"
    )


def keep_layers(model: PreTrainedModel, count: int) -> None:
    """Keeps `count` evenly spaced layers of a decoder, the first and the last among them.

    Raises:
        ModelError: the model has fewer layers, or keeps them where they cannot be told apart.
    """
    decoder = model.base_model
    layers = getattr(decoder, "layers", None)
    if not isinstance(layers, nn.ModuleList):
        raise ModelError(f"models.student_layers needs a decoder with `layers`, which {type(model).__name__} has not")
    if count > len(layers):
        raise ModelError(f"models.student_layers is {count}, but the student has only {len(layers)} layers")
    chosen = [round(i * (len(layers) - 1) / max(1, count - 1)) for i in range(count)]
    kept = nn.ModuleList([layers[i] for i in chosen])
    for position, layer in enumerate(kept):
        attention: Any = layer.self_attn
        attention.layer_idx = position
    decoder.layers = kept
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


def precision(models: ModelsParams, *, keep_casts: bool = True) -> torch.autocast:
    """The context in which a float32 student computes in the precision of `models`.

    It keeps weights that it has cast for as long as it lasts: right where they are used again and again, as in
    generation, but 2 bytes per parameter too many for a training step on a small GPU.
    """
    enabled = models.dtype == "bfloat16"
    return torch.autocast(models.device, dtype=torch.bfloat16, enabled=enabled, cache_enabled=keep_casts)


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


def load_encoder(models: ModelsParams) -> Encoder:
    """The way problems become tokens, with the tokenizer that teacher and student share.

    Raises:
        ModelError: their vocabularies differ, or one of them has fewer output logits than there are tokens.
    """
    teacher, student = load_tokenizer(models, "teacher"), load_tokenizer(models, "student")
    if teacher.get_vocab() != student.get_vocab():
        raise ModelError(
            f"teacher {models.teacher!r} ({len(teacher)} tokens) and student {models.student!r} ({len(student)} "
            "tokens) have different vocabularies; logits can only be distilled between models that share one"
        )
    largest = max(student.get_vocab().values())
    if largest >= (size := vocabulary_size(models)):
        raise ModelError(
            f"token {largest} of the shared vocabulary has no output logit: teacher {models.teacher!r} and student "
            f"{models.student!r} have {size} in common; choose models whose vocab_size covers their tokenizer"
        )
    return Encoder(student, models)


def vocabulary_size(models: ModelsParams) -> int:
    """Output logits that teacher and student have in common.

    Models with one tokenizer may pad their embeddings to different sizes, as the Qwen2 family does. The teacher's
    logits beyond this size stand for no token and are left out; the student's fall into the tail and are unlearnt.
    """
    sizes: list[int] = [load_config(models, role).vocab_size for role in ROLES]
    return min(sizes)


def load_config(models: ModelsParams, role: Role) -> PretrainedConfig:
    """The config of teacher or student.

    Raises:
        ModelError: it cannot be read.
    """
    name, revision = _source(models, role)
    try:
        config: PretrainedConfig = AutoConfig.from_pretrained(name, revision=revision, trust_remote_code=False)
    except (OSError, ValueError) as error:
        raise ModelError(
            f"the config of the {role} {name!r} cannot be read; it must be a model folder with a config.json or "
            "reachable on the hub"
        ) from error
    return config


def model_identity(models: ModelsParams, role: Role) -> dict[str, str | None]:
    """What names a model's exact weights: the digests of a local folder's files, or the hub's commit.

    Raises:
        ModelError: the hub does not say which commit it gave.
    """
    name, _ = _source(models, role)
    commit, files = model_commit(models, role), None
    if commit is None:
        found = sorted([*Path(name).glob("*.safetensors"), *Path(name).glob("config.json")])
        files = digest_of({f.name: file_digest(f) for f in found})
    return {"name": name, "commit": commit, "files": files}


def model_commit(models: ModelsParams, role: Role) -> str | None:
    """The hub's commit of a model, None for a local folder.

    Raises:
        ModelError: the hub does not say which commit it gave.
    """
    name, _ = _source(models, role)
    if Path(name).is_dir():
        return None
    commit: str | None = getattr(load_config(models, role), "_commit_hash", None)
    if commit is None:
        raise ModelError(f"the hub names no commit for the {role} {name!r}; set models.{role}_revision to one")
    return commit


def tokenizer_digest(tokenizer: PreTrainedTokenizerBase) -> str:
    """A digest of everything a tokenizer does: its rules, vocabulary and chat template."""
    return digest_of([tokenizer.backend_tokenizer.to_str(), tokenizer.chat_template])
