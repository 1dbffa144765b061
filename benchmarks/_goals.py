"""How a benchmark says what it found: figures with their spread, and goals beside what was measured."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from benchmarks._measure import say
from pipeline.common.files import write_json


@dataclass(frozen=True)
class Spread:
    """Repeated measurements of one thing."""

    median: float
    lowest: float
    highest: float
    repetitions: int


def spread(values: Sequence[float]) -> Spread:
    """Median and range."""
    return Spread(statistics.median(values), min(values), max(values), len(values))


@dataclass(frozen=True)
class Goal:
    """A figure and the bound that it should keep; `measured` is None where there was nothing to measure it on."""

    name: str
    measured: float | None
    should_be: Literal["at least", "at most"]
    bound: float

    @property
    def state(self) -> Literal["met", "MISSED", "not measured"]:
        """Whether the goal is met."""
        if self.measured is None:
            return "not measured"
        good = self.measured >= self.bound if self.should_be == "at least" else self.measured <= self.bound
        return "met" if good else "MISSED"


def print_goals(goals: Sequence[Goal]) -> None:
    """One line per goal."""
    say("\n" + " " * 72 + f"{'measured':>10}  {'goal':<18}")
    for goal in goals:
        measured = "-" if goal.measured is None else f"{goal.measured:.4g}"
        say(f"{goal.name:<72}{measured:>10}  {goal.should_be + f' {goal.bound:g}':<18}{goal.state}")


def print_rows(columns: Sequence[str], rows: dict[str, dict[str, Any]]) -> None:
    """Named rows under named columns; a spread is shown as median (lowest-highest)."""
    width = max([len(name) for name in rows] + [8]) + 2
    say(" " * width + "".join(f"{c:>26}" for c in columns))
    for name, row in rows.items():
        say(f"{name:<{width}}" + "".join(f"{_cell(row.get(c)):>26}" for c in columns))


def _cell(value: Any) -> str:
    if isinstance(value, Spread):
        return f"{value.median:.4g} ({value.lowest:.4g}-{value.highest:.4g})"
    if isinstance(value, float):
        return f"{value:.4g}"
    return "-" if value is None else str(value)


def write_found(out: Path | None, found: dict[str, Any], goals: Sequence[Goal]) -> None:
    """Writes what was found as JSON, if anywhere."""
    if out is None:
        return
    found["goals"] = [asdict(goal) | {"state": goal.state} for goal in goals]
    write_json(out, _plain(found))
    say(f"written to {out}")


def _plain(value: Any) -> Any:
    if isinstance(value, Spread):
        return asdict(value)
    if isinstance(value, dict):
        return {key: _plain(v) for key, v in value.items()}
    return [_plain(v) for v in value] if isinstance(value, list) else value
