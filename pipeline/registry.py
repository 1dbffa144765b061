"""Folders as registries: a name in params.yaml is a file, or a folder, in a package's folder."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

from pipeline.common.errors import ParamsError
from pipeline.common.params import is_strict


def names_in(package: str) -> list[str]:
    """The registered names of a package such as `pipeline.curricula`: all in it without a leading underscore."""
    folder = Path(importlib.import_module(package).__path__[0])
    modules = [*folder.glob("*.py"), *(file.parent for file in folder.glob("*/__init__.py"))]
    return sorted(module.stem for module in modules if not module.stem.startswith("_"))


def find(package: str, name: str, parts: Sequence[str], kind: str) -> ModuleType:
    """The module registered under `name`, which has `Params` and all `parts`.

    Raises:
        ParamsError: there is none, it lacks one of its parts, or its Params would accept any value.
    """
    folder = package.replace(".", "/")
    if name not in (known := names_in(package)):
        raise ParamsError(f"params.yaml: unknown {kind} {name!r}; {folder} has {', '.join(known)}")
    module = importlib.import_module(f"{package}.{name}")
    if missing := [part for part in ("Params", *parts) if not hasattr(module, part)]:
        raise ParamsError(
            f"{folder}/{name} lacks {' and '.join(missing)}; {folder}/__init__.py says what it must define"
        )
    if not is_strict(module.Params):
        raise ParamsError(
            f"{folder}/{name}: Params would accept misspelt keys and values of the wrong type; "
            "decorate it with @settings from pipeline.common.params"
        )
    return module
