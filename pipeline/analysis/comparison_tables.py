"""The report's tables of who is compared with whom, and of what the curricula learned."""

from __future__ import annotations

from collections.abc import Callable

from pipeline.analysis.markdown import NONE, bullets, table
from pipeline.analysis.metrics import percent
from pipeline.analysis.statistics import Interval
from pipeline.analysis.summary import Summary
from pipeline.analysis.verdict import Comparison, Finding, Ratio
from pipeline.analysis.wording import (
    p_value,
    points,
    points_ahead,
    q_sentence,
    ratio_span,
    ratio_text,
    sentence,
    span,
    times_nearer,
)


def comparisons(summary: Summary) -> str:
    """Each comparison in words, then one table per question."""
    found = {(method, rival): c for rival, methods in summary.comparisons.items() for method, c in methods.items()}
    if not found:
        return summary.comparisons_note
    parts = [
        summary.comparisons_note,
        bullets([sentence(pair, comparison, summary) for pair, comparison in found.items()]),
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


def curricula(summary: Summary) -> str:
    """What the methods with several arms drew by, and whether it meant anything; empty without such a method."""
    several = {name: m for name, m in summary.methods.items() if m.curriculum.entropy_share is not None}
    if not several:
        return ""
    sentences = [s for name, m in several.items() if (s := q_sentence(name, m, summary.confidence))]
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
    heading = "## What the curricula learned\n\n"
    note = (
        "A curriculum that learns draws arms by their Q-values. They are worth something if an arm's Q before a step "
        "goes with the reward it then earns. The entropy of the draws is 100% of the largest where all arms are "
        "drawn alike.\n\n"
    )
    header = ["method", "correlation of Q with the next reward", "single seeds", "share of the largest entropy"]
    return heading + note + (f"{bullets(sentences)}\n\n" if sentences else "") + table(header, rows)
