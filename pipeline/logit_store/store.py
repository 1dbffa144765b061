"""The cache of teacher logits, keyed by problem id and read problem by problem.

A store is a folder of shards and a manifest. A shard holds whole problems: `rows.npy` has one row per completion token,
made by the scheme that the manifest names (see schemes.py), and `problems.json` says where each problem's rows are: its
id, a digest of its tokens, first row, number of rows. Beside the shards, SPLIT.jsonl holds the problems with the
solutions that the logits belong to.
"""

from __future__ import annotations

import functools
import io
import json
import os
import shutil
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pipeline.common.errors import TeacherLogitsError
from pipeline.common.files import file_digest, replacing_folder, write_json
from pipeline.language_models.loading import model_identity, tokenizer_digest, vocabulary_size
from pipeline.language_models.prompts import EncodedProblem, Encoder
from pipeline.logit_store.fields import StoredRows
from pipeline.logit_store.schemes import SCHEMES
from pipeline.logit_store.targets import TeacherTargets
from pipeline.problems.record import Problem, Split, write_problems

FORMAT = 5
ROWS, INDEX, MANIFEST = "rows.npy", "problems.json", "manifest.json"
OPEN_FILES = 200  # shards that are kept open; systems allow 256 or more
# prepare too: what teacher_logits reads may have been edited by hand
REMEDY = "run `dvc repro --force --single-item prepare teacher_logits`"


@dataclass(frozen=True)
class CapturedProblem:
    """What a store keeps of one problem of N completion tokens: N rows as its scheme makes them."""

    id: str
    digest: str
    rows_N: np.ndarray


@dataclass(frozen=True)
class Place:
    """Where a problem's rows are, and the digest of the tokens they were captured on."""

    file: Path
    dtype: np.dtype
    offset: int
    rows: int
    digest: str


def store_identity(encoder: Encoder) -> dict[str, Any]:
    """The part of a store's identity that a student depends on and can check without loading the teacher."""
    models = encoder.models
    return {
        "teacher": model_identity(models, "teacher"),
        "tokenizer": tokenizer_digest(encoder.tokenizer),
        "prompt": models.prompt,
        "chat_template": models.chat_template,
        "chat_date": models.chat_date,
        "vocabulary": vocabulary_size(models),
        "max_tokens": models.max_tokens,
        "dtype": models.dtype,
    }


def write_shard(folder: Path, problems: Sequence[CapturedProblem]) -> None:
    """Writes one shard, whole or not at all."""
    index, row = [], 0
    for p in problems:
        index.append({"id": p.id, "digest": p.digest, "row": row, "rows": len(p.rows_N)})
        row += len(p.rows_N)
    with replacing_folder(folder) as temporary:
        rows = io.BytesIO()  # numpy would write to a file by itself and not say why it cannot
        np.save(rows, np.concatenate([p.rows_N for p in problems]), allow_pickle=False)
        (temporary / ROWS).write_bytes(rows.getbuffer())
        write_json(temporary / INDEX, index)


def finish_store(
    folder: Path, shards: Iterable[Path], identity: dict[str, Any], split: Split, problems: Sequence[Problem]
) -> None:
    """Puts complete shards, the problems they were captured on and their manifest in place as one folder."""
    with replacing_folder(folder) as temporary:
        write_problems(split, problems, temporary)
        digests = {f"{split}.jsonl": file_digest(temporary / f"{split}.jsonl")}
        for shard in shards:
            shutil.copytree(shard, temporary / shard.name)
            for file in sorted((temporary / shard.name).iterdir()):
                digests[f"{shard.name}/{file.name}"] = file_digest(file)
        write_json(temporary / MANIFEST, {"format": FORMAT, "identity": identity, "files": digests})


def told_apart_by(temperature: float) -> str:
    """What keeps the tokens of a tail apart, as a request."""
    return (
        f"set teacher_logits.scheme to top_k_tail_draws with {temperature} among draw_temperatures, or raise "
        "teacher_logits.top_k"
    )


class LogitStore:
    """Read access to a finished store."""

    def __init__(self, folder: Path, expected: dict[str, Any]) -> None:
        """Opens a store and checks every file against the manifest.

        `expected` holds the entries of the manifest's identity that the caller depends on.

        Raises:
            TeacherLogitsError: the store is missing, damaged, or was made from something else.
        """
        self.folder = folder
        manifest = self._manifest()
        for key, value in expected.items():
            if (found := manifest["identity"].get(key)) != value:
                raise TeacherLogitsError(
                    f"{folder} was captured with {key} = {found!r}, but this run needs {value!r}; {REMEDY}"
                )
        self.temperatures: list[float] = manifest["identity"]["temperatures"]
        self._scheme = SCHEMES[manifest["identity"]["scheme"]]
        self._check_files(manifest["files"])
        # Plain reads rather than a memory map, whose pages would count as this process's memory.
        self._open = functools.lru_cache(OPEN_FILES)(_OpenFile)
        self._places: dict[str, Place] = {}
        for shard in sorted({name.split("/")[0] for name in manifest["files"] if "/" in name}):
            rows_N = np.load(folder / shard / ROWS, mmap_mode="r", allow_pickle=False)
            for entry in json.loads((folder / shard / INDEX).read_text(encoding="utf-8")):
                self._places[entry["id"]] = Place(
                    folder / shard / ROWS,
                    rows_N.dtype,
                    rows_N.offset + entry["row"] * rows_N.itemsize,
                    entry["rows"],
                    entry["digest"],
                )

    def _manifest(self) -> dict[str, Any]:
        path = self.folder / MANIFEST
        try:
            manifest = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError as error:
            raise TeacherLogitsError(f"{path} is missing; {REMEDY}") from error
        except ValueError as error:
            raise TeacherLogitsError(f"{path} is not valid JSON; {REMEDY}") from error
        if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
            raise TeacherLogitsError(f"{path} is not of format {FORMAT}; {REMEDY}")
        return manifest

    def _check_files(self, digests: dict[str, str]) -> None:
        for name, digest in digests.items():
            path = self.folder / name
            if not path.exists():
                raise TeacherLogitsError(f"{path} is missing although the manifest lists it; {REMEDY}")
            if file_digest(path) != digest:
                raise TeacherLogitsError(f"{path} is damaged or was altered (its digest differs); {REMEDY}")

    def require_temperature(self, temperature: float) -> int:
        """The position of a temperature on the store's grid.

        Raises:
            TeacherLogitsError: the store holds no tail masses for it.
        """
        if temperature not in self.temperatures:
            raise TeacherLogitsError(
                f"{self.folder} holds the temperatures {self.temperatures}, not {temperature}; "
                "add it to teacher_logits.temperatures in params.yaml or change training.temperature"
            )
        return self.temperatures.index(temperature)

    def tail_mass(self, temperature: float) -> float:
        """The teacher's mass on tokens that are not told apart, as a mean over all tokens of the store."""
        column = self.require_temperature(temperature)
        total = tokens = 0.0
        for file in sorted({place.file for place in self._places.values()}):
            masses_N = self._scheme.tail_masses(np.load(file, mmap_mode="r", allow_pickle=False), column)
            total += float(masses_N.sum(dtype=np.float64))
            tokens += len(masses_N)
        return total / tokens

    def require_told_apart(self, temperature: float, most_tail_mass: float) -> None:
        """Checks that the tokens are told apart that make up most of the teacher's mass.

        Raises:
            TeacherLogitsError: more than `most_tail_mass` is in tails of which a student learns the mass alone.
        """
        if self.tail_mass(temperature) > most_tail_mass:
            raise TeacherLogitsError(
                f"{self.in_tails(temperature)}, more than training.most_tail_mass {most_tail_mass}, so students would "
                f"learn little of it; {told_apart_by(temperature)}, or lower training.temperature, or raise "
                "most_tail_mass to go on with what is kept"
            )

    def in_tails(self, temperature: float) -> str:
        """How much of the teacher's mass is in tails, in words."""
        return (
            f"{self.folder}: at temperature {temperature}, {self.tail_mass(temperature):.0%} of the teacher's mass "
            "lies in tails whose tokens are not told apart"
        )

    def require(self, problems: Iterable[EncodedProblem]) -> None:
        """Checks that every problem is in the store with the very tokens it has now.

        Raises:
            TeacherLogitsError: a problem is missing or was captured with other tokens.
        """
        for problem in problems:
            self._place(problem)

    def _place(self, problem: EncodedProblem) -> Place:
        if problem.id not in self._places:
            raise TeacherLogitsError(f"{self.folder} holds no logits for problem {problem.id!r}; {REMEDY}")
        place = self._places[problem.id]
        if place.digest != problem.digest:
            raise TeacherLogitsError(f"{self.folder} holds logits for other tokens of problem {problem.id!r}; {REMEDY}")
        return place

    def targets(self, problems: Sequence[EncodedProblem], temperature: float, device: torch.device) -> TeacherTargets:
        """The teacher's targets for the completion tokens of `problems`, one problem after the other, on a device.

        Only their rows are read, so memory does not grow with the store. They go to a GPU as they are, in one copy that
        nobody waits for, and become targets there: on the host that would take as long as a GPU takes for a step.
        """
        column = self.require_temperature(temperature)
        places = [self._place(problem) for problem in problems]
        rows_N = np.empty(sum(place.rows for place in places), places[0].dtype)
        memory, first = rows_N.view(np.uint8).data, 0
        for place in places:
            end = first + place.rows * rows_N.itemsize
            self._read_into(memory[first:end], place)
            first = end
        return self._scheme.restore(StoredRows.of(rows_N, device), column, temperature)

    def _read_into(self, memory: memoryview, place: Place) -> None:
        if self._open(place.file).read_into(memory, place.offset) != len(memory):
            raise TeacherLogitsError(f"{place.file} is shorter than its index says; {REMEDY}")


class _OpenFile:
    """A file that is open as long as somebody holds this."""

    def __init__(self, path: Path) -> None:
        self._descriptor = os.open(path, os.O_RDONLY)

    def __del__(self) -> None:
        os.close(self._descriptor)

    def read_into(self, memory: memoryview, offset: int) -> int:
        """Fills memory from `offset` on; returns how many bytes there were."""
        return os.preadv(self._descriptor, [memory], offset)
