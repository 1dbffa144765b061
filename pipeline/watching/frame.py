"""A study on one screen."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Group, RenderableType
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from pipeline.watching.cells import Cell, State, Study

MARKS = {
    State.DONE: ("●", "green"),
    State.TRAINING: ("◐", "cyan"),
    State.EVALUATING: ("◕", "cyan"),
    State.FAILED: ("✗", "bold red"),
    State.STOPPED: ("■", "yellow"),
    State.WAITING: ("○", "dim"),
}
BARS = "▁▂▃▄▅▆▇█"
SHOWN = (State.TRAINING, State.EVALUATING, State.FAILED, State.STOPPED)  # with a line of their own


def frame(study: Study) -> Group:
    """Counts, a line per method, and a line for every cell that runs, failed or was stopped."""
    parts: list[RenderableType] = [_headline(study), _shared(study), _methods(study)]
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


def _methods(study: Study) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim")
    answered = "" if study.validation_problems is None else f" ({study.validation_problems} problems)"
    for heading in ("method", "seeds", f"validation accuracy{answered}", "", "KL"):
        table.add_column(heading, justify="right" if heading in ("", "KL") else "left", no_wrap=True)
    for method in dict.fromkeys(cell.method for cell in study.cells):
        cells = study.of(method)
        curve = _mean_curve([cell.curve.accuracy_V for cell in cells])
        kl = _mean_curve([cell.curve.kl_V for cell in cells])
        table.add_row(
            method,
            Text(" ").join(_seed(cell) for cell in cells),
            sparkline(curve, _highest(study)),
            f"{curve[-1]:.1%}" if curve else "",
            f"{kl[-1]:.4f}" if kl else "",
        )
    return table


def _seed(cell: Cell) -> Text:
    mark, style = MARKS[cell.state]
    return Text(f"{cell.seed}{mark}", style=style)


def _cells(cells: Sequence[Cell], highest: float) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim")
    for heading in ("cell", "", "step", "", "loss", "tokens/s", "accuracy", "left", "likeliest arm"):
        table.add_column(
            heading, justify="right" if heading in ("step", "loss", "tokens/s", "left") else "left", no_wrap=True
        )
    for cell in cells:
        table.add_row(
            cell.name,
            Text(cell.state.value, style=MARKS[cell.state][1]),
            "" if cell.steps is None else f"{cell.step}/{cell.steps}",
            "" if cell.steps is None else ProgressBar(total=cell.steps, completed=cell.step, width=12),
            "" if cell.loss is None else f"{cell.loss:.3f}",
            "" if cell.tokens_per_second is None else f"{cell.tokens_per_second:,.0f}",
            sparkline(cell.curve.accuracy_V, highest),
            duration(cell.seconds_left) if cell.seconds_left is not None and cell.state is State.TRAINING else "",
            cell.favourite or "",
        )
    return table


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
