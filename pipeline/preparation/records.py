"""Reading problems in MATH's schema: JSONL(.gz) files, MATH's folder tree, and the checks on every record.

Two kinds of trouble are kept apart. A malformed record (broken JSON, a missing field, a wrong type) is a
DataError that names file, line and field: somebody has to mend the file. Records that MATH itself is known to
hold but that cannot be used (no level, no answer, a repeated problem) are dropped and counted by reason.
"""

from __future__ import annotations

import gzip
import json
import re
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any, Literal, get_args

from tqdm import tqdm

from pipeline.common.errors import DataError, ParamsError
from pipeline.problems.boxed import last_boxed
from pipeline.problems.record import Problem

DropReason = Literal[
    "unknown_level",
    "no_boxed_answer",
    "empty_boxed_answer",
    "duplicate",
    "also_in_test",
    "also_in_target",
    "off_target",
]
DROP_REASONS: tuple[DropReason, ...] = get_args(DropReason)
SUBJECTS = (
    "Algebra",
    "Counting & Probability",
    "Geometry",
    "Intermediate Algebra",
    "Number Theory",
    "Prealgebra",
    "Precalculus",
)
_SUBJECT_OF_SLUG = {re.sub(r"\W+", "_", name.replace("&", "and")).lower(): name for name in SUBJECTS}


@dataclass(frozen=True)
class RawRecord:
    """A record as it was found.

    `where` is for people. `id` and `source` serve where the record has no unique_id and no source of its own.
    """

    where: str
    id: str
    fields: Any
    source: str


@dataclass(frozen=True)
class SourceSplit:
    """The usable problems of one split of a source, and how many records were dropped for which reason."""

    problems: list[Problem]
    dropped: dict[DropReason, int]


def read_split(paths: Sequence[Path], split: str) -> SourceSplit:
    """Reads and checks one split, of which all problems of one path come before those of the next.

    Raises:
        DataError: a file cannot be read, a record is malformed, or ids of two records are the same.
        ParamsError: two paths have the same name.
    """
    names = Counter(path.name for path in paths)
    if repeated := [name for name, count in names.items() if count > 1]:
        raise ParamsError(
            f"data.path.{split} lists {names[repeated[0]]} files or folders of the name {repeated[0]}, after which ids "
            "and sources of problems are named; rename all but one"
        )
    prefixes = [f"{split}/{path.name}" if len(paths) > 1 and path.is_dir() else split for path in paths]
    records = chain.from_iterable(map(read_records, paths, prefixes))
    return select(tqdm(records, desc=f"read {', '.join(names)}", unit=" records", mininterval=1))


def read_records(path: Path, prefix: str) -> Iterator[RawRecord]:
    """The raw records of a JSONL file, a gzipped one, or a folder tree SUBJECT/NUMBER.json, in a stable order.

    Their ids start with `prefix`; their source is the name of the file, or of the whole tree.

    Raises:
        DataError: the path does not exist, or a file cannot be read as UTF-8 JSON.
    """
    if path.is_dir():
        yield from _read_tree(path, prefix)
    elif path.exists():
        yield from _read_lines(path, prefix)
    else:
        raise DataError(f"{path} does not exist; set data.path to a JSONL(.gz) file or a folder of SUBJECT/NUMBER.json")


def _read_lines(path: Path, prefix: str) -> Iterator[RawRecord]:
    compressed = path.suffix == ".gz"
    number = 0
    try:
        with gzip.open(path, "rb") if compressed else path.open("rb") as file:
            for number, line in enumerate(file, start=1):
                if line.strip():  # blank lines, such as a last one, say nothing
                    where = f"{path}, line {number}"
                    yield RawRecord(where, f"{prefix}/{path.name}:{number}", _parse_json(line, where), path.name)
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise DataError(f"{path} is not a whole gzip file (after line {number}: {error}); fetch it again") from error
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror}); check the file and its permissions") from error


def _read_tree(folder: Path, prefix: str) -> Iterator[RawRecord]:
    def order(path: Path) -> tuple[str, int, str]:
        return path.parent.name, int(path.stem) if path.stem.isdecimal() else -1, path.name

    paths = sorted(folder.glob("*/*.json"), key=order)
    if not paths:
        raise DataError(
            f"{folder} holds no SUBJECT/NUMBER.json files; set data.path to the folder that holds the "
            "subjects, such as MATH/train"
        )
    for path in paths:
        try:
            content = path.read_bytes()
        except OSError as error:
            raise DataError(f"{path} cannot be read ({error.strerror}); check the file and its permissions") from error
        name = path.relative_to(folder).as_posix()
        yield RawRecord(str(path), f"{prefix}/{name}", _parse_json(content, str(path)), folder.name)


def _parse_json(content: bytes, where: str) -> Any:
    try:
        return json.loads(content.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise DataError(f"{where}: byte {error.start + 1} is not UTF-8; save the file as UTF-8") from error
    except (ValueError, RecursionError) as error:  # ValueError: broken JSON, or a number of thousands of digits
        raise DataError(f"{where}: not valid JSON ({error}); correct or remove the record") from error


def select(records: Iterable[RawRecord]) -> SourceSplit:
    """Turns raw records into problems; what is unusable or repeats an earlier problem is dropped and counted.

    Raises:
        DataError: a record is malformed, or two different problems have the same id.
    """
    dropped: dict[DropReason, int] = dict.fromkeys(DROP_REASONS, 0)
    kept: dict[str, Problem] = {}
    where_of_id: dict[str, str] = {}
    for record in records:
        problem = to_problem(record)
        if isinstance(problem, str):
            dropped[problem] += 1
        elif normalised(problem.problem) in kept:
            dropped["duplicate"] += 1
        elif problem.id in where_of_id:
            raise DataError(
                f"{record.where}: field 'unique_id' repeats {problem.id!r} of {where_of_id[problem.id]}; "
                "give every problem its own"
            )
        else:
            kept[normalised(problem.problem)] = problem
            where_of_id[problem.id] = record.where
    return SourceSplit(list(kept.values()), dropped)


def drop_test_problems(train: SourceSplit, test: SourceSplit) -> SourceSplit:
    """The train split without the problems that the test split holds too."""
    return drop_problems(train, test.problems, "also_in_test")


def drop_problems(split: SourceSplit, others: Iterable[Problem], reason: DropReason) -> SourceSplit:
    """A split without the problems that are among `others`, counted under `reason`."""
    texts = {normalised(problem.problem) for problem in others}
    kept = [problem for problem in split.problems if normalised(problem.problem) not in texts]
    return SourceSplit(kept, split.dropped | {reason: len(split.problems) - len(kept)})


def normalised(text: str) -> str:
    """A problem text with its white space evened out, for comparison; figures ([asy] blocks) are part of it."""
    return " ".join(text.split())


def to_problem(record: RawRecord) -> Problem | DropReason:
    """Checks one record.

    Raises:
        DataError: the record is malformed; the message names its place and field.
    """
    if not isinstance(record.fields, dict):
        raise DataError(
            f"{record.where}: the record is a JSON {_kind(record.fields)}, not an object; make it one with "
            "problem, solution, level and type"
        )
    problem, solution = (_text(record, name) for name in ("problem", "solution"))
    subject, level = _subject(record), _level(record)
    answer = last_boxed(solution) if record.fields.get("answer") is None else _text(record, "answer", empty=True)
    identifier = record.id if record.fields.get("unique_id") is None else _text(record, "unique_id")
    source = record.source if record.fields.get("source") is None else _text(record, "source")
    if level is None:
        return "unknown_level"
    if answer is None:
        return "no_boxed_answer"
    if not answer:
        return "empty_boxed_answer"
    return Problem(identifier, problem, solution, level, subject, answer, source)


def _text(record: RawRecord, name: str, empty: bool = False) -> str:
    """A text field, stripped: MATH's records differ in trailing newlines that mean nothing."""
    if name not in record.fields:
        raise _fault(record, name, "is missing", "add it")
    value = record.fields[name]
    if not isinstance(value, str):
        raise _fault(record, name, f"is a JSON {_kind(value)}, not a string", "correct it")
    if any("\ud800" <= character <= "\udfff" for character in value):
        raise _fault(record, name, "holds half a surrogate pair, which is no character", "correct it")
    if not (text := value.strip()) and not empty:
        raise _fault(record, name, "is empty", "fill it in or remove the record")
    return text


def _subject(record: RawRecord) -> str:
    """`type` (MATH's name for it) or `subject`; MATH's folder names become its proper names."""
    given = [name for name in ("type", "subject") if record.fields.get(name) is not None]
    if not given:
        raise DataError(f"{record.where}: field 'type' (or 'subject') is missing; add it")
    names = {proper_subject(_text(record, name)) for name in given}
    if len(names) > 1:
        raise DataError(
            f"{record.where}: fields 'type' and 'subject' disagree ({' and '.join(sorted(names))}); keep one of them"
        )
    return names.pop()


def proper_subject(text: str) -> str:
    """One of MATH's seven subjects by its proper name, however it is spelt; any other subject as it is."""
    slug = re.sub(r"[^a-z]+", "_", text.lower().replace("&", "and")).strip("_")
    return _SUBJECT_OF_SLUG.get(slug, text)


def _level(record: RawRecord) -> int | None:
    """1..5 from "Level 3", "3" or 3; None for MATH's "Level ?"."""
    if "level" not in record.fields:
        raise _fault(record, "level", "is missing", "add it")
    value = record.fields["level"]
    text = str(value) if isinstance(value, str | int) else ""
    found = re.fullmatch(r"\s*(?:level\s*)?([1-5?])\s*", text, re.IGNORECASE)
    if found is None:
        raise _fault(record, "level", f"is {json.dumps(value)[:40]}", 'use 1 to 5, "Level 1" to "Level 5" or "Level ?"')
    return None if found[1] == "?" else int(found[1])


def _fault(record: RawRecord, name: str, what: str, remedy: str) -> DataError:
    return DataError(f"{record.where}: field '{name}' {what}; {remedy}")


def _kind(value: Any) -> str:
    if isinstance(value, bool | None):
        return "null" if value is None else "boolean"
    kinds: dict[type, str] = {dict: "object", list: "array", str: "string"}
    return kinds.get(type(value), "number")
