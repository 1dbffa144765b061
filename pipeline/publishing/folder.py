"""The published folder: the student as it was trained, how it answers by default, its card and its params."""

from __future__ import annotations

import shutil
from pathlib import Path

from transformers import GenerationConfig

from pipeline.common.errors import PublishError
from pipeline.common.files import replacing_folder, write_text
from pipeline.common.params import as_yaml
from pipeline.common.paths import RUN_PICTURES, STUDENTS
from pipeline.publishing.finished_run import FinishedRun
from pipeline.publishing.model_card import LICENCE, OTHER, PARAMS, PICTURE, licence_note, model_card
from pipeline.publishing.run_params import RunParams

CARD = "README.md"


def require_replaceable(folder: Path, run: str) -> None:
    """Checks that nothing of anybody else's is lost when the folder is written.

    Raises:
        PublishError: it holds other files than a published student has.
    """
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return
    ours = {CARD, PARAMS, PICTURE}
    found = {file.name for file in folder.iterdir()} if folder.is_dir() else set()
    others = sorted(found - ours - {LICENCE} - {file.name for file in (STUDENTS / run).iterdir()})
    if not ours <= found or others:
        why = f"holds {others[0]} besides" if ours <= found else "is not a published student"
        raise PublishError(f"{folder} is there already and {why}; give --to another folder")


def write_folder(folder: Path, run: FinishedRun, params: RunParams, model: str, licence: str) -> None:
    """Writes the folder whole or not at all. `model` is what the card's code loads it by."""
    with replacing_folder(folder) as temporary:
        # the contents alone: files that DVC linked from its cache may not be writable
        shutil.copytree(STUDENTS / run.name, temporary, copy_function=shutil.copyfile, dirs_exist_ok=True)
        generation = GenerationConfig.from_pretrained(temporary)
        generation.max_new_tokens = params.generation.max_new_tokens
        generation.save_pretrained(temporary)
        shutil.copyfile(RUN_PICTURES / f"{run.name}.png", temporary / PICTURE)
        write_text(temporary / PARAMS, as_yaml(params.as_file(run.record.seed)))
        write_text(temporary / CARD, str(model_card(run, params, model, licence)))
        if licence == OTHER:
            write_text(temporary / LICENCE, licence_note(params) + "\n")
