"""Stage `local_inputs`: checks params.yaml, and digests what the local files and model folders hold that it names.

DVC sees their names alone. It runs this stage first at every `dvc repro`; the later ones depend on its small files,
which change only if contents do. Sources on the hub, generated problems and the mini models, which DVC sees, cost
nothing.

Outputs, each with a digest for each path, in data/local_inputs: problems.json, and for each of teacher and student
ROLE.json (all that loading it reads) and ROLE_tokenizer.json (all but the weights).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.common.errors import ModelError
from pipeline.common.files import replacing_folder, write_json
from pipeline.common.locks import only_one
from pipeline.common.params import ParamsFile
from pipeline.common.paths import LOCAL_INPUTS
from pipeline.common.stage import exit_on_error
from pipeline.contents.folders import local_model
from pipeline.contents.noticed import PROBLEMS, digests_of
from pipeline.language_models.settings import ModelsParams
from pipeline.params_check import require_runnable
from pipeline.sources import Source, source_of


@dataclass(frozen=True)
class Params:
    """What names local files and folders."""

    source: Source
    models: ModelsParams


def read_params(file: ParamsFile) -> Params:
    where = f"{file.path}: scales.{file.scale}.data"
    source = source_of(file.scale_section("data", dict[str, Any]), where)
    return Params(source, file.scale_section("models", ModelsParams))


@exit_on_error
def main() -> None:
    """Refuses params that cannot be run, and looks into every local path that the active scale names."""
    file = ParamsFile()
    require_runnable(file)
    inputs = inputs_of(read_params(file))
    with only_one("local_inputs"):
        digests = {name: digests_of(name, paths) for name, paths in inputs.items()}
        with replacing_folder(LOCAL_INPUTS) as folder:
            for name, found in digests.items():
                write_json(folder / f"{name}.json", found)
    named = sorted({str(path) for paths in inputs.values() for path in paths})
    print(f"looked into {', '.join(named)}" if named else "params.yaml names no local file or model but the mini ones")


def inputs_of(params: Params) -> dict[str, list[Path]]:
    """For each output the paths that params.yaml names.

    Raises:
        ModelError: a model's folder is not there.
    """
    inputs = {PROBLEMS: params.source.local_paths()}
    for role, name in (("teacher", params.models.teacher), ("student", params.models.student)):
        of_hub = not name.startswith(("/", ".", "~")) and name.count("/") < 2  # OWNER/NAME, or NAME alone
        if not of_hub and not Path(name).is_dir():
            raise ModelError(f"the {role} {name!r} is no folder; set models.{role} to one, or to a name on the hub")
        inputs[role] = inputs[f"{role}_tokenizer"] = [folder] if (folder := local_model(name)) else []
    return inputs


if __name__ == "__main__":
    main()
