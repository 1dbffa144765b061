"""A study on one screen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice

from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.measure import Measurement
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from pipeline.watching.cells import Cell, State, Study

MARKS = {
    State.DONE: ("●", "green"),
    State.TRAINING: ("◐", "cyan"),
    State.TRAINED: ("◎", "cyan"),
    State.EVALUATING: ("◕", "cyan"),
    State.FAILED: ("✗", "bold red"),
    State.STOPPED: ("■", "yellow"),
    State.WAITING: ("○", "dim"),
}
ENDLESS = 10_000  # columns of a screen
BARS = "▁▂▃▄▅▆▇█"
MEANINGS = {State.TRAINED: "trained, to be evaluated"}  # of signs; elsewhere the state's name
SHOWN = (State.TRAINING, State.EVALUATING, State.FAILED, State.STOPPED)  # with a line of their own


@dataclass(frozen=True)
class Columns:
    """A table, of which a narrow screen shows the first columns: half a number would be a wrong one.

    headings: of each column. numbers: those of them that are aligned to the right. rows: a cell for each column.
    """

    headings: Sequence[str]
    numbers: Sequence[str]
    rows: Sequence[Sequence[RenderableType]]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """As many columns as fit, at least one."""
        anywhere = options.update(width=ENDLESS)
        tables = (self._table(count) for count in range(len(self.headings), 0, -1))
        fitting = (table for table in tables if Measurement.get(console, anywhere, table).maximum <= options.max_width)
        yield next(fitting, self._table(1))

    def _table(self, count: int) -> Table:
        table = Table(box=None, pad_edge=False, header_style="dim")
        for heading in islice(self.headings, count):
            table.add_column(heading, justify="right" if heading in self.numbers else "left", no_wrap=True)
        for row in self.rows:
            table.add_row(*islice(row, count))
        return table


def frame(study: Study) -> Group:
    """Counts, a line per method, and a line for every cell that runs, failed or was stopped."""
    parts: list[RenderableType] = [_headline(study), _shared(study), _methods(study), _legend(study)]
    if shown := [cell for cell in study.cells if cell.state in SHOWN]:
        parts.append(_cells(shown, _highest(study)))
        parts += [Text(f"{cell.name}: {remark}") for cell in shown if (remark := _remark(cell))]
    return Group(*parts)


def _headline(study: Study) -> Text:
    counts = [f"{study.count(state)} {state.value}" for state in State if study.count(state) or state is State.DONE]
    left = study.seconds_left
    text = f"{study.scale}: {len(study.cells)} cells: {', '.join(counts)}"
    return Text(text + ("" if left is None else f"; about {duration(left)} left"), style="bold")


def _shared(study: Study) -> Text:
    words = {State.DONE: "done", State.TRAINING: "running"}
    return Text(", ".join(f"{name} {words.get(state, 'waiting')}" for name, state in study.shared.items()), style="dim")


def _methods(study: Study) -> Columns:
    answered = "" if study.validation_problems is None else f" ({study.validation_problems} problems)"
    rows: list[Sequence[RenderableType]] = []
    for method in dict.fromkeys(cell.method for cell in study.cells):
        cells = study.of(method)
        seeds = Text(" ").join(_seed(cell) for cell in cells)
        # what was stopped may have been validated at other steps, with other params
        cells = [cell for cell in cells if cell.state not in (State.STOPPED, State.FAILED)] or cells
        curve = _mean_curve([cell.curve.accuracy_V for cell in cells])
        kl = _mean_curve([cell.curve.kl_V for cell in cells])
        bars = sparkline(curve, _highest(study))
        rows.append([method, seeds, bars, f"{curve[-1]:.1%}" if curve else "", f"{kl[-1]:.4f}" if kl else ""])
    return Columns(("method", "seeds", f"validation accuracy{answered}", "", "KL"), ("", "KL"), rows)


def _legend(study: Study) -> Text:
    """The signs of the seeds, as far as they are shown."""
    shown = [state for state in State if study.count(state)]
    signs = [Text(f"{MARKS[state][0]} {MEANINGS.get(state, state.value)}", style=MARKS[state][1]) for state in shown]
    return Text("  ").join(signs)


def _seed(cell: Cell) -> Text:
    mark, style = MARKS[cell.state]
    return Text(f"{cell.seed}{mark}", style=style)


def _cells(cells: Sequence[Cell], highest: float) -> Columns:
    rows: list[Sequence[RenderableType]] = [
        [
            cell.name,
            Text(cell.state.value, style=MARKS[cell.state][1]),
            "" if cell.steps is None else f"{cell.step}/{cell.steps}",
            "" if cell.steps is None else ProgressBar(total=cell.steps, completed=cell.step, width=12),
            "" if cell.loss is None else f"{cell.loss:.3f}",
            "" if cell.tokens_per_second is None else f"{cell.tokens_per_second:,.0f}",
            sparkline(cell.curve.accuracy_V, highest),
            duration(cell.seconds_left) if cell.seconds_left is not None and cell.state is State.TRAINING else "",
            cell.favourite or "",
        ]
        for cell in cells
    ]
    headings = ("cell", "", "step", "", "loss", "tokens/s", "accuracy", "left", "likeliest arm")
    return Columns(headings, ("step", "loss", "tokens/s", "left"), rows)


def _remark(cell: Cell) -> str:
    """What is to be said of a cell that does not run, a line of its own."""
    if cell.state is State.STOPPED:
        return "its process has ended; the same command goes on"
    return cell.reason or ""


def _highest(study: Study) -> float:
    return max((value for cell in study.cells for value in cell.curve.accuracy_V), default=0.0)


def _mean_curve(curves: Sequence[Sequence[float]]) -> list[float]:
    """The mean of those that have got so far, as long as the shortest of them: later it would be of fewer seeds."""
    begun = [curve for curve in curves if curve]
    return [sum(values) / len(values) for values in zip(*begun, strict=False)]


def sparkline(values: Sequence[float], highest: float) -> str:
    """Values from 0 to `highest` as bars."""
    tops = [int(len(BARS) * value / highest) if highest else 0 for value in values]
    return "".join(BARS[min(top, len(BARS) - 1)] for top in tops)


def duration(seconds: float) -> str:
    """In the unit that fits: 48 s, 12 min, 3.5 h."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 90 * 60 else f"{seconds / 3600:.1f} h"
