"""The live log of a run that trains: a line per event, for whoever looks on. A finished run deletes it.

It decides nothing. A line may be half written, and after a kill steps come again: readers take what they can use.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, TypeAdapter, ValidationError


@dataclass(frozen=True)
class Started:
    """A process begins, or goes on, after `step` of `steps`; where it runs tells whether it still does."""

    time: float
    host: str
    process: int
    step: int
    steps: int
    kind: Literal["started"] = "started"


@dataclass(frozen=True)
class Stepped:
    """A step is done.

    loss: in nats per completion token. tokens: trained on. favourite: the arm likeliest next, where that is learnt.
    """

    time: float
    step: int
    loss: float
    tokens: int
    seconds: float
    favourite: str | None
    kind: Literal["stepped"] = "stepped"


@dataclass(frozen=True)
class Validated:
    """A point of the learning curve is measured."""

    time: float
    step: int
    accuracy: float
    kl: float
    kind: Literal["validated"] = "validated"


@dataclass(frozen=True)
class Failed:
    """The run cannot go on; `reason` is the sentence that the user was told."""

    time: float
    reason: str
    kind: Literal["failed"] = "failed"


Event = Annotated[Started | Stepped | Validated | Failed, Field(discriminator="kind")]
ADAPTER: TypeAdapter[Event] = TypeAdapter(Event)


def read_live_log(path: Path) -> list[Event]:
    """The events so far; none where there is no log."""
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").split("\n")
    except FileNotFoundError:
        return []
    events = []
    for line in lines:
        try:
            events.append(ADAPTER.validate_json(line))
        except ValidationError:
            continue
    return events
