"""Where problems come from. Each file in this folder is a source; its name is a value of `data.source` in params.yaml.

A source file defines

    Params                what it needs to know, perhaps nothing, decorated with `@settings`; its values stand under
                          `data.NAME` in params.yaml
    read(params, data)    -> Prepared: the splits, of the sizes and the target in `data` (see pipeline/preparation)

and where it reads local files or folders, so that DVC sees when what they hold changes,

    local_paths(params)   -> a list of their paths

and where params can be wrong in ways that show without reading anything

    require(params, data)    which raises a ParamsError then
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from pipeline.common.params import checked
from pipeline.preparation.settings import DataParams
from pipeline.preparation.splitting import Prepared
from pipeline.registry import find, names_in


@dataclass(frozen=True)
class Source:
    """A source with its settings, `params`, and what every source is told, `data`."""

    data: DataParams
    params: Any

    def read(self) -> Prepared:
        """The splits.

        Raises:
            DataError: the source cannot be read, is malformed, or holds too little.
            ParamsError: a parameter of the source is missing or does not fit it.
        """
        prepared: Prepared = _module(self.data.source).read(self.params, self.data)
        return prepared

    def require(self) -> None:
        """Checks what shows without reading anything.

        Raises:
            ParamsError: a parameter is missing, or does not fit the source or another.
        """
        module = _module(self.data.source)
        if hasattr(module, "require"):
            module.require(self.params, self.data)

    def local_paths(self) -> list[Path]:
        """The local files and folders that `read` reads."""
        module = _module(self.data.source)
        paths: list[Path] = module.local_paths(self.params) if hasattr(module, "local_paths") else []
        return paths


def source_of(section: dict[str, Any], where: str) -> Source:
    """The source that a section `data` of params.yaml names; the settings of the others are checked too.

    Raises:
        ParamsError: the source is unknown, or a value is missing, unknown, of the wrong type or out of range.
    """
    of_sources = {name: section[name] for name in names_in(__name__) if name in section}
    data = checked({key: value for key, value in section.items() if key not in of_sources}, DataParams, where)
    of_sources.setdefault(data.source, {})
    params = {name: checked(of_sources[name], _module(name).Params, f"{where}.{name}") for name in sorted(of_sources)}
    return Source(data, params[data.source])


def _module(name: str) -> ModuleType:
    return find(__name__, name, ["read"], "source")
