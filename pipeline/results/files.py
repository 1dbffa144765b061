"""Result files: who writes one and who reads it share its row type, so a column is named in one place.

A row type is a dataclass. CSV keeps one row a line with its fields as columns, JSONL one row a line, JSON one alone.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable
from dataclasses import asdict, astuple, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import ConfigDict, TypeAdapter, ValidationError, with_config

from pipeline.common.errors import ResultsError, one_line
from pipeline.common.files import write_json, write_jsonl, write_text

if TYPE_CHECKING:
    import pandas as pd

AGAIN = "run `dvc repro` to make it"
STRICT = with_config(ConfigDict(strict=True, allow_inf_nan=False))
CELLS = {"int": "a whole number", "float": "a number", "float | None": "a number or nothing", "str": "a text"}
T = TypeVar("T")


def write_csv(path: Path, kind: type[Any], rows: Iterable[Any]) -> None:
    """Writes rows of one kind; numbers have six significant digits, None is an empty cell."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(field.name for field in fields(kind))
    writer.writerows([_cell(value) for value in astuple(row)] for row in rows)
    write_text(path, text.getvalue())


def _cell(value: float | str | None) -> str:
    return "" if value is None else f"{value:.6g}" if isinstance(value, float) else str(value)


def read_csv(path: Path, kind: type[Any]) -> pd.DataFrame:
    """What `write_csv` wrote, a column per field; only fields that may be None may have empty cells.

    Raises:
        ResultsError: the file is missing, is no CSV, lacks a column, or has a cell of another type.
    """
    import pandas as pd  # noqa: PLC0415 - slow to import, and training only writes

    _read_text(path)
    columns = {field.name: str(field.type) for field in fields(kind)}
    texts = {name: str for name, of in columns.items() if of == "str"}
    try:
        # only an empty cell is None: a subject may well be called NA, or 7
        table = pd.read_csv(path, dtype=texts, keep_default_na=False, na_values=[""])
    except (pd.errors.ParserError, pd.errors.EmptyDataError) as error:
        raise ResultsError(f"{path} is not a CSV file ({one_line(error)}); {AGAIN} again") from error
    for name, of in columns.items():
        if name not in table:
            raise ResultsError(f"{path} has no column {name}; {AGAIN} again")
        if not _holds(table[name], of):
            raise ResultsError(f"{path}: column {name} must hold {CELLS[of]} in every row; {AGAIN} again")
    return table[list(columns)]


def _holds(column: pd.Series, of: str) -> bool:
    """Whether every cell of a column is a value of a field's type."""
    if column.isna().any() and not of.endswith("None"):
        return False
    if of == "str":
        return True
    is_number = column.dtype.kind in "if"
    return is_number and (of != "int" or bool((column % 1 == 0).all()))


def write_rows(path: Path, rows: Iterable[Any]) -> None:
    """Writes rows as JSONL."""
    write_jsonl(path, map(asdict, rows))


def read_rows(path: Path, kind: type[T]) -> list[T]:
    """What `write_rows` wrote.

    Raises:
        ResultsError: the file is missing, or one of its lines is no such row; the message names it.
    """
    adapter = TypeAdapter(STRICT(kind))
    rows = []
    # not splitlines(): outputs may hold characters such as U+2028, which would end a line there
    for number, line in enumerate(_read_text(path).removesuffix("\n").split("\n"), start=1):
        try:
            rows.append(adapter.validate_json(line))
        except ValidationError as error:
            fault = _fault(error)
            raise ResultsError(f"{path}:{number} is not a valid {kind.__name__} ({fault}); {AGAIN} again") from error
    return rows


def write_record(path: Path, record: Any) -> None:
    """Writes one row as JSON."""
    write_json(path, asdict(record))


def read_record(path: Path, kind: type[T]) -> T:
    """What `write_record` wrote.

    Raises:
        ResultsError: the file is missing or holds no such row.
    """
    try:
        return TypeAdapter(STRICT(kind)).validate_json(_read_text(path))
    except ValidationError as error:
        raise ResultsError(f"{path} is not a valid {kind.__name__} ({_fault(error)}); {AGAIN} again") from error


def _fault(error: ValidationError) -> str:
    first = error.errors()[0]
    place = ".".join(map(str, first["loc"]))
    return f"{place}: {first['msg'].lower()}" if place else first["msg"].lower()


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise ResultsError(f"{path} is missing; {AGAIN}") from error
    except (OSError, UnicodeDecodeError) as error:
        raise ResultsError(f"{path} cannot be read ({error}); {AGAIN} again") from error
