"""The report's tables of who is compared with whom, and of what the curricula learned."""

from __future__ import annotations

from collections.abc import Callable

from pipeline.analysis.markdown import NONE, table
from pipeline.analysis.metrics import percent
from pipeline.analysis.statistics import Interval
from pipeline.analysis.summary import Summary
from pipeline.analysis.verdict import Comparison, Finding, Ratio
from pipeline.analysis.wording import (
    listed,
    p_value,
    points,
    points_ahead,
    ratio_span,
    ratio_text,
    span,
    times_nearer,
)

COMPARED = ("points of accuracy above the rival", "examples", "compute", "examples, by KL", "compute, by KL")
MARKS = {"better": " ▲", "worse": " ▼"}


def comparisons(summary: Summary) -> str:
    """All comparisons in one table, then one table per question."""
    found = {(method, rival): c for rival, methods in summary.comparisons.items() for method, c in methods.items()}
    if not found:
        return summary.comparisons_note
    parts = [
        summary.comparisons_note,
        _legend(summary, len(found)),
        table(["method / rival", *COMPARED], [[" / ".join(pair), *comparison_cells(c)] for pair, c in found.items()]),
        "### Examples needed to reach the rival's final accuracy, over the rival's own",
        _ratios(found, lambda comparison: comparison.examples_ratio, points_ahead),
        "### The same of training compute (tokens forward and backward, probes included)",
        _ratios(found, lambda comparison: comparison.compute_ratio, points_ahead),
        "### Examples needed to come as near to the teacher (KL per token), over the rival's own",
        _ratios(found, lambda comparison: comparison.kl_examples_ratio, times_nearer),
        "### The same of training compute, to come as near to the teacher",
        _ratios(found, lambda comparison: comparison.kl_compute_ratio, times_nearer),
        "### Final accuracy on the test problems, minus the rival's",
        _differences(found),
    ]
    return "\n\n".join(part for part in parts if part)


def _legend(summary: Summary, pairs: int) -> str:
    tested = next(iter(next(iter(summary.comparisons.values())).values())).accuracy.test.p is not None
    marks = (
        "▲ and ▼ mark what is shown to be better and worse than the rival; without a mark no difference is shown."
        + _of_several(pairs)
        if tested
        else "Fewer than 3 seeds cannot tell anybody apart, so nothing is marked."
    )
    return (
        "Examples, and training compute, are those that the method needs to reach the rival's final validation "
        "accuracy, and to come as near to the teacher (KL per token on the validation problems), over what the rival "
        "spent: below 1 is less. More than 1: all that the method spent did not get it there. Of compute that may be "
        "0.99 or 1.01 times the rival's, since equally many examples have not equally many tokens. "
        + " ".join([marks, *_nothing_to_reach(summary)])
    )


def _of_several(pairs: int) -> str:
    if pairs == 1:
        return ""
    return (
        f" A mark needs a p-value corrected for {pairs} comparisons, and an interval is of one comparison alone. So an "
        "interval may lie on one side of no difference without a mark."
    )


def _nothing_to_reach(summary: Summary) -> list[str]:
    """Which rivals give no ratio, and why."""
    rivals = summary.comparisons.items()
    by_accuracy = [rival for rival, methods in rivals if not all(c.examples_ratio.exists for c in methods.values())]
    by_kl = [rival for rival, methods in rivals if not all(c.kl_examples_ratio.exists for c in methods.values())]
    return [
        f"By {measured} {listed(names)} ended no better than {'it' if len(names) == 1 else 'they'} began, so there is "
        "nothing to reach, and no ratio."
        for measured, names in (("validation accuracy", by_accuracy), ("KL", by_kl))
        if names
    ]


def comparison_cells(compared: Comparison) -> list[str]:
    """The five questions of a pair, as cells under COMPARED."""
    difference, bounds = points(compared.accuracy.difference), span(compared.accuracy.low, compared.accuracy.high)
    accuracy_cell = f"{difference.removesuffix(' points')} ({bounds.removesuffix(' points')})"
    return [
        accuracy_cell + _mark(compared.accuracy.test),
        *map(ratio_cell, (compared.examples_ratio, compared.compute_ratio)),
        *map(ratio_cell, (compared.kl_examples_ratio, compared.kl_compute_ratio)),
    ]


def ratio_cell(ratio: Ratio) -> str:
    """A ratio with its interval, if it has one, and its mark."""
    text, bounds = ratio_text(ratio), ratio_span(ratio)
    return text + (f" ({bounds})" if bounds not in ("", text) else "") + _mark(ratio.test)


def _mark(test: Finding) -> str:
    return MARKS.get(test.verdict, "")


def _ratios(
    found: dict[tuple[str, str], Comparison], of: Callable[[Comparison], Ratio], lead: Callable[[float], str]
) -> str:
    rows = [
        [
            method,
            rival,
            ratio_text(ratio),
            ratio_span(ratio) or NONE,
            *_test(ratio.test),
            NONE if (least := ratio.test.smallest_detectable) is None else lead(least),
        ]
        for (method, rival), comparison in found.items()
        for ratio in [of(comparison)]
    ]
    return table(["method", "rival", "ratio", "interval", "p", "p (Holm)", "verdict", "detectable at the end"], rows)


def _differences(found: dict[tuple[str, str], Comparison]) -> str:
    rows = [
        [
            method,
            rival,
            points(c.accuracy.difference),
            span(c.accuracy.low, c.accuracy.high),
            f"{c.probability_of_improvement:.2f}",
            *_test(c.accuracy.test),
            NONE if (least := c.accuracy.test.smallest_detectable) is None else points(least).removeprefix("+"),
        ]
        for (method, rival), c in found.items()
    ]
    header = ["method", "rival", "difference", "interval", "probability of improvement", "p", "p (Holm)", "verdict"]
    return table([*header, "detectable"], rows)


def _test(test: Finding) -> list[str]:
    return [*(NONE if p is None else p_value(p) for p in (test.p, test.p_holm)), test.verdict]


def curricula(summary: Summary, depth: int) -> str:
    """Whether what the methods with several arms drew by meant anything; empty without such a method.

    depth: of its heading.
    """
    several = {name: m for name, m in summary.methods.items() if m.curriculum.entropy_share is not None}
    if not several:
        return ""
    rows = []
    for name, method in several.items():
        found = method.curriculum.q_correlation
        bounds = f" ({found.low:+.2f} to {found.high:+.2f})" if isinstance(found, Interval) else ""
        by_seed = [NONE if r is None else f"{r:+.2f}" for r in method.curriculum.q_correlation_by_seed.values()]
        rows.append(
            [
                name,
                NONE if found is None else f"{found.mean:+.2f}{bounds}",
                NONE if found is None else ", ".join(by_seed),
                percent(method.curriculum.entropy_share or 0.0),
            ]
        )
    heading = f"{'#' * depth} What the curricula learned\n\n"
    note = (
        "A curriculum that learns draws arms by their Q-values. They are worth something if an arm whose Q is above "
        "those of the step's other arms then earns more than they do: the correlation is within steps. The entropy of "
        "the draws is 100% of the largest where all arms are drawn alike.\n\n"
    )
    header = ["method", "correlation of Q with the next reward", "single seeds", "share of the largest entropy"]
    return heading + note + table(header, rows)
