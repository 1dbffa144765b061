"""Whether local files and models still hold what the stage `local_inputs` saw, by which DVC knows them."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from pathlib import Path

from pipeline.common.errors import DataError
from pipeline.common.paths import LOCAL_INPUTS
from pipeline.contents.digests import file_digests, joint_digest
from pipeline.contents.folders import data_files, local_model, model_files, tokenizer_files

PROBLEMS = "problems"


def files_of(name: str, path: Path) -> list[Path]:
    """The files at or below a path that count for the output `name` of `local_inputs`.

    Raises:
        DataError: there is nothing.
    """
    if name == PROBLEMS:
        return data_files(path)
    return tokenizer_files(path) if name.endswith("_tokenizer") else model_files(path)


def digests_of(name: str, paths: Collection[Path]) -> dict[str, str]:
    """A digest for each path, as `local_inputs` writes them.

    Raises:
        DataError: a path does not exist or cannot be read.
    """
    files = {path: files_of(name, path) for path in paths}
    digests = file_digests({file for found in files.values() for file in found})
    return {str(path): joint_digest(path, found, digests) for path, found in files.items()}


def require_noticed(name: str, paths: Collection[Path]) -> None:
    """Checks that paths hold what DVC was told, so that it credits a result to what it was made from.

    They differ where a stage is run without those before it, as by `dvc repro --single-item`.

    Raises:
        DataError: a path has changed since, or does not exist.
    """
    known = LOCAL_INPUTS / f"{name}.json"
    if not paths or not known.exists():  # without it DVC runs no stage that opens local files
        return
    seen = json.loads(known.read_text(encoding="utf-8"))
    for path, digest in digests_of(name, paths).items():
        if seen.get(path) != digest:
            raise DataError(
                f"{path} is not what DVC knows of it by {known}; run `dvc repro local_inputs` first, as `dvc repro` "
                "without --single-item does"
            )


def require_models_noticed(models: Mapping[str, str]) -> None:
    """The same of models, by the output of `local_inputs` that has what is read of each; those of the hub are as named.

    Raises:
        DataError: a model's folder has changed since.
    """
    for name, model in models.items():
        folder = local_model(model)
        require_noticed(name, [folder] if folder else [])
