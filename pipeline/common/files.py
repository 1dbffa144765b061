"""Writing files so that a reader, or a killed process, never meets half of one."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pipeline.common.errors import StorageError
from pipeline.common.interrupts import uninterrupted

CANNOT_WRITE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM)


@contextmanager
def replacing_file(path: Path) -> Iterator[Path]:
    """Yields a temporary path beside `path`; on success it becomes `path` in one step, on failure it is gone.

    One writer at a time (see locks.py): the temporary name is always the same, so that what a killed process left is
    written over.
    """
    temporary = path.with_name(f".{path.name}.tmp")
    with _naming(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            yield temporary
            with temporary.open("rb+") as file:
                os.fsync(file.fileno())
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)


@contextmanager
def replacing_folder(path: Path) -> Iterator[Path]:
    """Yields an empty temporary folder beside `path`; on success it replaces `path`, on failure it is gone.

    As with files, one writer at a time; what a killed process left is cleared away.
    """
    temporary, aside = path.with_name(f".{path.name}.tmp"), path.with_name(f".{path.name}.old.tmp")
    with _naming(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        if aside.exists() and not path.exists():
            aside.replace(path)  # killed between the two renames below
        for leftover in (temporary, aside):
            shutil.rmtree(leftover, ignore_errors=True)
        temporary.mkdir()
        try:
            yield temporary
            with uninterrupted():
                if path.exists():
                    path.replace(aside)
                temporary.replace(path)
        finally:
            for leftover in (temporary, aside):
                shutil.rmtree(leftover, ignore_errors=True)


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Turns the failure to write `path`, of which libraries tell in their own ways, into a StorageError."""
    try:
        yield
    except Exception as error:
        if isinstance(error, StorageError):  # of a file inside the folder `path`
            raise StorageError(path, error.reason) from error
        for number in CANNOT_WRITE:
            if getattr(error, "errno", None) == number or f"os error {number})" in str(error):
                raise StorageError(path, os.strerror(number).lower()) from error
        raise


def remove_folder(path: Path) -> None:
    """Removes a folder in one step: a process killed meanwhile never leaves a part of it under its name."""
    aside = path.with_name(f".{path.name}.old.tmp")
    shutil.rmtree(aside, ignore_errors=True)
    path.replace(aside)
    shutil.rmtree(aside)


def write_text(path: Path, text: str) -> None:
    """Writes UTF-8 text with plain newlines, whole or not at all."""
    with replacing_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="\n")


def write_json(path: Path, value: Any) -> None:
    """Writes indented JSON; NaN and infinity are refused, because no default may stand in for a missing value."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def write_jsonl(path: Path, rows: Iterable[Any]) -> None:
    """Writes one compact JSON value per line."""
    write_text(path, "".join(json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n" for row in rows))


def read_jsonl(path: Path) -> list[Any]:
    """Reads a file that `write_jsonl` wrote."""
    lines = path.read_text(encoding="utf-8").split("\n")  # splitlines() would also cut at U+2028 inside a text
    return [json.loads(line) for line in lines if line]


def file_digest(path: Path) -> str:
    """SHA-256 of a file's bytes, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def digest_of(value: Any) -> str:
    """SHA-256 of a JSON-serialisable value, independent of key order."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, ensure_ascii=False).encode()).hexdigest()
