"""params.yaml: how it is read and checked, and what the classes of its sections are made with.

`ParamsFile.section(key, Class)` is the only way any stage reads a parameter. The keys a stage asks for are collected
in `keys_read`, and a contract test holds them against dvc.yaml. The classes themselves stand in the packages that use
them, each decorated with `@settings`.
"""

from __future__ import annotations

import dataclasses
import json
import re
import typing
from pathlib import Path
from typing import Annotated, Any, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass, is_pydantic_dataclass
from pydantic_core import ErrorDetails

from pipeline.common.errors import ParamsError

PARAMS_PATH = Path("params.yaml")
STRICT = ConfigDict(extra="forbid", strict=True)

Positive = Annotated[int, Field(gt=0)]
PositiveFloat = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NonNegativeFloat = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Share = Annotated[float, Field(ge=0, le=1)]
T = TypeVar("T")
UNKNOWN_KEY = "unexpected_keyword_argument"
IN_WORDS = {
    UNKNOWN_KEY: "there is no such key; mend its spelling or remove it",
    "list_type": "input should be a list",
    "dict_type": "input should be a mapping",
    "dataclass_type": "input should be a mapping",
}


@typing.dataclass_transform(frozen_default=True)
def settings(section: type[T]) -> type[T]:
    """Makes a class a section of params.yaml: a frozen dataclass that refuses unknown keys and other types' values."""
    return dataclass(section, frozen=True, config=STRICT)  # type: ignore[return-value]  # pydantic's forgets the class


def is_strict(section: Any) -> bool:
    """Whether a class, and every dataclass in its fields, was made with `@settings` or is as strict."""
    if not is_pydantic_dataclass(section):
        return False
    if not section.__dataclass_params__.frozen:  # type: ignore[attr-defined]  # typeshed does not know it
        return False
    config = section.__pydantic_config__
    return (
        config.get("extra") == "forbid"
        and config.get("strict") is True
        and all(map(is_strict, _sections_in(typing.get_type_hints(section).values())))
    )


def _sections_in(types: typing.Iterable[Any]) -> typing.Iterator[Any]:
    """The dataclasses and models in types: what has a strictness of its own; other types share their section's."""
    for kind in types:
        if dataclasses.is_dataclass(kind) or (isinstance(kind, type) and issubclass(kind, BaseModel)):
            yield kind
        yield from _sections_in(typing.get_args(kind))


def checked(value: Any, kind: type[T], where: str) -> T:
    """A raw value from params.yaml as an instance of `kind`.

    Raises:
        ParamsError: something in it is missing, unknown, of the wrong type or out of range.
    """
    try:
        return TypeAdapter(kind).validate_json(json.dumps(value))  # strict mode takes mappings only from JSON
    except ValidationError as error:
        # a misspelt key is missing too; a value that may be of several types has an error for each, of which the
        # deepest is of the type that it has
        first = max(error.errors(), key=lambda e: (e["type"] == UNKNOWN_KEY, len(_keys_of(e, value))))
        keys = _keys_of(first, value)
        given = "" if first["type"] in ("missing", UNKNOWN_KEY) else f" (it is {first['input']!r})"
        said = dict.fromkeys(_said(e) for e in error.errors() if _keys_of(e, value) == keys)
        ways = ", or ".join([next(iter(said)), *(text.removeprefix("input should be ") for text in [*said][1:])])
        raise ParamsError(f"{'.'.join([where, *keys])}: {ways}{given}") from error


def _keys_of(error: ErrorDetails, value: Any) -> list[str]:
    """The keys that lead to what is wrong; pydantic's path also names the types that a value may be of."""
    keys = []
    for part in error["loc"]:
        inside = part in value if isinstance(value, dict) else isinstance(value, list) and isinstance(part, int)
        if inside:
            value = value[part]
        if inside or error["type"] == "missing":
            keys.append(str(part))
    return keys


def _said(error: ErrorDetails) -> str:
    """Pydantic's message, in the words of YAML."""
    if error["type"] in IN_WORDS:
        return IN_WORDS[error["type"]]
    message = error["msg"].removeprefix("Value error, ")
    return f"{message[0].lower()}{message[1:]}"


class _Loader(yaml.SafeLoader):
    """Numbers and texts as in YAML 1.2, which DVC writes: 1e-5 is a number, a date is text. PyYAML knows 1.1 alone."""


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:timestamp"]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


class _Dumper(yaml.SafeDumper):
    """Quotes every text that either version of YAML would take for something else, such as the commit 1234e56."""


for _kind in (_Loader, _Dumper):
    _kind.add_implicit_resolver(
        "tag:yaml.org,2002:float", re.compile(r"[-+]?(\.\d+|\d+(\.\d*)?)[eE][-+]?\d+$"), list("-+.0123456789")
    )


def as_yaml(values: dict[str, Any]) -> str:
    """Parameters as the text of a params.yaml, in the given order."""
    return yaml.dump(values, Dumper=_Dumper, sort_keys=False, allow_unicode=True)


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

    @property
    def sections(self) -> list[str]:
        """The keys at the top."""
        return list(map(str, self._values))

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
