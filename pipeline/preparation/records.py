"""Raw records in MATH's schema, or as a chat, become problems: the checks on every record.

Two kinds of trouble are kept apart. A malformed record (broken JSON, a missing field, a wrong type) is a
DataError that names file, line and field: somebody has to mend the file. Records that MATH itself is known to
hold but that cannot be used (no level, no answer, a repeated problem) are dropped and counted by reason.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

from pipeline.common.errors import DataError
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
KNOWN_FIELDS = ("problem", "solution", "level", "type", "subject", "answer", "unique_id", "source", "messages")
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
            f"{record.where}: the record is {_kind(record.fields)}, not an object; make it one with "
            "problem, solution, level and type"
        )
    if "messages" in record.fields and not record.fields.keys() & {"problem", "solution"}:
        record = replace(record, fields=record.fields | _problem_and_solution(record))
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


def _problem_and_solution(record: RawRecord) -> dict[str, str]:
    """What user and assistant say in a chat of the two, without a system message, whose place models.prompt takes.

    Raises:
        DataError: `messages` is something else.
    """
    messages = record.fields["messages"]
    if not isinstance(messages, list) or not all(isinstance(message, dict) for message in messages):
        raise _fault(record, "messages", "is no list of objects", "give it a role and a content for each message")
    turns = [message for message in messages if message.get("role") != "system"]
    roles = [message.get("role") for message in turns]
    if roles != ["user", "assistant"]:
        said = ", ".join(map(str, roles)) or "nobody"
        raise _fault(
            record, "messages", f"holds what {said} said", "keep one problem of user and its solution of assistant"
        )
    for message in turns:
        if not isinstance(content := message.get("content"), str):
            raise _fault(record, "messages", f"has a content that is {_kind(content)}, not a string", "correct it")
    return {"problem": turns[0]["content"], "solution": turns[1]["content"]}


def _text(record: RawRecord, name: str, empty: bool = False) -> str:
    """A text field, stripped: MATH's records differ in trailing newlines that mean nothing."""
    if name not in record.fields:
        raise _missing(record, name)
    value = record.fields[name]
    if not isinstance(value, str):
        raise _fault(record, name, f"is {_kind(value)}, not a string", "correct it")
    if any("\ud800" <= character <= "\udfff" for character in value):
        raise _fault(record, name, "holds half a surrogate pair, which is no character", "correct it")
    if not (text := value.strip()) and not empty:
        raise _fault(record, name, "is empty", "fill it in or remove the record")
    return text


def _subject(record: RawRecord) -> str:
    """`type` (MATH's name for it) or `subject`; MATH's folder names become its proper names."""
    given = [name for name in ("type", "subject") if record.fields.get(name) is not None]
    if not given:
        raise _missing(record, "type", " (or 'subject')")
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
        raise _missing(record, "level")
    value = record.fields["level"]
    text = str(value) if isinstance(value, str | int) else ""
    found = re.fullmatch(r"\s*(?:level\s*)?([1-5?])\s*", text, re.IGNORECASE)
    if found is None:
        raise _fault(
            record,
            "level",
            f"is {json.dumps(value, default=str)[:40]}",
            'use 1 to 5, "Level 1" to "Level 5" or "Level ?"',
        )
    return None if found[1] == "?" else int(found[1])


def _fault(record: RawRecord, name: str, what: str, remedy: str) -> DataError:
    return DataError(f"{record.where}: field '{name}' {what}; {remedy}")


def _missing(record: RawRecord, name: str, otherwise: str = "") -> DataError:
    others = [other for other in record.fields if other not in KNOWN_FIELDS]
    rename = f", or rename one of {', '.join(map(str, others[:8]))}" if others else ""
    return DataError(f"{record.where}: field '{name}'{otherwise} is missing; add it{rename}")


def _kind(value: Any) -> str:
    if value is None:
        return "a JSON null"
    kinds: dict[type, str] = {
        dict: "object",
        list: "array",
        str: "string",
        bool: "boolean",
        int: "number",
        float: "number",
    }
    kind = kinds.get(type(value))
    return f"a JSON {kind}" if kind else f"of the type {type(value).__name__}"
