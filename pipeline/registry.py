"""Folders as registries: a name in params.yaml is a file in a package's folder."""

from __future__ import annotations

import importlib
from pathlib import Path
from types import ModuleType

from pipeline.common.errors import ParamsError


def names_in(package: str) -> list[str]:
    """The registered names of a package such as `pipeline.curricula`: its files without a leading underscore."""
    folder = Path(importlib.import_module(package).__path__[0])
    return sorted(file.stem for file in folder.glob("*.py") if not file.stem.startswith("_"))


def find(package: str, name: str, kind: str) -> ModuleType:
    """The module registered under `name`.

    Raises:
        ParamsError: there is none, or it lacks what every file of a registry defines.
    """
    if name not in (known := names_in(package)):
        raise ParamsError(f"params.yaml: unknown {kind} {name!r}; {package.replace('.', '/')} has {', '.join(known)}")
    module = importlib.import_module(f"{package}.{name}")
    if missing := [part for part in ("Params", "build") if not hasattr(module, part)]:
        folder = package.replace(".", "/")
        raise ParamsError(
            f"{folder}/{name}.py lacks {' and '.join(missing)}; {folder}/__init__.py says what it must define"
        )
    return module
