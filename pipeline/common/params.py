"""params.yaml as frozen dataclasses: one per section, each value checked, each error naming its key.

`ParamsFile.section(key, Class)` is the only way any stage reads a parameter. The keys a stage asks for are
collected in `keys_read`, and a contract test holds them against dvc.yaml.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import yaml
from pydantic import ConfigDict, Field, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from pipeline.common.errors import ParamsError

PARAMS_PATH = Path("params.yaml")
STRICT = ConfigDict(extra="forbid", strict=True)

Positive = Annotated[int, Field(gt=0)]
PositiveFloat = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NonNegativeFloat = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Share = Annotated[float, Field(ge=0, le=1)]
Arms = Literal["level", "subject", "level_subject", "all"]
T = TypeVar("T")


@dataclass(frozen=True, config=STRICT)
class PathSource:
    """Local MATH: a JSONL(.gz) file or the original folder tree for each of train and test."""

    train: str | None
    test: str | None


@dataclass(frozen=True, config=STRICT)
class HubSource:
    """A dataset on the Hugging Face hub; all its configs are concatenated."""

    name: str
    revision: str


@dataclass(frozen=True, config=STRICT)
class DataParams:
    """Where the problems come from and how many of them are used; a size of None means all there are."""

    source: Literal["mini_math", "path", "hub"]
    path: PathSource
    hub: HubSource
    train_size: Positive | None
    validation_size: Positive
    test_size: Positive | None
    seed: int


@dataclass(frozen=True, config=STRICT)
class ModelsParams:
    """Teacher and student, each a local folder or a hub name, and how problems are put to them."""

    teacher: str
    teacher_revision: str | None
    student: str
    student_revision: str | None
    student_layers: Positive | None
    prompt: str
    chat_template: bool
    max_tokens: Positive
    device: Literal["cpu", "cuda"]
    dtype: Literal["float32", "bfloat16"]
    threads: Positive


@dataclass(frozen=True, config=STRICT)
class SamplingParams:
    """How the teacher is asked for solutions of its own."""

    attempts: Positive
    temperature: PositiveFloat
    max_new_tokens: Positive
    batch_size: Positive
    seed: int


@dataclass(frozen=True, config=STRICT)
class TeacherLogitsParams:
    """Whose solutions students learn, and what the teacher's pass over them stores per completion token."""

    targets: Literal["reference", "teacher"]
    sampling: SamplingParams
    scheme: Literal["top_k", "sampled"]
    top_k: Positive
    draws: Annotated[int, Field(gt=0, lt=2**16)]
    temperatures: Annotated[list[PositiveFloat], Field(min_length=1)]
    batch_size: Positive
    shard_size: Positive


@dataclass(frozen=True, config=STRICT)
class TrainingParams:
    """The optimisation, the same for every method: the budget is epochs x steps per epoch x batch size."""

    batch_size: Positive
    micro_batch_tokens: Positive | None
    gradient_checkpointing: bool
    learning_rate: PositiveFloat
    warmup_share: Share
    weight_decay: NonNegativeFloat
    gradient_clip: PositiveFloat
    epochs: Positive
    steps_per_epoch: Positive | None
    temperature: PositiveFloat
    distillation_weight: Share
    divergence: Literal["forward_kl", "reverse_kl", "jsd"]
    jsd_beta: Annotated[float, Field(gt=0, lt=1)]
    validations: Positive
    checkpoint_steps: Positive


@dataclass(frozen=True, config=STRICT)
class GenerationParams:
    """How a model answers problems: greedily, in batches."""

    batch_size: Positive
    max_new_tokens: Positive


@dataclass(frozen=True, config=STRICT)
class GradingParams:
    """How answers are graded: seconds per answer, number of worker processes."""

    seconds: PositiveFloat
    workers: Positive


@dataclass(frozen=True, config=STRICT)
class EvaluationParams:
    """What answers the test problems, and what is measured besides accuracy."""

    engine: Literal["transformers", "vllm"]
    calibration_bins: Positive


@dataclass(frozen=True, config=STRICT)
class ReportParams:
    """How results are compared."""

    target_accuracy: Share
    confidence: Annotated[float, Field(gt=0, lt=1)]
    resamples: Positive
    seed: int


@dataclass(frozen=True, config=STRICT)
class MiniModelParams:
    """Shape and pretraining of one mini model."""

    hidden_size: Positive
    layers: Positive
    heads: Positive
    kv_heads: Positive
    feed_forward_size: Positive
    steps: Positive
    batch_size: Positive
    learning_rate: PositiveFloat
    statement_share: Share


@dataclass(frozen=True, config=STRICT)
class PretrainParams:
    """The frozen pretrain stage."""

    seed: int
    threads: Positive
    teacher: MiniModelParams
    student: MiniModelParams


def checked(value: Any, kind: type[T], where: str) -> T:
    """A raw value from params.yaml as an instance of `kind`.

    Raises:
        ParamsError: something in it is missing, unknown, of the wrong type or out of range.
    """
    try:
        return TypeAdapter(kind).validate_json(json.dumps(value))  # strict mode takes mappings only from JSON
    except ValidationError as error:
        first = error.errors()[0]
        path = ".".join([where, *map(str, first["loc"])])
        given = "" if first["type"] == "missing" else f" (it is {first['input']!r})"
        raise ParamsError(f"{path}: {first['msg'].lower()}{given}") from error


class _Loader(yaml.SafeLoader):
    """Numbers and texts as in YAML 1.2, which DVC writes: 1e-5 is a number, a date is text. PyYAML knows 1.1 alone."""


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:timestamp"]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"[-+]?(\.\d+|\d+(\.\d*)?)[eE][-+]?\d+$"), list("-+.0123456789")
)


class ParamsFile:
    """params.yaml, read once; remembers which keys were asked for."""

    def __init__(self, path: Path = PARAMS_PATH) -> None:
        """Raises ParamsError where the file is missing or is not a YAML mapping."""
        self.path = path
        self.keys_read: set[str] = set()
        try:
            self._values = _Loader(path.read_text(encoding="utf-8")).get_single_data()
        except OSError as error:
            raise ParamsError(f"{path} cannot be read ({error.strerror}); run from the project's top folder") from error
        except UnicodeDecodeError as error:
            raise ParamsError(f"{path} is not UTF-8 (byte {error.start + 1}); save it as UTF-8") from error
        except yaml.YAMLError as error:
            raise ParamsError(f"{path} is not valid YAML: {' '.join(str(error).split())}") from error
        if not isinstance(self._values, dict):
            raise ParamsError(f"{path} must hold a mapping of parameters")

    def section(self, key: str, kind: type[T]) -> T:
        """The value at a dotted key, checked against `kind`.

        Raises:
            ParamsError: the key is missing, or a value below it is missing, unknown, of the wrong type or out of
                range; the message names file, full key and value.
        """
        self.keys_read.add(key)
        value: Any = self._values
        for part in key.split("."):
            if not isinstance(value, dict) or part not in value:
                known = ", ".join(map(str, value)) if isinstance(value, dict) else "nothing"
                raise ParamsError(f"{self.path}: {key} is missing ('{part}' is not one of: {known}); add it there")
            value = value[part]
        return checked(value, kind, f"{self.path}: {key}")

    def scale_section(self, name: str, kind: type[T]) -> T:
        """A section of the active scale: `scales.SCALE.NAME`."""
        return self.section(f"scales.{self.scale}.{name}", kind)

    @property
    def scale(self) -> str:
        """The name of the active scale."""
        return self.section("scale", str)
