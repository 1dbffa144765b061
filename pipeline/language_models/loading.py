"""Loading teacher and student from a local folder or the hub, and making the student smaller by leaving out layers."""

from __future__ import annotations

import copy
from datetime import date
from pathlib import Path
from typing import Literal

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
from pipeline.language_models.architectures import require_readable
from pipeline.language_models.chat import pin_clock
from pipeline.language_models.control_tokens import beginning_of
from pipeline.language_models.end_tokens import end_tokens, named_ends, set_ends
from pipeline.language_models.layers import keep_layers
from pipeline.language_models.prompts import Encoder
from pipeline.language_models.settings import ModelsParams

Role = Literal["teacher", "student"]
ROLES: tuple[Role, ...] = ("teacher", "student")


def _source(models: ModelsParams, role: Role) -> tuple[str, str | None]:
    if role == "teacher":
        return models.teacher, models.teacher_revision
    return models.student, models.student_revision


def load_tokenizer(models: ModelsParams, role: Role) -> PreTrainedTokenizerBase:
    """The tokenizer of teacher or student, its chat template pinned to `models.chat_date`.

    A missing pad token is replaced by the end token.

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
    pin_clock(tokenizer, date.fromisoformat(models.chat_date))
    return tokenizer


def load_model(models: ModelsParams, role: Role) -> PreTrainedModel:
    """The teacher, or the student before training, on the device of `models`.

    The teacher is in the precision of `models`. A student's weights are in float32, since small updates vanish in
    bfloat16; `precision` makes it compute in that of `models`. Its generation config names all `end_token_ids`.

    Raises:
        ModelError: it cannot be found, or is of an architecture that cannot be distilled as the params say.
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
    called = f"the {role} {name!r}"
    if role == "student" and models.student_layers is not None:
        keep_layers(model, models.student_layers)
        called += f" of {models.student_layers} layers"
    ready(model, models)
    require_readable(model, called)
    set_ends(model.generation_config, end_token_ids(models, role))
    return model


def end_token_ids(models: ModelsParams, role: Role) -> list[int]:
    """The tokens at which teacher or student ends an answer, sorted.

    They are those of its tokenizer and of its generation config. The student has the teacher's too, since it learns to
    end where the teacher does.

    Raises:
        ModelError: a tokenizer or a config cannot be read.
    """
    ends = {load_tokenizer(models, role).eos_token_id, *named_ends(_generation_config(models, role))}
    return sorted(ends if role == "teacher" else ends.union(end_token_ids(models, "teacher")))


def _generation_config(models: ModelsParams, role: Role) -> GenerationConfig:
    """As transformers finds it: a file of its own, without which the model's config says what it says."""
    name, revision = _source(models, role)
    try:
        return GenerationConfig.from_pretrained(name, revision=revision or "main")
    except OSError:
        return GenerationConfig.from_model_config(load_config(models, role))


def ready(model: PreTrainedModel, models: ModelsParams) -> PreTrainedModel:
    """Moves a model to its device and clears decoding settings it may ship with, such as a repetition penalty."""
    shipped = model.generation_config
    model.generation_config = GenerationConfig(bos_token_id=shipped.bos_token_id, eos_token_id=shipped.eos_token_id)
    move(model, models.device)
    model.eval()
    return model


def move(model: PreTrainedModel, device: str) -> None:
    model.to(device)  # type: ignore[arg-type]  # transformers' decorator takes `self` for an argument


def _not_found(role: Role, name: str) -> str:
    return (
        f"the {role} {name!r} cannot be loaded: it is neither a local folder with a safetensors model and its "
        f"tokenizer nor reachable on the hub; set models.{role} to a local folder"
    )


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
    """The context in which a float32 student computes its gradients in the precision of `models`.

    It keeps weights that it has cast for as long as it lasts: right where they are used again and again, but 2 bytes
    per parameter too many for a training step on a small GPU.
    """
    enabled = models.dtype == "bfloat16"
    return torch.autocast(models.device, dtype=torch.bfloat16, enabled=enabled, cache_enabled=keep_casts)


def in_precision(model: PreTrainedModel, models: ModelsParams) -> PreTrainedModel:
    """The model that answers: with its weights in the precision of `models`, itself or else a copy, cast once.

    Autocast, in which a student trains, would make it compute in two: keys and hidden states in float32 beside values
    in bfloat16, with a cast around every product. The copy has no gradients.
    """
    dtype = getattr(torch, models.dtype)
    if model.dtype == dtype:
        return model
    in_float32 = model._keep_in_fp32_modules_strict or ()  # as transformers leaves them when it loads a model
    cast = {
        id(p): nn.Parameter(p.detach().to(dtype), requires_grad=False)
        for name, p in model.named_parameters()
        if p.is_floating_point() and not any(part in name for part in in_float32)
    }
    return copy.deepcopy(model, cast)  # what it is to take for the copy of each parameter


def save_student(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, folder: Path) -> None:
    """Writes a Hugging Face folder in float32: config, safetensors weights, tokenizer.

    Other programs find in it how the student is meant to answer: greedily, up to any of the tokens that end its answers
    in training and testing, which need not be those of the config it started from.
    """
    ends = end_tokens(model, tokenizer)
    model.generation_config = GenerationConfig(
        do_sample=False, bos_token_id=tokenizer.bos_token_id, pad_token_id=tokenizer.pad_token_id
    )
    set_ends(model.generation_config, ends)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    for weights in folder.glob("*.safetensors"):
        weights.chmod(0o644)  # safetensors lets none but the owner read them


def load_encoder(models: ModelsParams) -> Encoder:
    """The way problems become tokens, with the tokenizer that teacher and student share.

    Raises:
        ModelError: their vocabularies differ, one of them has fewer output logits than there are tokens, or they begin
            a text differently.
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
    if not models.chat_template and beginning_of(teacher) != beginning_of(student):
        raise ModelError(
            f"teacher {models.teacher!r} begins a text with {_words(teacher)} and student {models.student!r} with "
            f"{_words(student)}, so one of them would read every prompt in an unknown way; make their tokenizers agree"
        )
    return Encoder(student, models, frozenset(end_token_ids(models, "student")))


def _words(tokenizer: PreTrainedTokenizerBase) -> str:
    return " ".join(tokenizer.convert_ids_to_tokens(beginning_of(tokenizer))) or "no token of its own"


def vocabulary_size(models: ModelsParams) -> int:
    """Output logits that teacher and student have in common.

    Models with one tokenizer may pad their embeddings to different sizes, as the Qwen2 family does. The teacher's
    logits beyond this size stand for no token and are left out; the student's fall into the tail and are unlearnt.
    """
    sizes: list[int] = [load_config(models, role).get_text_config().vocab_size for role in ROLES]
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
        found = sorted([*Path(name).glob("*.safetensors"), *Path(name).glob("*config.json")])
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
