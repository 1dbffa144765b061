"""Folders as registries: a name in params.yaml is a file in a package's folder."""

from __future__ import annotations

import importlib
from pathlib import Path
from types import ModuleType

from pipeline.errors import ParamsError


def names_in(package: str) -> list[str]:
    """The registered names of a package such as `pipeline.curricula`: its files without a leading underscore."""
    folder = Path(importlib.import_module(package).__path__[0])
    return sorted(file.stem for file in folder.glob("*.py") if not file.stem.startswith("_"))


def find(package: str, name: str, kind: str) -> ModuleType:
    """The module registered under `name`.

    Raises:
        ParamsError: there is none; the message lists those there are.
    """
    if name not in (known := names_in(package)):
        raise ParamsError(f"params.yaml: unknown {kind} {name!r}; {package.replace('.', '/')} has {', '.join(known)}")
    return importlib.import_module(f"{package}.{name}")
