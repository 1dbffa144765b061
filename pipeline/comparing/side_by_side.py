"""Two versions on one screen: in which parameters they differ, and what they came to."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from pipeline.analysis.verdict import BASELINE
from pipeline.analysis.wording import listed
from pipeline.checkpoints.checkpoint import differing
from pipeline.comparing.versions import Version

MOST_FILES = 4
MOST_PARAMS = 12  # more would not leave room for the results


def side_by_side(first: Version, second: Version) -> Group:
    """Parameters that differ, then a line per method and reference, then the verdicts."""
    parts: list[RenderableType] = [*_differences(first, second), _results(first, second)]
    if first.verdict != second.verdict:
        parts += [Text.assemble((f"{version.name}: ", "bold"), version.verdict) for version in (first, second)]
    elif first.overview == second.overview:
        parts.append(Text("These results are equal, and so is the verdict."))
        if differing(dict(first.params), dict(second.params)):
            parts.append(
                Text("If these parameters should change them, run `dvc repro`: results may be older than params.yaml.")
            )
    return Group(*parts)


def _differences(first: Version, second: Version) -> Iterator[Text]:
    names = differing(dict(first.params), dict(second.params))
    for name in names[:MOST_PARAMS]:
        yield Text(f"{name}: {_value(first.params, name)} → {_value(second.params, name)}")
    if not names:
        yield Text("The parameters are equal.")
    elif len(names) > MOST_PARAMS:
        yield Text(f"and {len(names) - MOST_PARAMS} other parameters, see `dvc params diff`")
    if code := _unlike(first.code, second.code):
        others = f" and {len(code) - MOST_FILES} more" if len(code) > MOST_FILES else ""
        yield Text(f"The code is not the same: {', '.join(code[:MOST_FILES])}{others}")
    if splits := _unlike(first.problems, second.problems):
        effect = ": accuracies and KL cannot be compared" if "test" in splits else ""
        yield Text(f"The problems of {listed(splits)} are not the same{effect}.", style="bold")


def _unlike(first: Mapping[str, str], second: Mapping[str, str]) -> list[str]:
    """Whose digests are not the same; what one side lacks is of a method that the other alone has."""
    return [name for name, digest in first.items() if second.get(name, digest) != digest]


def _value(params: Any, name: str) -> Any:
    for part in name.split("."):
        params = params.get(part) if isinstance(params, dict) else None
    return params


def _results(first: Version, second: Version) -> Table:
    table = Table(title=f"{first.name} → {second.name}", title_justify="left", box=None, pad_edge=False)
    table.add_column("")
    for heading in ("accuracy %", "change", "KL", "change", "examples", "by KL"):
        table.add_column(heading, justify="right", no_wrap=True)
    for name in dict.fromkeys([*first.overview, *second.overview]):
        one, other = (dict(version.overview.get(name, {})) for version in (first, second))
        accuracies, kls = ((one.get(what), other.get(what)) for what in ("accuracy", "kl_per_token"))
        table.add_row(
            name,
            _both(*accuracies, lambda share: f"{100 * share:.1f}"),
            _change(*accuracies, lambda change: f"{100 * change:+.1f}", better=1),
            _both(*kls, lambda kl: f"{kl:.4f}"),
            _change(*kls, lambda change: f"{change:+.4f}", better=-1),
            *(_ratios(one, other, what) for what in ("examples_ratio", "kl_examples_ratio")),
        )
    table.caption = (
        f"Accuracy and KL per token are those on the test problems. Examples are what it takes to reach {BASELINE}'s "
        "final validation accuracy, or KL, over all that it was trained on; >1 where that was not enough, - where "
        "there is no ratio."
    )
    table.caption_justify = "left"
    return table


def _both(first: float | None, second: float | None, shown: Callable[[float], str]) -> str:
    return _arrow(*("-" if value is None else shown(value) for value in (first, second)))


def _ratios(first: Mapping[str, float | None], second: Mapping[str, float | None], what: str) -> str:
    """A ratio that is there and null is more than 1, since the method never got so far; none is there of others."""
    shown = [
        "-" if what not in values else ">1" if (value := values[what]) is None else f"{value:.2f}"
        for values in (first, second)
    ]
    return _arrow(*shown)


def _arrow(first: str, second: str) -> str:
    return first if first == second else f"{first}→{second}"


def _change(first: float | None, second: float | None, shown: Callable[[float], str], better: int) -> Text:
    """The change, green where it is for the better; empty where there is none."""
    if first is None or second is None or first == second:
        return Text()
    return Text(shown(second - first), style="green" if (second - first) * better > 0 else "red")
