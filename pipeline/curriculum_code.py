"""Stage `curriculum_code`: which of the project's files each curriculum imports, with a digest of each.

Cells depend on the list of their own curriculum. So a change of what some curricula share, a reward for example, reruns
their cells and no others.
"""

from __future__ import annotations

from pipeline.checkpoints.code import file_digests
from pipeline.common.files import replacing_folder, write_json
from pipeline.common.locks import only_one
from pipeline.common.params import ParamsFile
from pipeline.common.paths import CURRICULUM_CODE
from pipeline.common.stage import exit_on_error
from pipeline.curricula import modules_of
from pipeline.registry import names_in


def read_params(file: ParamsFile) -> None:
    """The stage reads none."""


@exit_on_error
def main() -> None:
    """Writes a file per curriculum."""
    with only_one("curriculum_code"), replacing_folder(CURRICULUM_CODE) as folder:
        for method in names_in("pipeline.curricula"):
            write_json(folder / f"{method}.json", file_digests(*modules_of(method)))


if __name__ == "__main__":
    main()
